"""The checklist of docs/semantics.md says the truth about the tests."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKLIST = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8").split("\n## Checklist\n")[1]
ROWS = [
    line
    for line in CHECKLIST.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| rule"))
]
NAMES = sorted(set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", CHECKLIST)))
# What a row may say instead of a test.
WORDS = ("deviation", "not offered", "(to be filled)")


@cache
def found_in(path):
    """Every test of one file, those of classes as Class::name."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in tree.body if isinstance(node, functions)}
    for holder in tree.body:
        if isinstance(holder, ast.ClassDef):
            names |= {f"{holder.name}::{node.name}" for node in holder.body if isinstance(node, functions)}
    return {name for name in names if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize("name", NAMES)
def test_named_test_exists(name):
    """A test that was renamed or deleted takes its row with it, or is named anew."""
    path, _, test = name.partition("::")

    assert test in found_in(path)


@pytest.mark.parametrize("row", ROWS)
def test_row_names_a_test_or_says_why_not(row):
    """A rule that nothing shows is a wish."""
    shown_by = row.split(" | ")[1]

    assert "`tests/" in shown_by or shown_by.startswith(WORDS)


def test_checklist_is_read():
    """A page that is laid out anew must not pass because nothing was found in it."""
    assert len(NAMES) > 100
    assert len(ROWS) > 100


def test_nothing_is_left_to_be_filled():
    """A rule that nothing shows yet must not pass as one that is shown."""
    assert "(to be filled)" not in CHECKLIST

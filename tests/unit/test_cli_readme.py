"""The README says what the command does."""

import re
from pathlib import Path

from fastlb.surface.flags import FLAGS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `(--[a-z-]+)(?: ([^`]*))?` \| (?:`([^`]*)`)? ?\| ", re.MULTILINE)


def test_readme_lists_every_flag_with_its_value_and_default():
    """A flag without its line in the README is found by nobody; a wrong default is worse."""
    rows = {name: (metavar.replace("\\", ""), default) for name, metavar, default in _ROW.findall(README)}

    assert rows == {flag.name: (flag.metavar, flag.default) for flag in FLAGS}


def test_every_flag_in_the_readme_exists():
    """Examples in the text are copied into terminals."""
    known = {flag.name for flag in FLAGS} | {"--engine", "--port", "--version", "--help"}

    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known

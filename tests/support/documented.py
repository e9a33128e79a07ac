"""The commands and programs that the documents show, as a reader would copy them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (?!\s)(.*)$", re.MULTILINE)
_NAMED = re.compile(r"`((?:make |python -m |ci/|\.ci/)[^`\n]*)`")


class Command(NamedTuple):
    """One command line, and the document that shows it."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document} {' '.join(self.words)}"


def documents() -> list[Path]:
    """Every page for users and for who changes fastlb."""
    pages = [ROOT / "README.md", ROOT / "examples" / "README.md", ROOT / "benchmarks" / "README.md"]
    return [*pages, *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks in this language."""
    return [text for kind, text in _BLOCK.findall(document.read_text()) if kind == language]


def commands(document: Path) -> list[Command]:
    """Every command line: of the blocks, and what the text names in quotes."""
    text = document.read_text()
    lines = [line for block in blocks(document, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += _NAMED.findall(text)
    if "```" not in text:
        lines += _INDENTED.findall(text)
    found = (shlex.split(line, comments=True) for line in lines)
    where = str(document.relative_to(ROOT))
    return [Command(where, tuple(word for word in words if word != "&")) for words in found if words]


def all_commands() -> list[Command]:
    """Every command of every document, each once."""
    return list(dict.fromkeys(command for page in documents() for command in commands(page)))

"""Says which lines and branches of the native engine's Cython the tests have gone through.

Usage: python ci/native_coverage.py SOURCE BUILD HTML

SOURCE is where the build with FASTLB_COVERAGE=1 ran, BUILD holds its .gcda files, HTML is a
directory to make. Branches are counted in functions without Python objects only: elsewhere every
call has one for its exception.
"""

import html
import json
import re
import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from pathlib import Path
from typing import Any

_PAGE = """<!doctype html><meta charset="utf-8"><title>{name}</title>
<style>
pre {{ margin: 0 }} .no {{ background: #fbb }} .part {{ background: #fea }} .yes {{ background: #dfd }}
</style>
<h1>{name}</h1>{lines}"""


class File:
    """Counts of one source file, all modules that include it together."""

    def __init__(self) -> None:
        self.lines: dict[int, int] = defaultdict(int)
        self.branches: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, found: dict[str, Any], nogil: set[int], docstrings: set[int]) -> None:
        """Add what gcov says about the file in one module. `nogil`: first lines of functions."""
        starts = sorted(function["start_line"] for function in found["functions"])
        for line in found["lines"]:
            number = line["line_number"]
            if number in docstrings:
                continue
            self.lines[number] += line["count"]
            at = bisect_right(starts, number)
            if at and starts[at - 1] in nogil:
                for index, branch in enumerate(line["branches"]):
                    self.branches[number][index] += branch["count"]

    def missing(self) -> list[int]:
        """Lines that never ran."""
        return sorted(number for number, count in self.lines.items() if not count)

    def partial(self) -> list[int]:
        """Lines that ran and never went one of their ways."""
        return sorted(
            number for number, ways in self.branches.items() if self.lines[number] and not all(ways.values())
        )

    def branch_counts(self) -> tuple[int, int]:
        """Branches taken, and all."""
        counts = [count for ways in self.branches.values() for count in ways.values()]
        return sum(count > 0 for count in counts), len(counts)


def nogil_lines(source: Path) -> set[int]:
    """Lines where functions without Python objects begin: the end of the signature says so."""
    text = source.read_text()
    found = re.finditer(r"^cdef [^=]*?\) (?:noexcept )?nogil:", text, re.MULTILINE)
    return {text.count("\n", 0, match.start()) + 1 for match in found}


def docstring_lines(source: Path) -> set[int]:
    """Lines where docstrings begin. They have no code; but the wrapper that Cython makes of a function
    has lines of C without a #line of their own, which count as the line below the signature."""
    lines = source.read_text().splitlines()
    return {number for number, text in enumerate(lines, 1) if text.lstrip().startswith('"""')}


def read(source: Path, build: Path) -> dict[str, File]:
    """Ask gcov about every module."""
    files: dict[str, File] = defaultdict(File)
    for notes in sorted(build.resolve().rglob("*.gcda")):
        said = subprocess.run(
            ["gcov", "--json-format", "--stdout", "--branch-probabilities", notes],
            check=True,
            capture_output=True,
            text=True,
            cwd=build,
        )
        for found in json.loads(said.stdout)["files"]:
            if found["file"].endswith((".pyx", ".pxd")):
                path = source / found["file"]
                files[found["file"]].add(found, nogil_lines(path), docstring_lines(path))
    return files


def ranges(numbers: list[int], lines: dict[int, int]) -> str:
    """`3, 7-9`: lines without code in between do not part a range."""
    known = sorted(lines)
    out: list[list[int]] = []
    for number in numbers:
        at = known.index(number)
        if out and at and known[at - 1] == out[-1][1]:
            out[-1][1] = number
        else:
            out.append([number, number])
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in out)


def page(name: str, source: Path, file: File) -> str:
    """The source with colours: red never ran, yellow never went one way."""
    missing, partial = set(file.missing()), set(file.partial())
    lines = []
    for number, text in enumerate(source.read_text().splitlines(), 1):
        kind = "no" if number in missing else "part" if number in partial else "yes"
        kind = kind if number in file.lines else ""
        lines.append(
            f'<pre class="{kind}">{number:5} {file.lines.get(number, ""):>9} {html.escape(text)}</pre>'
        )
    return _PAGE.format(name=name, lines="\n".join(lines))


def row(name: str, lines: tuple[int, int], branches: tuple[int, int]) -> str:
    """One line of the table; the counts are what was gone through, and all."""
    cells = [f"{name:36}"]
    for some, total in (lines, branches):
        share = f"{100 * some / total:.1f} %" if total else ""
        cells.append(f"{total:8} {share:>8}")
    return " ".join(cells)


def main(source: Path, build: Path, pages: Path) -> None:
    """Print the table and write the pages."""
    pages.mkdir(parents=True, exist_ok=True)
    all_lines, all_branches = [0, 0], [0, 0]
    print(f"{'file':36}    lines      run branches    taken")
    for name, file in sorted(read(source, build).items()):
        missing = file.missing()
        lines, branches = (len(file.lines) - len(missing), len(file.lines)), file.branch_counts()
        print(row(name, lines, branches))
        if missing:
            print(f"    never run: {ranges(missing, file.lines)}")
        if file.partial():
            print(f"    one way only: {', '.join(map(str, file.partial()))}")
        (pages / f"{Path(name).name}.html").write_text(page(name, source / name, file))
        for at in range(2):
            all_lines[at] += lines[at]
            all_branches[at] += branches[at]
    print(row("all", (all_lines[0], all_lines[1]), (all_branches[0], all_branches[1])))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""What the control group of this process allows (cgroups(7)): memory, and CPU time.

A limit holds for a group and all groups below it, so the least on the way up to the root is the one
that counts. /proc/self/cgroup says which groups those are, /proc/self/mountinfo where their files are:
version 1 has a tree for each controller, version 2 one for all, and both may be there at once. Inside a
container the tree may begin at the container's own group.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc/self")
# Version 1 says "no limit" with the largest number of whole pages that fits into 63 bits.
_UNLIMITED_BYTES = 2**62
# Where version 1 names the controllers of a tree, version 2 names none.
_VERSION_2 = ""


@dataclass(frozen=True, slots=True)
class _Tree:
    """A mounted hierarchy."""

    controllers: frozenset[str]
    root: str  # the group that is mounted
    mounted_at: Path


def memory_limit(proc: Path = _PROC) -> int | None:
    """The least limit in bytes on this process and its groups, None if there is none."""
    limits = [
        _number(group / name)
        for group in _groups("memory", proc)
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
    ]
    found = [limit for limit in limits if limit is not None and limit < _UNLIMITED_BYTES]
    return min(found, default=None)


def cpu_limit(proc: Path = _PROC) -> int | None:
    """The least quota in CPUs, a part of one counted as a whole one; None if there is none."""
    shares = [share for group in _groups("cpu", proc) if (share := _cpu_share(group)) is not None]
    return max(1, math.ceil(min(shares))) if shares else None


def _cpu_share(group: Path) -> float | None:
    """Version 2 has `cpu.max` with quota and period in microseconds, version 1 a file for each."""
    words = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us"),
        _text(group / "cpu.cfs_period_us"),
    ]
    match words:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
            return int(quota) / int(period)
        case _:
            return None


def _groups(controller: str, proc: Path) -> Iterator[Path]:
    """The directories of this process's groups for a controller, each with those above it."""
    trees = list(_trees(proc))
    for line in _text(proc / "cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        wanted = {controller, _VERSION_2} & set(names.split(","))
        for tree in trees:
            if wanted & tree.controllers:
                yield from _upwards(tree, path)


def _upwards(tree: _Tree, path: str) -> Iterator[Path]:
    """The group at `path` and those above it, as far as they are mounted."""
    below = os.path.relpath(path, tree.root)
    # A group outside of what is mounted: the container's own group is the root of the mount.
    parts = [] if below == "." or below.startswith("..") else below.split("/")
    for length in range(len(parts), -1, -1):
        yield tree.mounted_at.joinpath(*parts[:length])


def _trees(proc: Path) -> Iterator[_Tree]:
    """The mounted hierarchies, see proc_pid_mountinfo(5)."""
    for line in _text(proc / "mountinfo").splitlines():
        fields = line.split(" ")
        if "-" not in fields[6:]:
            continue
        kind, _, options = [*fields[fields.index("-", 6) + 1 :], "", "", ""][:3]
        if kind in ("cgroup", "cgroup2"):
            controllers = options.split(",") if kind == "cgroup" else [_VERSION_2]
            yield _Tree(frozenset(controllers), _unescaped(fields[3]), Path(_unescaped(fields[4])))


def _unescaped(text: str) -> str:
    """The kernel writes white space and backslashes of paths as octal numbers."""
    for octal, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, character)
    return text


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""

"""CPU time and memory of a whole process tree, and of the whole machine, read from /proc.

- /proc/<pid>/task/<tid>/schedstat begins with the nanoseconds a thread has run, user and system
  together (Documentation/scheduler/sched-stats.rst). It knows nothing of threads that have ended.
- /proc/<pid>/stat counts ended threads and reaped children too, in ticks of 10 ms (proc_pid_stat(5)).
- Work done in a soft interrupt is charged to whoever was interrupted: on the loopback device the
  receiver's half of TCP runs inside the sender's send(). It is so for every balancer alike.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# Fields of `cpu` in /proc/stat that are work: user nice system irq softirq steal (proc_stat(5)).
_BUSY_FIELDS = (1, 2, 3, 6, 7, 8)
# Ticks and schedstat differ by rounding; by more than this only if threads came and went.
_TICK_SLACK_NS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """CPU used so far by a process tree: exact for live threads, in ticks for all."""

    live_ns: int
    tick_ns: int


def cpu(pid: int) -> CpuReading:
    """CPU used so far by `pid` and all that descend from it."""
    tree = list(process_tree(pid))
    return CpuReading(live_ns=sum(_live_ns(one) for one in tree), tick_ns=sum(_tick_ns(one) for one in tree))


def cpu_between_ns(before: CpuReading, after: CpuReading) -> int:
    """CPU used between two readings: the exact figure, unless threads ended in between."""
    exact = after.live_ns - before.live_ns
    ticks = after.tick_ns - before.tick_ns
    return ticks if ticks - exact > _TICK_SLACK_NS + exact // 50 else exact


def machine_busy_ns() -> int:
    """CPU used so far by everything on this machine, in ticks of 10 ms, all CPUs together."""
    fields = (PROC / "stat").read_text().split("\n", 1)[0].split()
    return sum(int(fields[i]) for i in _BUSY_FIELDS) * _NS_PER_TICK


def private_bytes(pid: int) -> int:
    """Memory that the tree of `pid` shares with no one else (smaps_rollup of proc_pid_smaps(5))."""
    total_kib = 0
    for one in process_tree(pid):
        for line in (PROC / str(one) / "smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total_kib += int(line.split()[1])
    return total_kib * 1024


def process_tree(pid: int) -> Iterator[int]:
    """`pid` and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            parent = _parent(int(entry.name))
            children.setdefault(parent, []).append(int(entry.name))
    pending = [pid]
    while pending:
        one = pending.pop()
        yield one
        pending.extend(children.get(one, ()))


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; the name before it may hold spaces."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _parent(pid: int) -> int:
    fields = _stat_fields(pid)
    return int(fields[1]) if fields else -1


def _tick_ns(pid: int) -> int:
    fields = _stat_fields(pid)
    return sum(int(field) for field in fields[11:15]) * _NS_PER_TICK  # utime stime cutime cstime


def _live_ns(pid: int) -> int:
    total = 0
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended after the directory was read
    return total

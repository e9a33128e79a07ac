"""How many CPUs this process may use: what `--workers auto` stands for."""

import math
import os
from pathlib import Path

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """At least 1: the CPUs in the affinity mask, or fewer if the container's quota is lower."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = _CGROUP_CPU_MAX.read_text()
    except OSError:
        return affinity
    return cpus_within(affinity, quota)


def cpus_within(affinity: int, quota: str) -> int:
    """Apply the text of a cgroup v2 `cpu.max`: `max 100000`, or quota and period in microseconds.

    A part of a CPU counts as a whole one, so that what is paid for is used.
    """
    match quota.split():
        case [limit, period] if limit.isdigit() and period.isdigit() and int(period) > 0:
            return max(1, min(affinity, math.ceil(int(limit) / int(period))))
        case _:
            return affinity

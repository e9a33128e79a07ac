"""How many CPUs this process may use: what `--workers auto` stands for."""

import os

from fastlb.control.cgroup import cpu_limit


def usable_cpus() -> int:
    """At least 1: the CPUs in the affinity mask, or fewer if the quota of a container is lower.

    A part of a CPU counts as a whole one, so that what is paid for is used.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_limit()
    return affinity if quota is None else min(affinity, quota)

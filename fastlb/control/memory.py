"""Memory: how much of the machine's may hold bytes in flight."""

import os
from pathlib import Path

from fastlb.model.limits import BUFFER_WORKER_MIN_BYTES

_SHARE = 4
_LEAST_BYTES = 64 * 1024 * 1024
# What a container may use (cgroup v2); the word `max` where there is no limit.
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """Bytes of memory that this process may count on."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):
        return physical


def buffer_limit(memory_bytes: int, workers: int) -> int:
    """Bytes for buffers, all workers together: a quarter of the memory, and enough in any case."""
    return max(memory_bytes // _SHARE, _LEAST_BYTES, workers * BUFFER_WORKER_MIN_BYTES)

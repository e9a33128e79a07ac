"""Memory: how much of the machine's may hold bytes in flight."""

import os

from fastlb.control.cgroup import memory_limit
from fastlb.model.limits import BUFFER_WORKER_MIN_BYTES

_SHARE = 4
_LEAST_BYTES = 64 * 1024 * 1024


def machine_memory() -> int:
    """Bytes of memory that this process may count on: the machine's, or less in a container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return physical if limit is None else min(physical, limit)


def buffer_limit(memory_bytes: int, workers: int) -> int:
    """Bytes for buffers, all workers together: a quarter of the memory, and enough in any case."""
    return max(memory_bytes // _SHARE, _LEAST_BYTES, workers * BUFFER_WORKER_MIN_BYTES)

"""Memory: how much of the machine's may hold bytes in flight."""

import os
import resource

from fastlb.control.cgroup import memory_limit
from fastlb.model.limits import BUFFER_WORKER_MIN_BYTES

_SHARE = 4
_LEAST_BYTES = 64 * 1024 * 1024
# Of an address space that is limited: what the interpreter takes, and what one client of the pure engine may
# pin without its being counted, a head and the write buffers of both sides below their marks.
_INTERPRETER_BYTES = 48 * 1024 * 1024
_CLIENT_BYTES = 256 * 1024
_ADDRESS_SPACE_SHARE = 8


def machine_memory() -> int:
    """Bytes of memory that this process may count on: the machine's, or less in a container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return physical if limit is None else min(physical, limit)


def address_space() -> int | None:
    """Bytes that this process may map (RLIMIT_AS, RLIMIT_DATA), None if there is no limit."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def buffer_limit(memory_bytes: int, workers: int, space_bytes: int | None = None) -> int:
    """Bytes for buffers, all workers together: a quarter of the memory, and enough in any case; less where
    the address space is limited, because there an interpreter without memory does not live on."""
    limit = max(memory_bytes // _SHARE, _LEAST_BYTES)
    if space_bytes is not None:
        limit = min(limit, space_bytes // _ADDRESS_SPACE_SHARE)
    return max(limit, workers * BUFFER_WORKER_MIN_BYTES)


def clients_limit(space_bytes: int) -> int:
    """Clients of the pure engine that an address space has room for: half of what the interpreter leaves.

    asyncio, uvloop and the interpreter itself do not survive an allocation that fails at any place.
    """
    return max(1, (space_bytes - _INTERPRETER_BYTES) // 2 // _CLIENT_BYTES)

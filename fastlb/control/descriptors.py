"""File descriptors: how many there may be, and how many connections that allows."""

import resource

from fastlb.model.errors import StartError

# Listeners, logs, event loop, probes, and the interpreter's own.
_RESERVED = 64
# Epoll, eventfd, spare descriptor and pooled pipes of one worker.
_RESERVED_PER_WORKER = 8
_CONNECTIONS_MAX = 10_000_000


def raise_fd_limit() -> int:
    """Raise the soft limit of descriptors to the hard limit. Returns the limit now in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # macOS reports no hard limit and still refuses to go above kern.maxfilesperproc.
        return soft
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connection_limit(nofile: int, workers: int) -> int:
    """Client connections that `nofile` descriptors allow: each may need one to a backend.

    Raises: StartError if that is none.
    """
    if nofile == resource.RLIM_INFINITY:
        return _CONNECTIONS_MAX
    connections = (nofile - _RESERVED - workers * _RESERVED_PER_WORKER) // 2
    if connections < 1:
        raise StartError(
            f"the limit of {nofile} open files is too low for {workers} workers; raise it with ulimit -n"
        )
    return min(connections, _CONNECTIONS_MAX)

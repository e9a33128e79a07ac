"""Descriptors 0, 1 and 2 are open, whatever the parent process left us.

A service manager, or `>&-` in a shell, may start a process without them. The next files that are
opened, such as a listening socket, would get their numbers: log lines would go to a client, and
libuv aborts the process when it is asked to close one of the three.
"""

import os


def open_missing() -> None:
    """Open /dev/null for each of the three that is closed; open(2) takes the lowest free number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)

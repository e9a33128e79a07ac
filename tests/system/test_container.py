"""In a control group with little memory: what strangers send must not end in a kill by the kernel."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.backend import OK, Backend, answering
from support.waiting import wait_until
from support.wire import Wire

MIB = 2**20
GROUP_BYTES = 150 * MIB
CLIENTS = 5000
# Of a head that never ends: below the limit of 64 KiB, so that no client is refused for its length.
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 60_000
_ROOTS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
_LIMITS = ("memory.limit_in_bytes", "memory.max")


def make_group() -> Path | None:
    """A new control group with so much memory, of version 1 or 2; None if there can be none."""
    for root, limit in zip(_ROOTS, _LIMITS, strict=True):
        made = root / f"fastlb-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            (made / limit).write_text(str(GROUP_BYTES))
        except OSError:
            made.rmdir()
            continue
        return made
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """Such a group, which goes once its processes have ended."""
    made = make_group()
    if made is None:
        pytest.skip("no control group with a memory limit can be made here")
    yield made
    wait_until(lambda: not (made / "cgroup.procs").read_text(), "the group is empty")
    made.rmdir()


def test_heads_that_never_end_do_not_end_in_a_kill(group, fastlb):
    """5,000 clients with 60 KiB of a head each are twice the memory of this container."""
    backend = Backend(answering(OK))
    start = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", sys.executable)
    with ExitStack() as stack:
        running = fastlb(backend.address.port, flags=("--no-check", "--workers", "2"), python=start)
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            client.setblocking(False)
            sent = 0
            while sent < len(HEAD):
                try:
                    sent += client.send(HEAD[sent:])
                except OSError:
                    break  # it is not read any more, or was refused
        running.wait_alive("all have sent")
    # They have left, and everybody else is served.
    last = Wire(socket.create_connection(("127.0.0.1", running.port)))
    last.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert last.response().status == 200
    last.close()
    backend.close()

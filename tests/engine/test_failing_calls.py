"""Any call to the kernel or for memory may fail. What happens then is seen here call by call: one
fails, the next time the one behind it, until a whole run has made no more of them."""

import errno

import pytest

from fastlb.model.proxied import ProxyProtocol
from support.talks import (
    converse,
    crowd,
    engines_with,
    kept,
    long_answers,
    name_fault,
    serve,
    serve_announced,
    uploads,
)

pytestmark = pytest.mark.unbatched

# Name, errno, and how often in a row. These change nothing that anybody sees: the call is made
# again, or the engine does without.
HARMLESS = [
    ("recv", errno.EINTR, 100),
    ("send", errno.EINTR, 100),
    ("sendmsg", errno.EINTR, 100),
    ("splice", errno.EINTR, 100),
    ("accept4", errno.EINTR, 1),
    ("accept4", errno.ECONNABORTED, 1),
    ("epoll_wait", errno.EINTR, 3),
    ("splice", errno.EINVAL, 100),
    ("pipe2", errno.EMFILE, 100),
    ("fcntl", errno.EPERM, 100),
    ("setsockopt", errno.ENOMEM, 100),
]
# The same while small messages are sent in batches.
HARMLESS_BATCHED = [
    ("io_uring_enter", errno.EINTR, 3),
    ("io_uring_enter", errno.EAGAIN, 3),
    ("send", errno.EINTR, 100),
    ("splice", errno.EINVAL, 100),
]
# These may cost an exchange, or the connection of a client.
HARMFUL = [
    ("memory", errno.ENOMEM, 1),
    ("memory", errno.ENOMEM, 2),
    ("memory", errno.ENOMEM, 1000),
    ("recv", errno.ECONNRESET, 1),
    ("send", errno.EPIPE, 1),
    ("sendmsg", errno.EPIPE, 1),
    ("splice", errno.ECONNRESET, 1),
    ("splice", errno.ENOMEM, 1),
    ("accept4", errno.EMFILE, 1),
    ("socket", errno.EMFILE, 1),
    ("socket", errno.ENOBUFS, 1000),
    ("connect", errno.ENETUNREACH, 1),
    ("connect", errno.EADDRNOTAVAIL, 1),
    ("epoll_ctl", errno.ENOSPC, 1),
    ("getsockopt", errno.ENOBUFS, 1),
    ("shutdown", errno.ENOTCONN, 1),
]
HARMFUL_BATCHED = [
    ("memory", errno.ENOMEM, 1),
    ("recv", errno.ECONNRESET, 1),
    ("send", errno.EPIPE, 1),
]
HARMFUL_FIRST = [
    ("memory", errno.ENOMEM, 1),
    ("send", errno.EPIPE, 1),
    ("getsockopt", errno.ENOBUFS, 1),
    ("getsockname", errno.ENOBUFS, 1),
]


@pytest.mark.parametrize("fault", HARMLESS, ids=name_fault)
def test_harmless_failure_is_seen_by_nobody(balance, backend, refused, failing, fault):
    """Interrupted calls are made again; what the kernel cannot do is done otherwise."""
    backends = (backend(serve), refused, backend(serve))
    for _, broken in engines_with(balance, backends, failing, fault):
        assert broken == []


@pytest.mark.parametrize("fault", HARMLESS_BATCHED, ids=name_fault)
def test_harmless_failure_of_a_batch_is_seen_by_nobody(
    balance, backend, refused, failing, monkeypatch, fault
):
    """What the ring does not take is sent by itself."""
    monkeypatch.setenv("FASTLB_IO_URING", "always")
    backends = (backend(serve), refused, backend(serve))
    for _, broken in engines_with(balance, backends, failing, fault, (crowd, uploads, long_answers)):
        assert broken == []


@pytest.mark.parametrize("fault", HARMFUL, ids=name_fault)
def test_failure_costs_what_needed_the_call_and_nothing_else(balance, backend, refused, failing, fault):
    """Nobody takes what is not whole for whole; the counts stay exact, all is given back, and what
    comes behind it is served."""
    backends = (backend(serve), refused, backend(serve))
    for running, _ in engines_with(balance, backends, failing, fault):
        assert converse(running) == []


@pytest.mark.parametrize("fault", HARMFUL_BATCHED, ids=name_fault)
def test_failure_behind_a_batch_costs_no_more(balance, backend, refused, failing, monkeypatch, fault):
    """The same where it is found out only at the end of the turn."""
    monkeypatch.setenv("FASTLB_IO_URING", "always")
    talks = (kept, crowd, uploads)
    backends = (backend(serve), refused, backend(serve))
    for running, _ in engines_with(balance, backends, failing, fault, talks):
        assert converse(running, talks) == []


@pytest.mark.parametrize("fault", HARMFUL_FIRST, ids=name_fault)
def test_failure_before_a_fresh_connection_is_announced_costs_no_more(
    balance, backend, refused, failing, fault
):
    """The same with backends whose connections begin with a PROXY header."""
    backends = (backend(serve_announced), refused, backend(serve_announced))
    for running, _ in engines_with(balance, backends, failing, fault, proxy_protocol=ProxyProtocol.V2):
        assert converse(running) == []

"""The limit of open files, and the connection limit that follows from it."""

import resource

import pytest

from fastlb.control.descriptors import connection_limit, raise_fd_limit
from fastlb.model.errors import StartError


@pytest.mark.parametrize(
    ("nofile", "workers", "connections"),
    [
        (1024, 1, 476),
        (20_000, 2, 9960),
        (75, 1, 1),
        (resource.RLIM_INFINITY, 1, 10_000_000),
        (1 << 30, 1, 10_000_000),
    ],
)
def test_each_client_may_need_a_descriptor_to_a_backend(nofile, workers, connections):
    """What is left after the process's own, halved and rounded down."""
    assert connection_limit(nofile, workers) == connections


def test_a_limit_that_allows_no_connection_is_a_start_error():
    """Running without being able to accept anything would look like a hang."""
    with pytest.raises(StartError, match=r"limit of 70 open files is too low for 1 workers.*ulimit -n"):
        connection_limit(70, 1)


def test_the_soft_limit_is_raised_to_the_hard_one():
    """The usual soft limit of 1024 is far below what the machine allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
        assert raise_fd_limit() == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_system_that_refuses_is_taken_as_it_is(monkeypatch):
    """macOS says there is no hard limit and refuses to set that."""

    def refuse(which, limits):
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_fd_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]

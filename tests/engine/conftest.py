"""Fixtures of engine tests alone."""

import pytest

from support.failing import FailingCalls, compiler


@pytest.fixture(scope="module")
def failing(engine, tmp_path_factory):
    """What makes calls of the native engine to libc fail."""
    if engine.name == "pure":
        pytest.skip("the pure engine makes no call of its own; its loop does")
    if compiler() is None:
        pytest.skip("no C compiler")
    calls = FailingCalls(tmp_path_factory.mktemp("failing"))
    yield calls
    calls.close()

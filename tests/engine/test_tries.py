"""How many backends one exchange may meet."""

from contextlib import ExitStack

import pytest

from fastlb.model.config import Mode
from fastlb.model.limits import TRIES_MAX, LimitConfig
from support.backend import OK, answering, echo, refused_address

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def dead():
    """Addresses whose connects are refused, as many as one wants."""
    with ExitStack() as stack:
        yield lambda count: [stack.enter_context(refused_address()) for _ in range(count)]


def limited(tries):
    return LimitConfig(tries=tries, retry_percent=None)


@pytest.mark.parametrize("tries", [1, 2, 3, TRIES_MAX])
def test_request_meets_so_many_backends(balance, backend, dead, tries):
    """One more than are dead is enough, and one less is not. All that were met stand in the log."""
    addresses = dead(tries)
    running = balance(*addresses, backend(answering(OK)), limits=limited(tries))
    client = running.connect()
    client.send(GET)
    assert client.response().status == 502
    line = running.line()
    assert (line["tries"], line["code"]) == (tries, "SC")
    assert line["tried"] == [str(address) for address in addresses]
    assert running.picked(tries) == 0

    running.keep_only(*range(1, tries + 1))
    client.send(GET)
    assert client.response().status == 200
    line = running.lines(2)[1]
    assert len(line["tried"]) == line["tries"] <= tries


@pytest.mark.parametrize("tries", [1, 2, 3, TRIES_MAX])
def test_request_that_breaks_backends_breaks_no_more_than_so_many(balance, backend, tries):
    """A request that kills backends must not meet them all."""
    seen = []

    def breaking(link):
        link.request()
        seen.append(link)

    running = balance(*(backend(breaking) for _ in range(tries + 1)), limits=limited(tries))
    client = running.connect()
    client.send(GET)

    assert client.response().status == 502
    assert (len(seen), running.line()["code"]) == (tries, "SH")


def test_session_passes_two_dead_backends_of_three(balance, backend, dead):
    """What its client said at once is kept while backends are tried, so nobody is reset."""
    running = balance(*dead(2), backend(echo), mode=Mode.TCP, limits=limited(3))
    for number in range(12):
        client = running.connect()
        said = b"%d" % number * 20_000
        client.send(said)
        assert client.exactly(len(said)) == said


def test_session_with_no_try_left_is_reset(balance, backend, dead):
    """The limit holds for sessions as well."""
    running = balance(*dead(2), backend(echo), mode=Mode.TCP, limits=limited(2))
    client = running.connect()

    assert client.ending() == "rst"
    line = running.line()
    assert (line["code"], line["tries"]) == ("SC", 2)

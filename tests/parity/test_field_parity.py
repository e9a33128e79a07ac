"""Which fields are passed on, dropped or written anew does not depend on the engine.

The names are all that the model or the pure engine has a list of: each alone, named in Connection,
with `_` for `-`, and in another case; in both directions.
"""

import pytest

from fastlb.model.fields import CLIENT_FIELDS, OWN_FIELDS
from fastlb.pure import field_names, http1
from support.backend import Backend, without_port
from support.balance import Balance
from support.wire import undated

OTHERS = {"date", "server", "cookie", "set-cookie", "authorization", "proxy-authorization", "x"}
NAMES = sorted(
    {name.lower().encode() for name in (*CLIENT_FIELDS, *OWN_FIELDS, *OTHERS)}
    | {name for value in vars(field_names).values() if isinstance(value, frozenset) for name in value}
    | set(http1._READERS)
)
HOW = {
    "alone": lambda name: [name + b": 1"],
    "named in Connection": lambda name: [b"Connection: " + name, name + b": 1"],
    "named in Connection behind it": lambda name: [name + b": 1", b"Connection: close, " + name],
    "twice": lambda name: [name + b": 1", b"X-Between: 1", name + b":  2"],
    "with an underscore": lambda name: [name.replace(b"-", b"_") + b": 1"],
    "in another case": lambda name: [name.title() + b": websocket, trailers"],
}
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
DIRECTIONS = ("request", "1.0 request", "final response", "426", "interim response", "response to 1.0")


def messages(direction, lines):
    """What the client says, and what the backend answers."""
    asks = [b"GET / HTTP/1.1", b"Host: a"]
    answers = [b"HTTP/1.1 200 OK", b"Date: x", b"Content-Length: 2"]
    interim = []
    if direction == "request":
        asks += lines
    elif direction == "1.0 request":
        asks = [b"GET / HTTP/1.0", *lines]
    elif direction == "interim response":
        interim = [b"HTTP/1.1 103 Early Hints", *lines, b"", b""]
    else:
        if direction == "426":
            answers[0] = b"HTTP/1.1 426 Upgrade Required"
        if direction == "response to 1.0":
            asks[0] = b"GET / HTTP/1.0"
        answers += lines
    ask = b"\r\n".join([*asks, b"", b""])
    return ask, b"\r\n".join([*interim, *answers, b"", b"ok"])


def conversations(rooms, loop, direction, how, trusted):
    """For each name what the backend got, and what the client got."""
    found, heard, answer = [], [], [b""]

    def script(link):
        while (request := link.request()) is not None:
            heard.append(without_port(request.head))
            link.send(answer[0])

    backend = Backend(script)
    running = Balance(rooms, loop, [backend], trusted=trusted)
    port = b":%d" % backend.address.port
    try:
        for name in NAMES:
            ask, answer[0] = messages(direction, HOW[how](name))
            client = running.connect()
            client.send(ask + LAST)
            got = client.rest()
            found.append((name, [head.replace(port, b":port") for head in heard], undated(got)))
            heard.clear()
        return found
    finally:
        running.finish()
        backend.close()


def compare(both, loop, direction, how, trusted=()):
    """Hold all conversations and compare."""
    native, pure = (conversations(rooms, loop, direction, how, trusted) for rooms in both.values())

    assert native == pure


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_each_field_is_treated_alike(both, loop_thread, no_leaks, direction, how):
    """A name that only one engine knows is a field that only one of them keeps from somebody."""
    compare(both, loop_thread, direction, how)


@pytest.mark.parametrize("how", HOW)
def test_each_field_of_a_trusted_proxy_is_treated_alike(both, loop_thread, no_leaks, how):
    """More of its fields are kept."""
    compare(both, loop_thread, "request", how, ("127.0.0.1",))

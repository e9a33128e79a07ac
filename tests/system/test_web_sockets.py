"""WebSockets of the library websockets, client and server, through the balancer."""

import hashlib
import socket
import threading
from contextlib import ExitStack, contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError
from websockets.sync.client import connect
from websockets.sync.server import serve

from fastlb.model.address import Address
from support.waiting import wait_until

MIB = 1 << 20
# The next prime above a KiB, so that frames and buffers never end together.
ODD_BYTES = 1031


class EchoServer:
    """Echoes messages, obeys some words, and remembers how each connection was closed."""

    def __init__(self):
        self.closed = []

    def talk(self, connection):
        try:
            for message in connection:
                self._obey(connection, message if isinstance(message, str) else "", message)
        except ConnectionClosedError:
            pass
        finally:
            self.closed.append(connection.protocol.close_code)

    def _obey(self, connection, word, message):
        if word == "split":
            connection.send(["a" * 1000, "b" * 70_000, "c"])
        elif word.startswith("close "):
            connection.close(int(word.split()[1]), "as you wish")
        elif word == "ping me":
            connection.send("pong" if connection.ping(b"are you there").wait(5) else "nothing")
        elif word == "vanish":
            connection.socket.shutdown(socket.SHUT_RDWR)
        elif word.startswith("digest"):
            connection.send(hashlib.sha256(connection.recv(10)).hexdigest())
        else:
            connection.send(message)


@pytest.fixture
def echo_server(no_leaks):
    """A WebSocket server in a thread, and its address."""
    echo = EchoServer()
    with serve(echo.talk, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        echo.address = Address(host="127.0.0.1", port=server.socket.getsockname()[1])
        yield echo
        server.shutdown()
        thread.join()


@pytest.fixture
def running(balance, echo_server):
    """A balancer in front of the server."""
    return balance(echo_server.address)


@contextmanager
def web_socket(running):
    """One WebSocket; at its end nothing is in flight any more."""
    with connect(f"ws://127.0.0.1:{running.port}/", max_size=None) as connection:
        yield connection
    running.wait_in_flight(0)


@pytest.fixture
def connection(running):
    """One WebSocket through the balancer."""
    with web_socket(running) as opened:
        yield opened


def test_messages_of_every_size_are_echoed(running, connection):
    """Both ways, text and binary, around the limits of the length field (RFC 6455 5.2), and to 4 MiB."""
    sizes = (125, 126, 127, 65_535, 65_536, 200_000)
    messages = ("", "hello", "\u20ac" * 5000, *(b"\x00" * size for size in sizes), bytes(range(256)) * 16_384)
    for message in messages:
        connection.send(message)
        assert connection.recv(10) == message
    assert running.in_flight() == 1


@pytest.mark.parametrize("kind", ["whole", "fragments"])
def test_message_of_sixteen_mib_passes_both_ways(connection, kind):
    """More than every buffer on the way, whole and in frames of odd sizes."""
    message = hashlib.sha512(b"fastlb").digest() * (16 * MIB // 64)
    step = ODD_BYTES * 100
    pieces = [message[at : at + step] for at in range(0, len(message), step)]
    connection.send("digest the next")
    connection.send(message if kind == "whole" else pieces)
    assert connection.recv(15) == hashlib.sha256(message).hexdigest()
    connection.send(message)

    assert connection.recv(15) == message


def test_many_small_messages_stay_in_order(connection):
    """A thousand sent before the first is read."""
    for n in range(1000):
        connection.send(str(n) * (n % 7 + 1))

    assert [connection.recv(5) for _ in range(1000)] == [str(n) * (n % 7 + 1) for n in range(1000)]


def test_fragments_pass(connection):
    """Frames are the peers' business: one byte each, or many."""
    connection.send(["one ", "two ", "three"])
    assert connection.recv(5) == "one two three"
    connection.send([bytes([n]) for n in range(256)])
    assert connection.recv(5) == bytes(range(256))
    connection.send("split")
    assert connection.recv(5) == "a" * 1000 + "b" * 70_000 + "c"


def test_pings_pass_in_both_directions(connection):
    """Also between the fragments of a message, where RFC 6455 5.4 allows them."""
    assert connection.ping().wait(5)
    connection.send("ping me")
    assert connection.recv(5) == "pong"

    def pieces():
        for n in range(3):
            assert connection.ping(b"%d" % n).wait(5)
            yield f"{n} "

    connection.send(pieces())
    assert connection.recv(5) == "0 1 2 "


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000])
@pytest.mark.parametrize("who", ["client", "server"])
def test_close_codes_pass(running, echo_server, who, code):
    """The close frame gets through before the connection goes, and so does its answer."""
    with web_socket(running) as connection:
        if who == "server":
            connection.send(f"close {code}")
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(5)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as you wish")
        else:
            connection.close(code, "enough")
    wait_until(lambda: echo_server.closed, "the server's end")

    assert echo_server.closed == [code]
    assert running.line()["code"] == "--"


def test_client_that_vanishes_is_noticed_by_the_server(running, echo_server):
    """1006 is what a library says when no close frame came."""
    with web_socket(running) as connection:
        connection.send("hello")
        connection.recv(5)
        connection.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: echo_server.closed, "the server's end")

    assert echo_server.closed == [1006]


def test_server_that_vanishes_is_noticed_by_the_client(connection):
    """The same the other way round, with nothing before it lost."""
    for n in range(100):
        connection.send(str(n))
    connection.send("vanish")
    assert [connection.recv(5) for _ in range(100)] == [str(n) for n in range(100)]
    with pytest.raises(ConnectionClosedError) as closed:
        connection.recv(5)

    assert closed.value.rcvd is None


def test_web_sockets_are_counted_as_exchanges(running):
    """Twenty at once, twenty in flight."""
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(f"ws://127.0.0.1:{running.port}/"))
        wait_until(lambda: running.in_flight() == 20)
    running.wait_in_flight(0)

    assert {line["status"] for line in running.lines(20)} == {101}

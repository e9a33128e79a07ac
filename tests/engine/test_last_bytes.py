"""The last bytes before a FIN: they come at once, and the native engine sends both as one segment."""

import errno
import socket
import struct

import pytest

from fastlb.model.config import Mode
from support.backend import OK, answering
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
WORDS = b"last words"
# tcpi_segs_in of struct tcp_info (linux/tcp.h).
SEGMENTS_IN_AT = 140


@pytest.fixture
def native(engine):
    """Segments are the native engine's concern: an event loop shuts down in a turn of its own."""
    if engine.name == "pure":
        pytest.skip("asyncio sends the FIN by itself")


def segments(client):
    """How many segments have come from the other side, those of the handshake and ACKs included."""
    info = client.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_IN_AT + 4)
    return struct.unpack_from("I", info, SEGMENTS_IN_AT)[0]


def send_with_fin(link):
    """The words and the FIN in one segment: whoever reads one knows of the other."""
    link.sock.send(WORDS, socket.MSG_MORE)
    link.shut()


@pytest.mark.parametrize("last", ["response", "refusal"])
def test_last_answer_and_fin_are_one_segment(native, balance, backend, last):
    """A client that is told to go costs no segment more than one that stays."""
    running = balance(backend(answering(OK)))
    staying, going = running.connect(), running.connect()
    staying.send(GET, b"\r\n")
    staying.response()
    going.send(GET, b"Connection: close\r\n\r\n" if last == "response" else b"Transfer-Encoding: x\r\n\r\n")
    message = going.response()

    assert message.status == (200 if last == "response" else 400)
    assert going.ending() == "fin"
    assert segments(going) == segments(staying)


def test_last_bytes_and_fin_of_a_session_are_one_segment(native, balance, backend):
    """As they came from the backend."""

    def script(link):
        link.exactly(1)
        if link.number == 0:
            link.send(WORDS)
        else:
            send_with_fin(link)
        link.rest()

    running = balance(backend(script))
    port = running.open_listener(Mode.TCP)
    staying, going = running.connect(port), running.connect(port)
    for client in (staying, going):
        client.send(b"x")
        assert client.exactly(len(WORDS)) == WORDS

    assert going.ending() == "fin"
    assert segments(going) == segments(staying)


def test_last_bytes_reach_a_client_although_a_reset_comes_instead_of_the_fin(balance, backend, failing):
    """The kernel held them back for a FIN that was reported and is not there any more."""
    asked = []

    def script(link):
        asked.append(link.exactly(1))
        send_with_fin(link)
        link.rest()

    running = balance(backend(script))
    client = running.connect(running.open_listener(Mode.TCP))
    with failing.of("recv", errno.ECONNRESET, first=2):  # the client's byte, the words
        client.send(b"x")
        with pytest.raises(TruncatedError) as end:
            client.rest()
        assert failing.failed() == 1

    assert (end.value.how, end.value.got) == ("rst", WORDS)
    assert asked == [b"x"]
    assert running.line()["code"] == "SD"


def test_answer_is_whole_for_a_client_that_sends_on(balance, backend):
    """What it sends has no reader any more, and a reset must not take the answer along."""
    clients = []

    def script(link):
        while link.request() is not None:
            link.send(OK)
            clients[-1].sock.send(b"more")

    running = balance(backend(script))
    for _ in range(200):
        clients.append(running.connect())
        clients[-1].send(GET, b"Connection: close\r\n\r\n")
        assert clients[-1].response().body == b"ok"

"""Time-outs count what a reader takes, however long ago the other side has sent it."""

import threading
import time
from dataclasses import replace

import pytest

from fastlb.model.config import Mode
from support.balance import PATIENT, STREAMED
from support.waiting import wait_until
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# More than the sockets hold, and little enough for fastlb to take at once.
BODY_BYTES = 120_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES
TIMEOUT_S = 0.4
TAKEN_BYTES = 3000
PAUSE_S = 0.05


def sending_at_once(link):
    """Send everything as soon as one is asked, and FIN, so that a session is not idle at its end."""
    link.until(b"\r\n\r\n")
    link.send(HEAD, bytes(BODY_BYTES))
    link.shut()
    link.rest()


@pytest.fixture(params=[Mode.HTTP, Mode.TCP], ids=["response", "session"])
def asked(request, balance, backend):
    """An engine with short time-outs, and a client with small buffers that has asked for much."""
    running = balance(
        backend(sending_at_once), timeouts=replace(PATIENT, idle_s=TIMEOUT_S, tunnel_s=TIMEOUT_S)
    )
    port = running.open_listener(request.param, send_buffer_bytes=4096)
    client = running.connect(port, receive_buffer_bytes=4096)
    client.send(GET)
    return running, client


def take_slowly(client, count):
    """Take so many bytes, a few each time."""
    pause = threading.Event()
    for at in range(0, count, TAKEN_BYTES):
        client.exactly(min(TAKEN_BYTES, count - at))
        pause.wait(PAUSE_S)


def test_reader_that_takes_something_in_time_gets_everything(asked):
    """In all it needs several times as long as one that takes nothing is given."""
    running, client = asked
    started = time.monotonic()
    client.until(b"\r\n\r\n")
    take_slowly(client, BODY_BYTES)
    assert time.monotonic() - started > 4 * TIMEOUT_S
    client.shut()

    assert client.ending() == "fin"
    assert running.line()["code"] == "--"


def test_reader_that_takes_nothing_any_more_is_cut_off(asked):
    """It had taken something before; the time counts from there."""
    running, client = asked
    take_slowly(client, 30_000)
    wait_until(lambda: running.ledger().exchanges, "the end")

    assert running.line()["code"] in ("cD", "cL")
    with pytest.raises(TruncatedError):
        client.exactly(BODY_BYTES)


def test_upload_behind_the_head_of_a_response_is_progress(balance, backend):
    """A backend may have begun its response long before it has all it needs for the rest."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        link.exactly(20)
        link.send(b"ok")

    running = balance(backend(script), limits=STREAMED, timeouts=replace(PATIENT, idle_s=0.3, tunnel_s=0.3))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n")
    client.response_head()
    pause = threading.Event()
    for _ in range(20):
        client.send(b"x")
        pause.wait(0.05)

    assert client.exactly(2) == b"ok"

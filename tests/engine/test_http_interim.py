"""Interim responses, Expect, early final responses, and connections that become tunnels."""

import threading
from dataclasses import replace

import pytest

from support.backend import OK, answering, without_port
from support.balance import PATIENT, STREAMED
from support.waiting import wait_until
from support.wire import TruncatedError, undated

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nY: 2\r\n\r\n"


def tunnel_echo(link):
    """Answer 101 and send back whatever comes, FIN after FIN."""
    link.until(b"\r\n\r\n")
    link.send(SWITCHING)
    while link.unread or link.more():
        link.send(link.exactly(len(link.unread)))


def test_expect_is_passed_on_and_continue_comes_back(balance, backend):
    """The backend decides whether it wants the body (RFC 9110 10.1.1)."""
    heads = []

    def script(link):
        heads.append(link.until(b"\r\n\r\n"))
        assert not link.unread
        link.send(CONTINUE)
        assert link.exactly(4) == b"body"
        link.send(OK)
        link.request()

    client = balance(backend(script)).connect()
    client.send(EXPECT)
    assert client.response().head == CONTINUE
    client.send(b"body")

    assert client.response().body == b"ok"
    assert b"\r\nExpect: 100-continue\r\n" in heads[0]


def test_final_answer_to_expect_ends_the_connection(balance, backend):
    """The client may or may not send the body now, so the next request cannot be found."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(EXPECT)
    answer = client.response()

    assert (answer.status, answer.value(b"Connection")) == (417, b"close")
    assert client.ending() == "fin"
    running.wait_in_flight(0)


def test_interim_responses_are_relayed_at_once(balance, backend):
    """103 is worth something only before the final response (RFC 9110 15.2)."""
    seen = threading.Event()
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"

    def script(link):
        while link.request() is not None:
            link.send(hints)
            assert seen.wait(5)
            link.send(b"HTTP/1.1 102 Processing\r\n\r\n", OK)

    client = balance(backend(script)).connect()
    for _ in range(2):
        client.send(GET)
        assert client.response().head == hints
        seen.set()
        assert client.response().status == 102
        assert client.response().body == b"ok"


def test_interim_responses_are_kept_from_1_0_clients(balance, backend):
    """A 1.0 client would take it for the answer (RFC 9110 15.2)."""
    client = balance(
        backend(answering(CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK))
    ).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")

    assert undated(client.rest()) == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def test_early_response_reaches_a_client_that_is_still_sending(balance, backend):
    """An immediate close would destroy it with a RST (RFC 9112 9.6)."""
    sent = threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig")
        assert sent.wait(5)

    running = balance(backend(script), limits=STREAMED)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", b"x" * 10_000)
    answer = client.response()
    client.send(b"x" * 100_000)
    sent.set()

    assert (answer.status, answer.body, answer.value(b"Connection")) == (413, b"big", b"close")
    assert client.ending() == "fin"
    running.wait_in_flight(0)


@pytest.mark.parametrize("refused_by", ["backend", "balancer"])
def test_early_response_does_not_reset_a_fast_sender(balance, backend, refused_by):
    """Lingering is bounded by time (2 s): a quick upload must not be met by a RST."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nbig")

    client = balance(backend(script)).connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n"
    client.send(head if refused_by == "backend" else b"BAD\r\n\r\n")
    for _ in range(160):
        client.send(bytes(100_000))

    assert client.response().status == (413 if refused_by == "backend" else 400)
    assert client.ending() == "fin"


def test_backend_connection_of_an_early_response_is_not_used_again(balance, backend):
    """The rest of the body would be read as a request."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(OK)
        link.rest()

    started = backend(script)
    running = balance(started, limits=STREAMED)
    for n in range(2):
        client = running.connect()
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert client.response().body == b"ok"
        assert len(started.links) == n + 1


def test_upgrade_becomes_a_tunnel(balance, backend):
    """WebSocket and its like: after 101 the bytes are nobody's business (RFC 9110 7.8)."""
    heads = []

    def script(link):
        heads.append(link.until(b"\r\n\r\n"))
        link.send(SWITCHING)
        while link.more():
            link.send(link.exactly(len(link.unread)))

    running = balance(backend(script))
    client = running.connect()
    client.send(UPGRADE)

    answer = client.response_head()
    assert answer.status == 101
    assert (answer.value(b"Upgrade"), answer.value(b"Y")) == (b"websocket", b"2")
    assert answer.value(b"Connection").lower() == b"upgrade"
    assert without_port(heads[0]) == (
        b"GET /ws HTTP/1.1\r\nHost: a\r\nX: 1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        b"X-Forwarded-Host: a\r\nVia: 1.1 fastlb\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    for size in (1, 1000, 300_000):
        client.send(b"\x00\r\n" * size)
        assert client.exactly(3 * size) == b"\x00\r\n" * size
    client.shut()
    assert client.ending() == "fin"
    running.wait_in_flight(0)
    assert (running.line()["status"], running.line()["code"]) == (101, "--")


def test_bytes_behind_the_upgrade_are_flushed_into_the_tunnel(balance, backend):
    """Both sides may speak before they have seen the other's head."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(SWITCHING + b"server first")
        assert link.exactly(12) == b"client first"
        link.send(b"both")

    client = balance(backend(script)).connect()
    client.send(UPGRADE + b"client first")
    client.response_head()

    assert client.exactly(16) == b"server firstboth"


def test_tunnel_holds_its_unit_until_both_directions_have_ended(balance, backend):
    """Half a tunnel is still a connection that the backend serves."""
    gate = threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(SWITCHING)
        assert link.rest() == b"bye"
        assert gate.wait(5)
        link.send(b"last words")

    running = balance(backend(script))
    client = running.connect()
    client.send(UPGRADE)
    client.response_head()
    client.send(b"bye")
    client.shut()
    assert running.in_flight() == 1
    gate.set()

    assert client.rest() == b"last words"
    running.wait_in_flight(0)


def test_tunnel_passes_half_close_from_the_backend(balance, backend):
    """The backend may finish first, and still listen."""
    heard = []

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(SWITCHING)
        link.shut()
        heard.append(link.rest())

    running = balance(backend(script))
    client = running.connect()
    client.send(UPGRADE)
    client.response_head()
    assert client.rest() == b""
    client.send(b"still here")
    client.shut()
    running.wait_in_flight(0)
    wait_until(lambda: heard, "the backend's reading")

    assert heard == [b"still here"]


def test_reset_in_a_tunnel_is_passed_on(balance, backend):
    """A tunnel that broke must not look like one that ended."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(SWITCHING)
        link.exactly(1)
        link.reset()

    running = balance(backend(script))
    client = running.connect()
    client.send(UPGRADE)
    client.response_head()
    client.send(b"x")

    assert client.ending() == "rst"
    running.wait_in_flight(0)


def test_idle_tunnel_ends_after_its_time(balance, backend):
    """The tunnel's own time-out takes the place of those for requests."""
    running = balance(backend(tunnel_echo), timeouts=replace(PATIENT, idle_s=10, tunnel_s=0.3))
    client = running.connect()
    client.send(UPGRADE)
    client.response_head()
    client.send(b"x")
    assert client.exactly(1) == b"x"

    assert client.ending() in ("fin", "rst")
    running.wait_in_flight(0)


def test_refused_upgrade_is_a_normal_response(balance, backend):
    """Anything but 101 keeps the connection HTTP."""
    client = balance(backend(answering(b"HTTP/1.1 426 Later\r\nContent-Length: 2\r\n\r\nno", OK))).connect()
    client.send(UPGRADE)
    assert client.response().status == 426
    client.send(GET)

    assert client.response().body == b"ok"


@pytest.mark.parametrize("status", [b"426 Upgrade Required", b"200 OK", b"503 Not Yet"])
@pytest.mark.parametrize(
    ("request_head", "connection"),
    [
        (GET, b"Upgrade"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"close, Upgrade"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", b"keep-alive, Upgrade"),
        (UPGRADE, b"Upgrade"),
    ],
)
def test_final_response_may_offer_an_upgrade(balance, backend, status, request_head, connection):
    """426 must have it (RFC 9110 15.5.22), any other may (7.8), and our Connection names it, also where the
    backend's has not."""
    offer = b"HTTP/1.1 " + status + b"\r\nUpgrade: websocket, x/2\r\nContent-Length: 2\r\nUpgrade:y\r\n\r\nno"
    client = balance(backend(answering(offer))).connect()
    client.send(request_head)
    answer = client.response()

    assert answer.undated == (
        b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: " + connection + b"\r\n"
        b"Upgrade: websocket, x/2\r\nUpgrade: y\r\n\r\n"
    )


def test_interim_response_offers_no_upgrade(balance, backend):
    """Besides 101, which is the upgrade, only final ones are about it."""
    hints = b"HTTP/1.1 103 Early Hints\r\nConnection: Upgrade\r\nUpgrade: x\r\nLink: y\r\n\r\n"
    client = balance(backend(answering(hints + OK))).connect()
    client.send(GET)

    assert client.response().head == b"HTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n"


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_upgrade_that_is_not_asked_for_properly_is_not_passed_on(balance, backend, request_head):
    """Upgrade is hop-by-hop, and unknown to 1.0 (RFC 9110 7.8)."""
    heads = []

    def script(link):
        heads.append(link.request().head)
        link.send(OK)
        link.request()

    client = balance(backend(script)).connect()
    client.send(request_head)
    client.response()

    assert b"pgrade" not in heads[0]


def test_101_that_nobody_asked_for_is_a_502(balance, backend):
    """A backend that switches on its own is speaking nonsense."""
    running = balance(backend(answering(SWITCHING)))
    client = running.connect()
    client.send(GET)

    assert client.response().status == 502
    assert running.line()["code"] == "PH"
    client.send(b"garbage\r\n\r\n")
    with pytest.raises(TruncatedError):
        while True:
            client.exactly(1)

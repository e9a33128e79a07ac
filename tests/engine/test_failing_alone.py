"""Calls that fail in the first conversation of an engine. Later ones use memory again that earlier
ones have left, so only here each of them meets an engine that has none to spare."""

import array
import errno
import fcntl
import select
import termios
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.proxied import ProxyProtocol
from support.backend import OK, Link, echo, recording
from support.balance import PATIENT
from support.failing import numbers
from support.talks import (
    CONVERSATIONS,
    BrokenError,
    answered,
    converse,
    engines_with,
    get,
    name_fault,
    serve,
    serve_announced,
    started,
)
from support.waiting import wait_until
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

FAULTS = [("memory", errno.ENOMEM, 1), ("memory", errno.ENOMEM, 1000), ("send", errno.EPIPE, 1)]
FAULTS_OF_MEMORY = FAULTS[:2]
# A slab has room for 128 connections.
MULTITUDE = 140
KEPT_BYTES = 60_000
FIRST_WORDS = b"first" * 1000
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
# From a backend that says no more after it, and reads no more.
LAST = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
PUT_KEPT = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % KEPT_BYTES + bytes(KEPT_BYTES)
CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n"


def told(client):
    """True if there is something to read: an answer, or an end."""
    return select.select([client.sock], [], [], 0)[0]


def received_bytes(running):
    """From all backends."""
    return sum(backend.bytes_in for backend in running.ledger().backends)


def sent_bytes(running):
    """To all backends, with what the engine itself still holds."""
    return sum(backend.bytes_out for backend in running.ledger().backends)


# ---- more conversations, each with a backend of its own --------------------------------------


def end_of_the_way(running):
    """A request that is answered by fastlb itself."""
    client = running.connect()
    request = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
    client.send(request * 2)
    for _ in range(2):
        message = client.response()
        if message.status == 503:
            raise BrokenError
        assert message.status == 200


def bad_chunks(running):
    """A body that turns bad, long enough to need a larger buffer than its head does."""
    client = running.connect()
    client.send(POST + CHUNKS + b"3\r\nabc\r\n" * 500 + b"x\r\n")
    message = client.response()
    if message.status == 503:
        raise BrokenError
    assert message.status == 400
    client.rest()


def hints_together(link):
    """An interim response and the final one in one piece."""
    while link.request() is not None:
        link.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)


def halves(link):
    """Half a head while the request's body is not there yet, and the rest behind it."""
    head = link.until(b"\r\n\r\n")
    link.send(LAST[:20])
    if b"POST" in head:
        link.exactly(2)
    link.send(LAST[20:])


def half_a_head(running):
    """Half the head of a response, which waits for the other half."""
    client = running.connect()
    client.send(POST + CHUNKS)
    wait_until(lambda: told(client) or received_bytes(running), "half a head")
    client.send(b"2\r\nab\r\n0\r\n\r\n")
    answered(client, b"ok")


def eager(link):
    """The first words in a tunnel come with the head that opens it. Both are long."""
    link.request()
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Long: "
    link.send(head + b"x" * 10_000 + b"\r\n\r\n" + FIRST_WORDS)
    echo(link)


def eager_tunnel(running):
    """A tunnel whose backend speaks first, with more than the client's small sockets hold."""
    port = running.open_listener(Mode.HTTP, send_buffer_bytes=4096)
    client = running.connect(port, receive_buffer_bytes=4096)
    client.send(get(b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    message = client.response_head()
    if message.status != 101:
        raise BrokenError
    assert client.exactly(len(FIRST_WORDS)) == FIRST_WORDS
    client.send(b"last")
    assert client.exactly(4) == b"last"
    client.shut()
    assert client.rest() == b""


def talkative(link):
    """Much behind the end of a response, where nothing may be."""
    while link.request() is not None:
        link.send(OK + bytes(5000))


def plain(running):
    """One request."""
    client = running.connect()
    client.send(get(b"small"))
    answered(client, b"ok")


def multitude(running):
    """More clients than fastlb holds memory for before they are there."""
    clients = [running.connect() for _ in range(MULTITUDE)]
    for client in clients:
        client.send(get(b"small"))
    ended = 0
    for client in clients:
        try:
            answered(client, b"ok")
        except (BrokenError, TruncatedError, OSError) as end:
            assert not isinstance(end, TimeoutError)
            ended += 1
    if ended:
        raise BrokenError


def unread_bytes(link):
    """What the kernel holds for a reader (FIONREAD, ioctl_tty(2))."""
    count = array.array("i", [0])
    fcntl.ioctl(link.sock, termios.FIONREAD, count)
    return count[0]


@dataclass
class Stuffed:
    """A backend that answers without reading, until it is told to read. Its socket takes no more then."""

    count: int = 4
    reading: threading.Event = field(default_factory=threading.Event)

    def script(self, link: Link) -> None:
        """Answer all but the last request once they are here, and the last once it has been read."""
        reading = self.reading
        for number in range(1, self.count):
            wait_until(lambda n=number: unread_bytes(link) > n * KEPT_BYTES or reading.is_set(), "a request")
            link.send(OK)
        assert reading.wait(8)
        for _ in range(self.count):
            link.request()
        link.send(LAST)

    def talk(self, running) -> None:
        """Requests on one connection, the last of which the backend's socket has no room for."""
        self.reading = threading.Event()
        try:
            client = running.connect()
            for _ in range(self.count - 1):
                client.send(PUT_KEPT)
                answered(client, b"ok")
            client.send(PUT_KEPT)
            wait_until(
                lambda: told(client) or sent_bytes(running) > self.count * KEPT_BYTES, "the last request"
            )
            self.reading.set()
            answered(client, b"ok")
        finally:
            self.reading.set()


@dataclass
class Early:
    """A backend that answers before it has the body, and reads that only when it is told."""

    reading: threading.Event = field(default_factory=threading.Event)

    def script(self, link: Link) -> None:
        """The head, and when the body has come the rest."""
        reading = self.reading
        head = link.until(b"\r\n\r\n")
        link.send(LAST[:-2])
        assert reading.wait(8)
        if CHUNKS in head:
            while link.chunk():
                pass
        link.send(LAST[-2:])

    def talk(self, running) -> None:
        """A body in chunks that the backend's socket has no room for."""
        self.reading = threading.Event()
        try:
            client = running.connect()
            client.send(POST + CHUNKS)
            if client.response_head().status != 200:
                raise BrokenError
            client.send((b"2000\r\n" + bytes(8192) + b"\r\n") * 50 + b"0\r\n\r\n")
            wait_until(lambda: told(client) or sent_bytes(running) > 200_000, "a body on its way")
            self.reading.set()
            assert client.exactly(2) == b"ok"
        finally:
            self.reading.set()


ODD = {
    "end_of_the_way": (end_of_the_way, serve),
    "bad_chunks": (bad_chunks, serve),
    "hints_together": (plain, hints_together),
    "half_a_head": (half_a_head, halves),
    "eager_tunnel": (eager_tunnel, eager),
    "talkative": (plain, talkative),
}


@pytest.mark.parametrize("fault", FAULTS, ids=name_fault)
@pytest.mark.parametrize("talk", CONVERSATIONS, ids=lambda talk: talk.__name__)
def test_failure_in_a_first_conversation_costs_nothing_else(balance, backend, refused, failing, talk, fault):
    """The next conversation of the same kind is whole."""
    backends = (backend(serve), refused, backend(serve))
    for running, _ in engines_with(balance, backends, failing, fault, (talk,)):
        assert converse(running, (talk,)) == []


@pytest.mark.parametrize("fault", FAULTS, ids=name_fault)
@pytest.mark.parametrize("name", ODD)
def test_failure_in_a_first_odd_conversation_costs_nothing_else(balance, backend, failing, name, fault):
    """The same with peers that do what they seldom do."""
    talk, script = ODD[name]
    for running, _ in engines_with(balance, [backend(script)], failing, fault, (talk,)):
        assert converse(running, (talk,)) == []


@pytest.mark.parametrize("fault", FAULTS, ids=name_fault)
@pytest.mark.parametrize("kind", [Stuffed, Early])
def test_failure_while_a_backend_does_not_read_costs_nothing_else(
    balance, backend, failing, tmp_path, kind, fault
):
    """What the kernel refuses has to be kept, and that needs memory. A UNIX socket takes little."""
    peer = kind()
    backends = [backend(peer.script, path=str(tmp_path / "backend"))]
    for running, _ in engines_with(balance, backends, failing, fault, (peer.talk,)):
        assert converse(running, (peer.talk,)) == []


@pytest.mark.parametrize("fault", FAULTS_OF_MEMORY, ids=name_fault)
def test_client_that_there_is_no_memory_for_costs_nothing_else(balance, backend, failing, fault):
    """Those beside it are served."""
    for running, _ in engines_with(balance, [backend(serve)], failing, fault, (multitude,)):
        assert converse(running, (plain,)) == []


@pytest.mark.parametrize("fault", FAULTS, ids=name_fault)
def test_failure_while_a_head_times_out_costs_nothing_else(balance, backend, failing, fault):
    """The answer to it is lost, and nothing more."""

    def slow_head(running):
        client = running.connect()
        client.send(b"GET / HTTP/1.1\r\nHo")
        assert client.response().status in (408, 503)
        assert client.ending() == "fin"

    hasty = replace(PATIENT, header_s=0.1)
    for running, _ in engines_with(balance, [backend(serve)], failing, fault, (slow_head,), timeouts=hasty):
        assert converse(running, (slow_head, plain)) == []


def test_announcement_that_fails_at_once_is_a_connect_that_fails(
    balance, backend, failing, monkeypatch, tmp_path
):
    """A UNIX socket is connected without waiting. Nothing was asked yet, so any request may go to
    another backend. (In a batch it fails later.)"""
    monkeypatch.setenv("FASTLB_IO_URING", "off")
    backends = [backend(serve_announced, path=str(tmp_path / name)) for name in "ab"]
    running = started(balance, backends, proxy_protocol=ProxyProtocol.V2)
    client = running.connect()
    with failing.of("send", errno.EPIPE):
        client.send(POST + b"Content-Length: 2\r\n\r\nab")
        assert client.response().body == b"ok"
        assert failing.failed() == 1

    (event,) = running.wait_event(EventKind.CONNECT_FAILED)
    assert (event.slot, event.errno) == (running.slots[0], errno.EPIPE)
    line = running.line()
    assert (line["tries"], line["code"], line["backend"]) == (2, "--", backends[1].label)


# ---- what must not be taken for something else -----------------------------------------------


def test_answer_of_our_own_keeps_no_connection_whose_bytes_are_lost(balance, backend, failing):
    """Or the rest of a request is taken for a request: here the body of a POST."""
    body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for number in numbers():
        seen = []
        running = balance(backend(recording(seen)))
        client = running.connect()
        with failing.of("memory", errno.ENOMEM, first=number):
            client.send(get(b"own") + POST + b"Content-Length: %d\r\n\r\n" % len(body))
            try:
                if client.response().value(b"Connection") != b"close":
                    client.send(body)
                    client.response()
            except (TruncatedError, OSError) as end:
                assert not isinstance(end, TimeoutError), number
            failed = failing.failed()
        assert not any(b"/smuggled" in head.split(b"\r\n")[0] for head in seen), number
        running.finish()
        if not failed:
            return


def test_requests_behind_a_body_without_memory_are_not_waited_for(balance, backend, failing):
    """Each is answered, or the connection is closed; none is lost on one that stays."""
    count = 100
    for number in numbers():
        running = balance(backend(recording([])))
        client = running.connect()
        begun = POST + b"Content-Length: 4\r\n\r\nab"
        client.send(begun)
        wait_until(lambda: running.ledger().bytes_in == len(begun), "half the body")  # noqa: B023
        with failing.of("memory", errno.ENOMEM, first=number):
            try:
                client.send(b"cd" + get(b"own") * count)
                for _ in range(1 + count):
                    if client.response().value(b"Connection") == b"close":
                        break
            except (TruncatedError, OSError) as end:
                assert not isinstance(end, TimeoutError), number
            failed = failing.failed()
        running.finish()
        if not failed:
            return


def test_memory_for_half_a_head_is_not_the_backend_s_fault(balance, backend, failing):
    """What this machine lacks is 503 and R, and blames nobody."""
    rest = threading.Event()

    def script(link):
        link.request()
        link.send(OK[:20])
        rest.wait(10)
        link.send(OK[20:])
        link.rest()

    for number in numbers():
        rest.clear()
        running = balance(backend(script))
        client = running.connect()
        with failing.of("memory", errno.ENOMEM, first=number):
            client.send(get(b"own"))
            wait_until(
                lambda r=running, c=client: told(c) or received_bytes(r) == 20 or not r.ledger().clients,
                "half a head, or an end",
            )
            failed = failing.failed()
        rest.set()
        with suppress(TruncatedError, OSError):
            client.response()
        running.wait_idle()
        blamed = [event for event in running.events() if event.kind is EventKind.BACKEND_FAILED]
        assert not blamed, number
        codes = {line["code"] for line in running.lines(running.ledger().exchanges)}
        assert codes <= {"--", "RC", "RH", "RR"}, number
        running.finish()
        if not failed:
            return


def test_memory_for_half_a_request_head_is_a_fault_of_this_machine(balance, backend, failing):
    """The client is told so."""
    for number in numbers():
        running = balance(backend(serve))
        client = running.connect()
        wait_until(lambda r=running: r.ledger().clients == 1)
        with failing.of("memory", errno.ENOMEM, first=number):
            client.send(get(b"own")[:20])
            if number < 2:
                wait_until(failing.failed, "a call that failed")
                client.send(get(b"own")[20:])
            failed = failing.failed()
        if failed:
            with suppress(TruncatedError, OSError):
                assert client.response().status == 503
            assert {line["code"] for line in running.lines(running.ledger().exchanges)} <= {"RR"}
        running.finish()
        if not failed:
            return

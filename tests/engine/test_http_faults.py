"""Peers that leave, break, or fall silent at every phase of an HTTP exchange.

Each row of a table is one fault: what the client gets, what the log says, and afterwards, for all
alike: nothing in flight, counts equal to objects, no descriptor left, and the next request served.
"""

import socket
import threading
from dataclasses import dataclass, replace

import pytest

from fastlb.model.events import EventKind
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering
from support.balance import PATIENT
from support.waiting import wait_until
from support.wire import TruncatedError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
# More than is awaited before a backend is picked.
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000
CHUNKED_UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\n\r\nabc"
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"

# How a backend ends its connection: with FIN; with RST; or not at all.
ENDS = {"closes": lambda link: link.close(), "resets": lambda link: link.reset()}
HASTY = replace(PATIENT, idle_s=0.1, response_s=0.1, tunnel_s=0.1)


@dataclass(frozen=True)
class Fault:
    """`request` goes out; the backend reads until it has seen `reads`, says `says`, and then its
    end comes. `closes`, `resets`, `silent`: status and code in the log for each end; a status of
    0 in `client` means a response that is cut."""

    request: bytes
    reads: bytes
    says: bytes
    closes: tuple[int, str]
    resets: tuple[int, str]
    silent: tuple[int, str]


PHASES = {
    "after accept": Fault(GET, b"", b"", (502, "SH"), (502, "SH"), (504, "sH")),
    "after a GET": Fault(GET, b"\r\n\r\n", b"", (502, "SH"), (502, "SH"), (504, "sH")),
    "after a POST": Fault(POST, b"hello", b"", (502, "SH"), (502, "SH"), (504, "sH")),
    "in an upload": Fault(UPLOAD, b"x" * 1000, b"", (502, "SH"), (502, "SH"), (408, "cD")),
    "in a chunked upload": Fault(CHUNKED_UPLOAD, b"hello", b"", (502, "SH"), (502, "SH"), (408, "cD")),
    "in the status line": Fault(GET, b"\r\n\r\n", b"HTTP/1.1 2", (502, "SH"), (502, "SH"), (504, "sH")),
    "in the head": Fault(GET, b"\r\n\r\n", LONG[:30], (502, "SH"), (502, "SH"), (504, "sH")),
    "after an interim response": Fault(GET, b"\r\n\r\n", INTERIM, (502, "SH"), (502, "SH"), (504, "sH")),
    "after the head": Fault(GET, b"\r\n\r\n", LONG[:-3], (200, "SD"), (200, "SD"), (200, "sD")),
    "in the body": Fault(GET, b"\r\n\r\n", LONG, (200, "SD"), (200, "SD"), (200, "sD")),
    "in a chunked body": Fault(GET, b"\r\n\r\n", CHUNKS, (200, "SD"), (200, "SD"), (200, "sD")),
    "in a body without a length": Fault(GET, b"\r\n\r\n", CLOSING, (200, "--"), (200, "SD"), (200, "sD")),
}


def faulty(fault, end, gate):
    """The first connection has the fault, and tells when it has read what it should; others are well."""

    def script(link):
        if link.number:
            while link.request() is not None:
                link.send(OK)
            return
        if fault.reads:
            link.until(fault.reads)
        link.send(fault.says)
        if end != "silent":
            ENDS[end](link)
        gate.wait(10)

    return script


def outcome(client):
    """Status and how it ended: "whole", or "rst" or "fin" for a response that was cut."""
    head = client.response_head()
    while head.status < 200:
        head = client.response_head()
    try:
        if head.values(b"Content-Length"):
            client.exactly(int(head.value(b"Content-Length")))
        else:
            for _ in iter(client.chunk, b""):
                pass
    except TruncatedError as cut:
        return head.status, cut.how
    return head.status, "whole"


@pytest.mark.parametrize("end", ["closes", "resets", "silent"])
@pytest.mark.parametrize("phase", PHASES)
def test_backend_ends_at_every_phase(balance, backend, phase, end):
    """What was begun ends where its framing shows the cut, what was not is answered, and both are over."""
    fault, gate = PHASES[phase], threading.Event()
    status, code = getattr(fault, end)
    running = balance(backend(faulty(fault, end, gate)), timeouts=HASTY if end == "silent" else PATIENT)
    client = running.connect()
    client.send(fault.request)
    try:
        seen = outcome(client)
        running.wait_idle()
        line = running.line()
    finally:
        gate.set()
    cut = code in ("SD", "sD")

    # A reset may overtake the news that the connection is there.
    codes = ("SC", code) if (phase, end) == ("after accept", "resets") else (code,)
    assert (line["status"], line["tries"]) == (status, 1)
    assert line["code"] in codes
    assert seen == (status, "fin" if cut else "whole")
    again = running.connect() if cut or fault.request in (UPLOAD, CHUNKED_UPLOAD) else client
    again.send(GET)
    assert outcome(again) == (200, "whole")


@pytest.mark.parametrize("end", ["closes", "resets"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_backend_ends_between_two_requests(balance, backend, end, method):
    """A kept connection that is seen to be over is not used, whatever the method."""
    close = threading.Event()

    def script(link):
        link.request()
        link.send(OK)
        if link.number == 0:
            assert close.wait(10)
            ENDS[end](link)
        else:
            link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    assert outcome(client) == (200, "whole")
    running.wait_idle()
    close.set()
    wait_until(lambda: running.verify().connections == 1, "the pooled connection closed")
    client.send(method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")

    assert outcome(client) == (200, "whole")
    assert running.ledger().retries == 0


@pytest.mark.parametrize("where", ["refused", "unanswered"])
def test_backend_ends_before_accept(balance, backend, refused, unanswered, where):
    """Nothing was sent: any method goes elsewhere, and without an elsewhere it is answered."""
    bad = refused if where == "refused" else unanswered
    status, code = (502, "SC") if where == "refused" else (504, "sC")
    running = balance(bad, backend(answering(OK)), timeouts=replace(PATIENT, connect_s=0.2))
    client = running.connect()
    client.send(POST)
    assert outcome(client) == (200, "whole")
    running.keep_only(0)
    client.send(POST)

    assert outcome(client) == (status, "whole")
    running.wait_idle()
    assert [(line["status"], line["code"]) for line in running.lines(2)] == [(200, "--"), (status, code)]


def test_backend_that_speaks_before_it_was_asked_is_heard(balance, backend):
    """A server that is full may say so as soon as it has accepted."""
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"

    def script(link):
        link.send(busy)
        link.rest()

    started = backend(script)
    running = balance(started)
    client = running.connect()
    for n in range(5):
        client.send(POST)
        answer = client.response()
        assert (answer.status, answer.body) == (503, b"busy")
        assert len(started.links) == n + 1
    running.wait_idle()
    assert [line["code"] for line in running.lines(5)] == ["--"] * 5


def test_upload_that_its_backend_does_not_read_is_the_backends_fault(balance, backend):
    """A process that was stopped keeps its kernel's window shut: 504, and sD in the log."""
    gate = threading.Event()

    def script(link):
        gate.wait(10)

    running = balance(backend(script), timeouts=replace(HASTY, tunnel_s=0.3))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    sender = threading.Thread(target=pour, args=(client, 100_000_000))
    sender.start()
    try:
        assert client.response_head().status == 504
        running.wait_idle()
        assert (running.line()["status"], running.line()["code"]) == (504, "sD")
        running.wait_event(EventKind.BACKEND_FAILED)
    finally:
        gate.set()
        client.sock.shutdown(socket.SHUT_RDWR)
        sender.join()


def pour(client, size):
    """Send until it is all sent, or the peer has had enough."""
    try:
        for _ in range(size // 100_000):
            client.send(bytes(100_000))
    except OSError:
        return


# ---- the client ---------------------------------------------------------------------------------

LEAVES = {
    "closes": lambda client: client.close(),
    "resets": lambda client: client.reset(),
    "half-closes": lambda client: client.shut(),
}


@dataclass(frozen=True)
class Leave:
    """The client sends `sends`; once the backend has seen `seen` and said `says`, it leaves."""

    sends: bytes
    seen: bytes
    says: bytes
    code: str
    status: int = 499


LEAVING = {
    "after a GET": Leave(GET, b"\r\n\r\n", b"", "CH"),
    "after a POST": Leave(POST, b"hello", b"", "CH"),
    "in an upload": Leave(UPLOAD, b"x" * 100_000, b"", "CD"),
    "in a chunked upload": Leave(CHUNKED_UPLOAD, b"hello", b"", "CD"),
    "after an interim response": Leave(GET, b"\r\n\r\n", INTERIM, "CH"),
    "in a body": Leave(GET, b"\r\n\r\n", LONG, "CD", 200),
    "in a chunked body": Leave(GET, b"\r\n\r\n", CHUNKS, "CD", 200),
    "in a body without a length": Leave(GET, b"\r\n\r\n", CLOSING, "CD", 200),
    "in a body and an upload": Leave(UPLOAD, b"x" * 100_000, LONG, "CD", 200),
}


@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("phase", LEAVING)
def test_client_leaves_at_every_phase(balance, backend, phase, how):
    """Its backend is told, the log says who it was, and no backend is blamed."""
    leave = LEAVING[phase]
    seen, ended = threading.Event(), threading.Event()

    def script(link):
        if link.number:
            link.request()
            link.send(OK)
            return
        try:
            link.until(leave.seen)
            seen.set()
            link.send(leave.says)
            link.rest()
        finally:
            ended.set()

    running = balance(backend(script))
    client = running.connect()
    client.send(leave.sends)
    assert seen.wait(8)
    if leave.says:
        client.response_head()
    LEAVES[how](client)
    running.wait_idle()
    line = running.line()

    assert (line["code"], line["status"]) == (leave.code, leave.status)
    assert ended.wait(8)
    assert not running.events()
    if how == "half-closes":
        with pytest.raises(TruncatedError):
            client.exactly(1000)
    again = running.connect()
    again.send(GET)
    assert outcome(again) == (200, "whole")


@pytest.mark.parametrize("how", LEAVES)
def test_client_leaves_in_a_head(balance, backend, how):
    """Code CR; what it asked before is answered."""
    started = backend(answering(OK))
    running = balance(started)
    client = running.connect()
    client.send(GET + GET[:20])
    assert outcome(client) == (200, "whole")
    LEAVES[how](client)

    assert [(line["code"], line["status"]) for line in running.lines(2)] == [("--", 200), ("CR", 499)]
    assert len(started.links) == 1


def test_client_resets_an_upload_that_its_backend_does_not_read(balance, backend):
    """Nothing is read from it then, and still it must be seen to have left."""
    gate = threading.Event()
    running = balance(backend(lambda link: gate.wait(10)))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    client.sock.settimeout(0.2)
    pour(client, 100_000_000)
    client.reset()
    try:
        running.wait_idle()
        assert (running.line()["status"], running.line()["code"]) == (499, "CD")
        wait_until(lambda: running.ledger().clients == 0, "the client connection closed")
    finally:
        gate.set()


def test_client_that_pipelines_much_is_seen_to_reset(balance, backend):
    """The same while what it sent ahead is more than is read ahead."""
    started = backend(lambda link: link.rest())
    running = balance(started)
    client = running.connect()
    client.send(GET)
    wait_until(lambda: started.link().received_bytes, "the request")
    client.send(GET * 10_000)
    client.reset()
    running.wait_idle()

    assert running.line()["code"] == "CH"


@pytest.mark.parametrize("how", ["closes", "half-closes"])
@pytest.mark.parametrize("sends", [GET, POST, UPLOAD + b"x" * 100_000], ids=["GET", "POST", "upload"])
def test_client_leaves_with_its_request(balance, backend, how, sends):
    """Its FIN is read together with its last bytes, and its backend must not work for nobody.

    The connection waits in the accept queue until all of it is there."""
    running = balance(backend(lambda link: link.rest()), limits=LimitConfig(connections=1))
    first, client = running.connect(), running.connect()
    running.wait_event(EventKind.ACCEPT_PAUSED)
    client.send(sends)
    LEAVES[how](client)
    first.close()
    running.wait_event(EventKind.ACCEPT_RESUMED)
    line = running.line()

    assert line["status"] == 499
    assert line["code"] in ("CR", "CC", "CH")


@pytest.mark.parametrize("sends", [GET, UPLOAD, CHUNKED_UPLOAD], ids=["GET", "upload", "chunked upload"])
@pytest.mark.parametrize("how", LEAVES)
def test_client_leaves_while_its_backend_is_connected(balance, unanswered, how, sends):
    """Also with half a body under way: nobody waits for the connect."""
    running = balance(unanswered)
    client = running.connect()
    client.send(sends)
    running.wait_in_flight(1)
    LEAVES[how](client)
    running.wait_idle()

    assert (running.line()["status"], running.line()["code"]) == (499, "CC")


@pytest.mark.parametrize("sends", [GET, UPLOAD, CHUNKED_UPLOAD], ids=["GET", "upload", "chunked upload"])
@pytest.mark.parametrize("how", LEAVES)
def test_client_leaves_the_queue(balance, backend, how, sends):
    """Also with half a body under way: its place is the next one's, and no backend sees it."""
    gate = threading.Event()

    def script(link):
        while link.request() is not None:
            assert gate.wait(10)
            link.send(OK)

    running = balance(backend(script), max_conns=[1])
    held, leaving = running.connect(), running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    leaving.send(sends)
    wait_until(lambda: running.ledger().queued == 1, "queued")
    LEAVES[how](leaving)
    wait_until(lambda: running.ledger().queued == 0, "its place is free")
    gate.set()

    assert outcome(held) == (200, "whole")
    assert sorted(line["code"] for line in running.lines(2)) == ["--", "CQ"]
    assert running.picked() == 1


def test_long_upload_may_wait_for_its_backend(balance, backend):
    """Who waits in the queue is not idle, and is not read: only the queue's own time counts."""
    gate, sizes = threading.Event(), []

    def script(link):
        while (request := link.request()) is not None:
            sizes.append(len(request.body))
            assert gate.wait(10)
            link.send(OK)

    running = balance(backend(script), max_conns=[1], timeouts=replace(HASTY, response_s=None))
    held, waiting = running.connect(), running.connect()
    held.send(GET)
    running.wait_in_flight(1)
    waiting.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
    wait_until(lambda: running.ledger().queued == 1, "queued")
    assert not gate.wait(0.4)  # longer than each of the other times
    gate.set()

    assert outcome(waiting) == (200, "whole")
    assert sizes == [0, 200_000]


def test_client_goes_silent_in_a_response_it_does_not_read(balance, backend):
    """A reader that takes nothing ends after its time: cD."""
    gate = threading.Event()

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        pour(link, 100_000_000)
        gate.wait(10)

    running = balance(backend(script), timeouts=replace(HASTY, tunnel_s=0.3))
    client = running.connect(receive_buffer_bytes=16_384)
    client.send(GET)
    try:
        running.wait_idle()
        assert (running.line()["status"], running.line()["code"]) == (200, "cD")
    finally:
        gate.set()


@pytest.mark.parametrize("sends", [GET[:10], GET + GET[:10]], ids=["first", "second"])
def test_client_goes_silent_in_a_head(balance, backend, sends):
    """408, and it does not matter how many it has sent before."""
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2))
    client = running.connect()
    client.send(sends)
    answers = [client.response().status for _ in range(sends.count(b"GET"))]

    assert answers[-1] == 408
    assert client.ending() == "fin"
    running.wait_idle()

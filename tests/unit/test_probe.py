"""Probes against real sockets: pass or fail, and why in a few words."""

import asyncio
import contextlib
import errno
import gc
import http.server
import os
import re
import select
import socket
import sys
import threading
import time
from contextlib import asynccontextmanager

import pytest
from fakes import until
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlb.probe.connect as room
import fastlb.probe.status_reader as status_reader
from fastlb import __version__
from fastlb.model.address import Address
from fastlb.model.config import StatusRange
from fastlb.model.limits import LimitConfig
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe import ProbeResult, probe_http, probe_tcp
from fastlb.probe.answer import AnswerReader, RefusedError
from fastlb.probe.connect import is_own_peer
from fastlb.probe.connection import _begin, probe
from fastlb.probe.knock import CAN_KNOCK
from fastlb.probe.preface import preface
from fastlb.probe.result import failed_connection
from fastlb.probe.status_reader import H11Reader, HttptoolsReader, NotHTTPError
from fastlb.pure.http1 import Refused, parse_response
from support import own_network
from support.backend import unanswered_address

OK = (StatusRange(200, 399),)


@asynccontextmanager
async def answering(answer: bytes, *, hold: bool = False, path: str = ""):
    """A backend that reads a request and answers; the address, and the requests it received."""
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader, writer):
        writers.append(writer)
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        writer.write(answer)
        if not hold:
            writer.close()

    if path:
        server = await asyncio.start_unix_server(serve, path)
        address = Address(path=path)
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    try:
        yield address, requests
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(serve):
    """A backend that does with each connection what it is told; its address."""
    writers: list[asyncio.StreamWriter] = []

    async def begin(reader, writer):
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def ask(
    answer: bytes, *, hold: bool = False, expect=OK, timeout_s: float = 5.0, path: str = ""
) -> ProbeResult:
    """Probe a backend that answers so."""

    async def run():
        async with answering(answer, hold=hold, path=path) as (address, _):
            return await probe_http(address, host="h", path="/", expect=expect, timeout_s=timeout_s)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "passed", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
        (b"HTTP/1.0 302 Found\r\n\r\n", True, "status 302"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", False, "status 500"),
        (b"HTTP/1.1 404 No\r\n\r\n", False, "status 404"),
        (b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", True, "status 204"),
        (
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            False,
            "invalid answer: 101 that was not asked for",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False, "invalid answer: malformed status line"),
        (b"\x15\x03\x01\x00\x02\x02\x16", False, "invalid answer: malformed status line"),
        (b"", False, "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nX: ", False, "answer cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", True, "status 200"),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end of the connection", True, "status 200"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
            False,
            "invalid answer: malformed or too long: chunk size",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfar too long a body, nonsense", True, "status 200"),
    ],
)
def test_the_status_decides_and_the_reason_says_why(answer, passed, reason):
    """The reason is what the log line of a state change shows."""
    result = ask(answer)

    assert (result.passed, result.reason) == (passed, reason)


@pytest.mark.parametrize("status", [(204, True), (200, False), (404, True), (405, False), (666, True)])
def test_only_the_expected_statuses_pass(status):
    """--check-expect 204,400-404,600-999."""
    number, passed = status
    answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % number
    expected = (StatusRange(204, 204), StatusRange(400, 404), StatusRange(600, 999))

    assert ask(answer, expect=expected).passed is passed


def test_a_body_that_does_not_end_in_time_costs_the_time_and_no_more():
    """The head decides, also of an endless stream."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    result = ask(answer, hold=True, timeout_s=0.1)

    assert (result.passed, result.reason) == (True, "status 200")


def test_a_long_body_is_cut():
    """A check must not fetch a film."""
    result = ask(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 200_000, hold=True)

    assert (result.passed, result.reason) == (True, "status 200")


def test_backend_that_resets_in_its_body_passes_by_its_head():
    """As in traffic: the client gets the head."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut")
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0" + b"\0" * 4
        )
        writer.transport.abort()

    async def run():
        async with serving(serve) as address:
            return await probe_http(address, host="h", path="/", expect=OK, timeout_s=5)

    assert asyncio.run(run()).reason == "status 200"


@pytest.mark.parametrize("pieces", [1, 2, 8])
def test_backend_that_sends_a_short_body_is_not_cut_off(pieces):
    """http.server and gunicorn log a traceback for each check that leaves while they send."""
    body = b"x" * 60_000
    errors = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for number in range(pieces):
                time.sleep(0.01)
                self.wfile.write(body[number::pieces])

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            errors.append(sys.exc_info()[1])

    with Server(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        address = Address(host="127.0.0.1", port=server.server_address[1])
        results = [
            asyncio.run(probe_http(address, host="h", path="/", expect=OK, timeout_s=10)) for _ in range(5)
        ]
        server.shutdown()
        serving.join()

    assert [result.reason for result in results] == ["status 200"] * 5
    assert errors == []


def test_silence_fails_in_the_time_of_the_whole_probe():
    """A backend that accepts and says nothing is as good as gone."""
    result = ask(b"", hold=True, timeout_s=0.05)

    assert (result.passed, result.reason) == (False, "no answer in 0.05s")
    assert result.took_s >= 0.05


def test_a_head_that_comes_byte_by_byte_does_not_stretch_the_time():
    """The time-out covers the whole probe, not each read."""

    async def drip(_reader, writer):
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not writer.transport.is_closing():
                writer.write(b"y")
                await asyncio.sleep(0.01)
        finally:
            writer.transport.abort()

    async def run():
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        address = Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        result = await probe_http(address, host="h", path="/", expect=OK, timeout_s=0.2)
        server.close()
        drips = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*drips), 5)
        return result

    assert asyncio.run(run()).reason == "no answer in 0.2s"


def test_a_cancellation_in_the_turn_of_the_answer_is_not_lost():
    """asyncio.wait_for of Python 3.11 loses it, and stopping would wait for ever."""

    async def run():
        asking, answered = asyncio.Event(), asyncio.Event()

        async def ask(reader, writer):
            asking.set()
            await answered.wait()
            return True, "fine"

        async with answering(b"") as (address, _):
            task = asyncio.ensure_future(probe((address,), ask, 60))
            await asking.wait()
            answered.set()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            return task.cancelled()

    assert asyncio.run(run())


def test_a_failure_in_the_turn_of_a_cancellation_complains_to_nobody():
    """256 checks that were refused in the turn of the stop left 256 tracebacks."""
    complaints: list[dict] = []

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        asking, refused = asyncio.Event(), asyncio.Event()

        async def ask(reader, writer):
            asking.set()
            await refused.wait()
            raise ConnectionRefusedError

        async with answering(b"") as (address, _):
            task = asyncio.ensure_future(probe((address,), ask, 60))
            await asking.wait()
            refused.set()
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            del task
            gc.collect()

    asyncio.run(run())

    assert complaints == []


def test_a_head_without_end_is_given_up():
    """A probe must not eat memory for a backend that went mad."""
    result = ask(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000, hold=True)

    assert (result.passed, result.reason) == (False, "invalid answer: header section too large")


def test_the_request_is_a_complete_http_1_1_request_of_our_own():
    """Host, a name by which an application's log can tell probes apart, and no keep-alive."""

    async def run():
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, requests):
            await probe_http(address, host="app.example:80", path="/health?a=b", expect=OK, timeout_s=5)
            return requests

    (request,) = asyncio.run(run())
    head, *fields = request.decode().strip().split("\r\n")

    assert head == "GET /health?a=b HTTP/1.1"
    assert "Host: app.example:80" in fields
    assert f"User-Agent: fastlb-probe/{__version__}" in fields
    assert "Connection: close" in fields


def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_refused_connect_says_refused():
    """The most frequent reason of all."""
    address = Address(host="127.0.0.1", port=unused_port())

    assert asyncio.run(probe_tcp(address, timeout_s=5)).reason == "refused"


def test_a_tcp_probe_passes_when_the_connection_is_there():
    """In TCP mode nothing is known about what is spoken."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        result = asyncio.run(probe_tcp(Address(host="127.0.0.1", port=sock.getsockname()[1]), timeout_s=5))

    assert (result.passed, result.reason) == (True, "connected")


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def on(loop: str, work):
    """The result of `work` on this kind of event loop."""
    new_loop = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with contextlib.closing(new_loop()) as running:
        return running.run_until_complete(work)


@LOOPS
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.skipif(not CAN_KNOCK, reason="needs TCP_QUICKACK")
def test_server_never_sees_a_probe_that_only_connects(host, loop):
    """MariaDB counts a client that connects and leaves as a broken handshake, and blocks its host. The
    kernel sends the last segment of a handshake by itself after 40 to 200 ms, so a turn that comes late
    is seen: one of ten that is not seen is enough."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.bind((host, 0))
        listening.listen()
        listening.setblocking(False)
        address = Address(host=host, port=listening.getsockname()[1])
        for _ in range(10):
            result = on(loop, probe_tcp(address, timeout_s=5))
            assert (result.passed, result.reason) == (True, "connected")
            if not select.select([listening], [], [], 0.05)[0]:
                break
            listening.accept()[0].close()
        else:
            pytest.fail("the server has accepted ten probes of ten")


def test_probe_passes_where_the_kernel_cannot_hold_back_a_segment():
    """The server accepts the connection then, which is what it did before."""

    class Plain(socket.socket):
        def setsockopt(self, level, *more):
            if level == socket.IPPROTO_TCP:
                raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
            super().setsockopt(level, *more)

    with socket.socket() as listening, pytest.MonkeyPatch.context() as patch:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        patch.setattr(socket, "socket", Plain)
        result = asyncio.run(probe_tcp(address, timeout_s=5))

    assert (result.passed, result.reason) == (True, "connected")


@LOOPS
def test_connect_that_nobody_answers_is_given_up_in_time(loop):
    """A full accept queue drops what comes."""
    complaints = []

    async def run(address):
        asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
        return await probe_tcp(address, timeout_s=0.1)

    with unanswered_address() as address:
        result = on(loop, run(address))

    assert (result.passed, result.reason) == (False, "no answer in 0.1s")
    assert complaints == []


def test_probe_that_meets_itself_is_refused():
    """A dead backend within the range of local ports: the kernel may choose the same one for both ends."""

    class Meeting(socket.socket):
        def getsockname(self):
            return self.getpeername()

    with socket.socket() as listening, pytest.MonkeyPatch.context() as patch:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        patch.setattr(socket, "socket", Meeting)
        result = asyncio.run(probe_tcp(address, timeout_s=5))

    assert (result.passed, result.reason) == (False, "refused")


@pytest.mark.parametrize(
    ("said", "expect", "passed", "reason"),
    [
        (b"+PONG\r\n", b"+PONG", True, "expected answer"),
        (b"5.5.5-10.6-MariaDB\0", b"MariaDB", True, "expected answer"),
        (b"-ERR\r\n", b"+PONG", False, "closed without the expected answer"),
        (b"", b"+PONG", False, "closed without an answer"),
        (b"x" * 20_000, b"+PONG", False, "expected answer not in the first 16384 bytes"),
        (b"whatever", b"", True, "connected"),
    ],
)
def test_a_tcp_probe_may_speak(said, expect, passed, reason):
    """Servers that greet, or want to be greeted, are known by what they say."""
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.readexactly(4))
        for byte in (said[:1], said[1:]):
            writer.write(byte)
            await asyncio.sleep(0.01)
        writer.close()

    async def run():
        async with serving(serve) as address:
            result = await probe_tcp(address, timeout_s=5, send=b"PING", expect=expect)
            await until(lambda: heard)
        return result

    result = asyncio.run(run())

    assert (result.passed, result.reason) == (passed, reason)
    assert heard == [b"PING"]


def test_a_tcp_probe_that_waits_for_a_greeting_says_nothing():
    """The other side speaks first."""

    async def serve(_, writer):
        writer.write(b"SSH-2.0-x\r\n")

    async def run():
        async with serving(serve) as address:
            return await probe_tcp(address, timeout_s=5, expect=b"SSH-2.0")

    assert asyncio.run(run()).passed


def test_unix_sockets_are_asked_too(tmp_path):
    """Backends on unix: are common with gunicorn and uvicorn."""
    assert ask(b"HTTP/1.1 200 OK\r\n\r\n", path=str(tmp_path / "s")).passed


def test_a_unix_socket_that_is_not_there_says_so(tmp_path):
    """Not "refused": the path is wrong or the server has not started."""
    assert asyncio.run(probe_tcp(Address(path=str(tmp_path / "no")), timeout_s=5)).reason == "no such socket"


@pytest.mark.parametrize(
    ("number", "local"), [(24, True), (99, True), (12, True), (111, False), (104, False), (113, False)]
)
def test_faults_of_this_machine_are_told_from_those_of_the_backend(number, local):
    """EMFILE, EADDRNOTAVAIL, ENOMEM here; refused, reset, unreachable there."""
    assert failed_connection(OSError(number, os.strerror(number)), 0.1).local is local


@pytest.mark.parametrize("reader", [HttptoolsReader, H11Reader])
class TestStatusReaders:
    """Both readers say the same, so that it does not matter which one is installed."""

    def fed(self, reader, *pieces: bytes):
        """What the reader knows after each piece."""
        one = reader()
        return [one.feed(piece) for piece in pieces]

    def test_the_status_is_known_at_the_blank_line(self, reader):
        """Not before: the head may still turn out to be broken."""
        assert self.fed(reader, b"HTTP/1.1 200 OK\r\nA: b\r\n", b"\r\n") == [None, 200]

    def test_interim_responses_are_skipped(self, reader):
        """100 and 103 say nothing about health."""
        assert self.fed(reader, b"HTTP/1.1 103 E\r\n\r\n", b"HTTP/1.1 503 U\r\n\r\n") == [None, 503]

    def test_every_byte_alone_gives_the_same(self, reader):
        """TCP may cut anywhere."""
        head = b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"
        *before, last = self.fed(reader, *(bytes([byte]) for byte in head))

        assert (set(before), last) == ({None}, 301)

    @pytest.mark.parametrize(
        "noise", [b"nonsense\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n"]
    )
    def test_nonsense_is_not_http(self, reader, noise):
        """A wrong port often has something else behind it."""
        with pytest.raises(NotHTTPError):
            self.fed(reader, noise)


_NAME = st.text("!#$%&'*+-.^_`|~0123456789abcxyzABCXYZ", min_size=1, max_size=20).map(str.encode)
_VALUE = st.binary(max_size=40).map(lambda raw: bytes(b for b in raw if b == 9 or (b > 31 and b != 127)))
_NAMES_THAT_FRAME = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Trailer", b"Keep-Alive", b"TE"]
)
_VALUES_THAT_FRAME = st.sampled_from([b"0", b"5", b"5, 5", b"chunked", b"close", b"upgrade", b"h2c", b""])


@pytest.mark.parametrize("httptools", [True, False])
@settings(deadline=None)
@given(
    st.integers(200, 999),
    _VALUE,
    st.lists(st.tuples(_NAME, _VALUE) | st.tuples(_NAMES_THAT_FRAME, _VALUES_THAT_FRAME), max_size=8),
)
def test_what_traffic_accepts_is_read_by_both_readers(httptools, status, reason, fields):
    """They get it as a client would: nothing that is served may be down for what a reader dislikes."""
    head = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    head += b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
    with pytest.MonkeyPatch.context() as patch:
        if not httptools:
            patch.setattr(status_reader.importlib.util, "find_spec", lambda name: None)
        answer = AnswerReader(LimitConfig())
        try:
            accepted = parse_response(head)
        except Refused:
            with pytest.raises(RefusedError):
                answer.feed(head)
            return
        answer.feed(head)

    assert accepted is not None
    assert answer.status == status


@pytest.mark.parametrize(("there", "expected"), [(True, HttptoolsReader), (False, H11Reader)])
def test_httptools_reads_where_it_is_installed_and_h11_elsewhere(monkeypatch, there, expected):
    """PyPy has no httptools; probes work there all the same."""
    monkeypatch.setattr(status_reader.importlib.util, "find_spec", lambda name: object() if there else None)

    assert isinstance(status_reader.new_status_reader(), expected)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("where", ["tcp", "unix"])
@pytest.mark.parametrize("version", [ProxyProtocol.V1, ProxyProtocol.V2])
def test_probe_that_only_connects_sends_its_whole_header(tmp_path, version, where, loop):
    """It ends right behind the header, which must be with the kernel by then."""
    new_loop = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    family = socket.AF_UNIX if where == "unix" else socket.AF_INET
    with socket.socket(family) as listening, contextlib.closing(new_loop()) as running:
        listening.bind(str(tmp_path / "s") if where == "unix" else ("127.0.0.1", 0))
        listening.listen()
        name = listening.getsockname()
        address = Address(path=name) if where == "unix" else Address(host=name[0], port=name[1])
        result = running.run_until_complete(probe_tcp(address, timeout_s=5, proxy_protocol=version))
        accepted, peer = listening.accept()
        with accepted:
            accepted.settimeout(5)
            received = accepted.recv(200, socket.MSG_WAITALL)

    assert result.passed
    if where == "unix":
        peer = name = ""
    assert received == preface(version, peer, name)


def test_http_probe_begins_with_its_header():
    """A strict backend would refuse the request without it, and be taken for down."""

    async def run():
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, requests):
            result = await probe_http(
                address, host="h", path="/", expect=OK, timeout_s=5, proxy_protocol=ProxyProtocol.V1
            )
            return result, requests, address.port

    result, (request,), port = asyncio.run(run())

    assert result.passed
    assert re.match(rb"PROXY TCP4 127.0.0.1 127.0.0.1 \d+ %d\r\nGET / HTTP/1.1\r\n" % port, request)


def test_probe_that_fails_while_it_is_given_up_leaves_no_complaint():
    """Its time is over: nobody asks what went wrong on the way out."""
    complaints = []

    async def ask(reader, writer):
        try:
            await reader.read()
        except asyncio.CancelledError:
            raise OSError("gone as well") from None

    async def run():
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: complaints.append(about))
        async with answering(b"", hold=True) as (address, _):
            result = await probe((address,), ask, 0.05)
        gc.collect()
        await asyncio.sleep(0)
        return result

    result = asyncio.run(run())

    assert (result.passed, result.reason) == (False, "no answer in 0.05s")
    assert complaints == []


def test_header_is_seen_off_before_the_probe_goes_on():
    """What a transport still holds is lost when the probe aborts."""

    class Writer:
        def __init__(self):
            self.held_bytes, self.transport = [9, 9, 0], self

        def write(self, data):
            assert data

        def get_extra_info(self, name):
            return ""

        def get_write_buffer_size(self):
            return self.held_bytes.pop(0)

    writer = Writer()
    asyncio.run(_begin(writer, ProxyProtocol.V2))

    assert writer.held_bytes == []


def test_timeout_that_is_noticed_late_says_nothing_about_the_backend():
    """The process stood still (SIGSTOP, a suspended machine) or the loop was overloaded: a fault of ours."""

    async def main():
        async def ask(reader, writer):
            asyncio.get_running_loop().call_soon(time.sleep, 0.5)
            await asyncio.sleep(10)
            return True, "never"

        async with answering(b"", hold=True) as (address, _):
            result = await probe((address,), ask, 0.1)
            assert (result.passed, result.local) == (False, True)
            assert result.reason.endswith("s late")

    asyncio.run(main())


def refusing() -> Address:
    """Where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address(host="127.0.0.1", port=sock.getsockname()[1])


def test_the_next_address_is_asked_when_one_refuses():
    """RFC 1123 2.3: `localhost` served on ::1 only was down for ever. The result says which one it was."""

    async def run():
        async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, _):
            first, second = refusing(), Address(path="/nowhere")
            result = await probe_http(
                first, host="h", path="/", expect=OK, timeout_s=5, others=(second, address)
            )
            return result, address

    result, address = asyncio.run(run())

    assert (result.passed, result.address) == (True, address)


def test_the_next_address_is_asked_when_one_is_silent():
    """Its machine may be gone, and SYNs with it: each address has its share of the time."""
    with unanswered_address() as silent, socket.create_server(("127.0.0.1", 0)) as listening:
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        result = asyncio.run(probe_tcp(silent, timeout_s=1.0, others=(address,)))

    assert (result.passed, result.address) == (True, address)


def test_a_backend_that_refuses_at_every_address_is_refused():
    """The reason is that of the last one."""
    result = asyncio.run(probe_tcp(Address(path="/nowhere"), timeout_s=5, others=(refusing(),)))

    assert (result.passed, result.reason, result.address) == (False, "refused", None)


def test_an_answer_that_fails_is_not_asked_for_elsewhere():
    """Traffic would go where the connect succeeds, too."""

    async def run():
        good = answering(b"HTTP/1.1 200 OK\r\n\r\n")
        async with answering(b"HTTP/1.1 500 Oh\r\n\r\n") as (address, _), good as (other, _):
            return await probe_http(address, host="h", path="/", expect=OK, timeout_s=5, others=(other,))

    assert asyncio.run(run()).reason == "status 500"


def test_a_connection_with_itself_is_known():
    """Simultaneous open, RFC 9293 3.5: one socket is both ends."""
    with socket.socket() as own, socket.create_server(("127.0.0.1", 0)) as listening:
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        with socket.create_connection(listening.getsockname()) as other:
            assert (is_own_peer(own), is_own_peer(other)) == (True, False)


def test_a_check_that_would_connect_to_itself_is_refused(request):
    """A dead backend in the range of local ports passed its check: nobody else was there."""
    if not own_network.is_own():
        own_network.run_again(request.node.nodeid, "pure")
        return
    own_network.keep_one_port()
    results = [asyncio.run(probe_tcp(Address(host="127.0.0.1", port=40_000), timeout_s=5)) for _ in range(3)]

    assert {(result.passed, result.reason) for result in results} == {(False, "refused")}


def test_an_address_that_cannot_be_reached_from_here_does_not_hide_a_refusal(monkeypatch):
    """`localhost` is ::1 too, and this machine may have no IPv6; the backend is down all the same."""

    async def connect(address, prepare, timeout_s):
        number = errno.EADDRNOTAVAIL if address.host == "::1" else errno.ECONNREFUSED
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(room, "connect", connect)
    first, second = (Address(host=host, port=1) for host in ("127.0.0.1", "::1"))
    results = [
        asyncio.run(probe_tcp(one, timeout_s=5, others=(other,)))
        for one, other in ((first, second), (second, first))
    ]

    assert [(result.local, result.reason) for result in results] == [(False, "refused")] * 2

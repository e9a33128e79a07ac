"""Probes against real sockets: pass or fail, and why in a few words."""

import asyncio
import contextlib
import gc
import os
import re
import socket
from contextlib import asynccontextmanager

import pytest

import fastlb.probe.status_reader as status_reader
from fastlb import __version__
from fastlb.model.address import Address
from fastlb.model.config import StatusRange
from fastlb.model.proxied import ProxyProtocol
from fastlb.probe import ProbeResult, probe_http, probe_tcp
from fastlb.probe.connection import _begin, probe
from fastlb.probe.preface import preface
from fastlb.probe.result import failed_connection
from fastlb.probe.status_reader import H11Reader, HttptoolsReader, NotHTTPError

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
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", False, "status 101"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False, "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", False, "not HTTP"),
        (b"", False, "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nX: ", False, "answer cut short"),
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


def test_a_body_that_never_ends_is_not_waited_for():
    """The head is enough, also of an endless stream."""
    result = ask(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", hold=True)

    assert result.passed


def test_silence_fails_in_the_time_of_the_whole_probe():
    """A backend that accepts and says nothing is as good as gone."""
    result = ask(b"", hold=True, timeout_s=0.05)

    assert (result.passed, result.reason, result.took_s) == (False, "no answer in 0.05s", 0.05)


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
            task = asyncio.ensure_future(probe(address, ask, 60))
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
            task = asyncio.ensure_future(probe(address, ask, 60))
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

    assert not result.passed
    assert result.reason in ("response head above 65536 bytes", "not HTTP")


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
            result = await probe(address, ask, 0.05)
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

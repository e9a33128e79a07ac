"""The PROXY protocol between sockets: from a proxy in front, and to backends. Headers alone are in
test_proxy_headers.py."""

import socket
import threading
from dataclasses import replace

import pytest

from fastlb.model.address import Address
from fastlb.model.config import Mode
from fastlb.model.events import EventKind
from fastlb.model.proxied import ProxyProtocol
from support.backend import OK, answering, echo, recording
from support.balance import PATIENT
from support.proxy_headers import BAD, LOCAL, TCP6, UNSPEC, V1_V4, V4_BLOCK, V6_BLOCK, v2
from support.waiting import wait_until
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TRUSTED = ("127.0.0.1",)
KEEP_REAL = {
    "v1 UNKNOWN": b"PROXY UNKNOWN\r\n",
    "v2 LOCAL": v2(V4_BLOCK, command=LOCAL),
    "v2 UNSPEC": v2(kind=UNSPEC),
}
ANNOUNCED = {
    "v1": (V1_V4, b"192.0.2.7", "192.0.2.7:56324"),
    "v2": (v2(V4_BLOCK), b"192.0.2.7", "192.0.2.7:56324"),
    "v2 IPv6": (v2(V6_BLOCK, kind=TCP6), b"2001:db8::7", "[2001:db8::7]:1"),
    "v1 IPv4 in IPv6": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.8 56324 1\r\n",
        b"192.0.2.7",
        "192.0.2.7:56324",
    ),
}


def proxied(balance, *backends, **settings):
    """An engine whose listener wants PROXY headers from here."""
    return balance(*backends, proxied=True, **{"trusted": TRUSTED, **settings})


def headed(into):
    """Read a PROXY header of version 1 or 2, keep it, and serve HTTP behind it."""

    def script(link):
        into.append(take_header(link))
        while link.request() is not None:
            link.send(OK)

    return script


def take_header(link):
    """The PROXY header at the start of a connection."""
    start = link.exactly(16)
    if start.startswith(b"PROXY"):
        return start + (b"" if start.endswith(b"\r\n") else link.until(b"\r\n"))
    return start + link.exactly(int.from_bytes(start[14:], "big"))


def v1_of(client):
    """The version 1 header that names a client connection of the test."""
    (host, port), (own_host, own_port) = client.sock.getsockname(), client.sock.getpeername()
    return f"PROXY TCP4 {host} {own_host} {port} {own_port}\r\n".encode()


def v2_of(client):
    """The same in version 2."""
    (host, port), (own_host, own_port) = client.sock.getsockname(), client.sock.getpeername()
    hosts = b"".join(socket.inet_aton(text) for text in (host, own_host))
    return v2(hosts + port.to_bytes(2, "big") + own_port.to_bytes(2, "big"))


# ---- from a proxy in front -------------------------------------------------------------------


@pytest.mark.parametrize("name", ANNOUNCED)
def test_announced_client_is_the_client(balance, backend, name):
    """For the backend and for the access log; the bytes of the header are nobody's."""
    header, ip, label = ANNOUNCED[name]
    heads = []
    running = proxied(balance, backend(recording(heads)))
    client = running.connect()
    client.send(header, GET)
    assert client.response().body == b"ok"
    line = running.line()

    assert b"X-Forwarded-For: " + ip + b"\r\n" in heads[0]
    assert (line["client"], line["bytes_in"], line["code"]) == (label, len(GET), "--")
    assert running.ledger().bytes_in == len(GET)


@pytest.mark.parametrize("name", KEEP_REAL)
def test_local_and_unknown_keep_the_real_addresses(balance, backend, name):
    """Health checks of the proxy in front are its own; the connection is good (2.1, 2.2)."""
    heads = []
    running = proxied(balance, backend(recording(heads)))
    client = running.connect()
    client.send(KEEP_REAL[name], GET)
    assert client.response().body == b"ok"

    assert b"X-Forwarded-For: 127.0.0.1\r\n" in heads[0]
    assert running.line()["client"] == f"127.0.0.1:{client.sock.getsockname()[1]}"


@pytest.mark.parametrize("header", [V1_V4, v2(V6_BLOCK + b"\x04\x00\x01x", kind=TCP6)], ids=["v1", "v2"])
def test_header_may_be_cut_at_every_byte(balance, backend, header):
    """TCP promises nothing about pieces, and the request behind it may be cut as well."""
    running = proxied(balance, backend(answering(OK)))
    said = header + GET
    for cut in range(1, len(said)):
        client = running.connect()
        client.send(said[:cut])
        client.send(said[cut:])
        assert client.response().body == b"ok"
        client.close()
    wait_until(lambda: running.ledger().clients == 0, "every client gone")

    assert {line["code"] for line in running.lines(len(said) - 1)} == {"--"}


def test_header_may_come_byte_by_byte(balance, backend):
    """The slowest of all senders."""
    heads = []
    client = proxied(balance, backend(recording(heads))).connect()
    for byte in v2(V4_BLOCK) + GET:
        client.send(bytes([byte]))

    assert client.response().body == b"ok"
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in heads[0]


def test_requests_behind_the_header_are_all_answered(balance, backend):
    """What came with it is the beginning of the connection, also when that is several requests."""
    running = proxied(balance, backend(answering(OK)))
    client = running.connect()
    client.send(V1_V4 + GET * 3 + b"GET / HTTP/1.1\r\nHo")
    assert [client.response().status for _ in range(3)] == [200] * 3
    client.send(b"st: a\r\n\r\n")

    assert client.response().status == 200


def test_bytes_behind_the_header_belong_to_the_session(balance, backend):
    """In TCP mode not one of them is lost or shown twice, and a FIN behind them is passed on."""
    running = proxied(balance, backend(echo), mode=Mode.TCP)
    client = running.connect()
    payload = bytes(range(256)) * 1000
    client.send(v2(V4_BLOCK) + payload)
    client.shut()

    assert client.rest() == payload
    line = running.line()
    assert (line["client"], line["bytes_in"], line["bytes_out"]) == (
        "192.0.2.7:56324",
        len(payload),
        len(payload),
    )


def test_nothing_happens_before_the_complete_header(balance, backend):
    """A backend that speaks first must not speak to somebody unknown (section 2)."""

    def greeting(link):
        link.send(b"220 ready\r\n")
        link.rest()

    running = proxied(balance, backend(greeting), mode=Mode.TCP)
    client = running.connect()
    client.send(V1_V4[:-1])
    wait_until(lambda: running.verify().connections == 1, "the connection is there")
    assert running.picked() == 0
    client.send(V1_V4[-1:])

    assert client.until(b"\r\n") == b"220 ready\r\n"


@pytest.mark.parametrize("mode", Mode)
def test_untrusted_source_is_closed_at_once(balance, backend, mode):
    """Who could connect here could be anybody's address: RST, one line with code PR, no backend."""
    running = proxied(balance, backend(echo), mode=mode, trusted=("192.0.2.0/24", "::1", "unix"))
    client = running.connect()
    port = client.sock.getsockname()[1]

    assert client.ending() == "rst"
    line = running.line()
    assert (line["client"], line["code"]) == (f"127.0.0.1:{port}", "PR")
    assert (line["status"], line["backend"], line["bytes_in"]) == (None, None, 0)
    assert (running.ledger().exchanges, running.ledger().accepted, running.picked()) == (1, 1, 0)
    wait_until(lambda: running.ledger().clients == 0, "no client is left")


@pytest.mark.parametrize("mode", Mode)
def test_malformed_header_is_closed_with_a_reset(balance, backend, mode):
    """Every entry of the table, and nothing of it reaches a backend: code PR."""
    running = proxied(balance, backend(echo), mode=mode)
    for raw in BAD.values():
        client = running.connect()
        client.send(raw)
        assert client.ending() == "rst", raw
    lines = running.lines(len(BAD))

    assert {(line["code"], line["status"], line["bytes_in"]) for line in lines} == {("PR", None, 0)}
    assert running.picked() == 0


@pytest.mark.parametrize("said", [b"", V1_V4[:20], v2(V4_BLOCK)[:-1]], ids=["nothing", "v1", "v2"])
@pytest.mark.parametrize("mode", Mode)
def test_slow_header_is_closed_with_a_reset(balance, backend, mode, said):
    """The header time-out counts from the accept, whether a byte has come or not: code cR."""
    running = proxied(balance, backend(echo), mode=mode, timeouts=replace(PATIENT, header_s=0.2))
    client = running.connect()
    client.send(said)

    assert client.ending() == "rst"
    line = running.line()
    assert (line["code"], line["status"], line["backend"]) == ("cR", None, None)
    assert line["total_us"] >= 190_000


def test_dripping_does_not_extend_the_time_of_a_header(balance, backend):
    """A byte now and then must not hold a connection for ever."""
    running = proxied(balance, backend(echo), timeouts=replace(PATIENT, header_s=0.3))
    client = running.connect()
    client.sock.settimeout(0.02)
    ended = False
    for byte in b"PROXY UNKNOWN " + b"x" * 80:
        try:
            client.send(bytes([byte]))
            client.more()
        except TimeoutError:
            continue
        except ConnectionError:
            ended = True
            break

    assert ended
    assert running.line()["code"] == "cR"


def test_time_of_the_header_is_not_that_of_the_request(balance, backend):
    """Behind it a client may be idle as on any other connection."""
    running = proxied(balance, backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2))
    client = running.connect()
    client.send(V1_V4)
    assert not threading.Event().wait(0.4)  # longer than the time-out, which must not strike now
    client.send(GET)

    assert client.response().status == 200


def test_proxy_that_leaves_in_its_header_is_logged(balance, backend):
    """Code CR. One that never said anything was a health check that only connects: no line."""
    running = proxied(balance, backend(answering(OK)))
    running.connect().close()
    leaver = running.connect()
    leaver.send(V1_V4[:10])
    leaver.shut()
    running.lines(1)
    resetter = running.connect()
    resetter.send(V1_V4[:10])
    wait_until(lambda: running.verify().connections >= 1, "the connection is there")
    resetter.reset()
    wait_until(lambda: running.ledger().clients == 0, "every client gone")

    assert {line["code"] for line in running.lines(2)} == {"CR"}


@pytest.mark.parametrize(
    ("trusted", "kept"), [(("127.0.0.1",), False), (("127.0.0.1", "192.0.2.0/24"), True)]
)
def test_the_announced_address_decides_about_forwarded_fields(balance, backend, trusted, kept):
    """The client that the proxy speaks for is not the proxy."""
    heads = []
    client = proxied(balance, backend(recording(heads)), trusted=trusted).connect()
    client.send(V1_V4, b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.8.7\r\n\r\n")
    client.response()

    expected = b"10.9.8.7, 192.0.2.7" if kept else b"192.0.2.7"
    assert b"X-Forwarded-For: " + expected + b"\r\n" in heads[0]


def test_header_over_a_unix_socket(balance, backend, tmp_path):
    """`unix` trusts whoever may open the socket's path."""
    heads = []
    running = balance(backend(recording(heads)), trusted=["unix"])
    running.open_unix_listener(Mode.HTTP, str(tmp_path / "s"), proxied=True)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(tmp_path / "s"))
    client = running.adopt(sock)
    client.send(V1_V4, GET)
    client.response()

    assert b"X-Forwarded-For: 192.0.2.7\r\n" in heads[0]
    assert running.line()["client"] == "192.0.2.7:56324"


def test_listeners_with_and_without_headers_live_side_by_side(balance, backend):
    """Which one wants a header is never guessed (section 2)."""
    running = proxied(balance, backend(answering(OK)))
    plain = running.connect(running.open_listener(Mode.HTTP))
    plain.send(V1_V4, GET)

    assert plain.response().status == 400


@pytest.mark.parametrize("mode", Mode)
def test_drain_does_not_wait_for_a_header(balance, backend, mode):
    """A proxy that says nothing holds up a drain no longer than an idle client."""
    running = proxied(balance, backend(answering(OK)), mode=mode)
    client = running.connect()
    wait_until(lambda: running.verify().connections == 1, "the connection is there")

    assert running.drain(8)
    assert client.ending() in ("fin", "rst")
    assert running.lines(0) == []


@pytest.mark.parametrize("mode", Mode)
def test_header_that_comes_in_a_drain_is_served(balance, backend, mode):
    """What was accepted before the drain gets its answer."""
    running = proxied(balance, backend(answering(OK)), mode=mode)
    client = running.connect()
    wait_until(lambda: running.verify().connections == 1, "the connection is there")
    drained = threading.Thread(target=running.drain, args=(8,))
    drained.start()
    wait_until(lambda: not accepts(running.port), "the listener is closed")
    client.send(V1_V4, GET)
    answer = client.response()
    client.close()
    drained.join()

    assert (answer.body, answer.value(b"Connection")) == (b"ok", b"close" if mode is Mode.HTTP else None)


def test_idle_client_in_a_drain_is_not_waited_for(balance, backend):
    """Its header has come, and no request: as with every other idle client."""
    running = proxied(balance, backend(answering(OK)))
    client = running.connect()
    wait_until(lambda: running.verify().connections == 1, "the connection is there")
    drained = threading.Thread(target=running.drain, args=(14,))
    drained.start()
    wait_until(lambda: not accepts(running.port), "the listener is closed")
    client.send(V1_V4)
    drained.join(8)

    assert not drained.is_alive()
    assert client.ending() in ("fin", "rst")


def accepts(port):
    """True if somebody listens there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_stop_ends_connections_without_a_header(balance, backend):
    """Nothing is left behind."""
    running = proxied(balance, backend(answering(OK)))
    client = running.connect()
    client.send(V1_V4[:9])
    wait_until(lambda: running.verify().connections == 1, "the connection is there")
    running.stop()

    assert client.ending() in ("fin", "rst")


# ---- to backends -----------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "of"), [("v1", v1_of), ("v2", v2_of)])
def test_each_connection_to_a_backend_begins_with_a_header(balance, backend, version, of):
    """It names one client, so a connection is closed after its exchange and never used for another."""
    headers = []
    started = backend(headed(headers))
    running = balance(started, proxy_protocol=ProxyProtocol(version))
    clients = [running.connect() for _ in range(2)]
    for client in clients * 2:
        client.send(GET)
        assert client.response().body == b"ok"
    wait_until(lambda: running.verify().connections == 2, "no upstream connection is kept")

    assert headers == [of(client) for client in clients * 2]
    assert len(started.links) == 4


@pytest.mark.parametrize(("version", "of"), [("v1", v1_of), ("v2", v2_of)])
def test_session_begins_with_a_header_though_nobody_has_spoken(balance, backend, version, of):
    """In TCP mode the backend may be the first to speak, and must know to whom."""

    def script(link):
        link.send(b"hello " + take_header(link))
        link.send(link.exactly(4))
        link.rest()

    running = balance(backend(script), mode=Mode.TCP, proxy_protocol=ProxyProtocol(version))
    client = running.connect()
    header = of(client)
    assert client.exactly(6 + len(header)) == b"hello " + header
    client.send(b"more")

    assert client.exactly(4) == b"more"


def test_bytes_of_the_header_are_counted_nowhere(balance, backend):
    """The log counts what the client sent and got; the ledger says the same."""
    running = balance(backend(headed([])), proxy_protocol=ProxyProtocol.V1)
    client = running.connect()
    client.send(GET)
    client.response()
    running.wait_idle()
    line = running.line()

    assert (line["bytes_in"], line["bytes_out"]) == (len(GET), client.received_bytes)
    ledger = running.ledger()
    assert (ledger.bytes_in, ledger.bytes_out) == (len(GET), client.received_bytes)
    assert ledger.backends[0].bytes_in == len(OK)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("header", [V1_V4, v2(V6_BLOCK, kind=TCP6)], ids=["v1", "v2"])
def test_announced_ends_are_passed_on(balance, backend, mode, header):
    """With a proxy in front the backend sees what that one announced, not our own addresses."""
    version = ProxyProtocol.V1 if header is V1_V4 else ProxyProtocol.V2
    headers = []
    running = proxied(balance, backend(headed(headers)), mode=mode, proxy_protocol=version)
    client = running.connect()
    client.send(header, GET)
    assert client.response().body == b"ok"

    assert headers == [header]


@pytest.mark.parametrize(("version", "expected"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", v2(kind=UNSPEC))])
def test_client_of_a_unix_socket_is_announced_as_unknown(balance, backend, tmp_path, version, expected):
    """There is no address to tell (2.1, 2.2)."""
    seen = []

    def script(link):
        seen.append(link.exactly(len(expected)))
        link.request()
        link.send(OK)

    running = balance(backend(script), proxy_protocol=ProxyProtocol(version))
    running.open_unix_listener(Mode.HTTP, str(tmp_path / "s"))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(tmp_path / "s"))
    client = running.adopt(sock)
    client.send(GET)
    client.response()

    assert seen == [expected]


def test_ipv6_client_is_announced_as_such_to_an_ipv4_backend(balance, backend):
    """The header speaks about the client's connection; how the backend is reached does not matter."""
    headers = []
    running = balance(backend(headed(headers)), proxy_protocol=ProxyProtocol.V1)
    port = running.open_listener(Mode.HTTP, family=socket.AF_INET6)
    client = running.adopt(socket.create_connection(("::1", port)))
    client.send(GET)
    client.response()

    assert headers == [b"PROXY TCP6 ::1 ::1 %d %d\r\n" % (client.sock.getsockname()[1], port)]


def test_ipv4_client_of_a_dual_stack_listener_is_announced_as_ipv4(balance, backend, loop_thread):
    """Both ends are IPv4, whatever the kind of the socket."""
    headers = []
    running = balance(backend(headed(headers)), proxy_protocol=ProxyProtocol.V1)
    with socket.socket(socket.AF_INET6) as listening:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(("::ffff:127.0.0.1", 0))
        listening.listen(8)
        listening.setblocking(False)
        loop_thread.call(lambda: running.engine.open_listener(listening, Mode.HTTP))
        client = running.connect(listening.getsockname()[1])
    client.send(GET)
    client.response()

    assert headers == [v1_of(client)]


def test_announced_ipv4_in_ipv6_is_passed_on_as_ipv4(balance, backend):
    """A proxy with a dual-stack socket may write it so; the next one need not know what it means."""
    headers = []
    running = proxied(balance, backend(headed(headers)), proxy_protocol=ProxyProtocol.V1)
    client = running.connect()
    client.send(ANNOUNCED["v1 IPv4 in IPv6"][0], GET)
    client.response()

    assert headers == [b"PROXY TCP4 192.0.2.7 192.0.2.8 56324 1\r\n"]


def test_retry_begins_with_a_header_too(balance, backend):
    """Every new connection does, whatever the number of the try."""
    headers = []

    def breaking(link):
        headers.append(take_header(link))
        link.request()

    first, second = backend(breaking), backend(headed(headers))
    running = balance(first, second, proxy_protocol=ProxyProtocol.V2)
    client = running.connect()
    client.send(GET)
    assert client.response().body == b"ok"

    assert headers == [v2_of(client)] * 2
    assert (running.line()["tries"], running.ledger().retries) == (2, 1)


def test_failover_of_a_session_begins_with_a_header(balance, backend, refused):
    """A refused backend got nothing; the next one gets it all."""

    def script(link):
        link.send(take_header(link))

    running = balance(refused, backend(script), mode=Mode.TCP, proxy_protocol=ProxyProtocol.V1)
    client = running.connect()

    assert client.rest() == v1_of(client)
    assert len(running.wait_event(EventKind.CONNECT_FAILED)) == 1


def test_connect_that_takes_its_time_is_followed_by_the_header(balance, no_leaks):
    """A connect that cannot be finished at once: Linux drops the first SYN while the queue is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        address = Address(host="127.0.0.1", port=listening.getsockname()[1])
        running = balance(address, mode=Mode.TCP, proxy_protocol=ProxyProtocol.V1)
        client = running.connect()
        running.wait_in_flight(1)
        for filler in fillers:
            filler.close()
        listening.settimeout(10)
        expected = v1_of(client)
        got = b""
        while not got:
            accepted, _ = listening.accept()
            with accepted:
                accepted.settimeout(10)
                try:
                    got = accepted.recv(len(expected), socket.MSG_WAITALL)
                except ConnectionResetError:
                    continue
        assert got == expected
        running.stop()


@pytest.mark.parametrize("mode", Mode)
def test_connection_to_a_unix_socket_begins_with_a_header(balance, backend, tmp_path, mode):
    """Such a connect is over at once; the client has addresses all the same."""
    headers = []
    started = backend(headed(headers), path=str(tmp_path / "s"))
    client = balance(started, mode=mode, proxy_protocol=ProxyProtocol.V2).connect()
    client.send(GET)
    assert client.response().body == b"ok"

    assert headers == [v2_of(client)]


def test_upgraded_connection_began_with_a_header(balance, backend):
    """A tunnel is an exchange like any other."""
    headers = []

    def script(link):
        headers.append(take_header(link))
        link.request()
        link.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        link.send(link.exactly(2))

    running = balance(backend(script), proxy_protocol=ProxyProtocol.V1)
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert client.response_head().status == 101
    client.send(b"yo")

    assert client.rest() == b"hiyo"
    assert headers == [v1_of(client)]


def test_backend_that_is_added_again_may_want_a_header_now(balance, backend, loop_thread):
    """A pooled connection without one must not be used for it any more, and the other way round."""
    seen = []

    def script(link):
        while link.unread or link.more():
            if link.unread.startswith(b"PROXY"):
                seen.append(link.until(b"\r\n"))
            if link.request() is None:
                return
            link.send(OK)

    started = backend(script)
    running = balance(started)
    client = running.connect()
    for proxy_protocol in (ProxyProtocol.OFF, ProxyProtocol.V1, ProxyProtocol.OFF):
        loop_thread.call(
            lambda version=proxy_protocol: running.engine.add_backend(started.address, "b", version)
        )
        client.send(GET)
        assert client.response().status == 200
        running.wait_idle()

    assert seen == [v1_of(client)]


def test_response_cut_short_is_seen_as_cut_short(balance, backend):
    """A truncated response over such a connection is as truncated as any."""

    def script(link):
        take_header(link)
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")

    running = balance(backend(script), proxy_protocol=ProxyProtocol.V2)
    client = running.connect()
    client.send(GET)
    client.response_head()

    with pytest.raises(TruncatedError):
        client.exactly(9)

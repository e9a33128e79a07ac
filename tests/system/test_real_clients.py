"""Real clients: curl, wrk, httpx and websockets."""

import hashlib
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from fastlb.model.address import Address
from fastlb.model.config import Mode
from support.backend import answering
from support.waiting import wait_until

MIB = 1 << 20


def at(server):
    """The address of a real server."""
    return Address(host="127.0.0.1", port=server.port)


def curl(*flags, data=None):
    """Run curl quietly and return what it printed."""
    return subprocess.run(
        ["curl", "-sS", "--max-time", "10", *flags], input=data, capture_output=True, check=True
    ).stdout


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_gets_and_heads(balance, uvicorn_backend, version):
    """The client that every user tries first."""
    url = f"http://127.0.0.1:{balance(at(uvicorn_backend)).port}/"

    assert b'"path":"/"' in curl(version, url)
    assert curl(version, "-I", url).startswith(b"HTTP/1.1 200 OK\r\n")


def test_curl_uploads_from_a_pipe(balance, uvicorn_backend):
    """Length unknown: chunked."""
    running = balance(at(uvicorn_backend))
    body = b"some bytes " * 100_000
    found = curl("-X", "POST", "-T", "-", f"http://127.0.0.1:{running.port}/digest", data=body)

    assert found.decode() == hashlib.sha256(body).hexdigest()


def test_curl_expects_continue(balance, uvicorn_backend):
    """With the wait set high, only a real 100 from the backend makes it quick."""
    running = balance(at(uvicorn_backend))
    url = f"http://127.0.0.1:{running.port}/digest"
    found = curl(
        "--expect100-timeout",
        "9",
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        "@-",
        url,
        data=b"x" * MIB * 2,
    )

    assert found.decode() == hashlib.sha256(b"x" * MIB * 2).hexdigest()


def test_curl_keeps_one_connection_for_many_urls(balance, uvicorn_backend):
    """curl re-uses when it can."""
    running = balance(at(uvicorn_backend))
    curl(*[f"http://127.0.0.1:{running.port}/?{n}" for n in range(20)])

    assert (running.ledger().accepted, running.ledger().exchanges) == (1, 20)


@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_wrk_meets_no_error(balance, uvicorn_backend, mode):
    """Load with keep-alive: every answer is right, and the counts are exact at the end."""
    running = balance(at(uvicorn_backend), mode=mode, workers=2)
    said = subprocess.run(
        ["wrk", "-t1", "-c32", "-d1s", f"http://127.0.0.1:{running.port}/"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    assert int(re.search(r"(\d+) requests in", said).group(1)) > 100


def test_wrk_meets_no_error_with_a_connection_each(balance, backend):
    """Connections come and go as fast as wrk can."""
    running = balance(
        backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), workers=2, log_format=None
    )
    said = subprocess.run(
        ["wrk", "-t1", "-c16", "-d1s", "-H", "Connection: close", f"http://127.0.0.1:{running.port}/"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "Non-2xx" not in said
    # wrk counts the close of a connection it wants to keep as a read error; none may be a timeout.
    assert re.search(r"connect [1-9]", said) is None
    assert re.search(r"timeout [1-9]", said) is None
    assert running.ledger().statuses[2] > 50


def test_httpx_keeps_its_connections(balance, uvicorn_backend):
    """Eight at once, no more connections than that."""
    running = balance(at(uvicorn_backend))
    limits = httpx.Limits(max_connections=8)
    with httpx.Client(base_url=f"http://127.0.0.1:{running.port}", limits=limits) as client:
        with ThreadPoolExecutor(8) as pool:
            statuses = set(pool.map(lambda n: client.get(f"/?{n}").status_code, range(200)))
        assert running.ledger().accepted <= 8

    assert statuses == {200}


@pytest.fixture
def socket_server(no_leaks):
    """A WebSocket server that echoes, and closes with the code it is told."""

    def talk(connection):
        for message in connection:
            if message == "split":
                connection.send(["a" * 1000, "b" * 70_000, "c"])
            elif isinstance(message, str) and message.startswith("close "):
                connection.close(int(message.split()[1]), "as you wish")
            else:
                connection.send(message)

    with serve(talk, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Address(host="127.0.0.1", port=server.socket.getsockname()[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def web_socket(balance, socket_server):
    """A WebSocket through the balancer, and the balance it goes through."""
    running = balance(socket_server)
    with connect(f"ws://127.0.0.1:{running.port}/", max_size=None) as connection:
        yield connection, running
    running.wait_in_flight(0)


def test_web_socket_echoes_every_size(web_socket):
    """Both ways, text and binary, to 4 MiB."""
    connection, running = web_socket
    for message in ("", "hello", "\u20ac" * 5000, b"\x00" * 200_000, bytes(range(256)) * 16_384):
        connection.send(message)
        assert connection.recv(10) == message
    assert running.in_flight() == 1


def test_web_socket_passes_fragments_and_pings(web_socket):
    """Frames are the peers' business."""
    connection, _ = web_socket
    connection.send(["one ", "two ", "three"])
    assert connection.recv(5) == "one two three"
    connection.send("split")
    assert connection.recv(5) == "a" * 1000 + "b" * 70_000 + "c"
    assert connection.ping().wait(5)


@pytest.mark.parametrize("code", [1000, 1001, 1012, 4000])
def test_web_socket_passes_close_codes(web_socket, code):
    """The close frame gets through before the connection goes."""
    connection, _ = web_socket
    connection.send(f"close {code}")
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(5)

    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as you wish")


def test_web_sockets_are_counted_as_exchanges(balance, socket_server):
    """Twenty at once, twenty in flight."""
    running = balance(socket_server)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(f"ws://127.0.0.1:{running.port}/"))
        wait_until(lambda: running.in_flight() == 20)
    running.wait_in_flight(0)

    assert {line["status"] for line in running.lines(20)} == {101}

"""Real clients: curl, wrk and httpx."""

import hashlib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from fastlb.model.address import Address
from fastlb.model.config import Mode
from support.backend import answering

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


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_uploads_a_file(balance, uvicorn_backend, tmp_path, version):
    """Length known, in either version; the backend sees it whole."""
    body = hashlib.sha512(b"file").digest() * 30_000
    (tmp_path / "file").write_bytes(body)
    url = f"http://127.0.0.1:{balance(at(uvicorn_backend)).port}/digest"

    assert curl(version, "-T", str(tmp_path / "file"), url).decode() == hashlib.sha256(body).hexdigest()


def test_curl_does_not_wait_for_a_continue_that_does_not_come(balance, backend):
    """A backend that knows no Expect gets the body after curl's own time, and answers as always."""
    got = []

    def script(link):
        got.append(link.request().body)
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    url = f"http://127.0.0.1:{balance(backend(script)).port}/"
    flags = ("--expect100-timeout", "0.2", "-H", "Expect: 100-continue", "--data-binary", "@-")

    assert curl(*flags, url, data=b"body") == b"ok"
    assert got == [b"body"]


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_reads_a_stream_in_its_own_version(balance, uvicorn_backend, version):
    """uvicorn sends chunks, whatever curl understands."""
    url = f"http://127.0.0.1:{balance(at(uvicorn_backend)).port}/events"

    assert curl(version, "-N", url) == b"".join(b"data: %d\n\n" % n for n in range(3))


def test_curl_asks_for_many_heads_on_one_connection(balance, uvicorn_backend):
    """A length without a body, over and over, and then a body."""
    running = balance(at(uvicorn_backend))
    url = f"http://127.0.0.1:{running.port}/"
    heads = curl("-I", *[url + f"?{n}" for n in range(5)])
    mixed = curl("-I", url, "--next", "-sS", url)

    assert heads.count(b"HTTP/1.1 200 OK\r\n") == 5
    assert b'"path":"/"' in mixed
    assert running.ledger().accepted == 2


def test_curl_that_gives_up_cancels_its_request(balance, backend):
    """--max-time: the log says who it was, and nothing is left in flight."""
    running = balance(backend(lambda link: link.rest()))
    gave_up = subprocess.run(
        ["curl", "-sS", "--max-time", "0.3", f"http://127.0.0.1:{running.port}/"], capture_output=True
    )

    assert gave_up.returncode == 28  # CURLE_OPERATION_TIMEDOUT
    running.wait_idle()
    assert (running.line()["status"], running.line()["code"]) == (499, "CH")


def test_curl_sees_that_a_response_is_cut(balance, backend):
    """Its exit status is what a script looks at."""

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    url = f"http://127.0.0.1:{balance(backend(script)).port}/"
    for version in ("--http1.0", "--http1.1"):
        cut = subprocess.run(["curl", "-sS", "--max-time", "5", version, url], capture_output=True)
        assert cut.returncode in (18, 56)  # CURLE_PARTIAL_FILE, CURLE_RECV_ERROR


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

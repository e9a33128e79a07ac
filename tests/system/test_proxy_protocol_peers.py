"""The PROXY protocol with programs of others: curl speaks it to us, gunicorn understands ours."""

import json
import socket
import subprocess

import pytest

from support.proxy_headers import V1_V4
from support.serving import flask_app
from support.wire import Wire


@pytest.fixture(scope="module", params=["v1", "v2"])
def headed_backend(request):
    """gunicorn that reads headers of one version, and the version. It refuses UNKNOWN in version 1."""
    server = flask_app("--proxy-protocol", request.param)
    yield server, request.param
    server.end()


def announced_get(port):
    """GET / on a connection that announces another client; what the application saw."""
    wire = Wire(socket.create_connection(("127.0.0.1", port)))
    wire.send(V1_V4, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = wire.response()
    wire.close()
    assert answer.status == 200, answer.head
    return json.loads(answer.body)


def curl_get(port, local_port):
    """GET / with a version 1 header of curl's own, from a port that we choose."""
    flags = ["-sS", "--max-time", "10", "--haproxy-protocol", "--local-port", str(local_port)]
    found = subprocess.run(
        ["curl", *flags, f"http://127.0.0.1:{port}/"], capture_output=True, check=True
    ).stdout
    return json.loads(found)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_chain_of_proxies_keeps_the_client(fastlb, headed_backend, mode):
    """From a proxy in front through fastlb to an application server, which passed its health check."""
    server, version = headed_backend
    running = fastlb(
        f"127.0.0.1:{server.port},proxy_protocol={version}",
        mode=mode,
        listen="127.0.0.1:0,proxy_protocol",
        flags=("--trusted-proxy", "127.0.0.0/8", "--check-interval", "50ms"),
    )
    seen = announced_get(running.port)

    assert seen["peer"] == ["192.0.2.7", "56324"]
    assert seen["headers"].get("x-forwarded-for") == ("192.0.2.7" if mode == "http" else None)
    assert not running.logged("backend down")


def test_curl_is_seen_through_both_hops(fastlb, headed_backend):
    """A header that somebody else has written."""
    server, version = headed_backend
    running = fastlb(
        f"127.0.0.1:{server.port},proxy_protocol={version}",
        listen="127.0.0.1:0,proxy_protocol",
        flags=("--trusted-proxy", "127.0.0.1"),
    )
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        local_port = sock.getsockname()[1]

    assert curl_get(running.port, local_port)["peer"] == ["127.0.0.1", str(local_port)]

"""Real applications as backends: Starlette on uvicorn, Flask on gunicorn, and Node's http server."""

import hashlib
import time

import httpx
import pytest


@pytest.fixture(params=["uvicorn_backend", "flask_backend", "node_backend"])
def server(request):
    """Each of the real servers in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def site(fastlb, server):
    """An httpx client with keep-alive, through the balancer to a real server."""
    with httpx.Client(base_url=fastlb(server).url, timeout=10) as client:
        yield client


def test_application_sees_the_client(site):
    """The address that the application logs is the client's."""
    seen = site.get("/").json()

    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert seen["headers"]["x-forwarded-proto"] == "http"
    assert seen["headers"]["host"] == seen["headers"]["x-forwarded-host"]
    assert seen["headers"]["via"] == "1.1 fastlb"
    assert "connection" not in seen["headers"]


def test_upload_of_known_length_arrives_whole(site):
    """Content-Length."""
    body = bytes(range(256)) * 4096

    assert site.post("/digest", content=body).text == hashlib.sha256(body).hexdigest()


def test_upload_in_chunks_arrives_whole(site):
    """Transfer-Encoding: chunked, as httpx sends what it cannot measure."""
    pieces = [bytes([n]) * 5000 for n in range(50)]

    answer = site.put("/digest", content=iter(pieces))
    assert answer.text == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_events_arrive_as_they_are_sent(site):
    """Server-sent events: the first is here well before the last is made."""
    at = []
    with site.stream("GET", "/events") as answer:
        lines = [line for line in answer.iter_lines() if not at.append(time.monotonic()) and line]

    assert lines == ["data: 0", "data: 1", "data: 2"]
    assert at[-1] - at[0] > 0.15


def test_head_cookies_redirects_and_errors_are_the_application_s(site):
    """The balancer has no opinion about them."""
    assert site.head("/").status_code == 200
    moved = site.get("/cookies")
    assert (moved.status_code, len(moved.headers.get_list("set-cookie"))) == (302, 2)
    assert moved.headers["location"].endswith("/")
    assert (site.get("/fail").status_code, site.get("/fail").text) == (503, "mine")
    assert site.get("/nowhere").status_code == 404


def test_hundred_requests_on_one_connection(site):
    """Keep-alive on both sides."""
    assert {site.get("/").status_code for _ in range(100)} == {200}


def test_health_checks_see_the_servers(fastlb, uvicorn_backend, flask_backend):
    """Two kinds of server in one pool, both up and both used."""
    running = fastlb(uvicorn_backend, flask_backend, flags=("--check-interval", "200ms"))
    with httpx.Client(base_url=running.url) as client:
        pids = {client.get("/").json()["pid"] for _ in range(10)}

    assert len(pids) == 2

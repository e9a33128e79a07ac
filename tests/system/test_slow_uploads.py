"""Servers that do one thing at a time, clients that send slowly, and one that only asks."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

UPLOAD_S = 2.0
PIECES = 20


class OneAtATime(BaseHTTPRequestHandler):
    """Reads a whole body before it answers, and meanwhile nobody else is served."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_):
        pass


@contextmanager
def single_threaded_server():
    with HTTPServer(("127.0.0.1", 0), OneAtATime) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def pieces(begun):
    """100 bytes in UPLOAD_S; the head is sent with the first of them."""
    for _ in range(PIECES):
        yield b"x" * 5
        begun.release()
        time.sleep(UPLOAD_S / PIECES)


@pytest.mark.parametrize("awaited", ["off", "64k"])
def test_get_does_not_wait_for_slow_uploads(fastlb, awaited):
    """Two of them held both backends, and a GET waited as long as they took."""
    with (
        single_threaded_server() as one,
        single_threaded_server() as other,
        httpx.Client(timeout=30) as client,
    ):
        running = fastlb(one, other, flags=("--no-check", "--buffer-requests", awaited))
        begun = threading.Semaphore(0)

        def upload():
            headers = {"Content-Length": str(5 * PIECES)}
            answers.append(httpx.post(running.url, content=pieces(begun), headers=headers, timeout=30))

        answers: list[httpx.Response] = []
        uploads = [threading.Thread(target=upload) for _ in range(2)]
        for thread in uploads:
            thread.start()
        for _ in range(4):  # each has sent two pieces
            assert begun.acquire(timeout=30)
        began_s = time.monotonic()
        assert client.get(running.url).text == "ok"
        waited_s = time.monotonic() - began_s
        for thread in uploads:
            thread.join()

    print(f"--buffer-requests {awaited}: a GET beside two uploads of {UPLOAD_S:g} s took {waited_s:.3f} s")  # noqa: T201 - the figures
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (waited_s < UPLOAD_S / 2) == (awaited != "off")

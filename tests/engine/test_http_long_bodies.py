"""Bodies long enough to be spliced: they end where they say, and no pipe carries one's bytes to another."""

import threading

import pytest

from fastlb.model.config import Mode
from support.backend import OK
from support.wire import TruncatedError

SIZE = 3_000_000
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


def ask(client, request=GET):
    client.send(request)
    return client.response()


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"y" * 200_000])
def test_bytes_behind_a_long_body_are_not_moved_with_it(balance, backend, extra):
    """The kernel moves bytes without a look at them, so it must be told how many."""

    def script(link):
        link.request()
        link.send(LONG, bytes(SIZE), extra)
        link.rest()

    started = backend(script)
    client = balance(started).connect()
    for n in range(2):
        assert ask(client).body == bytes(SIZE)
        assert len(started.links) == n + 1


def test_long_bodies_of_a_pipeline_are_told_apart(balance, backend):
    """The next request begins behind the last byte of the body, wherever the segments end."""
    bodies = []

    def script(link):
        while (request := link.request()) is not None:
            bodies.append(request.body)
            link.send(OK)

    sent = [bytes([65 + n]) * (SIZE + n) for n in range(3)]
    client = balance(backend(script)).connect()
    uploading = threading.Thread(
        target=client.send,
        args=[b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body for body in sent],
    )
    uploading.start()
    statuses = [client.response().status for _ in sent]
    uploading.join()

    assert statuses == [200, 200, 200]
    assert bodies == sent


@pytest.mark.parametrize("mode", [Mode.HTTP, Mode.TCP])
def test_transfer_broken_off_leaves_no_byte_to_the_next_client(balance, backend, mode):
    """Pipes are used again; one that is not empty is not."""

    def script(link):
        while (request := link.request()) is not None:
            if b"/mine" in request.start:
                link.send(LONG, b"m" * SIZE)
            else:
                link.send(LONG, b"s" * (SIZE // 2))
                link.rest()

    running = balance(backend(script), mode=mode)
    for _ in range(5):
        leaving = running.connect(receive_buffer_bytes=4096)
        leaving.send(b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
        leaving.response_head()
        leaving.exactly(1000)
        leaving.reset()
        running.wait_in_flight(0)
        client = running.connect()

        assert ask(client, b"GET /mine HTTP/1.1\r\nHost: a\r\n\r\n").body == b"m" * SIZE
        client.close()


def test_long_answer_to_an_upload_is_read_whole(balance, backend):
    """Refused in the middle of its upload, a client that goes on sending gets every byte of the answer."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(b"HTTP/1.1 413 Too Big\r\nContent-Length: %d\r\n\r\n" % SIZE, b"n" * SIZE)
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
    read = threading.Event()

    def upload():
        while not read.is_set():
            client.send(bytes(1000))
            read.wait(0.001)

    uploading = threading.Thread(target=upload)
    uploading.start()
    try:
        answer = client.response()
    except TruncatedError as cut:
        pytest.fail(f"the answer was cut: {cut.how} after {len(cut.got)} bytes")
    finally:
        read.set()
        uploading.join()

    assert (answer.status, answer.body, answer.value(b"Connection")) == (413, b"n" * SIZE, b"close")
    assert client.ending() == "fin"

"""Termination codes of HTTP mode: for each of the page's pairs, the story that ends with it."""

import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fastlb.model.config import Mode
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, refused_address, silent, unanswered_address
from support.balance import PATIENT
from support.descriptors import NoMoreDescriptors
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
RESET = "rst"
CUT = "fin"
GONE = "gone"


def after_head(*parts):
    """Read a request's head, send `parts`, and end only with the peer, having read what it sends."""

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(*parts)
        link.rest()

    return script


def closing_after(*parts):
    """Read a request, send `parts`, and close."""

    def script(link):
        link.request()
        link.send(*parts)

    return script


def asking(running, raw=GET):
    client = running.connect()
    client.send(raw)
    return client


def waiting(balance, backend, raw=GET):
    """An engine whose backend has a request and says nothing, and the client who waits."""
    started = backend(silent)
    running = balance(started)
    client = asking(running, raw)
    wait_until(lambda: started.link().received_bytes, "the request")
    return running, client


def seen_by(client):
    """What the client got: a status, a FIN or a reset in the middle of a body, or nothing at all."""
    try:
        return client.response().status
    except TruncatedError as cut:
        return cut.how


def seen_at_last(client):
    """How the connection ended, behind whatever still came."""
    try:
        client.rest()
    except TruncatedError as cut:
        return cut.how
    return "fin"


# Each story takes the two factories, and returns the engine and what its client saw.


def ends_well(balance, backend):
    running = balance(backend(answering(OK)))
    return running, seen_by(asking(running))


def request_is_refused(balance, backend):
    running = balance(backend(answering(OK)))
    return running, seen_by(asking(running, b"NO HTTP\r\n\r\n"))


def body_is_refused(balance, backend):
    running, client = waiting(balance, backend, CHUNKED)
    client.send(b"no chunk\r\n")
    return running, seen_by(client)


def body_is_refused_behind_the_answer(balance, backend):
    running = balance(backend(after_head(BEGUN)))
    client = asking(running, CHUNKED)
    client.response_head()
    client.send(b"no chunk\r\n")
    client.exactly(3)
    return running, client.ending()


def body_is_refused_behind_the_whole_answer(balance, backend):
    running = balance(backend(after_head(OK)))
    client = asking(running, CHUNKED)
    seen = seen_by(client)
    client.send(b"no chunk\r\n")
    return running, seen


def backend_says_more_behind_its_answer(balance, backend):
    """It gets no more of the upload, for which there would be time still."""
    answered = threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        link.send(OK)
        answered.wait(PATIENCE_S)
        link.send(b"more")
        link.rest()

    running = balance(backend(script))
    client = asking(running, CHUNKED.replace(b"3\r\nabc\r\n", b"186a0\r\nabc"))
    seen = seen_by(client)
    answered.set()
    assert json.loads(running.raw_lines(1)[0])["total_us"] < 1_900_000
    return running, seen


def answered_here(balance, backend):
    running = balance(backend(answering(OK)))
    return running, seen_by(asking(running, b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"))


def backend_goes_down(balance, backend):
    running, client = waiting(balance, backend)
    running.end_exchanges(running.slots[0])
    return running, seen_by(client)


def backend_goes_down_in_its_response(balance, backend):
    running = balance(backend(after_head(BEGUN)))
    client = asking(running)
    client.response_head()
    client.exactly(3)
    running.end_exchanges(running.slots[0])
    return running, client.ending()


def client_leaves_in_a_head(balance, backend):
    running = balance(backend(answering(OK)))
    asking(running, b"GET / HT").close()
    return running, GONE


def head_is_slow(balance, backend):
    running = balance(backend(answering(OK)), timeouts=replace(PATIENT, header_s=0.2))
    return running, seen_by(asking(running, b"GET / HT"))


def client_leaves_in_an_awaited_body(balance, backend):
    running = balance(backend(silent))
    client = asking(running, POST)
    wait_until(lambda: running.ledger().bytes_in == len(POST), "the engine has read it")
    client.close()
    return running, GONE


def awaited_body_is_slow(balance, backend):
    running = balance(backend(silent), timeouts=replace(PATIENT, idle_s=0.2))
    return running, seen_by(asking(running, POST))


def body_is_slow(balance, backend):
    running = balance(backend(silent), timeouts=replace(PATIENT, idle_s=0.2))
    return running, seen_by(asking(running, CHUNKED))


def body_is_slow_behind_the_answer(balance, backend):
    running = balance(backend(after_head(BEGUN)), timeouts=replace(PATIENT, tunnel_s=0.3))
    return running, seen_by(asking(running, CHUNKED))


def client_reads_nothing(balance, backend):
    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            link.send(bytes(65_536))

    running = balance(backend(script), timeouts=replace(PATIENT, send_s=0.4))
    client = running.connect(receive_buffer_bytes=4096)
    client.send(GET)
    running.raw_lines(1)
    return running, GONE


def client_takes_no_interim_responses(balance, backend):
    def script(link):
        link.request()
        while True:
            link.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)

    running = balance(backend(script), timeouts=replace(PATIENT, send_s=0.4))
    client = running.connect(receive_buffer_bytes=4096)
    client.send(GET)
    running.raw_lines(1)
    return running, GONE


def backend_refuses(balance, backend):
    with refused_address() as address:
        running = balance(address)
        return running, seen_by(asking(running))


def nobody_is_up(balance, backend):
    running = balance(backend(answering(OK)))
    running.keep_only()
    return running, seen_by(asking(running))


def connecting_is_slow(balance, backend):
    with unanswered_address() as address:
        running = balance(address, timeouts=replace(PATIENT, connect_s=0.2))
        return running, seen_by(asking(running))


def client_leaves_while_connecting(balance, backend):
    with unanswered_address() as address:
        running = balance(address)
        client = asking(running)
        running.wait_in_flight(1)
        client.close()
        running.raw_lines(1)
    return running, GONE


def machine_has_no_descriptor(balance, backend):
    running = balance(backend(answering(OK)))
    client = running.connect()
    wait_until(lambda: running.ledger().clients == 1)
    with NoMoreDescriptors():
        client.send(GET)
        return running, seen_by(client)


def full(balance, backend, **settings):
    """An engine whose one place is taken by a request that is never answered, and who took it."""
    running = balance(backend(silent), max_conns=[1], **settings)
    held = asking(running)
    running.wait_in_flight(1)
    return running, held


def queue_is_slow(balance, backend):
    running, _ = full(balance, backend, timeouts=replace(PATIENT, queue_s=0.2))
    return running, seen_by(asking(running))


def queue_is_full(balance, backend):
    running, _ = full(balance, backend, limits=LimitConfig(queue_depth=0))
    return running, seen_by(asking(running))


def client_leaves_the_queue(balance, backend):
    running, _ = full(balance, backend)
    client = asking(running)
    wait_until(lambda: running.ledger().queued == 1)
    client.close()
    return running, GONE


def backend_closes_before_its_response(balance, backend):
    running = balance(backend(closing_after()))
    return running, seen_by(asking(running))


def response_is_invalid(balance, backend):
    running = balance(backend(after_head(b"hello\r\n\r\n")))
    return running, seen_by(asking(running))


def response_is_slow(balance, backend):
    running = balance(backend(silent), timeouts=replace(PATIENT, response_s=0.2))
    return running, seen_by(asking(running))


def backend_takes_no_upload(balance, backend):
    """More than the buffers on the way hold, to a backend that reads nothing."""
    answered = threading.Event()

    def script(link):
        link.until(b"\r\n\r\n")
        answered.wait(PATIENCE_S)

    running = balance(backend(script), timeouts=replace(PATIENT, idle_s=5, tunnel_s=0.5))
    client = asking(running, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")

    def upload():
        with suppress(OSError):
            while not answered.is_set():
                client.send(bytes(65_536))

    uploading = threading.Thread(target=upload)
    uploading.start()
    try:
        return running, seen_by(client)
    finally:
        answered.set()
        uploading.join()


def client_leaves_while_waiting(balance, backend):
    running, client = waiting(balance, backend)
    client.close()
    return running, GONE


def client_leaves_in_its_body(balance, backend):
    running, client = waiting(balance, backend, CHUNKED)
    client.close()
    return running, GONE


def client_leaves_in_the_response(balance, backend):
    running = balance(backend(after_head(BEGUN)))
    client = asking(running)
    client.response_head()
    client.reset()
    return running, GONE


def owed(balance, backend, **timeouts):
    """An engine that has the whole response, most of which its client has not taken.

    Each half is less than an engine reads at once, and more than the client's sockets hold; both
    together are more than an engine buffers before it stops reading.
    """
    begun, counted, sent = (threading.Event() for _ in range(3))

    def script(link):
        link.request()
        link.send(head, half)
        begun.set()
        counted.wait(PATIENCE_S)
        link.send(half)
        sent.set()
        link.rest()

    def take_until(received_bytes):
        """A client that takes no more than it must for the engine to go on."""
        while running.ledger().backends[0].bytes_in < received_bytes:
            with suppress(BlockingIOError):
                client.unread += client.sock.recv(1024, socket.MSG_DONTWAIT)

    half = bytes(45_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * len(half))
    running = balance(backend(script), timeouts=replace(PATIENT, **timeouts))
    client = running.connect(
        running.open_listener(Mode.HTTP, send_buffer_bytes=4096), receive_buffer_bytes=4096
    )
    client.send(GET)
    assert begun.wait(PATIENCE_S)
    take_until(len(head + half))
    counted.set()
    assert sent.wait(PATIENCE_S)
    take_until(len(head + half + half))
    return running, client


def client_leaves_with_the_rest_owed(balance, backend):
    running, client = owed(balance, backend)
    client.reset()
    return running, GONE


def client_takes_the_rest_after_all(balance, backend):
    running, client = owed(balance, backend)
    return running, seen_by(client)


def client_shuts_and_takes_the_rest(balance, backend):
    running, client = owed(balance, backend)
    client.shut()
    return running, seen_by(client)


def client_takes_no_rest(balance, backend):
    running, client = owed(balance, backend, send_s=1.0)
    running.raw_lines(1)
    return running, seen_at_last(client)


def stop_with_the_rest_owed(balance, backend):
    running, client = owed(balance, backend)
    running.stop()
    return running, seen_at_last(client)


def backend_closes_in_its_response(balance, backend):
    running = balance(backend(closing_after(BEGUN)))
    return running, seen_by(asking(running))


def response_stalls(balance, backend):
    running = balance(backend(after_head(BEGUN)), timeouts=replace(PATIENT, tunnel_s=0.3))
    return running, seen_by(asking(running))


def chunks_of_the_response_are_invalid(balance, backend):
    seen = threading.Event()

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert seen.wait(PATIENCE_S)
        link.send(b"no chunk\r\n")
        link.rest()

    running = balance(backend(script))
    client = asking(running)
    client.response_head()
    assert client.chunk() == b"abc"
    seen.set()
    return running, client.ending()


def switched(balance, backend, script, **timeouts):
    """An engine with a tunnel, and its client."""

    def switching(link):
        link.until(b"\r\n\r\n")
        link.send(SWITCHING)
        script(link)

    running = balance(backend(switching), timeouts=replace(PATIENT, **timeouts))
    client = asking(running, UPGRADE)
    client.response_head()
    return running, client


def tunnel_is_idle(balance, backend):
    running, _ = switched(balance, backend, silent, tunnel_s=0.3)
    running.raw_lines(1)
    return running, GONE


def tunnel_is_not_finished_by_the_client(balance, backend):
    def script(link):
        link.shut()
        link.rest()

    running, _ = switched(balance, backend, script, fin_s=0.3)
    running.raw_lines(1)
    return running, GONE


def tunnel_is_not_finished_by_the_backend(balance, backend):
    def script(link):
        link.rest()
        ended.wait(PATIENCE_S)

    ended = threading.Event()
    running, client = switched(balance, backend, script, fin_s=0.3)
    client.shut()
    running.raw_lines(1)
    ended.set()
    return running, GONE


def tunnel_is_reset_by_the_client(balance, backend):
    running, client = switched(balance, backend, silent)
    client.reset()
    return running, GONE


def tunnel_is_reset_by_the_backend(balance, backend):
    running, client = switched(balance, backend, lambda link: link.reset())
    return running, client.ending()


def stop_in_a_tunnel(balance, backend):
    running, client = switched(balance, backend, silent)
    running.stop()
    return running, client.ending()


def stop_in_a_head(balance, backend):
    running = balance(backend(answering(OK)))
    client = asking(running, GET + b"GET / HT")
    client.response()
    running.wait_idle()
    running.stop()
    return running, client.ending()


def stop_in_an_awaited_body(balance, backend):
    running = balance(backend(silent))
    client = asking(running, POST)
    wait_until(lambda: running.ledger().bytes_in == len(POST), "the engine has read it")
    running.stop()
    return running, client.ending()


def stop_in_the_queue(balance, backend):
    running, _ = full(balance, backend)
    client = asking(running)
    wait_until(lambda: running.ledger().queued == 1)
    running.stop()
    return running, client.ending()


def stop_while_connecting(balance, backend):
    with unanswered_address() as address:
        running = balance(address)
        client = asking(running)
        running.wait_in_flight(1)
        running.stop()
        return running, client.ending()


def stop_while_waiting(balance, backend):
    running, client = waiting(balance, backend)
    running.stop()
    return running, client.ending()


def stop_in_the_response(balance, backend):
    running = balance(backend(after_head(BEGUN)))
    client = asking(running)
    client.response_head()
    client.exactly(3)
    running.stop()
    return running, client.ending()


# code, status in the log, what the client saw
STORIES = {
    ends_well: ("--", 200, 200),
    answered_here: ("L-", 200, 200),
    backend_goes_down: ("DH", 502, 502),
    backend_goes_down_in_its_response: ("DD", 200, RESET),
    request_is_refused: ("PR", 400, 400),
    body_is_refused: ("PR", 400, 400),
    body_is_refused_behind_the_answer: ("PD", 200, RESET),
    body_is_refused_behind_the_whole_answer: ("--", 200, 200),
    backend_says_more_behind_its_answer: ("--", 200, 200),
    client_leaves_in_a_head: ("CR", 499, GONE),
    head_is_slow: ("cR", 408, 408),
    client_leaves_in_an_awaited_body: ("CR", 499, GONE),
    awaited_body_is_slow: ("cR", 408, 408),
    body_is_slow: ("cD", 408, 408),
    body_is_slow_behind_the_answer: ("cD", 200, RESET),
    client_reads_nothing: ("cD", 200, GONE),
    client_takes_no_interim_responses: ("cH", None, GONE),
    backend_refuses: ("SC", 502, 502),
    nobody_is_up: ("SC", 503, 503),
    connecting_is_slow: ("sC", 504, 504),
    client_leaves_while_connecting: ("CC", 499, GONE),
    machine_has_no_descriptor: ("RC", 503, 503),
    queue_is_slow: ("sQ", 503, 503),
    queue_is_full: ("PQ", 503, 503),
    client_leaves_the_queue: ("CQ", 499, GONE),
    backend_closes_before_its_response: ("SH", 502, 502),
    response_is_invalid: ("PH", 502, 502),
    response_is_slow: ("sH", 504, 504),
    backend_takes_no_upload: ("sD", 504, 504),
    client_leaves_while_waiting: ("CH", 499, GONE),
    client_leaves_in_its_body: ("CD", 499, GONE),
    client_leaves_in_the_response: ("CD", 200, GONE),
    client_leaves_with_the_rest_owed: ("CL", 200, GONE),
    client_takes_the_rest_after_all: ("--", 200, 200),
    client_shuts_and_takes_the_rest: ("--", 200, 200),
    client_takes_no_rest: ("cL", 200, RESET),
    stop_with_the_rest_owed: ("KL", 200, RESET),
    backend_closes_in_its_response: ("SD", 200, CUT),
    response_stalls: ("sD", 200, CUT),
    chunks_of_the_response_are_invalid: ("PD", 200, CUT),
    tunnel_is_idle: ("cD", 101, GONE),
    tunnel_is_not_finished_by_the_client: ("cD", 101, GONE),
    tunnel_is_not_finished_by_the_backend: ("sD", 101, GONE),
    tunnel_is_reset_by_the_client: ("CD", 101, GONE),
    tunnel_is_reset_by_the_backend: ("SD", 101, RESET),
    stop_in_a_tunnel: ("KD", 101, RESET),
    stop_in_a_head: ("KR", None, RESET),
    stop_in_an_awaited_body: ("KR", None, RESET),
    stop_in_the_queue: ("KQ", None, RESET),
    stop_while_connecting: ("KC", None, RESET),
    stop_while_waiting: ("KH", None, RESET),
    stop_in_the_response: ("KD", 200, RESET),
}


# Their clients did something else before, or had company; each of that has its own line.
LINES = {stop_in_a_head: 2, stop_in_the_queue: 2}


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_code_says_who_ended_the_exchange_and_when(balance, backend, story):
    """The line that is read first when something goes wrong must not accuse the wrong side."""
    code, status, expected = STORIES[story]
    running, seen = story(balance, backend)
    lines = [(line["code"], line["status"]) for line in running.lines(LINES.get(story, 1))]

    assert (code, status) in lines
    assert seen == expected


def test_every_code_of_the_page_has_its_story():
    """The page is the user's key to the log."""
    table = PAGE.read_text().split("| code | usual meaning")[1].split("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = {code for cell in cells for code in re.findall(r"`(..)`", cell)}

    assert named
    assert named <= {code for code, _, _ in STORIES.values()}

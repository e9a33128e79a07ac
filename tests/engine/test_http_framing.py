"""Bodies: where they end, how they are framed for the next hop, and ends that are no ends."""

import hashlib
import threading

import pytest

from support.backend import OK, answering, recording
from support.balance import STREAMED
from support.chunks import BAD_CHUNKS, PADDED_CHUNKS
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
PATTERN = hashlib.sha256(b"fastlb").digest() * 32_768  # 1 MiB


def chunks(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def body_echo(link):
    """Answer with the request's body, framed as the request was."""
    while (request := link.request()) is not None:
        if request.chunks is None:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.body), request.body)
        else:
            link.send(CHUNKED, *[b"%x\r\n%s\r\n" % (len(c), c) for c in request.chunks], b"0\r\n\r\n")


def once(response):
    """Answer the first request, then close."""

    def script(link):
        link.request()
        link.send(response)

    return script


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1_048_576, 8_388_608])
def test_body_of_known_length_passes_both_ways(balance, backend, size):
    """Sizes around every buffer there may be."""
    body = (PATTERN * 8)[:size]
    client = balance(backend(body_echo)).connect()
    sender = threading.Thread(
        target=client.send, args=(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size, body)
    )
    sender.start()
    answer = client.response()
    sender.join()

    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(body).digest()
    assert answer.chunks is None


@pytest.mark.parametrize("piece", [1, 13, 4096, 70_000, 1_000_000])
def test_chunked_body_passes_both_ways(balance, backend, piece):
    """Chunk sizes are the sender's business; the bytes are ours."""
    body = PATTERN[: min(len(PATTERN), piece * 40)]
    client = balance(backend(body_echo)).connect()
    sent = UPLOAD + chunks(*[body[at : at + piece] for at in range(0, len(body), piece)])
    sender = threading.Thread(target=client.send, args=(sent,))
    sender.start()
    answer = client.response()
    sender.join()

    assert answer.body == body
    assert answer.chunks is not None


def test_chunked_request_cut_at_every_byte_is_read(balance, backend):
    """Chunk framing may be cut anywhere."""
    request = UPLOAD + b"3;name=value\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n"
    client = balance(backend(body_echo)).connect()
    for cut in range(len(UPLOAD), len(request)):
        client.send(request[:cut])
        client.send(request[cut:])
        assert client.response().body == b"abc0123456789"


def test_chunk_extensions_are_dropped(balance, backend):
    """They are of the hop (RFC 9112 7.1.1)."""
    raw = []

    def script(link):
        link.until(b"\r\n\r\n")
        raw.append(link.until(b"0\r\n\r\n"))
        link.send(CHUNKED + b"2;a=b\r\nok\r\n0;c\r\n\r\n")

    client = balance(backend(script)).connect()
    client.send(UPLOAD + b'2;a="b"\r\nhi\r\n0;d=e\r\n\r\n')
    client.response_head()

    assert client.until(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"
    assert raw == [b"2\r\nhi\r\n0\r\n\r\n"]


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
def test_space_before_a_chunk_extension_is_read_in_both_directions(balance, backend, space):
    """RFC 9112 7.1.1 and RFC 9110 5.6.3: it must be parsed, and it is dropped with the extension."""
    framed = b"2" + space + b";a=b\r\nhi\r\n0" + space + b";c\r\n\r\n"
    received = []

    def script(link):
        received.append(link.request().chunks)
        link.send(CHUNKED, framed)

    client = balance(backend(script)).connect()
    client.send(UPLOAD + framed)
    assert client.response().chunks == [b"hi"]
    assert received == [[b"hi"]]


@pytest.mark.parametrize("why", PADDED_CHUNKS)
def test_space_behind_a_chunk_size_is_accepted_from_backends_alone(balance, backend, why):
    """Some servers write sizes in columns; no client does, so a request with it is refused."""
    started = backend(answering(CHUNKED + PADDED_CHUNKS[why]))
    client = balance(started).connect()
    for _ in range(2):
        client.send(GET)
        assert client.response().chunks == [b"hi"]
    client.send(UPLOAD + PADDED_CHUNKS[why])
    assert client.response().status == 400
    assert client.ending() == "fin"


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_bad_chunk_framing_of_a_request_is_refused(balance, backend, why):
    """Two readings of a chunk line are two requests; the backend never sees a complete one."""
    complete = []

    def script(link):
        if (request := link.request()) is not None:
            complete.append(request)
            link.send(OK)

    running = balance(backend(script))
    client = running.connect()
    client.send(UPLOAD + BAD_CHUNKS[why])
    answer = client.response()

    assert answer.status == 400
    assert answer.value(b"Connection") == b"close"
    assert client.ending() == "fin"
    running.wait_in_flight(0)
    assert not complete


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_request_whose_chunks_turn_bad_midway_reaches_no_backend_as_complete(balance, backend, why):
    """What has been sent on is broken off without a last chunk, and the client is told."""
    arrived, after = threading.Event(), []

    def script(link):
        link.until(b"5\r\nfirst\r\n")
        arrived.set()
        try:
            after.append(link.rest())
        except TruncatedError as cut:
            after.append(cut.got)

    started = backend(script)
    running = balance(started)
    client = running.connect()
    client.send(UPLOAD + b"5\r\nfirst\r\n")
    assert arrived.wait(PATIENCE_S)
    client.send(BAD_CHUNKS[why] + GET)
    answer = client.response()
    running.wait_in_flight(0)
    wait_until(lambda: after, "the end at the backend")

    assert (answer.status, answer.value(b"Connection")) == (400, b"close")
    assert client.ending() == "fin"
    assert b"0\r\n\r\n" not in after[0]
    assert b"GET" not in after[0]
    assert len(started.links) == 1


@pytest.mark.parametrize("why", BAD_CHUNKS)
def test_bad_chunk_framing_of_a_response_is_visible(balance, backend, why):
    """The client gets a 502 or, if the head went out before, a cut body, never an end that the backend
    did not mean."""
    running = balance(backend(once(CHUNKED + BAD_CHUNKS[why])))
    client = running.connect()
    client.send(GET)
    try:
        assert client.response().status == 502
    except TruncatedError as cut:
        assert not cut.got.endswith(b"0\r\n\r\n")
    running.wait_in_flight(0)


def test_bad_chunk_behind_the_second_half_of_a_head_is_a_502(balance, backend):
    """The interim response tells when the first half has been taken. Nothing of it was sent on."""
    taken = threading.Event()

    def script(link):
        link.request()
        link.send(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-")
        assert taken.wait(8)
        link.send(b"Encoding: chunked\r\n\r\nx\r\n")
        link.rest()

    running = balance(backend(script))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response_head().status == 103
    taken.set()

    assert client.response().status == 502
    assert (running.line()["status"], running.line()["code"]) == (502, "PH")


def test_bad_chunk_behind_the_second_half_of_a_request_head_is_refused(balance, backend):
    """No backend hears of it. The answer to the request before tells when the first half was taken."""
    seen = []
    running = balance(backend(recording(seen)))
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nTransfer-")
    assert client.response().status == 200
    client.send(b"Encoding: chunked\r\n\r\nx\r\n")

    assert client.response().status == 400
    assert len(seen) == 1
    assert running.lines(2)[1]["code"] == "PR"


def test_space_before_the_colon_of_a_response_is_not_passed_on(balance, backend):
    """RFC 9112 5.1: a proxy removes it; the field counts all the same."""
    started = backend(
        answering(b"HTTP/1.1 200 OK\r\nContent-Length \t: 2\r\nX :  a\r\nKeep-Alive : 5\r\n\r\nok")
    )
    client = balance(started).connect()
    for _ in range(2):
        client.send(GET)
        answer = client.response()
        assert answer.undated == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n\r\n"
        assert answer.body == b"ok"
    assert len(started.links) == 1


def test_chunked_response_of_1_0_is_read_and_its_connection_closed(balance, backend):
    """RFC 9112 6.1: such a message is framed by its chunks, and nothing is read behind it. Servers that
    stream by hand on Python's http.server send it."""
    streamed = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    started = backend(answering(streamed + b"2\r\nhi\r\n0\r\n\r\n"))
    client = balance(started).connect()
    for n in range(2):
        client.send(GET)
        answer = client.response()
        assert (answer.status, answer.chunks) == (200, [b"hi"])
        assert answer.value(b"Connection") is None
        assert len(started.links) == n + 1


def test_chunked_response_of_1_0_ends_with_the_connection_for_a_1_0_client(balance, backend):
    """Who does not know chunks never gets them, wherever they come from."""
    client = balance(
        backend(once(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"))
    ).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    answer = client.response()

    assert (answer.body, answer.value(b"Transfer-Encoding")) == (b"hi", None)


def test_close_delimited_response_is_chunked_for_1_1(balance, backend):
    """The client's connection outlives the backend's, so the end needs a frame."""
    started = backend(once(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nuntil the end"))
    client = balance(started).connect()
    for n in range(2):
        client.send(GET)
        answer = client.response()
        assert (answer.chunks is not None, answer.body) == (True, b"until the end")
        assert answer.value(b"Connection") is None
        assert len(started.links) == n + 1


def test_close_delimited_response_is_close_delimited_for_1_0(balance, backend):
    """A 1.0 client does not know chunks (RFC 9112 6.1)."""
    client = balance(backend(once(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nuntil the end"))).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")

    assert client.response_head().undated == b"HTTP/1.1 200 OK\r\nX: 1\r\nConnection: close\r\n\r\n"
    assert client.rest() == b"until the end"


def test_chunked_response_is_unchunked_for_1_0(balance, backend):
    """A 1.0 client does not know chunks (RFC 9112 6.1)."""
    client = balance(backend(answering(CHUNKED + chunks(b"abc", b"de")))).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")

    assert client.response_head().undated == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    assert client.rest() == b"abcde"


@pytest.mark.parametrize(
    ("request_head", "response", "kept"),
    [
        (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (HEAD, b"HTTP/1.1 200 OK\r\n\r\n", None),
        (GET, b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n", b"1000"),
        (GET, b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
    ],
)
def test_response_without_a_body_ends_at_the_blank_line(balance, backend, request_head, response, kept):
    """Whatever the fields say (RFC 9112 6.3(1)); both connections go on."""
    started = backend(answering(response, OK))
    client = balance(started).connect()
    client.send(request_head)
    answer = client.response("HEAD")

    assert answer.value(b"Content-Length") == kept
    assert answer.value(b"Connection") is None
    client.send(GET)
    assert client.response().body == b"ok"
    assert len(started.links) == 1


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"9\r\nabc",
        CHUNKED + b"3\r\nabc\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_truncated_response_is_visible(balance, backend, response, end):
    """A body that broke off never looks complete (RFC 9112 8)."""

    def script(link):
        link.request()
        link.send(response)
        getattr(link, end)()

    running = balance(backend(script))
    client = running.connect()
    client.send(GET)
    with pytest.raises(TruncatedError) as cut:
        client.response()

    assert not cut.value.got.endswith(b"0\r\n\r\n")
    running.wait_in_flight(0)
    assert running.line()["code"] == "SD"


def test_truncated_response_is_reset_for_1_0(balance, backend):
    """Where the end of the connection is the end of the body, only a reset tells the difference."""

    def script(link):
        link.request()
        link.send(CHUNKED + b"3\r\nabc\r\n")

    client = balance(backend(script)).connect()
    client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    with pytest.raises(TruncatedError) as cut:
        client.response()

    assert cut.value.how == "rst"


def test_request_body_that_breaks_off_ends_the_exchange(balance, backend):
    """The backend must not take half a body for a whole one."""
    complete = []

    def script(link):
        complete.append(link.request())

    started = backend(script)
    running = balance(started, limits=STREAMED)
    client = running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    wait_until(lambda: started.link().unread == b"abc", "half the body at the backend")
    client.close()
    running.wait_in_flight(0)
    line = running.line()

    assert not complete
    assert (line["code"], line["status"]) == ("CD", 499)

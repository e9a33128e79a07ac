"""The pure engine's HTTP rooms alone: chunked coding, heads as they are sent on, and h11 as referee."""

import h11
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fastlb.model.fields import FieldConfig
from fastlb.pure import http1
from fastlb.pure.chunked import ChunkDecoder, chunk, last_chunk
from fastlb.pure.field_names import FieldNames
from fastlb.pure.http1 import Refused, parse_request, parse_response
from fastlb.pure.http_head import answer, request_head, response_head
from fastlb.pure.peer import Peer

CLIENT = Peer("192.0.2.1", 4711, False)
NAMES = FieldNames(FieldConfig())


def decoded(*pieces):
    """The body, whether it has ended, and what is behind it."""
    decoder = ChunkDecoder()
    body = b"".join([decoder.feed(piece) for piece in pieces])
    return body, decoder.done, decoder.rest


def sent_on(*lines, via=b"fastlb", line=b"GET / HTTP/1.1"):
    """The lines of the head that a backend gets."""
    request = parse_request(b"\r\n".join([line, *lines, b"", b""]))
    return request_head(request, CLIENT, NAMES, via, b"10.0.0.1:80").split(b"\r\n")[:-2]


# ---- chunked coding --------------------------------------------------------------------------


def test_data_is_written_as_one_chunk_and_nothing_as_none():
    """An empty chunk would be the last one."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunk(b"") == b""
    assert decoded(chunk(b"ab") + last_chunk()) == (b"ab", True, b"")


# ---- heads as they are sent on -----------------------------------------------------------------


def test_request_keeps_order_case_and_repetitions():
    """A backend sees the client's own fields (RFC 9110 5.3)."""
    assert sent_on(b"HOST: a", b"X-b:  1", b"x-B: 2", b"Cookie: c", via=b"") == [
        b"GET / HTTP/1.1",
        b"HOST: a",
        b"X-b: 1",
        b"x-B: 2",
        b"Cookie: c",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: a",
    ]


def test_request_loses_what_belongs_to_the_connection():
    """Also what Connection names, but never the fields that make the message what it is."""
    lines = sent_on(
        b"Host: a",
        b"Connection: X-Mine, host, content-length, keep-alive, x-forwarded-for",
        b"X-Mine: 1",
        b"Content-Length: 3",
        b"Keep-Alive: 5",
        b"Proxy-Connection: x",
        b"TE: gzip",
        b"Trailer: x",
        b"Upgrade: h2c",
        b"X-Forwarded-For: evil",
        b"Forwarded: for=evil",
        line=b"POST / HTTP/1.1",
    )

    assert lines == [
        b"POST / HTTP/1.1",
        b"Host: a",
        b"Content-Length: 3",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: a",
        b"Via: 1.1 fastlb",
    ]


@pytest.mark.parametrize(
    ("target", "sent", "host"),
    [
        (b"http://b:8/x?y", b"/x?y", b"b:8"),
        (b"HTTP://b", b"/", b"b"),
        (b"http://b?q", b"/?q", b"b"),
        (b"/x", b"/x", b"a"),
    ],
)
def test_absolute_form_is_sent_in_origin_form(target, sent, host):
    """The authority of the target is the host, whatever Host says (RFC 9112 3.2.2)."""
    lines = sent_on(b"Host: a", line=b"GET %b HTTP/1.1" % target)

    assert lines[:2] == [b"GET %b HTTP/1.1" % sent, b"Host: " + host]
    assert b"X-Forwarded-Host: " + host in lines


def test_options_of_a_whole_server_is_an_asterisk():
    """RFC 9112 3.2.4."""
    assert sent_on(b"Host: a", line=b"OPTIONS http://b HTTP/1.1")[0] == b"OPTIONS * HTTP/1.1"


def test_1_0_request_without_host_gets_the_backends():
    """HTTP/1.1 to the backend needs one, and nobody else has named any."""
    lines = sent_on(line=b"GET / HTTP/1.0")

    assert lines[:2] == [b"GET / HTTP/1.1", b"Host: 10.0.0.1:80"]
    assert not [line for line in lines if line.startswith(b"X-Forwarded-Host")]
    assert lines[-1] == b"Via: 1.0 fastlb"


def test_repeated_content_length_is_sent_once():
    """What two parsers might read apart goes on as one."""
    for given_ in ([b"Content-Length: 5, 5"], [b"Content-Length: 5", b"Content-Length: 5"]):
        lines = sent_on(b"Host: a", *given_, line=b"POST / HTTP/1.1")
        assert [line for line in lines if b"Length" in line] == [b"Content-Length: 5"]


def test_content_lengths_that_differ_are_refused():
    """One of them would be the length for us and the other for the backend (RFC 9112 6.3)."""
    for given_ in (
        b"Content-Length: 5, 6",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 05",
    ):
        with pytest.raises(Refused):
            sent_on(b"Host: a", given_, line=b"POST / HTTP/1.1")


def test_client_of_a_unix_socket_has_no_address():
    """X-Forwarded-For holds addresses, and there is none."""
    request = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    assert b"X-Forwarded-For" not in request_head(request, Peer("", 0, False), NAMES, b"", b"")


def test_response_keeps_its_length_only_where_it_means_one():
    """HEAD and 304 say how long the body would be; 204 and 1xx have none (RFC 9110 8.6)."""
    for status, kept in ((b"200", True), (b"304", True), (b"204", False), (b"103", False)):
        raw = b"HTTP/1.1 %b X\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n" % status
        head = response_head(parse_response(raw, b"HEAD"))
        assert (b"Content-Length: 5\r\n" in head) is kept
        assert head.count(b"Set-Cookie: ") == 2


@pytest.mark.parametrize("status", [400, 408, 414, 431, 501, 502, 503, 504, 505])
def test_own_answers_are_whole_messages(status):
    """A client with a strict parser can read what we say about its mistakes."""
    raw = answer(status, connection=b"close", retry_after_s=3)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.receive_data(raw)
    head, body = client.next_event(), client.next_event()

    assert head.status_code == status
    assert body.data.startswith(b"%d " % status)
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert raw.startswith(answer(status, connection=b"close", retry_after_s=3, bodyless=True))


# ---- h11 as referee ----------------------------------------------------------------------------

names = st.sampled_from(
    [b"Host", b"X-A", b"Content-Length", b"Transfer-Encoding", b"Connection", b"X y", b""]
)
values = st.sampled_from([b"a", b"5", b"05", b"5, 5", b"chunked", b"gzip, chunked", b"close", b"", b" a\tb "])
values |= st.binary(max_size=4)
ends = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\n "])


@st.composite
def heads(draw, first):
    lines = draw(st.lists(st.tuples(names, values, ends), max_size=5))
    return first + b"".join(name + b":" + value + end for name, value, end in lines) + b"\r\n"


def framing_h11_sees(connection):
    """none, length, chunked or close, by what h11 makes of bytes behind the head."""
    assert connection.next_event() is not h11.NEED_DATA
    try:
        connection.receive_data(b"2\r\nab\r\n")
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return "refused"
    if isinstance(event, h11.EndOfMessage):
        return "none"
    return event.data if isinstance(event, h11.Data) else "more"


@settings(max_examples=600, deadline=None)
@given(heads(b"POST / HTTP/1.1\r\nHost: a\r\n"))
def test_h11_finds_the_body_where_we_do(raw):
    """What we accept, another strict parser accepts too, with the same end of the message."""
    try:
        ours = parse_request(raw)
    except Refused:
        return
    if ours is None or ours.head_bytes != len(raw):
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(request_head(ours, CLIENT, NAMES, b"", b""))
    expected = {"none": "none", "chunked": b"ab", "length": b"2\r\nab\r\n"[: ours.length] or "none"}

    assert framing_h11_sees(server) == expected[ours.framing]


@settings(max_examples=600, deadline=None)
@given(heads(b"HTTP/1.1 200 OK\r\n"))
def test_h11_finds_the_end_of_a_response_where_we_do(raw):
    """The client must not take the next user's response for the rest of this one."""
    try:
        ours = parse_response(raw)
    except Refused:
        return
    if ours is None or ours.head_bytes != len(raw):
        return
    chunked = ours.framing in ("chunked", "close")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.receive_data(response_head(ours, chunked=chunked))

    expected = b"ab" if chunked else b"2\r\nab\r\n"[: ours.length] or "none"
    assert framing_h11_sees(client) == expected


def test_what_h11_reads_otherwise_is_refused():
    """The second opinion counts, should our own grammar ever let something through."""
    wrong = [(b"a b", b"c")]
    with pytest.raises(Refused) as request:
        http1._second_reading(b"GET", 11, wrong)
    with pytest.raises(Refused) as response:
        http1._second_reading_of_response(200, 11, wrong)

    assert (request.value.status, response.value.status) == (400, 502)

"""The head parsers alone: what is refused and why, what is accepted and as what.

Every head here is also read cut at every byte and one byte at a time (support.cuts).
"""

import pytest

from fastlb.model.limits import LimitConfig
from support.cuts import read_request, read_response
from support.heads import REFUSED, REFUSED_EITHER, REFUSED_RESPONSES, bare, get

pytestmark = pytest.mark.unbatched


def parse(engine, raw, **limits):
    return read_request(engine, raw, LimitConfig(**limits))


def as_pairs(head):
    return [(bytes(name), bytes(value)) for name, value in head.fields]


def refusal(engine, raw, **limits):
    with pytest.raises(engine.http1.Refused) as caught:
        parse(engine, raw, **limits)
    return caught.value


@pytest.mark.parametrize("why", REFUSED)
def test_head_that_could_be_read_in_two_ways_is_refused(engine, why):
    """Each of these has been read differently by two programs, or will be."""
    status, raw = REFUSED[why]
    refused = refusal(engine, raw)

    assert refused.status == status
    assert refused.why


@pytest.mark.parametrize("why", REFUSED_EITHER)
def test_head_with_two_right_refusals_gets_one_of_them(engine, why):
    """Where RFC 9112 leaves the choice of the status, it does not leave the choice to accept."""
    assert refusal(engine, REFUSED_EITHER[why]).status in (400, 501, 505)


@pytest.mark.parametrize("why", REFUSED_RESPONSES)
def test_response_that_is_not_http_is_refused(engine, why):
    """A backend that answers nonsense costs its exchange a 502."""
    with pytest.raises(engine.http1.Refused) as caught:
        read_response(engine, REFUSED_RESPONSES[why])

    assert caught.value.status == 502


def test_request_is_read_as_it_came(engine):
    """Case, order and duplicates of fields are the sender's; only outer space is trimmed."""
    raw = get(b"X-One:  a \t", b"x-one:b", b"Set-Cookie: c=1", b"Empty:", line=b"PATCH /a?b=%20c HTTP/1.1")
    head = parse(engine, raw + b"body")

    assert (head.method, head.target, head.version) == (b"PATCH", b"/a?b=%20c", 11)
    assert as_pairs(head) == [
        (b"Host", b"a"),
        (b"X-One", b"a"),
        (b"x-one", b"b"),
        (b"Set-Cookie", b"c=1"),
        (b"Empty", b""),
    ]
    assert head.head_bytes == len(raw)
    assert (head.framing, head.keep_alive) == ("none", True)
    assert not head.upgrade


def test_values_may_have_tabs_and_high_bytes(engine):
    """field-content allows HTAB inside and obs-text (RFC 9110 5.5)."""
    head = parse(engine, get(b"X: a\tb \xff\x80"))

    assert as_pairs(head)[1] == (b"X", b"a\tb \xff\x80")


def test_every_token_character_may_be_in_a_name(engine):
    """tchar of RFC 9110 5.6.2, all of them."""
    name = b"!#$%&'*+-.^_`|~09azAZ"

    assert as_pairs(parse(engine, get(name + b": v")))[1] == (name, b"v")


def test_every_token_character_may_be_in_a_method(engine):
    """Methods are tokens and case-sensitive; an unknown one is the backend's business."""
    assert parse(engine, get(line=b"M-SEARCH!#$%&'*+.^_`|~0a / HTTP/1.1")).method.startswith(b"M-SEARCH")


@pytest.mark.parametrize("method", [b"connect", b"CONNECt", b"CONNECTS", b"XONNECT"])
def test_method_that_resembles_connect_is_another(engine, method):
    """Methods are case-sensitive (RFC 9110 9.1), and only CONNECT asks for a tunnel."""
    assert parse(engine, get(line=method + b" / HTTP/1.1")).method == method


@pytest.mark.parametrize("method", [b"options", b"OPTIONz", b"PUT", b"PUX", b"HEAD", b"HEAX", b"TRACE"])
def test_asterisk_is_refused_with_any_other_method(engine, method):
    """Also with one that resembles OPTIONS."""
    assert refusal(engine, get(line=method + b" * HTTP/1.1")).status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"a.example",
        b"a:80",
        b"127.0.0.1:8080",
        b"[::1]:80",
        b"[fe80::1]",
        b"xn--bcher-kva.example",
        b"a_b",
        b"A%41%5a",
        b"a:",
        b"a.",
        b"a!$&'()*+;=~-",
        b"a:65535",
        b"a:00080",
        b"[::ffff:127.0.0.1]:8080",
        b"[1:2:3:4:5:6:7:8]",
        b"[::]:",
        b"a" * 512,
    ],
)
def test_host_in_every_valid_form(engine, host):
    """uri-host and port of RFC 3986 3.2.2."""
    head = parse(engine, bare(b"GET / HTTP/1.1", b"Host: " + host))

    assert as_pairs(head) == [(b"Host", host)]


@pytest.mark.parametrize(
    ("target", "origin", "host"),
    [
        (b"http://b/x?y=http://c/", b"/x?y=http://c/", b"b"),
        (b"HTTP://b:81/", b"/", b"b:81"),
        (b"http://b", b"", b"b"),
        (b"http://b?q", b"?q", b"b"),
        (b"http://[::1]:80/x", b"/x", b"[::1]:80"),
        (b"https://b:8443/x", b"/x", b"b:8443"),
        (b"HttpS://b", b"", b"b"),
        (b"ws://b/x", b"/x", b"b"),
        (b"WS://b?q", b"?q", b"b"),
        (b"wss://[::1]/", b"/", b"[::1]"),
        (b"//b/x", b"//b/x", b"a"),
        (b"/http://b/x", b"/http://b/x", b"a"),
    ],
)
def test_absolute_form_overrides_host(engine, target, origin, host):
    """RFC 9112 3.2.2; two slashes alone are a path."""
    head = parse(engine, get(line=b"GET %b HTTP/1.1" % target))

    assert (head.target, head.host, head.received_target) == (origin, host, target)


@pytest.mark.parametrize(
    "name", [b"TransferEncoding", b"XTransfer-Encoding", b"Content__Length", b"Content-Lengt"]
)
def test_name_that_resembles_a_framing_field_frames_nothing(engine, name):
    """What is not the field is not taken for it; other programs must do the same."""
    head = parse(engine, get(name + b": chunked", line=b"POST / HTTP/1.1"))

    assert head.framing == "none"


def test_32_names_in_connection_are_accepted(engine):
    """A limit is the last value that is allowed; a name may come twice."""
    assert parse(engine, get(b"Connection: " + b",".join([b"a"] * 32))) is not None


def test_empty_host_is_valid(engine):
    """A client with no authority sends an empty Host (RFC 9112 3.2)."""
    assert parse(engine, bare(b"GET / HTTP/1.1", b"Host:")) is not None


def test_1_0_needs_no_host(engine):
    """Host came with 1.1."""
    head = parse(engine, bare(b"GET / HTTP/1.0"))

    assert (head.version, head.keep_alive, head.framing) == (10, False, "none")


@pytest.mark.parametrize(
    ("line", "field", "kept"),
    [
        (b"GET / HTTP/1.1", b"X: a", True),
        (b"GET / HTTP/1.1", b"Connection: close", False),
        (b"GET / HTTP/1.1", b"Connection: CLOSE", False),
        (b"GET / HTTP/1.1", b"Connection: x, close", False),
        (b"GET / HTTP/1.1", b"Connection: ,x ,\tclose\t, ,", False),
        (b"GET / HTTP/1.1", b"Connection: keep-alive", True),
        (b"GET / HTTP/1.1", b"Connection: closed", True),
        (b"GET / HTTP/1.0", b"X: a", False),
        (b"GET / HTTP/1.0", b"Connection: keep-alive", True),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive, x", True),
        (b"GET / HTTP/1.0", b"Connection: keep-alive, close", False),
    ],
)
def test_keep_alive_follows_version_and_connection(engine, line, field, kept):
    """RFC 9112 9.3."""
    assert parse(engine, get(field, line=line)).keep_alive is kept


@pytest.mark.parametrize("minor", [b"%d" % n for n in range(2, 10)])
def test_higher_minor_version_is_read_as_1_1(engine, minor):
    """RFC 9110 2.5: as the highest minor version that we know. Other major versions stay refused."""
    request = parse(engine, get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1." + minor))
    response = read_response(engine, bare(b"HTTP/1." + minor + b" 200 OK", b"Transfer-Encoding: chunked"))

    for head in (request, response):
        assert (head.version, head.framing, head.keep_alive) == (11, "chunked", True)
    assert refusal(engine, bare(b"GET / HTTP/1." + minor, b"X: a")).status == 400


@pytest.mark.parametrize("connection", [b"keep-alive", b"x", b"close"])
def test_chunked_response_of_1_0_closes_its_connection(engine, connection):
    """Its framing may be a mistake, so nothing is read behind it (RFC 9112 6.1)."""
    head = read_response(
        engine,
        bare(b"HTTP/1.0 200 OK", b"Connection: " + connection, b"Transfer-Encoding: chunked"),
    )

    assert (head.version, head.framing, head.keep_alive) == (10, "chunked", False)


@pytest.mark.parametrize("status", [100, 199, 200, 299, 599, 600, 666, 999])
def test_status_of_three_digits_is_read(engine, status):
    """From 100 to 999; what it means is the client's business (RFC 9110 15)."""
    assert read_response(engine, bare(b"HTTP/1.1 %d X" % status, b"Content-Length: 0")).status == status


@pytest.mark.parametrize(
    ("fields", "framing", "length"),
    [
        ([b"Content-Length: 0"], "length", 0),
        ([b"Content-Length: 5"], "length", 5),
        ([b"content-length:5"], "length", 5),
        ([b"Content-Length: 005"], "length", 5),
        ([b"Content-Length: 9223372036854775807"], "length", 2**63 - 1),
        ([b"Content-Length: 5, 5"], "length", 5),
        ([b"Content-Length: 5", b"Content-Length: 5"], "length", 5),
        ([b"Transfer-Encoding: chunked"], "chunked", None),
        ([b"transfer-encoding: CHUNKED"], "chunked", None),
        ([b"Transfer-Encoding:\tchunked "], "chunked", None),
    ],
)
def test_framing_of_a_request(engine, fields, framing, length):
    """RFC 9112 6.3: exactly one way to find the end."""
    head = parse(engine, get(*fields, line=b"POST / HTTP/1.1"))

    assert head.framing == framing
    if length is not None:
        assert head.length == length


def test_one_empty_line_before_a_request_is_tolerated(engine):
    """Old clients send CRLF after a body (RFC 9112 2.2)."""
    head = parse(engine, b"\r\n" + get())

    assert head.method == b"GET"
    assert head.head_bytes == len(get()) + 2


def test_asterisk_is_for_options(engine):
    """RFC 9112 3.2.4."""
    assert parse(engine, get(line=b"OPTIONS * HTTP/1.1")).target == b"*"


@pytest.mark.parametrize("fields", [[b"Connection: Upgrade", b"Upgrade: websocket"]])
def test_upgrade_needs_both_fields_and_1_1(engine, fields):
    """RFC 9110 7.8: named in Connection, and ignored in 1.0."""
    assert parse(engine, get(*fields)).upgrade
    assert parse(engine, get(b"Connection: x, uPgRaDe", fields[1])).upgrade
    assert not parse(engine, get(fields[0])).upgrade
    assert not parse(engine, get(fields[1])).upgrade
    assert not parse(engine, get(*fields, line=b"GET / HTTP/1.0")).upgrade


def test_head_of_just_the_limits_is_accepted(engine):
    """A limit is the last value that is allowed."""
    line = b"GET /" + b"a" * (200 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"
    assert len(line) == 200
    assert parse(engine, get(line=line), line_bytes=200) is not None
    assert refusal(engine, get(line=line), line_bytes=199).status == 414

    raw = get(b"A: b", b"C: d")
    assert parse(engine, raw, fields=3) is not None
    assert refusal(engine, raw, fields=2).status == 431


def test_request_line_of_8000_bytes_is_accepted(engine):
    """RFC 9112 3 recommends support of at least 8000 octets."""
    line = b"GET /" + b"a" * (8000 - len(b"GET / HTTP/1.1")) + b" HTTP/1.1"

    assert len(line) == 8000
    assert parse(engine, get(line=line)) is not None


def test_head_without_its_end_is_incomplete_at_every_byte(engine):
    """A head may be cut anywhere; nothing is decided before its last byte."""
    raw = get(b"X: a", b"Transfer-Encoding: chunked", b"Empty:", line=b"POST /a HTTP/1.1")
    for cut in range(len(raw)):
        assert parse(engine, raw[:cut]) is None, raw[:cut]
    assert parse(engine, raw) is not None


def test_bytes_after_the_head_belong_to_someone_else(engine):
    """What follows may be a body or the next request, and is no part of this head."""
    raw = get()

    assert parse(engine, raw + b"\x00\n\r garbage").head_bytes == len(raw)


@pytest.mark.parametrize(
    ("method", "lines", "framing", "length"),
    [
        (b"GET", [b"HTTP/1.1 200 OK", b"Content-Length: 2"], "length", 2),
        (b"GET", [b"HTTP/1.1 200 OK", b"Content-Length: 2", b"Content-Length: 2"], "length", 2),
        (b"GET", [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"], "chunked", None),
        (b"GET", [b"HTTP/1.1 200 OK"], "close", None),
        (b"GET", [b"HTTP/1.0 200 OK"], "close", None),
        (b"GET", [b"HTTP/1.1 200 OK", b"Content-Length: 0"], "length", 0),
        (b"GET", [b"HTTP/1.1 200 OK", b"content-length:\t2, 2 "], "length", 2),
        (b"GET", [b"HTTP/1.1 200 OK", b"tRANSFER-eNCODING:\tCHUNKED "], "chunked", None),
        (b"HEAD", [b"HTTP/1.1 200 OK", b"Content-Length: 2"], "none", None),
        (b"HEAD", [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"], "none", None),
        (b"GET", [b"HTTP/1.1 204 No Content"], "none", None),
        (b"GET", [b"HTTP/1.1 304 Not Modified", b"Content-Length: 2"], "none", None),
        (b"GET", [b"HTTP/1.1 100 Continue"], "none", None),
        (b"GET", [b"HTTP/1.1 103 Early Hints", b"Link: x"], "none", None),
    ],
)
def test_framing_of_a_response(engine, method, lines, framing, length):
    """RFC 9112 6.3, which depends on the method that was asked."""
    head = read_response(engine, bare(*lines), request_method=method)

    assert head.framing == framing
    if length is not None:
        assert head.length == length


@pytest.mark.parametrize("space", [b" ", b"\t", b" \t "])
def test_space_before_the_colon_is_removed_from_a_response(engine, space):
    """A proxy must not pass it on and need not refuse it (RFC 9112 5.1); its field counts."""
    raw = bare(
        b"HTTP/1.1 200 OK", b"Content-Length%b:2" % space, b"Connection%b: close" % space, b"X%b:" % space
    )
    head = read_response(engine, raw)

    assert as_pairs(head) == [(b"Content-Length", b"2"), (b"Connection", b"close"), (b"X", b"")]
    assert (head.framing, head.length, head.keep_alive) == ("length", 2, False)


def test_two_lengths_with_space_before_the_colon_count_as_two(engine):
    """A name with a space behind it is no other name."""
    raw = bare(b"HTTP/1.1 200 OK", b"Content-Length : 2", b"Transfer-Encoding\t: chunked")
    with pytest.raises(engine.http1.Refused):
        read_response(engine, raw)


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200 Very Good \xe9", b"HTTP/1.1 299 A\tB"]
)
def test_reason_is_free_text(engine, line):
    """Reason phrases may be empty and may have obs-text (RFC 9112 4)."""
    assert read_response(engine, bare(line, b"Content-Length: 0")).framing == "length"


def test_response_without_its_end_is_incomplete_at_every_byte(engine):
    """Responses come in pieces too."""
    raw = bare(b"HTTP/1.1 200 OK", b"Content-Length: 2", b"X: a")
    for cut in range(len(raw)):
        assert read_response(engine, raw[:cut]) is None
    assert read_response(engine, raw).head_bytes == len(raw)

"""The access line of an exchange, field by field, in both formats."""

import json
import re
from datetime import datetime, timedelta, timezone

import pytest

from fastlb.model.config import LogFormat
from fastlb.model.errors import ConfigError
from fastlb.model.ledger import ACCESS_FIELDS
from fastlb.model.limits import LABEL_MAX_BYTES
from support.backend import OK, answering, refused_address, silent
from support.waiting import wait_until

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
KEYS = [name for name, _ in ACCESS_FIELDS]
# The beginning of a chunked body, and the byte that makes it invalid there.
VALID_BEFORE = {
    b"3": b"x",
    b"3\r": b"\r",
    b"3;a": b"\x00",
    b"3;" + b"a" * 1022: b"a",
    b"3\r\nabc": b"d",
    b"3\r\nabc\r": b"3",
    b"3\r\nabc\r\n": b"n",
    b"3\r\nabc\r\n0\r\nX": b" ",
    b"0\r\nA: b\r\n": b":",
    b"0\r\nA: b\r\nC: " + b"d" * (8192 - 9): b"d",
}


def test_line_says_what_happened(balance, backend):
    """One exchange, one line, every field true."""
    started = backend(answering(OK))
    running = balance(started)
    before = datetime.now(timezone.utc)
    client = running.connect()
    request = b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    client.send(request)
    client.response()
    line = running.line()

    assert list(line) == KEYS
    at = datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|\+00:00)", line["time"])
    assert abs(at - before) < timedelta(seconds=5)
    assert line["client"] == f"127.0.0.1:{client.sock.getsockname()[1]}"
    assert (line["method"], line["target"], line["status"]) == ("POST", "/a?b=c", 200)
    assert line["backend"] == started.label
    assert (line["bytes_in"], line["bytes_out"]) == (len(request), client.received_bytes)
    assert line["connect_us"] > 0
    assert 0 < line["connect_us"] <= line["first_byte_us"] <= line["total_us"] < 5_000_000
    assert (line["tries"], line["in_flight"], line["code"]) == (1, 1, "--")


def test_pooled_connection_costs_no_connect(balance, backend):
    """0 means that a connection was there."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    for _ in range(2):
        client.send(GET)
        client.response()
    first, second = running.lines(2)

    assert first["connect_us"] > 0
    assert second["connect_us"] == 0
    assert second["bytes_in"] == len(GET)


def test_long_target_is_cut(balance, backend):
    """Records are of a fixed size; the line says what fits."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(b"GET /" + b"a" * 1000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()

    assert running.line()["target"] == "/" + "a" * 254


def test_target_is_logged_as_received(balance, backend):
    """The absolute form is rewritten for the backend, not for the log."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(b"GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()

    assert running.line()["target"] == "http://b.example/x"


def test_bytes_of_chunked_messages_are_those_on_the_wire(balance, backend):
    """bytes_in is what the client sent and bytes_out what it got, chunk framing included."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
    running = balance(backend(answering(chunked)))
    client = running.connect()
    request = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nbody\r\n0\r\nT: 1\r\n\r\n"
    )
    client.send(request)
    assert client.response().body == b"helloyou"
    line = running.line()

    assert (line["bytes_in"], line["bytes_out"]) == (len(request), client.received_bytes)
    assert running.ledger().bytes_in == len(request)
    assert running.ledger().bytes_out == client.received_bytes


@pytest.mark.parametrize("behind", [b"", b"behind\r\n0\r\n\r\n"], ids=["alone", "behind"])
@pytest.mark.parametrize("valid", VALID_BEFORE, ids=lambda valid: repr(valid[-12:]))
def test_bytes_of_a_refused_body_end_with_the_byte_that_is_wrong(balance, backend, valid, behind):
    """However it is cut: what stands behind that byte is no part of a request."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    wrong = VALID_BEFORE[valid]
    running = balance(backend(silent))
    for pieces in ([head + valid + wrong + behind], [head, valid, wrong + behind]):
        client = running.connect()
        for piece in pieces:
            client.send(piece)
        assert client.response().status == 400
        client.close()
    counted = len(head + valid + wrong)

    assert [line["bytes_in"] for line in running.lines(2)] == [counted] * 2
    assert running.ledger().bytes_in == 2 * counted


def test_target_with_quotes_stays_json(balance, backend):
    """A client must not be able to write log fields of its own."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(b'GET /","status":200,"x":"\\ HTTP/1.1\r\nHost: a\r\n\r\n')
    client.response()

    assert running.line()["target"] == '/","status":200,"x":"\\'


def test_target_with_high_bytes_stays_json(balance, backend):
    """Whatever the bytes, a line can be read as UTF-8 JSON."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(b"GET /\xff\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n")
    status = client.response().status
    line = running.line()

    assert line["status"] == status
    assert status in (200, 400)


def test_text_lines_have_the_same_fields(balance, backend):
    """Values in the order of the fields, separated by one space, - for what is missing."""
    started = backend(answering(OK))
    running = balance(started, log_format=LogFormat.TEXT)
    client = running.connect()
    client.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()
    client.send(b"BAD\r\n\r\n")
    client.response()
    good, bad = (dict(zip(KEYS, raw.decode().split(" "), strict=True)) for raw in running.raw_lines(2))

    assert (good["method"], good["target"], good["status"]) == ("GET", "/x", "200")
    assert (good["backend"], good["code"]) == (started.label, "--")
    assert (bad["method"], bad["target"], bad["status"]) == ("-", "-", "400")
    assert (bad["backend"], bad["code"]) == ("-", "PR")


def test_phases_that_were_not_reached_are_minus_one(balance, backend):
    """A zero would say that it took no time."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(b"BAD\r\n\r\n")
    client.response()
    line = running.line()

    assert (line["connect_us"], line["first_byte_us"]) == (-1, -1)
    assert (line["method"], line["target"], line["backend"]) == (None, None, None)
    assert line["total_us"] >= 0


def test_no_format_means_no_lines(balance, backend):
    """What is not wanted is not recorded."""
    running = balance(backend(answering(OK)), log_format=None)
    client = running.connect()
    client.send(GET)
    client.response()
    running.wait_idle()

    assert running.raw_lines(0) == []
    assert running.ledger().exchanges == 1
    assert running.ledger().access_dropped == 0


def test_control_plane_is_woken_for_lines(balance, backend):
    """The log is written while it happens, without polling."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(GET)
    client.response()

    wait_until(lambda: running.wakes > 0, "a wake-up")


def test_every_exchange_has_its_line(balance, backend):
    """One line each, none lost and none twice, with two workers as with one."""
    running = balance(backend(answering(OK)), workers=2)
    for at in range(4):
        client = running.connect()
        client.send(*[b"GET /%d/%d HTTP/1.1\r\nHost: a\r\n\r\n" % (at, n) for n in range(250)])
        for _ in range(250):
            client.response()
    lines = running.lines(1000)

    assert {line["target"] for line in lines} == {f"/{at}/{n}" for at in range(4) for n in range(250)}
    assert running.ledger().access_dropped == 0


def test_without_an_access_log_exchanges_are_counted_all_the_same(balance, backend):
    """No line, no wake-up for one, and the ledger is the same."""
    running = balance(backend(answering(OK)), log_format=None)
    client = running.connect()
    client.send(GET, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    client.response()
    client.response()
    running.wait_idle()

    assert running.raw_lines(0) == []
    assert (running.ledger().exchanges, running.wakes) == (2, 0)


def test_lines_that_nobody_takes_are_dropped_and_counted(balance):
    """Memory for the log is bounded, and a log that is not read does not stop the traffic."""
    running = balance()
    client = running.connect()
    sent = 0
    while running.ledger().access_dropped == 0:
        client.send(*[b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 255)] * 100)
        sent += 100
        for _ in range(100):
            assert client.response().status == 503
    running.wait_idle()
    ledger = running.ledger()

    assert ledger.exchanges == sent
    assert len(running.lines(sent - ledger.access_dropped)) >= 8000


def test_ledger_counts_bytes_and_statuses(balance, backend):
    """What the lines say one by one, the ledger says in sum."""
    running = balance(backend(answering(OK, OK.replace(b"200 OK", b"404 Not Found"))))
    client = running.connect()
    for _ in range(2):
        client.send(GET)
        client.response()
    client.send(b"BAD\r\n\r\n")
    client.response()
    running.wait_idle()
    running.lines(3)
    ledger = running.ledger()

    assert ledger.statuses[2] == 1
    assert ledger.statuses[4] == 2
    assert ledger.bytes_out == client.received_bytes
    assert ledger.bytes_in >= 2 * len(GET)
    (counts,) = (b for b in ledger.backends if b.slot == running.slots[0])
    assert (counts.picked, counts.connects, counts.failures) == (2, 1, 0)
    assert counts.bytes_in == len(OK) + len(OK.replace(b"200 OK", b"404 Not Found"))


@pytest.mark.parametrize(("status", "counted_as"), [(499, 4), (599, 5), (600, 5), (666, 5), (999, 5)])
def test_status_of_three_digits_passes_and_is_counted(balance, backend, status, counted_as):
    """Applications invent statuses. Those above 599 count as server errors, as RFC 9110 15 reads them; a
    499 that a backend sends is no client that left."""
    running = balance(backend(answering(OK.replace(b"200 OK", b"%d Odd" % status))))
    client = running.connect()
    client.send(GET)
    answer = client.response()
    running.wait_idle()

    assert (answer.status, answer.body) == (status, b"ok")
    assert answer.head.startswith(b"HTTP/1.1 %d Odd\r\n" % status)
    assert running.line()["status"] == status
    assert running.ledger().statuses == tuple(int(n == counted_as) for n in range(6))


def test_label_is_written_whole_or_refused(balance, backend):
    """Names are the user's; a long one must neither be lost nor spoil the lines around it."""
    started = backend(answering(OK))
    running = balance(started)
    label = 'n"' * (LABEL_MAX_BYTES // 2)
    running.add(started, label)
    with pytest.raises(ConfigError, match=f"is not at most {LABEL_MAX_BYTES} bytes"):
        running.add(started, label + "n")
    client = running.connect()
    for _ in range(3):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.response()

    assert [line["backend"] for line in running.lines(3)] == [label] * 3


@pytest.mark.parametrize("log_format", LogFormat)
def test_backends_tried_are_listed_in_order(balance, backend, log_format):
    """The last one alone does not say whom a slow request has to thank for."""
    answers = backend(answering(OK))
    with refused_address() as refuses:
        running = balance(refuses, answers, log_format=log_format)
        client = running.connect()
        client.send(GET)
        client.response()
        running.keep_only(1)
        client.send(GET)
        client.response()
        first, second = running.raw_lines(2)

    if log_format is LogFormat.JSON:
        assert json.loads(first)["tried"] == [str(refuses), answers.label]
        assert json.loads(second)["tried"] == [answers.label]
    else:
        assert first.split()[-3].decode() == f"{refuses},{answers.label}"
        assert second.split()[-3].decode() == answers.label


@pytest.mark.parametrize("log_format", LogFormat)
def test_nobody_tried_is_an_empty_list(balance, backend, log_format):
    """A request that was refused met no backend."""
    running = balance(backend(answering(OK)), log_format=log_format)
    client = running.connect()
    client.send(b"NONSENSE\r\n\r\n")
    client.response()
    (line,) = running.raw_lines(1)

    if log_format is LogFormat.JSON:
        assert json.loads(line)["tried"] == []
    else:
        assert line.split()[-3] == b"-"

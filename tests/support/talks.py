"""Conversations of clients with backends of many kinds, each of which may break off when a call of
the engine fails, but must never look whole then."""

from fastlb.model.config import Mode
from fastlb.model.limits import LimitConfig
from support.backend import echo
from support.failing import describe, numbers
from support.wire import TruncatedError

LONG = b"long" * 75_000
UNLIMITED = LimitConfig(connections=0, retry_percent=None)


class BrokenError(Exception):
    """An exchange that did not go well, and that shows it."""


def answered(client, body):
    """Read a response. Raises BrokenError for one that says that it is none."""
    message = client.response()
    while message.status in (100, 103):
        message = client.response()
    if message.status in (502, 503, 504):
        raise BrokenError
    assert (message.status, message.body == body) == (200, True)
    return message


def serve(link):
    """A backend that does what the target says."""
    while (request := link.request()) is not None:
        target = request.start.split(b" ")[1]
        body = {b"/long": LONG, b"/echo": request.body}.get(target, b"ok")
        if target == b"/upgrade":
            link.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            echo(link)
            return
        if target == b"/interim":
            link.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        if target == b"/chunks":
            body = LONG
            link.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            link.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve_announced(link):
    """Serve behind a PROXY header, version 2."""
    link.exactly(14)
    link.exactly(int.from_bytes(link.exactly(2), "big"))
    serve(link)


def get(target, fields=b""):
    """A request without a body."""
    return b"GET /" + target + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"


def kept(running):
    """Requests one after the other on one connection, in pieces and pipelined."""
    client = running.connect()
    request = get(b"small")
    client.send(request[:20])
    client.send(request[20:] + get(b"interim"))
    answered(client, b"ok")
    answered(client, b"ok")
    client.send(get(b"small") * 3)
    for _ in range(3):
        answered(client, b"ok")


def long_answers(running):
    """More than the kernel takes at once, with a length and in chunks."""
    client = running.connect(receive_buffer_bytes=4096)
    for target in (b"long", b"chunks"):
        client.send(get(target))
        answered(client, LONG)


def uploads(running):
    """Bodies that come along, come later, and come in chunks."""
    client = running.connect()
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
    for body in (b"short", LONG):
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(body), body)
        answered(client, body)
    client.send(head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.send(b"3\r\ndef\r\n" * 3_000)
    client.send(b"0\r\n\r\n")
    answered(client, b"abc" + b"def" * 3_000)


def bad_request(running):
    """What ends with an answer of our own, and is read to its end."""
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx")
    message = client.response()
    if message.status != 503:
        assert message.status == 400
    client.rest()


def tunnel(running):
    """Bytes both ways behind an upgrade."""
    client = running.connect()
    client.send(get(b"upgrade", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    message = client.response_head()
    if message.status != 101:
        raise BrokenError
    client.send(LONG)
    assert client.exactly(len(LONG)) == LONG
    client.shut()
    assert client.rest() == b""


def session(running):
    """A session of TCP, which is ended by the client."""
    client = running.connect(running.session_port)
    for target, body in ((b"small", b"ok"), (b"long", LONG)):
        client.send(get(target))
        assert client.response().body == body
    client.shut()
    assert client.rest() == b""


def announced(running):
    """A client whose address comes in a PROXY header, in pieces."""
    client = running.connect(running.announced_port)
    client.send(b"PROXY TCP4 192.0.2.1 ")
    client.send(b"192.0.2.2 5 6\r\n" + get(b"small"))
    answered(client, b"ok")


def crowd(running):
    """Many at once, so that one turn of the worker has many small messages."""
    clients = [running.connect() for _ in range(16)]
    for _ in range(2):
        for client in clients:
            client.send(get(b"small"))
        for client in clients:
            answered(client, b"ok")


CONVERSATIONS = (kept, long_answers, uploads, bad_request, tunnel, session, announced)


def converse(running, talks=CONVERSATIONS):
    """Have these conversations. Returns those that broke off."""
    broken = []
    for talk in talks:
        try:
            talk(running)
        except (BrokenError, TruncatedError, OSError) as end:
            assert not isinstance(end, TimeoutError), f"{talk.__name__} stands still"
            broken.append(talk.__name__)
    return broken


# ---- while a call fails -----------------------------------------------------------------------


def name_fault(value):
    """memory-ENOMEM-1000"""
    return f"{value[0]}-{describe(value[1])}-{value[2]}"


def started(balance, backends, **settings):
    """An engine with a listener of each kind."""
    running = balance(*backends, limits=UNLIMITED, trusted=["127.0.0.0/8"], **settings)
    running.session_port = running.open_listener(Mode.TCP)
    running.announced_port = running.open_listener(Mode.HTTP, proxied=True)
    return running


def engines_with(balance, backends, failing, fault, talks=CONVERSATIONS, **settings):
    """An engine for each call of `fault` that can fail, and what broke off while it did."""
    name, error, times = fault
    for number in numbers():
        running = started(balance, backends, **settings)
        with failing.of(name, error, first=number, times=times):
            broken = converse(running, talks)
            failed = failing.failed()
        if failed:
            yield running, broken
        running.finish()
        if not failed:
            assert number > 0, f"{name} is never called"
            return

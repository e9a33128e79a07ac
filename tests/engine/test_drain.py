"""A drain, from the last client that gets in to the last answer."""

import asyncio
import socket
import threading
from collections import Counter

import pytest

from fastlb.model.config import Mode
from fastlb.model.handshake import HANDSHAKE_S
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering, echo, gated
from support.waiting import wait_until

pytestmark = pytest.mark.unbatched

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOCAL = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
CLOSING_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def begin_drain(running, loop_thread, timeout_s=5):
    """A drain under way."""
    return asyncio.run_coroutine_threadsafe(running.engine.drain(timeout_s), loop_thread.loop)


def ask_anew_until_refused(port, seen):
    """Ask again and again on a new connection, and note what becomes of each that was accepted."""
    while True:
        with socket.socket() as sock:
            sock.settimeout(8)
            try:
                sock.connect(("127.0.0.1", port))
            except ConnectionRefusedError:
                return
            except OSError as error:
                seen[f"connect: {type(error).__name__}"] += 1
                return
            try:
                sock.sendall(CLOSING_GET)
                answer = b"".join(iter(lambda: sock.recv(4096), b""))
            except OSError as error:
                seen[type(error).__name__] += 1
            else:
                seen["answered" if answer.startswith(b"HTTP/1.1 200 OK\r\n") else repr(answer)] += 1


@pytest.mark.parametrize("round_", range(3))
def test_no_client_that_got_in_is_lost_in_a_drain(balance, backend, loop_thread, round_):
    """A listener that closes resets who waits in its queue and who is in the middle of the handshake:
    so new ones are held off first. Connect succeeded, the answer comes."""
    running = balance(backend(answering(OK)), workers=2)
    seen = Counter()
    crowd = [threading.Thread(target=ask_anew_until_refused, args=(running.port, seen)) for _ in range(8)]
    for member in crowd:
        member.start()
    wait_until(lambda: seen["answered"] > 50 + 10 * round_, "traffic")
    drained = begin_drain(running, loop_thread)
    for member in crowd:
        member.join(10)

    assert drained.result(8) is True
    assert set(seen) == {"answered"}


def test_answers_say_close_as_soon_as_the_drain_begins(balance, backend, loop_thread):
    """Also on a connection that was promised to stay: its next request is its last."""
    running = balance(backend(answering(OK)))
    client = running.connect()
    client.send(GET)
    assert client.response().value(b"Connection") is None
    drained = begin_drain(running, loop_thread)

    def last_answer():
        client.send(GET)
        answer = client.response()
        return answer if answer.value(b"Connection") == b"close" else None

    assert wait_until(last_answer, "an answer that says close").body == b"ok"
    assert client.ending() == "fin"
    client.close()
    assert drained.result(5) is True


def test_request_that_meets_the_end_of_its_connection_sees_no_reset(balance, backend, loop_thread):
    """One that lies in the kernel already is answered; one that comes behind our FIN finds a clean
    end, after which a client may ask again (RFC 9112 9.5)."""
    running = balance(backend(answering(OK)))
    clients = [running.connect() for _ in range(50)]
    for client in clients:
        client.send(GET)
        client.response()

    async def send_and_drain():
        await asyncio.sleep(HANDSHAKE_S)  # then it closes idle connections
        for client in clients:
            client.send(GET)

    drained = begin_drain(running, loop_thread)
    asyncio.run_coroutine_threadsafe(send_and_drain(), loop_thread.loop).result(5)
    answers = [client.rest() for client in clients]
    for client in clients:
        client.close()

    assert drained.result(5) is True
    assert all(answer == b"" or answer.endswith(b"\r\n\r\nok") for answer in answers)


def test_response_that_began_before_the_drain_ends_and_then_the_connection(balance, backend, loop_thread):
    """Its head said nothing of close; there may be one more request, and then the connection ends
    long before its idle time-out."""
    gate = threading.Event()

    def script(link):
        if link.number < 2:
            link.request()
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            assert gate.wait(8)
            link.send(b"cd")
        while link.request():
            link.send(OK)

    running = balance(backend(script))
    asking, silent = running.connect(), running.connect()
    for client in (asking, silent):
        client.send(GET)
        client.response_head()
        client.exactly(2)
    drained = begin_drain(running, loop_thread, 10)
    wait_until(lambda: refuses(running.port), "the listener closed")
    gate.set()
    assert [asking.exactly(2), silent.exactly(2)] == [b"cd", b"cd"]
    asking.send(GET)
    answer = asking.response()

    assert (answer.body, answer.value(b"Connection"), asking.ending()) == (b"ok", b"close", "fin")
    assert silent.ending() == "fin"
    asking.close()
    silent.close()
    assert drained.result(10) is True


def refuses(port):
    """True if nobody listens there any more."""
    with socket.socket() as sock:
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return False


def test_clients_that_wait_for_room_are_served_in_a_drain(balance, backend, loop_thread):
    """At the connection limit the accept queue is full of people who were let in: they get their
    turn as others leave."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), limits=LimitConfig(connections=2))
    clients = [running.connect() for _ in range(6)]
    for client in clients:
        client.send(CLOSING_GET)
    running.wait_in_flight(2)
    drained = begin_drain(running, loop_thread, 8)
    gate.set()

    for client in clients:
        assert client.response().body == b"ok"
        client.close()
    assert drained.result(8) is True


@pytest.mark.parametrize("count", [0, 3])
def test_clients_that_wait_when_the_listener_may_close_are_served_as_others_leave(
    balance, backend, loop_thread, count
):
    """The drain has taken from the queue what it had room for, which is nobody; it must look again,
    also if nobody is there."""
    gate = threading.Event()
    running = balance(backend(gated(gate)), limits=LimitConfig(connections=2))
    held, idle = running.connect(), running.connect()
    idle.send(LOCAL)
    assert idle.response().status == 200
    held.send(CLOSING_GET)
    running.wait_in_flight(1)
    waiting = [running.connect() for _ in range(count)]
    for client in waiting:
        client.send(CLOSING_GET)
    drained = begin_drain(running, loop_thread, 8)
    assert idle.ending() == "fin"  # idle connections close when the queue has been looked at
    assert not drained.done()
    idle.close()
    gate.set()

    for client in (held, *waiting):
        assert client.response().body == b"ok"
        client.close()
    assert drained.result(8) is True


def test_open_sessions_hold_a_drain_until_its_time_is_over(balance, backend):
    """TCP sessions know no last answer."""
    running = balance(backend(echo), mode=Mode.TCP)
    client = running.connect()
    client.send(b"x")
    client.exactly(1)

    assert running.drain(0.3) is False
    client.send(b"y")
    assert client.exactly(1) == b"y"
    running.stop()
    assert client.ending() == "rst"


def test_port_is_free_when_the_drain_has_ended(balance, backend):
    """A successor binds it while the last exchanges still run."""
    running = balance(backend(answering(OK)))
    running.drain(5)
    with socket.socket() as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", running.port))

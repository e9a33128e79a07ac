"""Small messages of one turn reach the kernel together in the native engine, and nobody can tell."""

import importlib
import socket
import threading

import pytest

from fastlb.model.config import Mode
from fastlb.model.errors import ConfigError
from support.backend import OK, answering
from support.balance import listen_socket
from support.leaks import open_fds
from support.waiting import wait_until

CLIENTS = 40
PIPELINES = 8
REQUESTS = 300
BODY_BYTES = 1800


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Every turn sends in a batch, however few events it has."""
    monkeypatch.setenv("FASTLB_IO_URING", "always")


def get(target):
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target


def echoing(link):
    """Answer with the target, in a body of BODY_BYTES."""
    while (request := link.request()) is not None:
        body = request.start.split(b" ")[1].ljust(BODY_BYTES, b".")
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)


def released_together(gate, waiting):
    """Hold each request until all have come, then answer them at once."""

    def script(link):
        while (request := link.request()) is not None:
            waiting.append(link)
            assert gate.wait(8)
            body = request.start.split(b" ")[1]
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)

    return script


def answered_together(balance, backend):
    """CLIENTS that have asked, each for its number, at the moment when all answers are sent."""
    gate, waiting = threading.Event(), []
    running = balance(backend(released_together(gate, waiting)))
    clients = [running.connect() for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        client.send(get(b"/%d" % number))
    wait_until(lambda: len(waiting) == CLIENTS, "all requests at the backend")
    gate.set()
    return running, clients


def rings():
    """How many io_urings this process has open."""
    return sum("io_uring" in what for what in open_fds().values())


def test_answers_that_come_together_reach_their_own_clients(balance, backend):
    """One turn, many exchanges."""
    running, clients = answered_together(balance, backend)

    assert [client.response().body for client in clients] == [b"/%d" % number for number in range(CLIENTS)]
    running.wait_idle()
    assert [line["code"] for line in running.lines(CLIENTS)] == ["--"] * CLIENTS


def test_answers_wait_in_order_for_clients_that_do_not_read(balance, backend, loop_thread):
    """The kernel takes a part of a batched message, or nothing, and the rest goes out later."""
    running = balance(backend(echoing))
    with listen_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what it accepts has it too
        loop_thread.call(lambda: running.engine.open_listener(sock, Mode.HTTP))
        port = sock.getsockname()[1]
    clients = [running.connect(port, receive_buffer_bytes=4096) for _ in range(PIPELINES)]
    senders = [
        threading.Thread(target=client.send, args=[get(b"/%d" % number) for number in range(REQUESTS)])
        for client in clients
    ]
    for sender in senders:
        sender.start()
    wait_until(lambda: running.ledger().exchanges >= PIPELINES, "answers on their way")

    for client in clients:
        for number in range(REQUESTS):
            assert client.response().body.rstrip(b".") == b"/%d" % number
    for sender in senders:
        sender.join()
    running.wait_idle()


def test_clients_that_leave_with_answers_on_their_way_disturb_nobody(balance, backend):
    """Half of them reset while all answers are sent."""
    running, clients = answered_together(balance, backend)
    for client in clients[::2]:
        client.reset()

    for number in range(1, CLIENTS, 2):
        assert clients[number].response().body == b"/%d" % number
    running.wait_idle()
    assert running.ledger().exchanges == CLIENTS


def test_sessions_keep_their_bytes_apart(balance, backend):
    """TCP mode: what was received goes out before the FIN behind it."""

    def echo(link):
        link.send(link.rest())

    running = balance(backend(echo), mode=Mode.TCP)
    clients = [running.connect() for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        client.send(b"hello %d" % number)
    for client in clients:
        client.shut()

    assert [client.rest() for client in clients] == [b"hello %d" % number for number in range(CLIENTS)]
    running.wait_idle()


def test_each_worker_of_the_native_engine_has_a_ring(balance, backend, engine):
    """Where the machine allows it; the loop of the control plane may have its own."""
    if engine.name == "native" and importlib.import_module("fastlb.native.engine").io_uring_error():
        pytest.skip("no io_uring here: fastlb doctor says why")
    before = rings()
    balance(backend(answering(OK)), workers=2)

    assert rings() - before == (2 if engine.name == "native" else 0)


def test_last_words_of_a_backend_that_resets_arrive(balance, backend):
    """TCP mode: what was received before the reset is not kept for a turn that never ends."""

    def script(link):
        assert link.exactly(2) == b"hi"
        link.send(b"last words")
        link.reset()

    running = balance(backend(script), mode=Mode.TCP)
    client = running.connect()
    client.send(b"hi")

    assert client.exactly(10) == b"last words"
    assert client.ending() == "rst"
    running.wait_idle()


def test_batching_can_be_switched_off(balance, backend, monkeypatch):
    """For kernels and sandboxes that make trouble."""
    monkeypatch.setenv("FASTLB_IO_URING", "off")
    before = rings()
    running = balance(backend(answering(OK)))
    assert rings() == before

    client = running.connect()
    client.send(get(b"/"))
    assert client.response().status == 200


def test_choice_that_does_not_exist_is_refused(balance, backend, engine, monkeypatch):
    """The native engine reads it; the pure engine has no use for it."""
    monkeypatch.setenv("FASTLB_IO_URING", "yes")
    if engine.name == "pure":
        balance(backend(answering(OK)))
        return
    with pytest.raises(ConfigError, match="FASTLB_IO_URING: 'yes' is not one of auto, off, always"):
        balance(backend(answering(OK)))

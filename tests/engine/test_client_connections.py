"""`--max-client-connections`: one address may have so many connections, over all workers, and no more."""

import socket

import pytest

from fastlb.model.config import Mode
from fastlb.model.limits import LimitConfig
from support.backend import OK, answering
from support.waiting import wait_until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMIT = 3


def limited(balance, backend, **how):
    return balance(backend(answering(OK)), limits=LimitConfig(client_connections=LIMIT), **how)


def asked(client):
    client.send(GET)
    return client.response().status


def is_reset(client):
    """True if it ends without an answer."""
    try:
        client.send(GET)
        return client.sock.recv(1) == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


def connect_from(running, source, port):
    sock = socket.socket()
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    return running.adopt(sock)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("workers", [1, 3])
def test_connection_above_the_limit_of_its_address_is_reset(balance, backend, mode, workers):
    """Those that it has go on, and those of others are let in."""
    running = limited(balance, backend, workers=workers)
    port = running.open_listener(mode, spread=True)
    clients = [running.connect(port) for _ in range(LIMIT)]
    assert [asked(client) for client in clients] == [200] * LIMIT

    assert all(is_reset(running.connect(port)) for _ in range(LIMIT))
    assert [asked(client) for client in clients] == [200] * LIMIT
    assert asked(connect_from(running, "127.0.0.2", port)) == 200
    assert running.ledger().clients_refused == LIMIT


def test_place_is_free_again_when_a_connection_has_ended(balance, backend):
    """However often: nothing is left of those that were refused, or served."""
    running = limited(balance, backend)
    for _ in range(3):
        clients = [running.connect() for _ in range(LIMIT)]
        assert [asked(client) for client in clients] == [200] * LIMIT
        assert is_reset(running.connect())
        for client in clients:
            client.close()
        wait_until(lambda: running.ledger().clients == 0, "everybody gone")


def test_announced_client_counts_and_its_proxy_does_not(balance, backend):
    """Behind a proxy all connections come from one address."""
    running = limited(balance, backend, proxied=True, trusted=["127.0.0.1"])

    def announced(source):
        client = running.connect()
        client.send(b"PROXY TCP4 %b 192.0.2.9 4000 80\r\n" % source)
        return client

    clients = [announced(b"192.0.2.%d" % (n % 2)) for n in range(2 * LIMIT)]
    assert [asked(client) for client in clients] == [200] * 2 * LIMIT
    assert is_reset(announced(b"192.0.2.1"))
    assert asked(announced(b"192.0.2.3")) == 200


def test_networks_of_ipv6_count_as_one_client(balance, backend):
    """Whoever has an address has the 2**64 of its network."""
    running = limited(balance, backend, proxied=True, trusted=["127.0.0.1"])

    def announced(source):
        client = running.connect()
        client.send(b"PROXY TCP6 %b 2001:db8::1 4000 80\r\n" % source)
        return client

    clients = [announced(b"2001:db8:0:1::%d" % n) for n in range(1, 1 + LIMIT)]
    assert [asked(client) for client in clients] == [200] * LIMIT
    assert is_reset(announced(b"2001:db8:0:1:ffff::1"))
    assert asked(announced(b"2001:db8:0:2::1")) == 200

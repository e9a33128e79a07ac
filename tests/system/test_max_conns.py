"""A server that accepts so many connections and no more, behind more workers than one."""

import socket
import threading
from collections import Counter

import pytest

from support.serving import free_port, node_missing, node_server
from support.wire import Wire

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
ACCEPTED = 4
MAX_CONNS = 3
CLIENTS = 16
POSTS = 30
# It destroys what is above its limit, and answers after a moment, so that requests meet.
SERVER = """
const server = require('http').createServer((request, response) => {
  request.resume().on('end', () => setTimeout(() => response.end('ok'), 1));
});
server.maxConnections = %d;
server.listen(%d, '127.0.0.1');
"""


@pytest.fixture
def node():
    """Node's http server with a limit on connections."""
    if reason := node_missing():
        pytest.skip(reason)
    port = free_port()
    server = node_server(SERVER % (ACCEPTED, port), port)
    yield server
    server.end()


def test_no_request_meets_a_server_that_has_enough_connections(node, fastlb):
    """A POST that was sent is not sent again, so each connection too many is a 502."""
    running = fastlb(f"127.0.0.1:{node.port},max_conns={MAX_CONNS}", flags=("--workers", "2", "--no-check"))
    clients = [Wire(socket.create_connection(("127.0.0.1", running.port))) for _ in range(CLIENTS)]
    statuses = Counter()

    def ask(client):
        for _ in range(POSTS):
            client.send(POST)
            statuses[client.response().status] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    print(f"{CLIENTS * POSTS} requests, {ACCEPTED} connections accepted: {dict(statuses)}")  # noqa: T201

    assert statuses == {200: CLIENTS * POSTS}

"""io_uring is a help, not a need: containers forbid it."""

import http.client
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support import forbidding
from support.serving import one_write_app

CLIENTS = 20
REQUESTS = 50


# Python as a program that gets no io_uring.
FORBIDDEN = (sys.executable, str(Path(forbidding.__file__)), sys.executable)


def test_doctor_says_that_it_is_forbidden(engine):
    """And what that costs."""
    if engine.name == "pure":
        pytest.skip("the pure engine has no use for it")
    done = subprocess.run([*FORBIDDEN, "-m", "fastlb", "doctor"], capture_output=True, text=True, timeout=20)

    line = next(line for line in done.stdout.splitlines() if line.split()[1] == "io_uring")
    assert line.startswith("note io_uring       Operation not permitted -- ")
    assert done.returncode == 0


def test_traffic_flows_without_it(fastlb):
    """Each send is a call of its own then."""
    server = one_write_app()
    running = fastlb(server.port, python=FORBIDDEN)
    statuses = []

    def client():
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=8)
        for _ in range(REQUESTS):
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    server.end()
    assert statuses == [200] * CLIENTS * REQUESTS

"""What `make bench` starts besides the peers is there and works; the peers need not be installed here."""

import shutil

import pytest

from support.backend import Backend

launch = pytest.importorskip("benchmarks.launch", reason="the benchmarks are not beside the tests")
from benchmarks.peers.fastlb import Fastlb  # noqa: E402 - there, then
from benchmarks.peers.floor import Floor  # noqa: E402
from benchmarks.work import Work  # noqa: E402


def closing(link):
    """Answer one request."""
    if link.request() is not None:
        link.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("kind", ["fastlb", "floor"])
@pytest.mark.parametrize("http", [True, False])
def test_program_of_the_benchmark_serves(engine, tmp_path, kind, http):
    """It is started from what is in the repository, and answers."""
    if kind == "floor" and (engine.name == "pure" or not shutil.which("cc")):
        pytest.skip("it is compiled, once")
    backends = [Backend(closing) for _ in range(3)]
    port = launch.free_port()
    command = (Floor() if kind == "floor" else Fastlb(engine.name)).command(
        Work(http=http, port=port, backends=tuple(backend.address.port for backend in backends)), tmp_path
    )
    try:
        with launch.running(command, cpu=0, run_dir=tmp_path, name=kind) as pid:
            launch.wait_until_serving(port, pid, errors=tmp_path / f"{kind}.stderr")
            assert launch.ask(port, "/").endswith("\r\n\r\nok")
    finally:
        for backend in backends:
            backend.close()

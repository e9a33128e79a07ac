"""The pure engine's listener alone: what a kernel or a stop may do to it at a bad moment."""

import asyncio
import contextlib
import errno
import socket

import fastlb.pure.listener as room
from fastlb.model.config import EngineConfig, Mode
from fastlb.pure.listener import Listener
from fastlb.pure.worker import Worker


class Listening(socket.socket):
    """A listening socket whose accept() fails first with `faults`, and whose options are noted."""

    def __init__(self, *faults: int) -> None:
        super().__init__()
        self.faults, self.options = list(faults), []
        self.bind(("127.0.0.1", 0))
        self.listen()

    def accept(self):
        if self.faults:
            raise OSError(self.faults.pop(0), "")
        return super().accept()

    def setsockopt(self, *option):
        self.options.append(option)
        super().setsockopt(*option)


def run(work, *faults: int, mode: Mode = Mode.TCP) -> None:
    """Run `work(listener, worker, sock)` with a client that waits in the accept queue."""

    async def main():
        worker = Worker(asyncio.get_running_loop(), EngineConfig())
        sock = Listening(*faults)
        listener = Listener(worker, sock, mode, False)
        with socket.create_connection(sock.getsockname()) as client:
            await work(listener, worker, sock)
            await listener.stop()
            worker.kill()
            await worker.wait_closed()
            client.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""

    asyncio.run(main())


def test_client_that_has_gone_is_passed_over():
    """accept(2): its error is told in the place of a connection, and others wait behind it."""

    async def work(listener, worker, sock):
        assert listener.emptied()
        assert listener.emptied()
        assert (sock.faults, worker.accounts.accepted) == ([], 1)
        await asyncio.sleep(0.01)

    run(work, errno.ECONNABORTED)


def test_stop_in_the_turn_of_an_accept_leaves_nothing():
    """The connection has no transport yet, and nobody else would close it."""

    async def work(listener, worker, sock):
        assert listener.emptied()
        assert len(worker.clients) == 1
        await listener.stop()
        assert not worker.clients

    for mode in Mode:
        run(work, mode=mode)


def test_stop_while_out_of_descriptors_tries_no_more():
    """The next try was due in a moment."""

    async def work(listener, worker, sock):
        assert not listener.emptied()
        listener.close()
        await asyncio.sleep(2 * room._PAUSE_S)
        assert (listener.closed, worker.accounts.accepted) == (True, 0)

    run(work, errno.EMFILE)


def test_system_without_the_filter_drains_without_it(monkeypatch):
    """The option is Linux's; another system may use its number for something else."""

    async def work(listener, worker, sock):
        monkeypatch.setattr(room.sys, "platform", "darwin")
        listener.deafen()
        elsewhere = list(sock.options)
        monkeypatch.undo()
        listener.deafen()
        assert (elsewhere, len(sock.options)) == ([], 1)

    run(work)

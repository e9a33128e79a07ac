"""Backends that do exactly what a test says, at each phase of a connection."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastlb.model.address import Address, socket_address
from support.waiting import PATIENCE_S, wait_until
from support.wire import TruncatedError, Wire

# The kernel chooses one of five digits.
_LISTENER_PORT = re.compile(rb"X-Forwarded-Port: [0-9]{5}\r\n")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Link(Wire):
    """One accepted connection. `number` counts from 0 within its backend."""

    number: int = 0


Script = Callable[[Link], None]


class Backend:
    """A server on 127.0.0.1 (or a UNIX path) that runs `script` in a thread for each connection.

    The connection is closed when the script returns. A script may end early because its peer
    has gone; any other error fails the test in `close`.
    """

    def __init__(
        self, script: Script, *, path: str = "", host: str = "127.0.0.1", receive_buffer_bytes: int = 0
    ) -> None:
        self.links: list[Link] = []
        self.errors: list[BaseException] = []
        self._script = script
        self._threads: list[threading.Thread] = []
        if path:
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(path)
            self.address = Address(path=path)
        else:
            family, name = socket_address(Address(host=host))
            self._listening = socket.socket(family)
            if receive_buffer_bytes:  # what accept() returns has it too, on Linux
                self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            self._listening.bind(name)
            self.address = Address(host=host, port=self._listening.getsockname()[1])
        self._listening.listen(1024)
        self._acceptor = threading.Thread(target=self._accept, name="backend-accept", daemon=True)
        self._acceptor.start()

    @property
    def label(self) -> str:
        """The name that access lines use."""
        return str(self.address)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            link = Link(sock)
            link.number = len(self.links)
            self.links.append(link)
            thread = threading.Thread(target=self._run, args=(link,), name="backend-link", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, link: Link) -> None:
        try:
            self._script(link)
        except (OSError, TruncatedError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            link.close()

    def link(self, number: int = 0) -> Link:
        """The connection of that number, waited for."""
        wait_until(lambda: len(self.links) > number, f"connection {number} to {self.label}")
        return self.links[number]

    def refuse(self) -> None:
        """Stop listening; the connections there are go on."""
        self._listening.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening, end every connection, join every thread, raise what a script raised."""
        with _quiet():
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._acceptor.join(PATIENCE_S)
        for link in self.links:
            with _quiet():
                link.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a backend script does not end"
        if self.errors:
            raise self.errors[0]


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def answering(*responses: bytes) -> Script:
    """Answer the n-th request of each connection with the n-th response, then go on with the last."""

    def script(link: Link) -> None:
        count = 0
        while link.request() is not None:
            link.send(responses[min(count, len(responses) - 1)])
            count += 1

    return script


def without_port(head: bytes) -> bytes:
    """The head of a request without what the kernel chose for the test: the port of the listener."""
    return _LISTENER_PORT.sub(b"", head)


def recording(into: list[bytes], response: bytes = OK) -> Script:
    """Answer every request and keep its head, without the port of the listener."""

    def script(link: Link) -> None:
        while (request := link.request()) is not None:
            into.append(without_port(request.head))
            link.send(response)

    return script


def gated(gate: threading.Event, response: bytes = OK) -> Script:
    """Read requests at once, answer only once the gate is open."""

    def script(link: Link) -> None:
        while link.request() is not None:
            assert gate.wait(PATIENCE_S), "the gate was never opened"
            link.send(response)

    return script


def silent(link: Link) -> None:
    """Read everything and never say a word."""
    link.rest()


def echo(link: Link) -> None:
    """Send back what comes, and FIN after FIN."""
    while link.more():
        link.send(link.exactly(len(link.unread)))


@contextmanager
def refused_address() -> Iterator[Address]:
    """An address nobody listens on: bound, so that no one else can take it, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield Address(host="127.0.0.1", port=sock.getsockname()[1])


@contextmanager
def unanswered_address() -> Iterator[Address]:
    """An address that drops every SYN: Linux does so while the accept queue is full (listen(2))."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listening.getsockname())
            yield Address(host="127.0.0.1", port=listening.getsockname()[1])
        finally:
            for filler in fillers:
                filler.close()

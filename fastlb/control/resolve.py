"""From host names to numeric addresses, in threads of our own.

getaddrinfo() blocks, cannot be cancelled, and waits for seconds where a server of names is silent. It
runs in daemon threads, a few at once, so that neither a start nor a stop nor the end of the interpreter
waits for one: asyncio's own executor is joined when its loop ends.
"""

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fastlb.model.address import Address, from_socket, socket_address
from fastlb.model.errors import StartError

# Look-ups under way at once. One that was given up keeps its thread until getaddrinfo() returns.
LOOKUPS_MAX = 16
# After that nobody waits for the answer; resolv.conf(5) itself says 5 s for each server and attempt.
TIMEOUT_S = 2.0
# What says that the question could not be asked, or not be answered now. Anything else is an answer.
_PASSING = frozenset({socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_SYSTEM})

Found = list[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]


class NoAnswerError(OSError):
    """Nobody said whether the name exists: it may be known later."""


@dataclass(slots=True, eq=False)
class _Question:
    host: str
    port: int
    answer: "asyncio.Future[Found]"


class Resolver:
    """Asks for host names. Belongs to one event loop."""

    def __init__(self, ask: Callable[..., Found] = socket.getaddrinfo) -> None:  # type: ignore[assignment]
        self._ask = ask
        self._running = 0
        self._waiting: deque[_Question] = deque()

    async def lookup(self, address: Address) -> tuple[Address, ...]:
        """Every numeric address of a host name, IPv4 before IPv6, each group as the system sorts it.

        IPv4 goes first because most application servers listen on 127.0.0.1 only, and `localhost` is
        both. A numeric or UNIX address comes back in its usual form, and an empty host, every local
        address, as it is.
        Raises: NoAnswerError without an answer in TIMEOUT_S; OSError (socket.gaierror) if there is no
        such name; OSError if there is no such interface.
        """
        if not address.host or (address.is_numeric and ":" not in address.host):
            return (address,)
        if address.is_numeric:
            return (from_socket(socket_address(address)[1]),)
        try:
            found = await self._answer(address.host, address.port)
        except UnicodeError as error:  # the name is encoded first (RFC 3490), `a..b` cannot be
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
        except socket.gaierror as error:
            if error.errno in _PASSING:
                raise NoAnswerError(error.errno, error.strerror) from error
            raise
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return tuple(dict.fromkeys(from_socket(entry[4]) for entry in found))

    async def _answer(self, host: str, port: int) -> Found:
        question = _Question(host, port, asyncio.get_running_loop().create_future())
        self._waiting.append(question)
        self._begin()
        try:
            await asyncio.wait({question.answer}, timeout=TIMEOUT_S)
            if not question.answer.done():
                raise NoAnswerError(socket.EAI_AGAIN, f"no answer from the resolver in {TIMEOUT_S:g}s")
            return question.answer.result()
        finally:
            question.answer.cancel()

    def _begin(self) -> None:
        while self._waiting and self._running < LOOKUPS_MAX:
            question = self._waiting.popleft()
            if question.answer.done():
                continue
            loop = question.answer.get_loop()
            thread = threading.Thread(
                target=self._work, args=(loop, question), name="fastlb-resolver", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no thread is to be had
                question.answer.set_exception(NoAnswerError(socket.EAI_MEMORY, str(error)))
            else:
                self._running += 1

    def _work(self, loop: asyncio.AbstractEventLoop, question: _Question) -> None:
        """The body of a thread."""
        found: Found = []
        error: Exception | None = None
        try:
            found = self._ask(question.host, question.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._answered, question, found, error)

    def _answered(self, question: _Question, found: Found, error: Exception | None) -> None:
        self._running -= 1
        if question.answer.done():
            pass
        elif error is not None:
            question.answer.set_exception(error)
        else:
            question.answer.set_result(found)
        self._begin()


async def resolve(resolver: Resolver, address: Address, flag: str) -> tuple[Address, ...]:
    """The numeric addresses of a flag's value; none if nobody answers for its name now.

    Raises: StartError that names `flag` if there is no such name or interface.
    """
    try:
        return await resolver.lookup(address)
    except NoAnswerError:
        return ()
    except OSError as error:
        raise StartError(f"{flag} {address}: {refusal(address, error)}") from error


def refusal(address: Address, error: OSError) -> str:
    """Why an address cannot be used."""
    if address.is_numeric:
        return f"no interface {address.host.partition('%')[2]!r} on this machine"
    return f"cannot resolve {address.host!r}: {(error.strerror or str(error)).lower()}"

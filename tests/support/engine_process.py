"""An engine in a process of its own, so that its memory and its descriptors can be told from those
of the test."""

import asyncio
import random
from multiprocessing.connection import Connection

from fastlb.model.address import Address
from fastlb.model.config import EngineConfig, LogFormat, Mode, TimeoutConfig
from fastlb.model.limits import LimitConfig
from fastlb.model.plan import Plan, PlanEntry
from support.balance import listen_socket
from support.engines import load
from support.leaks import open_fds, resident_bytes
from support.looping import new_loop, warm_up

# Short, because everything that can be waited for is waited for in vain now and then.
IMPATIENT = TimeoutConfig(
    connect_s=0.5,
    header_s=0.5,
    idle_s=1.0,
    keepalive_s=1.0,
    response_s=0.3,
    tunnel_s=0.5,
    fin_s=0.3,
    upstream_idle_s=0.5,
    queue_s=0.1,
)
MAX_CONNS = 12
QUEUE_DEPTH = 24
REPLAN_S = 0.25


class Host:
    """Answers questions about the engine, and changes its plan now and then."""

    def __init__(self, engine, slots: list[int], refused_slot: int, seed: int) -> None:
        self.engine = engine
        self.lines: list[bytes] = []
        self._slots = slots
        self._refused_slot = refused_slot
        self._random = random.Random(seed)
        self._emptied = False

    def take(self) -> None:
        """Keep what there is to take; a full ring would drop lines."""
        self.engine.take_events()
        self.lines.append(self.engine.take_access())

    def replan(self) -> None:
        """All backends, or one less, or one more that refuses; the weights change too."""
        if self._emptied:
            return
        slots = list(self._slots)
        what = self._random.random()
        if what < 0.3:
            slots.remove(self._random.choice(slots))
        elif what < 0.4:
            slots.append(self._refused_slot)
        self.publish(slots)

    def publish(self, slots: list[int]) -> None:
        """Use these backends from now on."""
        entries = tuple(
            PlanEntry(slot, self._random.randrange(1, 5), MAX_CONNS, conns_max=MAX_CONNS) for slot in slots
        )
        self.engine.publish(Plan(entries=entries))

    def answer(self, question: str):
        """What the test asks."""
        if question == "lines":
            self.take()
            lines, self.lines = self.lines, []
            return b"".join(lines)
        if question == "empty":
            self._emptied = True
            self.publish([])
            return None
        if question == "memory":
            return resident_bytes()
        return getattr(self.engine, question)()


async def _answer_questions(link: Connection, host: Host) -> None:
    """Until told to stop. Raises EOFError if nobody is left to ask."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(link.fileno(), asked.set)
    try:
        while True:
            try:
                await asyncio.wait_for(asked.wait(), REPLAN_S)
            except asyncio.TimeoutError:
                host.replan()
                continue
            asked.clear()
            while link.poll():
                question = link.recv()
                if question == "stop":
                    return
                link.send(host.answer(question))
    finally:
        loop.remove_reader(link.fileno())


def _open_listeners(engine) -> tuple[int, int]:
    """The ports for HTTP and for TCP."""
    ports = []
    for mode in (Mode.HTTP, Mode.TCP):
        with listen_socket() as sock:
            engine.open_listener(sock, mode)
            ports.append(sock.getsockname()[1])
    return ports[0], ports[1]


async def _serve(link: Connection, name: str, workers: int, seed: int, addresses: list[Address]) -> None:
    await warm_up()
    fds = open_fds()
    engine = load(name).Engine(
        EngineConfig(
            workers=workers,
            timeouts=IMPATIENT,
            limits=LimitConfig(queue_depth=QUEUE_DEPTH),
            access_format=LogFormat.JSON,
            seed=seed,
        )
    )
    slots = [engine.add_backend(address, str(address)) for address in addresses]
    host = Host(engine, slots[:-1], slots[-1], seed)
    await engine.start(host.take)
    try:
        host.publish(slots[:-1])
        link.send(_open_listeners(engine))
        await _answer_questions(link, host)
    finally:
        await engine.stop()
    link.send({fd: what for fd, what in open_fds().items() if fds.get(fd) != what})


def engine_process(
    link: Connection, name: str, loop_kind: str, workers: int, seed: int, addresses: list[Address]
) -> None:
    """Run an engine over `addresses`, of which the last refuses, until it is told to stop."""
    loop = new_loop(loop_kind)
    try:
        loop.run_until_complete(_serve(link, name, workers, seed, addresses))
    finally:
        loop.close()

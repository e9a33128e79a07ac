"""Clients and backends that leave at random phases; at the end every count is exact.

The suite runs some thousands on each engine. `make soak` goes on for minutes, says each minute how
it goes, and fails if the engine's memory grows after the warm-up.
"""

import multiprocessing
import statistics
import time
from collections import Counter
from contextlib import ExitStack

import orjson

from fastlb.model.address import Address
from support.backend import refused_address
from support.engine_process import engine_process
from support.moody import backends, clients
from support.waiting import wait_until

BACKENDS = 3
WORKERS = 2
CLIENT_PROCESSES = 2
AT_ONCE = 24
SERIALS_EACH = 1_000_000_000
LOGGED, ANSWERED = 1, 2
END_S = 15.0
LOOK_EVERY_S = 0.1
SAY_EVERY_S = 60.0
# What may come and go: pools that fill later than usual, the allocator's rounding.
GROWTH_MAX_BYTES = 8 * 1024 * 1024
# Shorter runs are all warm-up.
GROWTH_SEEN_S = 60.0
spawning = multiprocessing.get_context("spawn")


class Process:
    """A process with a pipe to it, which does not outlive the test."""

    def __init__(self, stack, function, *args):
        self.link, other = spawning.Pipe()
        self._process = spawning.Process(target=function, args=(other, *args), daemon=True)
        self._process.start()
        self.name = function.__name__
        other.close()
        stack.push(self.end)

    def ask(self, question):
        """Send, and return what comes back."""
        self.link.send(question)
        return self.answer()

    def answer(self):
        """What the process says next."""
        assert self.link.poll(END_S), f"{self.name} says nothing"
        return self.link.recv()

    def end(self, failure, *_):
        """Close the link, and the process ends by itself, unless the test has failed."""
        self.link.close()
        self._process.join(END_S if failure is None else 0)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        assert failure or self._process.exitcode == 0, f"{self.name} ended with {self._process.exitcode}"


class Books:
    """What was seen from outside. `marks` has a byte for each request of each client process."""

    def __init__(self):
        self.codes = Counter()
        self.lines = 0
        self.connects = 0
        self.marks = [bytearray() for _ in range(CLIENT_PROCESSES)]

    def mark(self, serial, bit):
        """Note that a request was LOGGED or ANSWERED. False if it was before."""
        client, number = divmod(serial, SERIALS_EACH)
        marks = self.marks[client]
        if number >= len(marks):
            marks.extend(bytes(number + 10_000 - len(marks)))
        was = marks[number]
        marks[number] |= bit
        return not was & bit

    def unlogged(self):
        """How many requests were answered and are in no access line."""
        return sum(marks.count(ANSWERED) for marks in self.marks)

    def read_lines(self, text):
        """Count the access lines: at most one for each request."""
        for line in text.splitlines():
            record = orjson.loads(line)
            self.lines += 1
            self.codes[record["code"]] += 1
            if record["target"] is not None:
                serial = int(record["target"].split("/")[1])
                assert self.mark(serial, LOGGED), f"two lines for one exchange: {record}"

    def read_reports(self, client):
        """Take what a client process has reported. True when it has said its last."""
        while client.link.poll():
            report = client.link.recv()
            if report is None:
                return True
            answered, wrong, connects = report
            assert not wrong, wrong[:5]
            for serial in answered:
                self.mark(serial, ANSWERED)
            self.connects += connects
        return False


class Soak:
    """One engine, its backends and its clients."""

    def __init__(self, stack, engine_name, loop_kind, seed, refused):
        self._serving = Process(stack, backends, BACKENDS)
        addresses = [Address(host="127.0.0.1", port=port) for port in self._serving.answer()]
        self.engine = Process(
            stack, engine_process, engine_name, loop_kind, WORKERS, seed, [*addresses, refused]
        )
        ports = self.engine.answer()
        self.listening = self.engine.ask("verify").taken
        self.clients = [
            Process(stack, clients, ports, n * SERIALS_EACH, seed + n, AT_ONCE)
            for n in range(CLIENT_PROCESSES)
        ]
        self.name = engine_name
        self.books = Books()
        self.memory = []
        self.ended = 0
        self._began_s = self._said_s = time.monotonic()

    def run(self, seconds, exchanges):
        """Look on at a steady pace until both are reached."""
        while self.ended < exchanges or time.monotonic() < self._began_s + seconds:
            time.sleep(LOOK_EVERY_S)
            self.look()

    def look(self):
        """One look at everything there is to see."""
        self.books.read_lines(self.engine.ask("lines"))
        for client in self.clients:
            assert not self.books.read_reports(client), "a client process has ended"
        seen = self.engine.ask("verify")
        assert seen.exact, seen
        self.memory.append(self.engine.ask("memory"))
        before, self.ended = self.ended, self.engine.ask("ledger").exchanges
        assert self.ended >= before
        if time.monotonic() - self._said_s >= SAY_EVERY_S:
            self._said_s = time.monotonic()
            self.say()

    def took_s(self):
        """How long the clients have been at it."""
        return time.monotonic() - self._began_s

    def say(self):
        """One line about how it goes."""
        took_s = self.took_s()
        mib = 1024 * 1024
        print(
            f"{self.name}: {took_s:.0f} s, {self.ended} exchanges, {self.ended / took_s:.0f}/s, "
            f"{self.memory[0] / mib:.1f} MiB at first, {self.memory[-1] / mib:.1f} MiB now",
            flush=True,
        )

    def leave(self):
        """Let the clients end, and wait until nothing is open."""
        for client in self.clients:
            client.link.send(None)
        for client in self.clients:
            wait_until(lambda c=client: self.books.read_reports(c), "last report", timeout_s=END_S)
        wait_until(lambda: self.engine.ask("ledger").clients == 0, "no client", timeout_s=END_S)
        self.engine.ask("empty")
        self.books.read_lines(self.engine.ask("lines"))

    def growth_bytes(self):
        """How much memory the last sixth has more than the sixth after the warm-up, a third."""
        part = len(self.memory) // 6
        early = self.memory[2 * part : 3 * part]
        return statistics.median(self.memory[-part:]) - statistics.median(early)


def check_end(soak):
    """Everything is given back, and every exchange is in the books once."""
    books, ledger = soak.books, soak.engine.ask("ledger")
    wait_until(lambda: soak.engine.ask("verify").taken == soak.listening, "all given back")
    seen = soak.engine.ask("verify")
    assert seen.exact
    assert (seen.counted, seen.exchanges) == ({}, 0)
    assert (ledger.queued, ledger.access_dropped) == (0, 0)
    assert ledger.accepted == books.connects
    assert ledger.exchanges == books.lines == sum(ledger.statuses)
    assert sum(backend.in_flight for backend in ledger.backends) == 0
    assert books.unlogged() == 0


def test_random_aborts_leave_every_count_exact(engine, request):
    """Zero in flight, nothing lost: no descriptor, slab entry, buffer, pipe, line or memory."""
    options = request.config.option
    with ExitStack() as stack:
        refused = stack.enter_context(refused_address())
        soak = Soak(stack, engine.name, options.loop, options.soak_seed, refused)
        soak.run(options.soak_seconds, options.soak_exchanges)
        soak.leave()
        check_end(soak)
        soak.say()
        print(dict(soak.books.codes.most_common()))
        if soak.took_s() >= GROWTH_SEEN_S:
            assert soak.growth_bytes() < GROWTH_MAX_BYTES
        assert soak.engine.ask("stop") == {}, "descriptors were left open"

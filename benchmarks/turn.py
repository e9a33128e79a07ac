"""One balancer: start it, see that it does the work, warm it up; load it and measure, a turn at a time."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import churn, idle, load, measure
from benchmarks.launch import LaunchError, ask, free_port, last_line, running, wait_until_serving
from benchmarks.origin import BACKENDS, SEEN_BODY, SEEN_PATH, origin
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.fastlb import Fastlb
from benchmarks.peers.floor import Floor
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.starlette_httpx import StarletteHttpx
from benchmarks.scenarios import CHURN_BACKENDS, DIRECT, FLOOR, IdleScenario, Scenario
from benchmarks.work import Peer, Work

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (Fastlb("native"), Fastlb("pure"), HAProxy(), Nginx(), Envoy(), StarletteHttpx(), Floor())
}
_WARM_S = 0.4
# Between two turns of its own it was idle for some seconds.
_RAMP_S = 0.2
_WARM_TURNS = 8
_WARM_ANSWERS = 4
# With random picks the chance that one of three backends is missed in 60 is 1e-10.
_SEEN_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One turn of one balancer under one load. `cpu_us`: of its process tree, per request.

    `machine_us`: of the whole machine, per request, the direct turn not yet subtracted.
    `foreign`: share of the machine's CPU that went to programs outside the benchmark.
    """

    balancer: str
    cpu_us: float
    machine_us: float
    requests_per_s: float
    p50_us: int
    p99_us: int
    requests: int
    errors: int
    foreign: float


@dataclass(slots=True, kw_only=True)
class Contender:
    """A balancer that runs and does the work; with pid 0 it is the origin alone.

    `answered`: requests of loads so far. `logged`: access-log lines per request, known once it has
    ended, None if no log was asked for.
    """

    name: str
    port: int
    pid: int = 0
    answered: int = 0
    logged: float | None = None


class Bench:
    """The place where programs are started: two CPUs, a directory, the origin."""

    def __init__(self, run_dir: Path, cpus: tuple[int, int]) -> None:
        self.run_dir = run_dir
        self.balancer_cpu, self.load_cpu = cpus
        self.backends: tuple[int, ...] = ()
        self.origin_pid = 0

    @contextlib.contextmanager
    def serving_origin(self) -> Iterator[None]:
        """The origin, for as long as the block runs."""
        command, self.backends = origin(self.run_dir)
        with running(command, cpu=self.load_cpu, run_dir=self.run_dir, name="origin") as self.origin_pid:
            for port in self.backends:
                wait_until_serving(port, self.origin_pid, errors=self.run_dir / "origin.stderr")
            yield

    @contextlib.contextmanager
    def serving(
        self, name: str, *, http: bool, bulk: bool = False, access_log: bool = False
    ) -> Iterator[Contender]:
        """A balancer, seen to use all backends."""
        with tempfile.TemporaryDirectory(dir=self.run_dir) as own:
            own_dir = Path(own)
            log = own_dir / "access.log" if access_log else None
            work = Work(http=http, port=free_port(), backends=self.backends, bulk=bulk, access_log=log)
            command = PEERS[name].command(work, own_dir)
            with running(command, cpu=self.balancer_cpu, run_dir=own_dir, name="balancer") as pid:
                wait_until_serving(work.port, pid, errors=own_dir / "balancer.stderr")
                contender = Contender(name=name, port=work.port, pid=pid)
                try:
                    _verify_equal_work(name, work)
                    yield contender
                except LaunchError as error:
                    raise LaunchError(f"{error}; {last_line(own_dir / 'balancer.stderr')}") from error
            if log and contender.answered:  # it has ended, so all is written
                contender.logged = _lines(log) / contender.answered

    @contextlib.contextmanager
    def contender(self, scenario: Scenario, name: str) -> Iterator[Contender]:
        """A balancer that is warm for this load. Raises: LaunchError if it does not do the work."""
        if name == DIRECT:
            yield Contender(name=name, port=self.backends[0])
            return
        with self.serving(
            name, http=scenario.http, bulk=scenario.bulk, access_log=scenario.access_log
        ) as contender:
            self._warm(scenario, contender)
            yield contender

    def turn(self, scenario: Scenario, contender: Contender, seconds: float) -> Sample:
        """One balancer under one load. Raises: LaunchError if it answers nothing."""
        pid = contender.pid
        self._load(scenario, contender, _RAMP_S)
        cpu_before = measure.cpu(pid) if pid else None
        origin_before = measure.cpu(self.origin_pid)
        machine_before_ns = measure.machine_busy_ns()
        result = self._load(scenario, contender, seconds)
        machine_ns = measure.machine_busy_ns() - machine_before_ns
        origin_ns = measure.cpu_between_ns(origin_before, measure.cpu(self.origin_pid))
        cpu_ns = measure.cpu_between_ns(cpu_before, measure.cpu(pid)) if pid and cpu_before else 0
        if not result.requests:
            raise LaunchError(
                f"{contender.name}: no request was answered under {scenario.key}: {result.errors}"
            )
        ours_ns = cpu_ns + origin_ns + result.cpu_ns
        return Sample(
            balancer=contender.name,
            cpu_us=cpu_ns / result.requests / 1e3,
            machine_us=machine_ns / result.requests / 1e3,
            requests_per_s=result.requests_per_s,
            p50_us=result.p50_us,
            p99_us=result.p99_us,
            requests=result.requests,
            errors=sum(result.errors.values()),
            foreign=max(0.0, 1 - ours_ns / machine_ns) if machine_ns else 0.0,
        )

    def _warm(self, scenario: Scenario, contender: Contender) -> None:
        """Load until each connection has had a few answers, so that a slow peer is as warm as a fast one."""
        for _ in range(_WARM_TURNS):
            self._load(scenario, contender, _WARM_S)
            if contender.answered >= _WARM_ANSWERS * scenario.connections:
                break

    def _load(self, scenario: Scenario, contender: Contender, seconds: float) -> load.LoadResult:
        result = load.wrk(
            contender.port,
            scenario.path,
            connections=scenario.connections,
            seconds=seconds,
            new_connections=scenario.new_connections,
            cpu=self.load_cpu,
        )
        contender.answered += result.requests
        return result

    def idle_bytes(self, scenario: IdleScenario, name: str) -> float:
        """Memory of one balancer per idle client."""
        with self.serving(name, http=scenario.http) as contender:
            return idle.bytes_per_client(contender.port, contender.pid, scenario.clients)

    def churn_ns(self, rounds: int) -> dict[int, float]:
        """Acquire and release on the balancer's CPU, by number of backends."""
        return churn.measured(CHURN_BACKENDS, rounds=rounds, cpu=self.balancer_cpu)


def _verify_equal_work(name: str, work: Work) -> None:
    """Raise LaunchError unless all backends are used and, in HTTP mode, the client is passed on.

    The floor passes on bytes as they are.
    """
    used: set[str] = set()
    for _ in range(_SEEN_TRIES):
        answer = ask(work.port, SEEN_PATH)
        seen = SEEN_BODY.search(answer)
        if not seen:
            raise LaunchError(f"{name} answered {answer[:80]!r}")
        # Envoy names the host's own address for a client on the loopback device.
        if work.http and name != FLOOR and not seen["forwarded_for"]:
            raise LaunchError(f"{name} passed on no X-Forwarded-For")
        used.add(seen["port"])
        if len(used) == BACKENDS:
            return
    raise LaunchError(f"{name} used only {sorted(used)} of {BACKENDS} backends")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))

"""The order of a run: for each load every balancer in turn, in rounds; then memory, then the heap."""

import contextlib
import itertools
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks import machine
from benchmarks.launch import LaunchError
from benchmarks.results import Results
from benchmarks.scenarios import CHURN, IDLES, LOADS, NATIVE, Scenario
from benchmarks.turn import PEERS, Bench, Contender

_CHURN_ROUNDS = 300_000


def run(results: Results, keys: frozenset[str], *, rounds: int, seconds: float, run_dir: Path) -> None:
    """Fill `results`. What cannot run is named there; a turn that fails does not end the others."""
    bench = Bench(run_dir, machine.cpus())
    results.missing = _missing(keys)
    with bench.serving_origin():
        _loads(bench, results, keys, rounds, seconds)
        _idle(bench, results, keys)
    if CHURN in keys and NATIVE not in results.missing:
        _say("churn")
        try:
            results.churn_ns = bench.churn_ns(_CHURN_ROUNDS)
        except subprocess.SubprocessError as error:
            results.failures.append(f"churn: {_last_line(error)}")


def _missing(keys: frozenset[str]) -> dict[str, str]:
    wanted = {name for one in (*LOADS, *IDLES) if one.key in keys for name in one.balancers}
    if CHURN in keys:
        wanted.add(NATIVE)
    return {name: why for name, peer in PEERS.items() if name in wanted and (why := peer.missing())}


def _present(group: list[Scenario], results: Results) -> list[str]:
    """The first scenario of a group has every balancer of the others."""
    return [name for name in group[0].balancers if name not in results.missing]


def _loads(bench: Bench, results: Results, keys: frozenset[str], rounds: int, seconds: float) -> None:
    orders = random.Random(1)
    for group in _groups([one for one in LOADS if one.key in keys]):
        with contextlib.ExitStack() as stack:
            entries = [_started(bench, results, group, name, stack) for name in _present(group, results)]
            order = list(entries)
            for number in range(1, rounds + 1):
                _say(f"{', '.join(one.key for one in group)}: round {number} of {rounds}")
                orders.shuffle(order)
                for scenario, contender in itertools.chain(*order):
                    _turn(bench, results, scenario, contender, seconds)
        for scenario, contender in itertools.chain(*entries):
            if contender.logged is not None:
                results.logged.setdefault(scenario.key, {})[contender.name] = contender.logged


def _started(
    bench: Bench, results: Results, group: list[Scenario], name: str, stack: contextlib.ExitStack
) -> list[tuple[Scenario, Contender]]:
    """One balancer for each load of the group that it takes part in, started; their turns follow each
    other at once. One that does not start is left out; that, or an early end, is noted."""

    @contextlib.contextmanager
    def noting(scenario: Scenario) -> Iterator[None]:
        try:
            yield
        except LaunchError as error:
            results.failures.append(f"{scenario.key}, {name}: {error}")

    contenders = []
    for scenario in group:
        if name in scenario.balancers:
            _say(f"{scenario.key}: {name}")
            stack.enter_context(noting(scenario))
            with noting(scenario):
                contenders.append((scenario, stack.enter_context(bench.contender(scenario, name))))
    return contenders


def _groups(scenarios: Iterable[Scenario]) -> list[list[Scenario]]:
    """Each scenario with those that are measured beside it, turn by turn."""
    groups: dict[str, list[Scenario]] = {}
    for one in scenarios:
        groups.setdefault(one.beside if one.beside in groups else one.key, []).append(one)
    return list(groups.values())


def _turn(bench: Bench, results: Results, scenario: Scenario, contender: Contender, seconds: float) -> None:
    """One turn; one that fails leaves a gap, so that rounds stay aligned."""
    try:
        results.add(scenario.key, contender.name, bench.turn(scenario, contender, seconds))
    except LaunchError as error:
        results.add(scenario.key, contender.name, None)
        results.failures.append(f"{scenario.key}, {contender.name}: {error}")


def _idle(bench: Bench, results: Results, keys: frozenset[str]) -> None:
    for scenario in (one for one in IDLES if one.key in keys):
        found = results.idle_bytes.setdefault(scenario.key, {})
        for name in (one for one in scenario.balancers if one not in results.missing):
            _say(f"{scenario.key}: {name}")
            try:
                found[name] = bench.idle_bytes(scenario, name)
            except (LaunchError, OSError) as error:
                results.failures.append(f"{scenario.key}, {name}: {error}")


def _say(text: str) -> None:
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)


def _last_line(error: subprocess.SubprocessError) -> str:
    output = getattr(error, "stderr", None) or str(error)
    return output.strip().rpartition("\n")[2]

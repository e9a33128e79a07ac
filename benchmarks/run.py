"""The order of a run: every balancer in turn, A B C A B C, then memory, then the heap."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import machine
from benchmarks.launch import LaunchError
from benchmarks.results import Results
from benchmarks.scenarios import CHURN, IDLES, LOADS, NATIVE, Scenario
from benchmarks.turn import PEERS, Bench

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


def _present(names: Iterable[str], results: Results) -> list[str]:
    return [name for name in names if name not in results.missing]


def _loads(bench: Bench, results: Results, keys: frozenset[str], rounds: int, seconds: float) -> None:
    """Turns that are compared lie close together in time."""
    for group in _groups([one for one in LOADS if one.key in keys]):
        for number in range(1, rounds + 1):
            for name in _present(group[0].balancers, results):
                for scenario in group:
                    if name in scenario.balancers:
                        _say(f"{scenario.key}, round {number} of {rounds}: {name}")
                        _turn(bench, results, scenario, name, seconds)


def _groups(scenarios: Iterable[Scenario]) -> list[list[Scenario]]:
    """Each scenario with those that are measured beside it, turn by turn."""
    groups: dict[str, list[Scenario]] = {}
    for one in scenarios:
        groups.setdefault(one.beside if one.beside in groups else one.key, []).append(one)
    return list(groups.values())


def _turn(bench: Bench, results: Results, scenario: Scenario, name: str, seconds: float) -> None:
    """One turn; one that fails leaves a gap, so that rounds stay aligned."""
    try:
        results.add(scenario.key, name, bench.turn(scenario, name, seconds))
    except LaunchError as error:
        results.add(scenario.key, name, None)
        results.failures.append(f"{scenario.key}, {name}: {error}")


def _idle(bench: Bench, results: Results, keys: frozenset[str]) -> None:
    for scenario in (one for one in IDLES if one.key in keys):
        found = results.idle_bytes.setdefault(scenario.key, {})
        for name in _present(scenario.balancers, results):
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

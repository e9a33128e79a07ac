"""Nanoseconds of one acquire and its release: `python -m benchmarks.churn ROUNDS BACKENDS...`.

A process of its own, so that it runs on a CPU of its own; prints one JSON object.
"""

import json
import subprocess
import sys
import time

from benchmarks.machine import ROOT

_REPEATS = 5


def pair_ns(backends: int, rounds: int) -> float:
    """The fastest of some loops over a native heap of equal backends: noise only ever adds."""
    from fastlb.native.balancer import LeastLoaded

    heap = LeastLoaded(weights=[1] * backends)
    heap.churn(rounds // 10)
    spent_ns = []
    for _ in range(_REPEATS):
        start_ns = time.perf_counter_ns()
        heap.churn(rounds)
        spent_ns.append(time.perf_counter_ns() - start_ns)
    return min(spent_ns) / rounds


def measured(backends: tuple[int, ...], *, rounds: int, cpu: int) -> dict[int, float]:
    """Run this module on `cpu`. Raises: CalledProcessError with its error output."""
    pinned = ("taskset", "-c", str(cpu))
    output = subprocess.run(
        [*pinned, sys.executable, "-m", "benchmarks.churn", str(rounds), *map(str, backends)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    return {int(count): ns for count, ns in json.loads(output).items()}


def main() -> None:
    """For each number of backends given."""
    rounds, *backends = map(int, sys.argv[1:])
    json.dump({count: pair_ns(count, rounds) for count in backends}, sys.stdout)


if __name__ == "__main__":
    main()

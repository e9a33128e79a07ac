"""Side by side with real peers: `python -m benchmarks`. Writes results as JSON, Markdown and PNG."""

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from benchmarks import chart, load, machine, origin
from benchmarks.launch import LaunchError
from benchmarks.peers import nginx
from benchmarks.report import markdown
from benchmarks.results import Results
from benchmarks.run import run
from benchmarks.scenarios import KEYS, LOADS
from benchmarks.targets import verdicts
from benchmarks.turn import PEERS

_RESULTS = Path(__file__).with_name("results")
_CHART = machine.ROOT / "docs" / "bench.png"
_QUICK_ROUNDS, _QUICK_S = 1, 1.0
_FULL_ROUNDS, _FULL_S = 15, 0.6


def arguments() -> argparse.Namespace:
    """The command line."""
    keys_text = f"repeatable; one of {', '.join(KEYS)}"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--only", action="append", choices=KEYS, metavar="SCENARIO", help=keys_text)
    parser.add_argument("--rounds", type=_positive_int, help=f"turns of each (default {_FULL_ROUNDS})")
    parser.add_argument("--seconds", type=_seconds, help=f"length of one turn (default {_FULL_S:g})")
    return parser.parse_args()


def _positive_int(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.5 <= value <= 30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.5 to 30")
    return value


def main() -> int:
    """Run, print, write. 0 if all went well; 1 if a turn failed or fastlb is missing; 2 without tools."""
    options = arguments()
    lacking = load.missing() or nginx.missing()
    if lacking:
        print(f"benchmarks: the load or the origin is missing: {lacking}", file=sys.stderr)
        return 2
    machine.allow_descriptors()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    keys = frozenset(options.only or KEYS)
    complete = not options.only and not options.quick
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _FULL_ROUNDS)
    seconds = options.seconds or (_QUICK_S if options.quick else _FULL_S)
    results = Results(head=_head(rounds, seconds))
    started_s = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="fastlb-bench-") as run_dir:
            run(results, keys, rounds=rounds, seconds=seconds, run_dir=Path(run_dir))
    except LaunchError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; everything started was stopped, nothing was written", file=sys.stderr)
        return 130
    results.head["took"] = f"{time.monotonic() - started_s:.0f} s"
    _publish(results, keys, complete=complete)
    return 1 if results.failures or any(name.startswith("fastlb") for name in results.missing) else 0


def _head(rounds: int, seconds: float) -> dict[str, object]:
    plain = (peer for name, peer in PEERS.items() if " " not in name and not peer.missing())
    versions = [f"{peer.name} {peer.version()}" for peer in plain]
    return {
        "taken": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **machine.facts(),
        "versions": ", ".join(versions),
        "method": f"{rounds} rounds, {seconds:g} s a turn, {origin.BACKENDS} backends; medians",
    }


def _publish(results: Results, keys: frozenset[str], *, complete: bool) -> None:
    """A partial run never overwrites the figures of a complete one."""
    name = "latest" if complete else "partial"
    text = markdown(results, keys)
    (_RESULTS / f"{name}.md").write_text(text)
    values = {**results.as_json(), "verdicts": [asdict(one) for one in verdicts(results, keys)]}
    (_RESULTS / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
    print(text)
    picture = _CHART if complete else _RESULTS / "partial.png"
    if chart.missing():
        print(f"no chart: matplotlib is {chart.missing()}", file=sys.stderr)
    elif any(one.key in results.samples for one in LOADS):
        chart.draw(results, picture)


if __name__ == "__main__":
    sys.exit(main())

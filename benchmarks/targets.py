"""Holds the results against the targets: one verdict each, shortfalls first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.results import Results, Spread
from benchmarks.scenarios import (
    CHURN_TARGETS_NS,
    CHURN_TITLE,
    IDLE_TARGETS_BYTES,
    IDLES,
    LOADS,
    LOG_TARGET,
    NATIVE,
    PURE,
    PURE_TARGET,
    RATIO_TARGETS,
    STARLETTE,
)

_ORDER = {"SHORT": 0, "missing": 1, "pass": 2}
_TITLES = {one.key: one.title for one in (*LOADS, *IDLES)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target and what was measured. `mark`: SHORT, pass, or missing if nothing was."""

    work: str
    target: str
    measured: str
    mark: str


def verdicts(results: Results, keys: frozenset[str]) -> list[Verdict]:
    """One for each target of the scenarios that were asked for, shortfalls first."""
    found = [
        *_ratio_verdicts(results, keys),
        *_log_verdicts(results, keys),
        *_idle_verdicts(results, keys),
        *_churn_verdicts(results, keys),
        *_pure_verdicts(results, keys),
    ]
    return sorted(found, key=lambda one: _ORDER[one.mark])


def _ratio_verdicts(results: Results, keys: frozenset[str]) -> Iterator[Verdict]:
    for target in RATIO_TARGETS:
        if target.key in keys:
            spread = Spread.of(results.ratios(target.key, NATIVE, target.peer))
            yield Verdict(
                work=_TITLES[target.key],
                target=f"at most {target.at_most:.2f} of {target.peer}",
                measured=ratio_text(spread),
                mark=_mark(spread.middle <= target.at_most if spread else None),
            )


def _log_verdicts(results: Results, keys: frozenset[str]) -> Iterator[Verdict]:
    if {"http-64", "http-64-log"} <= keys:
        spread = Spread.of(results.log_ratios("http-64", "http-64-log", NATIVE))
        logged = results.logged.get("http-64-log", {}).get(NATIVE)
        yield Verdict(
            work="Access log on, to a file",
            target=f"at most {LOG_TARGET:.2f} of off, every request logged",
            measured=ratio_text(spread) + (f"; {logged:.1%} logged" if logged is not None else ""),
            mark=_mark(spread.middle <= LOG_TARGET and round(logged, 3) >= 1 if spread and logged else None),
        )


def _idle_verdicts(results: Results, keys: frozenset[str]) -> Iterator[Verdict]:
    for key, at_most in IDLE_TARGETS_BYTES.items():
        if key in keys:
            got = results.idle_bytes.get(key, {}).get(NATIVE)
            yield Verdict(
                work=_TITLES[key],
                target=f"under {at_most} bytes",
                measured="-" if got is None else f"{got:.0f} bytes",
                mark=_mark(None if got is None else got < at_most),
            )


def _churn_verdicts(results: Results, keys: frozenset[str]) -> Iterator[Verdict]:
    if "churn" not in keys:
        return
    for backends, under in CHURN_TARGETS_NS.items():
        got = results.churn_ns.get(backends)
        yield Verdict(
            work=f"{CHURN_TITLE}, {backends:,} backends",
            target=f"under {under} ns",
            measured="-" if got is None else f"{got:.0f} ns",
            mark=_mark(None if got is None else got < under),
        )
    small, large = results.churn_ns.get(10), results.churn_ns.get(100_000)
    growth = large / small if small and large else None
    yield Verdict(
        work=f"{CHURN_TITLE}, growth from 10 to 100,000",
        target=f"logarithmic: at most {math.log(100_000) / math.log(10):.1f} times",
        measured="-" if growth is None else f"{growth:.1f} times",
        mark=_mark(None if growth is None else growth <= math.log(100_000) / math.log(10)),
    )


def _pure_verdicts(results: Results, keys: frozenset[str]) -> Iterator[Verdict]:
    """Requests per second of CPU: what "at the same CPU" means, also when others use that CPU."""
    if "python" in keys:
        spread = Spread.of(results.ratios("python", STARLETTE, PURE))
        yield Verdict(
            work="Pure engine, requests/s at the same CPU",
            target=f"at least {PURE_TARGET:.1f} times {STARLETTE}",
            measured=ratio_text(spread) + (" times" if spread else ""),
            mark=_mark(spread.middle >= PURE_TARGET if spread else None),
        )


def _mark(held: bool | None) -> str:
    return "missing" if held is None else "pass" if held else "SHORT"


def ratio_text(spread: Spread | None) -> str:
    """Median and range over the rounds."""
    return f"{spread.middle:.2f} ({spread.low:.2f}-{spread.high:.2f})" if spread else "-"

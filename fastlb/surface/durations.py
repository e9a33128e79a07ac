"""Durations as people write them: a number and its unit, nothing else."""

import re

from fastlb.model.errors import ConfigError

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def parse_duration(text: str, *, path: str) -> float:
    """Read `250ms`, `2s`, `1.5m` or `1h`.

    Returns: seconds.
    Raises:  ConfigError naming `path`; a number without a unit is refused, because people
             disagree on what it would mean.
    """
    match = _DURATION.fullmatch(text)
    if match:
        return float(match["number"]) * _UNIT_S[match["unit"]]
    if _NUMBER.fullmatch(text):
        raise ConfigError(path, text, f"a duration: it has no unit, write {text}s or {text}ms")
    raise ConfigError(path, text, "a duration such as 250ms, 2s, 1m or 1h")

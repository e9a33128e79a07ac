"""Sizes as people write them: bytes, or a number with `k`, `m` or `g`, each 1024 times the one before."""

import re

from fastlb.model.errors import ConfigError

_UNIT_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>[kmgKMG]?)")


def parse_size(text: str, *, path: str) -> int:
    """Read `8192`, `8k`, `1m` or `2g`, in upper or lower case, as nginx and HAProxy do.

    Returns: bytes.
    Raises:  ConfigError naming `path`.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(path, text, "a size such as 8192, 8k or 1m")
    return int(match["number"]) * _UNIT_BYTES[match["unit"].lower()]

"""Whole numbers as people write them."""

from fastlb.model.errors import ConfigError

# int() refuses more than 4300 digits with a ValueError of its own.
_DIGITS_MAX = 4096


def parse_whole(text: str, *, path: str) -> int:
    """Read decimal digits; no sign, no spaces, no underscore. Raises: ConfigError naming `path`."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise ConfigError(path, text, "a whole number such as 2")
    return int(text)

"""Bytes as people write them in a shell: text with escapes."""

import re

from fastlb.model.errors import ConfigError

_NAMED = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
_PART = re.compile(r"\\x(?P<hex>[0-9A-Fa-f]{2})|\\(?P<name>[rnt0\\])|(?P<text>[^\\]+)")


def parse_bytes(text: str, *, path: str) -> bytes:
    r"""Read `PING\r\n` or `\x10\x00`; what is not escaped is UTF-8. Raises: ConfigError naming `path`."""
    found = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise ConfigError(path, text, r"text with \r, \n, \t, \0, \\ or \x and two hexadecimal digits")
        if match["hex"]:
            found.append(bytes.fromhex(match["hex"]))
        else:
            found.append(_NAMED[match["name"]] if match["name"] else match["text"].encode())
        position = match.end()
    return b"".join(found)

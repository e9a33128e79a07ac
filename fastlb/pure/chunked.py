"""The chunked coding of message bodies (RFC 9112 7.1), read strictly and written anew.

A chunk-size line that two parsers could read differently is refused: only hexadecimal digits,
then CRLF or an extension that starts with a semicolon and has no control characters but HTAB.
"""

import re

from fastlb.model.limits import CHUNK_LINE_MAX_BYTES, CHUNK_SIZE_MAX_DIGITS, TRAILER_MAX_BYTES
from fastlb.pure.refused import Refused
from fastlb.pure.syntax import FIELD_LINE

LAST_CHUNK = b"0\r\n\r\n"

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n" % CHUNK_SIZE_MAX_DIGITS)
_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)


def chunk(data: bytes) -> bytes:
    """One chunk; empty for no data, which would be the last chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class ChunkDecoder:
    """Takes the coding off a body that arrives in any pieces.

    `done`: the end of the trailer section was read. `rest`: what came behind it.
    """

    __slots__ = ("_left", "_line", "_state", "_trailer_bytes", "done", "rest")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0  # bytes of the current chunk
        self._line = b""  # the beginning of a line that is not complete
        self._trailer_bytes = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`. Raises: Refused (400)."""
        if self._line:
            data, self._line = self._line + data, b""
        body: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.done:
            if self._state == _DATA:
                piece = data[position : position + self._left]
                body.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
                continue
            line_end = self._line_end(data, position)
            if line_end < 0:
                self._line = data[position:]
                break
            self._read_line(data[position:line_end])
            position = line_end
        if self.done:
            self.rest = data[position:]
        return body[0] if len(body) == 1 else b"".join(body)

    def _line_end(self, data: bytes, start: int) -> int:
        """Where the line that begins at `start` ends, or -1."""
        if self._state == _DATA_END:
            if not b"\r\n".startswith(data[start : start + 2]):
                raise Refused(400, "chunk data not followed by CRLF")
            return start + 2 if len(data) - start >= 2 else -1
        longest = TRAILER_MAX_BYTES if self._state == _TRAILER else CHUNK_LINE_MAX_BYTES + 2
        newline = data.find(b"\n", start, start + longest)
        if newline < 0 and len(data) - start >= longest:
            raise Refused(
                400, "trailer section too large" if self._state == _TRAILER else "chunk line too long"
            )
        return newline + 1 if newline >= 0 else -1

    def _read_line(self, line: bytes) -> None:
        if self._state == _DATA_END:
            self._state = _SIZE
        elif self._state == _SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise Refused(400, "malformed chunk size")
            self._left = int(match[1], 16)
            self._state = _DATA if self._left else _TRAILER
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > TRAILER_MAX_BYTES:
                raise Refused(400, "trailer section too large")
            if line == b"\r\n":
                self._state = _DONE
                self.done = True
            elif FIELD_LINE.fullmatch(line) is None:
                raise Refused(400, "malformed trailer field")

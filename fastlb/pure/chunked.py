"""The chunked coding of message bodies (RFC 9112 7.1), read strictly and written anew.

A chunk-size line that two parsers could read differently is refused: only hexadecimal digits,
then CRLF or an extension that starts with a semicolon and has no control characters but HTAB; there
may be space before an extension, and behind a size alone in a response.
What can no longer become valid is refused at once, however the bytes are cut.
"""

import re
from bisect import bisect_left

from fastlb.model.limits import CHUNK_LINE_MAX_BYTES, CHUNK_SIZE_MAX_DIGITS, TRAILER_MAX_BYTES
from fastlb.pure.refused import Refused
from fastlb.pure.syntax import REQUEST_FIELD

NO_LIMIT = 2**64 - 1

_DIGITS = rb"[0-9A-Fa-f]{1,%d}" % CHUNK_SIZE_MAX_DIGITS
_EXTENSION = rb";[\t\x20-\x7e\x80-\xff]*"
_SIZE_LINE = re.compile(rb"(%b)(?:[\t ]*%b)?\r\n" % (_DIGITS, _EXTENSION))
_SIZE_PREFIX = re.compile(rb"%b(?:[\t ]+|(?:[\t ]*%b)?\r?)" % (_DIGITS, _EXTENSION))
# Of a response: some servers pad their sizes.
_PADDED_LINE = re.compile(rb"(%b)[\t ]*(?:%b)?\r\n" % (_DIGITS, _EXTENSION))
_PADDED_PREFIX = re.compile(rb"%b[\t ]*(?:%b)?\r?" % (_DIGITS, _EXTENSION))
_CR = re.compile(rb"\r")
_SIZE, _DATA, _DATA_END, _TRAILER = range(4)
_NAMES = ("chunk size", "chunk data", "end of chunk data", "trailer field")


def chunk(data: bytes) -> bytes:
    """One chunk; empty for no data, which would be the last chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: bytes = b"") -> bytes:
    """The end of a body, with `trailers`, which are whole lines."""
    return b"0\r\n%b\r\n" % trailers


class ChunkDecoder:
    """Takes the coding off a body that arrives in any pieces.

    `max_bytes`: of all chunks together. `of_response`: space behind a size is accepted. `done`: the end
    of the trailer section was read. `trailers`: its lines. `rest`: what came behind it.
    """

    __slots__ = (
        "_left",
        "_line",
        "_room_bytes",
        "_size_line",
        "_size_prefix",
        "_state",
        "_trailer_bytes",
        "done",
        "rest",
        "trailers",
    )

    def __init__(self, max_bytes: int = NO_LIMIT, of_response: bool = False) -> None:
        self._size_line = _PADDED_LINE if of_response else _SIZE_LINE
        self._size_prefix = _PADDED_PREFIX if of_response else _SIZE_PREFIX
        self._state = _SIZE
        self._left = 0  # bytes of the current chunk
        self._room_bytes = max_bytes  # that further chunks may have
        self._line = b""  # the beginning of a line that is not complete
        self._trailer_bytes = 0  # of complete lines
        self.done = False
        self.rest = b""
        self.trailers = b""

    def feed(self, data: bytes) -> bytes:
        """The body bytes in `data`.

        Raises: Refused (400), which takes the byte that is wrong; or (413), which takes the line with
        the size of the chunk there is no room for.
        """
        held_bytes = len(self._line)
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
            line_end = data.find(b"\n", position, position + self._longest()) + 1
            line = data[position : line_end or end]
            if not (self._read_line(line) if line_end else self._may_become_line(line)):
                taken_bytes = position + self._first_wrong(line) + 1 - held_bytes
                why = f"malformed or too long: {_NAMES[self._state]}"
                raise Refused(400, why, taken_bytes, b"".join(body))
            if not line_end:
                self._line = line
                break
            position = line_end
            if self._state == _DATA:
                self._make_room(position - held_bytes)
        if self.done:
            self.rest = data[position:]
        return body[0] if len(body) == 1 else b"".join(body)

    @property
    def left_bytes(self) -> int:
        """How much of the chunk that is read now is missing."""
        return self._left

    def limit(self, max_bytes: int) -> None:
        """Further chunks have at most so many bytes."""
        self._room_bytes = min(self._room_bytes, max_bytes)

    def _make_room(self, taken_bytes: int) -> None:
        """For the chunk that begins."""
        if self._left > self._room_bytes:
            raise Refused(413, "body too large", taken_bytes)
        self._room_bytes -= self._left

    def _longest(self) -> int:
        """The line that comes now may be so long, with its CRLF."""
        if self._state == _TRAILER:
            return TRAILER_MAX_BYTES - self._trailer_bytes
        return CHUNK_LINE_MAX_BYTES + 2 if self._state == _SIZE else 2

    def _may_become_line(self, line: bytes) -> bool:
        """May `line`, which has no end yet, still become a whole one?"""
        limit = self._longest()
        if self._state == _SIZE:
            limit -= 1 if line.endswith(b"\r") else 2
            valid = self._size_prefix.fullmatch(line)
        elif self._state == _TRAILER:
            valid = REQUEST_FIELD.prefix.fullmatch(line)
        else:
            valid = _CR.fullmatch(line)
        return valid is not None and len(line) <= limit

    def _first_wrong(self, line: bytes) -> int:
        """Where the byte stands in `line` with which it could no longer become valid."""
        return bisect_left(range(len(line)), True, key=lambda at: not self._may_become_line(line[: at + 1]))

    def _read_line(self, line: bytes) -> bool:
        """Go on behind `line`, which has its end. False, and nothing changes, if it is not valid."""
        if self._state == _DATA_END:
            valid = line == b"\r\n"
            if valid:
                self._state = _SIZE
        elif self._state == _SIZE:
            match = self._size_line.fullmatch(line)
            valid = match is not None
            if match is not None:
                self._left = int(match[1], 16)
                self._state = _DATA if self._left else _TRAILER
        elif line == b"\r\n":
            valid = self.done = True
        else:
            valid = REQUEST_FIELD.line.fullmatch(line) is not None
            if valid:
                self._trailer_bytes += len(line)
                self.trailers += line
        return valid

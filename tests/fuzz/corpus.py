"""The inputs that the fuzzer starts from: those it has kept, and the tables of the tests.

An input is one byte that chooses the judge, and the bytes that are judged. What is kept is one
Python literal a line, so that a person can read what changed.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

from fuzz.differences import DIFFERENCES
from support.chunks import BAD_CHUNKS, GOOD_CHUNKS, PADDED_CHUNKS
from support.heads import REFUSED, REFUSED_EITHER, REFUSED_RESPONSES, bare, get

KEPT = Path(__file__).with_name("corpus.txt")
INPUT_MAX_BYTES = 1500
REQUEST, RESPONSE, RESPONSE_TO_HEAD, CHUNKS = range(4)


def load() -> list[bytes]:
    """What the fuzzer has kept."""
    return [ast.literal_eval(line) for line in KEPT.read_text(encoding="ascii").splitlines()]


def save(inputs: Iterable[bytes]) -> None:
    """Keep these, the short ones first."""
    lines = [f"{data!r}\n" for data in sorted(set(inputs), key=lambda data: (len(data), data))]
    KEPT.write_text("".join(lines), encoding="ascii")


def seeds() -> list[bytes]:
    """The tables of the tests as inputs."""
    fields = (b"Content-Length: 2", b"Connection: close, x", b"Upgrade: a", b"X-A:\tb")
    found = [
        (REQUEST, get(*fields, line=b"POST http://b:8/x?y HTTP/1.1") + b"hi"),
        (RESPONSE, bare(b"HTTP/1.1 200 OK", *fields) + b"hi"),
        (RESPONSE_TO_HEAD, bare(b"HTTP/1.1 200 OK", *fields)),
        *((REQUEST, raw) for _, raw in REFUSED.values()),
        *((REQUEST, raw) for raw in REFUSED_EITHER.values()),
        *((RESPONSE, raw) for raw in REFUSED_RESPONSES.values()),
        *((CHUNKS, raw) for raw in BAD_CHUNKS.values()),
        *((CHUNKS, raw) for raw in PADDED_CHUNKS.values()),
        *((CHUNKS, raw) for raw, _, _ in GOOD_CHUNKS.values()),
        *((RESPONSE if d.raw.startswith(b"HTTP/") else REQUEST, d.raw) for d in DIFFERENCES),
    ]
    return [bytes([judge]) + raw for judge, raw in found if len(raw) < INPUT_MAX_BYTES]

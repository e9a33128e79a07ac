"""The parsers of http1 and chunked for Python: what tests, benchmarks and the fuzzer call."""

from libc.errno cimport EMSGSIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.bytearray cimport PyByteArray_AS_STRING

from fastlb.native.chunked cimport CHUNK_BAD, CHUNK_DONE, CHUNK_SIZE, chunks_decode
from fastlb.native.field_names cimport names_fill, names_t
from fastlb.native.http1 cimport (
    HEAD_CONN_UPGRADE, HEAD_HAS_LENGTH, HEAD_HAS_UPGRADE, HEAD_MORE, field_t, head_keeps_alive,
    head_limits_t, head_parse, head_request_framing, head_response_framing, head_start, head_t,
)
from fastlb.native.types cimport FRAME_CHUNKED, FRAME_CLOSE, FRAME_LENGTH, FRAME_NONE, half_t

from dataclasses import dataclass

from fastlb.model.fields import FieldConfig
from fastlb.model.limits import LimitConfig

cdef names_t DEFAULT_NAMES
names_fill(&DEFAULT_NAMES, FieldConfig())


class Refused(ValueError):
    """A message that can be read in more than one way, or not at all. `status` is the answer,
    `taken_bytes` what was read of the piece of a body that is refused."""

    def __init__(self, status: int, why: str, taken_bytes: int = 0) -> None:
        super().__init__(f"{status} {why}")
        self.status = status
        self.why = why
        self.taken_bytes = taken_bytes


@dataclass(frozen=True)
class ParsedRequest:
    """A request head. `fields` are as received; `target` is in origin-form; `host` may be empty, and
    is None without any."""

    method: bytes
    target: bytes
    version: int
    fields: list
    framing: str
    length: int
    head_bytes: int
    keep_alive: bool
    upgrade: bool
    host: bytes | None
    received_target: bytes


@dataclass(frozen=True)
class ParsedResponse:
    """A response head."""

    status: int
    reason: bytes
    version: int
    fields: list
    framing: str
    length: int
    head_bytes: int
    keep_alive: bool


FRAMINGS = {FRAME_NONE: "none", FRAME_LENGTH: "length", FRAME_CHUNKED: "chunked", FRAME_CLOSE: "close"}


cdef class HeadReader:
    """A head that comes in pieces, parsed as a worker parses it: on from where the last piece ended."""

    cdef head_t head
    cdef head_limits_t limits
    cdef bytes raw

    def __init__(self, bint is_response, limits):
        self.limits.line_bytes = limits.line_bytes
        self.limits.header_bytes = limits.header_bytes
        self.limits.fields = limits.fields
        self.limits.names = &DEFAULT_NAMES
        self.raw = b""
        head_start(&self.head, is_response)

    cdef bint read(self, bytes piece) except -1:
        """True once the head is complete."""
        cdef int outcome
        self.raw += piece
        outcome = head_parse(&self.head, <const uint8_t*> PyBytes_AS_STRING(self.raw),
                             <uint32_t> len(self.raw), &self.limits)
        if outcome > HEAD_MORE:
            raise Refused(outcome, "response head" if self.head.is_response else "request head")
        return outcome != HEAD_MORE

    cdef bytes text(self, uint32_t at, uint32_t len):
        return self.raw[at:at + len]

    cdef list fields(self):
        cdef uint32_t i
        cdef const field_t* field
        found = []
        for i in range(self.head.field_count):
            field = &self.head.fields[i]
            name = self.text(field.name_at, field.name_len)
            found.append((name, self.text(field.value_at, field.value_len)))
        return found

    cdef str framing(self, int framing):
        """How the end is found; a length of 0 is a length for Python."""
        if framing == FRAME_NONE and self.head.flags & HEAD_HAS_LENGTH and self.head.content_length == 0:
            return "length"
        return FRAMINGS[framing]


cdef class RequestReader(HeadReader):
    """feed() takes the next piece of a request head."""

    def __init__(self, limits=LimitConfig()):
        super().__init__(False, limits)

    def feed(self, bytes piece):
        """Returns: ParsedRequest, or None if the head is not complete. Raises: Refused."""
        cdef head_t* head = &self.head
        if not self.read(piece):
            return None
        framing = head_request_framing(head)
        return ParsedRequest(
            method=self.text(head.start_at, head.method_len),
            target=self.text(head.target_at, head.target_len),
            version=head.version,
            fields=self.fields(),
            framing=self.framing(framing),
            length=head.content_length if framing == FRAME_LENGTH else 0,
            head_bytes=head.bytes,
            keep_alive=bool(head_keeps_alive(head)),
            upgrade=bool(
                head.version == 11 and head.flags & HEAD_CONN_UPGRADE and head.flags & HEAD_HAS_UPGRADE
            ),
            host=self.text(head.host_at, head.host_len) if head.host_count or head.host_len else None,
            received_target=self.text(head.received_target_at, head.received_target_len),
        )


cdef class ResponseReader(HeadReader):
    """feed() takes the next piece of a response head, to a request with `request_method`."""

    cdef bint to_head

    def __init__(self, request_method=b"GET", limits=LimitConfig()):
        super().__init__(True, limits)
        self.to_head = request_method == b"HEAD"

    def feed(self, bytes piece):
        """Returns: ParsedResponse, or None if the head is not complete. Raises: Refused (502)."""
        cdef head_t* head = &self.head
        if not self.read(piece):
            return None
        framing = head_response_framing(head, self.to_head)
        bodyless = self.to_head or head.status < 200 or head.status == 204 or head.status == 304
        return ParsedResponse(
            status=head.status,
            reason=self.text(head.reason_at, head.reason_len),
            version=head.version,
            fields=self.fields(),
            framing="none" if bodyless else self.framing(framing),
            length=head.content_length if framing == FRAME_LENGTH else 0,
            head_bytes=head.bytes,
            keep_alive=bool(head_keeps_alive(head)),
        )


def parse_request(raw: bytes, limits=LimitConfig()):
    """Parse a request head at the start of `raw`.

    Returns: ParsedRequest, or None if the head is not complete.
    Raises:  Refused with the status of the answer.
    Cost:    one pass over the bytes.
    """
    return RequestReader(limits).feed(raw)


def parse_response(raw: bytes, request_method: bytes = b"GET", limits=LimitConfig()):
    """Parse a response head at the start of `raw`; see parse_request()."""
    return ResponseReader(request_method, limits).feed(raw)


cdef class ChunkDecoder:
    """Takes the coding off a body that arrives in any pieces; the pure engine's has the same face.

    `max_bytes`: of all chunks together. `of_response`: space behind a size is accepted. `done`: the end
    of the trailer section was read. `trailers`: its lines, then. `rest`: what came behind it.
    """

    cdef half_t half
    cdef readonly bint done
    cdef readonly bytes trailers
    cdef readonly bytes rest
    cdef bytes section

    def __init__(self, uint64_t max_bytes=2**64 - 1, bint of_response=False):
        memset(&self.half, 0, sizeof(half_t))
        self.half.padded = of_response
        self.half.chunk_state = CHUNK_SIZE
        self.half.room_bytes = max_bytes
        self.trailers = self.rest = self.section = b""

    def feed(self, bytes data):
        """The body bytes in `data`. Raises: Refused (400, 413), with the bytes up to what is wrong."""
        cdef bytearray text = bytearray(data)
        cdef uint32_t used = 0, count, seen_bytes = self.half.trailer_bytes
        count = chunks_decode(&self.half, <uint8_t*> PyByteArray_AS_STRING(text), <uint32_t> len(text), &used)
        if self.half.chunk_state == CHUNK_BAD:
            raise Refused(413 if self.half.error_errno == EMSGSIZE else 400, "chunk framing", used)
        self.section += text[used - (self.half.trailer_bytes - seen_bytes):used]
        if self.half.chunk_state == CHUNK_DONE:
            self.done = True
            self.trailers = self.section[:-2]        # without the empty line
            self.rest = data[used:]
        return bytes(text[:count])

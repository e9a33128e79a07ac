"""Bodies: cut out of what arrives and framed anew for the other side.

Nothing is done here; the exchange sends what these return.
"""

from fastlb.model.limits import REQUEST_KEPT_MAX_BYTES, REST_MAX_BYTES
from fastlb.pure.buffers import Buffers
from fastlb.pure.chunked import NO_LIMIT, ChunkDecoder, chunk, last_chunk
from fastlb.pure.field_names import DEFAULT_NAMES, FieldNames
from fastlb.pure.http1 import ParsedRequest, ParsedResponse, Refused, passes_trailers


class RequestBody:
    """The body of a request, on its way to a backend.

    It is kept, framed, until a connection has taken it, and longer while it may have to be sent again.
    What is kept is counted in `buffers` until it is forgotten.
    """

    __slots__ = (
        *("_bad", "_buffers", "_decoder", "_kept_bytes", "_left", "_names", "_pieces", "_trailing"),
        *("begun", "done"),
    )

    def __init__(self, request: ParsedRequest, max_bytes: int, names: FieldNames, buffers: Buffers) -> None:
        self._buffers = buffers
        self._left = request.length
        self._decoder = ChunkDecoder(max_bytes or NO_LIMIT) if request.framing == "chunked" else None
        self._names = names
        self._trailing = passes_trailers(request)
        self._pieces: list[bytes] | None = []
        self._kept_bytes = 0
        self._bad = False
        self.begun = False
        self.done = not request.length and self._decoder is None

    def take(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """The part of the body in `data` framed for the backend; what is behind it; is it the end.

        Raises: Refused for bad chunks, and for more of them than `max_bytes`.
        """
        self.begun = True
        try:
            piece, rest = self._cut(data)
        except Refused:
            self._bad = True
            raise
        if self._pieces is not None:
            self._pieces.append(piece)
            self._kept_bytes += len(piece)
            self._buffers.change(0, len(piece))
        return piece, rest, self.done

    @property
    def kept(self) -> bool:
        """True while everything that was taken can be sent again."""
        return self._pieces is not None

    @property
    def too_long_to_keep(self) -> bool:
        """True once more has come than may be kept."""
        return self._kept_bytes > REQUEST_KEPT_MAX_BYTES or not self._buffers.spare(0)

    def awaits(self, max_bytes: int) -> bool:
        """True until the whole has come, or `max_bytes` of it, or memory for the rest of them is short."""
        if self.done or self._kept_bytes >= max_bytes:
            return False
        return self._buffers.spare(min(self._left, max_bytes - self._kept_bytes))

    def all_kept(self) -> bytes:
        """Everything that was taken."""
        return b"".join(self._pieces or ())

    @property
    def short(self) -> bool:
        """True if what is missing is not known to be long."""
        left = self._left if self._decoder is None else self._decoder.left_bytes
        return not self._bad and left <= REST_MAX_BYTES

    def limit_rest(self) -> None:
        """What is missing is not wanted: if it turns out to be long, it is refused."""
        self.forget()
        if self._decoder is not None:
            self._decoder.limit(REST_MAX_BYTES)

    def forget(self) -> None:
        """It will not be sent again."""
        if self._pieces is not None:
            self._pieces = None
            self._buffers.change(self._kept_bytes, 0)

    def _cut(self, data: bytes) -> tuple[bytes, bytes]:
        decoder = self._decoder
        if decoder is None:
            piece = data[: self._left]
            self._left -= len(piece)
            self.done = not self._left
            return piece, data[len(piece) :]
        piece = chunk(decoder.feed(data))
        if decoder.done:
            self.done = True
            piece += last_chunk(self._names.trailers(decoder.trailers) if self._trailing else b"")
        return piece, decoder.rest


class ResponseBody:
    """The body of a response, on its way to a client that speaks HTTP/1.0 or 1.1.

    `chunked`: how the client gets it. `delimited`: the client sees where it ends.
    """

    __slots__ = ("_decoder", "_framing", "_left", "_names", "_trailing", "chunked", "delimited")

    def __init__(
        self, response: ParsedResponse, client_version: int, names: FieldNames = DEFAULT_NAMES
    ) -> None:
        self._framing = response.framing
        self._left = response.length
        self._decoder = ChunkDecoder(of_response=True) if response.framing == "chunked" else None
        has_length = response.framing in ("none", "length")
        self.chunked = not has_length and client_version == 11
        self.delimited = has_length or self.chunked
        self._names = names
        self._trailing = passes_trailers(response)

    def take(self, data: bytes) -> tuple[bytes, bool, bool]:
        """The body bytes in `data` framed for the client; is it the end; is there more behind it.

        Raises: Refused for bad chunks.
        """
        if self._framing == "length":
            piece = data[: self._left]
            self._left -= len(piece)
            return piece, not self._left, len(data) > len(piece)
        if self._framing == "none":
            return b"", True, bool(data)
        decoder = self._decoder
        if decoder is None:
            return self.framed(data), False, False
        piece = self.framed(decoder.feed(data))
        if self.chunked and decoder.done:
            piece += last_chunk(self._names.trailers(decoder.trailers) if self._trailing else b"")
        return piece, decoder.done, bool(decoder.rest)

    def framed(self, data: bytes) -> bytes:
        """Data of the body as the client gets it."""
        return chunk(data) if self.chunked else data

    @property
    def ends_with_connection(self) -> bool:
        """True if the end of the connection is the end of the body (RFC 9112 6.3)."""
        return self._framing == "close"

    def last(self) -> bytes:
        """What the client gets at the end of the connection, if that is the end of the body."""
        return last_chunk() if self.chunked else b""

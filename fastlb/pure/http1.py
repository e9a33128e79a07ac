"""HTTP/1.1 heads: what is accepted can be read in one way only (RFC 9112 2.2, 3, 5, 6, 11).

Two readers have to agree. The first one is here and is stricter than the RFC: CRLF and nothing
else ends a line, no folding, no space before a colon, no control characters, one Host, and one
way to find the end of the body. The second one is h11, which also gives the fields in the form in
which they are passed on. The same bytes give the same answer in whatever pieces they come:
nothing behind a limit is ever looked at.
"""

import socket
from typing import NamedTuple

import h11

from fastlb.model.limits import LimitConfig
from fastlb.pure.field_names import DEFAULT_NAMES, FieldNames
from fastlb.pure.refused import Refused
from fastlb.pure.syntax import (
    ABSOLUTE_FORM,
    DIGITS,
    HOST,
    REQUEST_FIELD,
    REQUEST_LINE,
    REQUEST_LINE_PREFIX,
    RESPONSE_FIELD,
    STATUS_LINE,
    STATUS_LINE_PREFIX,
    TOKEN,
    FieldSyntax,
)

__all__ = ["ParsedRequest", "ParsedResponse", "Refused", "parse_request", "parse_response"]

Fields = list[tuple[bytes, bytes]]
# Name in lower case, name as received, value.
Headers = list[tuple[bytes, bytes, bytes]]

_LENGTH_MAX = 2**63 - 1
_LENGTH_MAX_DIGITS = 19
_HOST_MAX_BYTES = 512
_PORT_MAX = 65_535
_BINDING_SCHEMES = frozenset({b"ntlm", b"negotiate"})
_CONNECTION_NAMES_MAX = 32
_NO_NAMES: frozenset[bytes] = frozenset()
_H11_VERSIONS = {10: b"1.0", 11: b"1.1"}
_DEFAULT_LIMITS = LimitConfig()


class ParsedRequest(NamedTuple):
    """A request head.

    `target` is in origin-form, without the authority of an absolute-form one, which is in `host`;
    `received_target` is the whole. `fields` are as received, `headers` the same as h11 read them,
    with one Content-Length. `named` are the fields that Connection names, in lower case.
    `binds`: NTLM or Negotiate authenticate the connection it is sent on (RFC 4559 6).
    `framing` is none, length or chunked; `length` counts if it is length. `protocols` are those
    that Upgrade asks for and may ask for; `upgrade`: and it does so properly. `scheme` is that of an
    absolute-form target, in lower case, or empty. `expects`: the client may wait for an answer before it
    sends its body.
    """

    method: bytes
    target: bytes
    version: int
    fields: Fields
    framing: str
    length: int
    head_bytes: int
    keep_alive: bool
    upgrade: bool
    host: bytes | None
    received_target: bytes
    headers: Headers
    named: frozenset[bytes]
    protocols: list[bytes]
    scheme: bytes
    expects: bool
    binds: bool


class ParsedResponse(NamedTuple):
    """A response head; see ParsedRequest. `framing` may also be close: up to the end of the connection."""

    status: int
    reason: bytes
    version: int
    fields: Fields
    framing: str
    length: int
    head_bytes: int
    keep_alive: bool
    upgrade: bool
    headers: Headers
    named: frozenset[bytes]
    binds: bool


class _Meaning:
    """What the fields of a head say to a proxy, gathered field by field."""

    __slots__ = (
        "binds",
        "chunked",
        "close",
        "coded",
        "expects",
        "hosts",
        "keep_alive",
        "length",
        "length_digits",
        "lengths",
        "named",
        "names",
        "other_coding",
        "protocols",
        "refuse_as",
        "upgrade",
    )

    def __init__(self, refuse_as: int) -> None:
        self.refuse_as = refuse_as
        self.binds = False  # credentials or a challenge that authenticate the connection
        self.hosts: list[bytes] = []
        self.length = -1
        self.length_digits = b""
        self.lengths = 0  # values of Content-Length, all the same
        self.coded = False
        self.chunked = False  # the final coding
        self.other_coding = False
        self.close = False
        self.keep_alive = False
        self.upgrade = False  # named in Connection
        self.protocols: list[bytes] = []  # members of Upgrade
        self.expects = False
        self.named = 0  # members of Connection that name a field
        self.names: set[bytes] = set()

    def read_host(self, value: bytes) -> None:
        self.hosts.append(value)

    def read_upgrade(self, value: bytes) -> None:
        self.protocols += _items(value)

    def read_expect(self, value: bytes) -> None:
        self.expects = True

    def read_auth(self, value: bytes) -> None:
        """A comma in a quoted string may end a member too early, which at worst makes a connection private
        that need not be."""
        if any(item.split(None, 1)[0] in _BINDING_SCHEMES for item in _items(value.lower()) if item):
            self.binds = True

    def read_length(self, value: bytes) -> None:
        """1*DIGIT; a list or a repetition only of the same digits (RFC 9112 6.3)."""
        for item in _items(value):
            if len(item) > _LENGTH_MAX_DIGITS or DIGITS.fullmatch(item) is None or int(item) > _LENGTH_MAX:
                raise Refused(self.refuse_as, "invalid Content-Length")
            if self.lengths and item != self.length_digits:
                raise Refused(self.refuse_as, "Content-Length given twice and not the same")
            self.length = int(item)
            self.length_digits = item
            self.lengths += 1

    def read_coding(self, value: bytes) -> None:
        """Only `chunked`, once and at the end, is a coding that can be framed (RFC 9112 6.1, 7)."""
        for item in _items(value):
            if self.chunked or TOKEN.fullmatch(item) is None:
                raise Refused(self.refuse_as, "invalid Transfer-Encoding")
            self.coded = True
            if item.lower() == b"chunked":
                self.chunked = True
            else:
                self.other_coding = True

    def read_connection(self, value: bytes) -> None:
        for item in _items(value.lower()):
            if item == b"close":
                self.close = True
            elif item == b"keep-alive":
                self.keep_alive = True
            elif item == b"upgrade":
                self.upgrade = True
            elif item and item != b"te":  # which is dropped anyway
                self.names.add(item)
                self.named += 1
                if self.named > _CONNECTION_NAMES_MAX:
                    raise Refused(self.refuse_as, "too many names in Connection")

    def read_ambiguous(self, value: bytes) -> None:
        """CGI and WSGI would take it for the one that frames."""
        if self.refuse_as == 400:
            raise Refused(400, "a name that folds to one that frames")

    def keeps(self, version: int) -> bool:
        """True if the connection persists (RFC 9112 9.3). Not behind a coding in HTTP/1.0, whose framing
        may be a mistake (6.1)."""
        return not self.close and (version == 11 or (self.keep_alive and not self.coded))


_READERS = {
    b"host": _Meaning.read_host,
    b"upgrade": _Meaning.read_upgrade,
    b"expect": _Meaning.read_expect,
    b"content-length": _Meaning.read_length,
    b"transfer-encoding": _Meaning.read_coding,
    b"connection": _Meaning.read_connection,
    b"authorization": _Meaning.read_auth,
    b"proxy-authorization": _Meaning.read_auth,
    b"www-authenticate": _Meaning.read_auth,
    b"proxy-authenticate": _Meaning.read_auth,
    b"content_length": _Meaning.read_ambiguous,
    b"transfer_encoding": _Meaning.read_ambiguous,
}


def _items(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, empty ones too."""
    return [item.strip(b" \t") for item in value.split(b",")]


def parse_request(
    raw: bytes, limits: LimitConfig = _DEFAULT_LIMITS, names: FieldNames = DEFAULT_NAMES
) -> ParsedRequest | None:
    """Read the request head at the start of `raw`; what comes behind it is not looked at.

    Returns: None if the head is not complete.
    Raises:  Refused with 400, 414, 431, 501 or 505.
    Cost:    one pass over the head.
    """
    start = 0
    if raw.startswith(b"\r"):  # RFC 9112 2.2: one empty line before a request is skipped
        if len(raw) == 1:
            return None
        if raw[1:2] != b"\n":
            raise Refused(400, "bare CR")
        start = 2
    cut = start + limits.line_bytes + 2
    match = REQUEST_LINE.match(raw, start, cut)
    if match is None:
        if REQUEST_LINE_PREFIX.fullmatch(raw, start, cut) is None:
            raise Refused(400, "malformed request line")
        if len(raw) >= cut:
            raise Refused(414, "request line too long")
        return None
    method, received_target, major, minor = match.groups()
    if major != b"1":
        raise Refused(505, "not HTTP/1")
    version = _version(minor)
    fields: Fields = []
    meaning = _Meaning(400)
    end = _read_fields(raw, match.end(), REQUEST_FIELD, fields, meaning, limits)
    if not end:
        return None
    host, target, scheme = _check_request(method, received_target, version, meaning)
    protocols = [item for item in meaning.protocols if names.may_ask_for(item)]
    headers = _second_reading(method, version, _one_length(fields, meaning))
    return ParsedRequest(
        method,
        target,
        version,
        fields,
        "chunked" if meaning.chunked else "length" if meaning.lengths else "none",
        max(meaning.length, 0),
        end,
        meaning.keeps(version),
        version == 11 and meaning.upgrade and bool(protocols),
        host,
        received_target,
        headers,
        frozenset(meaning.names) if meaning.names else _NO_NAMES,
        protocols,
        scheme,
        meaning.expects,
        meaning.binds,
    )


def parse_response(
    raw: bytes, request_method: bytes = b"GET", limits: LimitConfig = _DEFAULT_LIMITS
) -> ParsedResponse | None:
    """Read the response head at the start of `raw`, to a request with `request_method`.

    Returns: None if the head is not complete.
    Raises:  Refused with 502.
    """
    cut = limits.line_bytes + 2
    match = STATUS_LINE.match(raw, 0, cut)
    if match is None:
        if STATUS_LINE_PREFIX.fullmatch(raw, 0, cut) is None:
            raise Refused(502, "malformed status line")
        if len(raw) >= cut:
            raise Refused(502, "status line too long")
        return None
    version = _version(match[1])
    status = int(match[2])
    fields: Fields = []
    meaning = _Meaning(502)
    end = _read_fields(raw, match.end(), RESPONSE_FIELD, fields, meaning, limits)
    if not end:
        return None
    if meaning.coded and meaning.lengths:
        raise Refused(502, "Transfer-Encoding with Content-Length")
    if meaning.other_coding:  # not asked for; no client would learn of it (RFC 9110 10.1.4)
        raise Refused(502, "unknown transfer coding")
    framing = _response_framing(status, request_method, meaning)
    return ParsedResponse(
        status,
        match[3] or b"",
        version,
        fields,
        framing,
        meaning.length if framing == "length" else 0,
        end,
        meaning.keeps(version),
        status == 101,
        _second_reading_of_response(status, version, _one_length(fields, meaning)),
        frozenset(meaning.names) if meaning.names else _NO_NAMES,
        meaning.binds and status in (401, 407),
    )


def passes_trailers(message: ParsedRequest | ParsedResponse) -> bool:
    """Only a chunked message has them. Connection may name them (RFC 9110 7.6.1): then none pass."""
    return message.framing == "chunked" and not message.named


def takes_trailers(request: ParsedRequest) -> bool:
    """TE says so; of all that it says, only this can be meant for the next hop, too (RFC 9110 10.1.4)."""
    values = (value for lower, _, value in request.headers if lower == b"te")
    return request.version == 11 and any(b"trailers" in _items(value.lower()) for value in values)


def request_line(raw: bytes) -> tuple[bytes | None, bytes | None]:
    """The method and the target, if the line is valid; for the log, whatever comes behind it."""
    match = REQUEST_LINE.match(raw, 2 if raw.startswith(b"\r\n") else 0)
    if match is None or match[3] != b"1":
        return None, None
    return match[1], match[2]


def _version(minor: bytes) -> int:
    """10, or 11 for all that is higher (RFC 9110 2.5)."""
    return 10 if minor == b"0" else 11


def _read_fields(
    raw: bytes, start: int, syntax: FieldSyntax, fields: Fields, meaning: _Meaning, limits: LimitConfig
) -> int:
    """Where the head ends, or 0 if it is not complete."""
    cut = start + limits.header_bytes
    position = start
    while match := syntax.line.match(raw, position, cut):
        if len(fields) == limits.fields:
            raise Refused(_too_large(meaning), "too many fields")
        name, value = match.groups()
        value = value.strip(b" \t")
        reader = _READERS.get(name.lower())
        if reader is not None:
            reader(meaning, value)
        fields.append((name, value))
        position = match.end()
    if raw.startswith(b"\r\n", position) and position + 2 <= cut:
        return position + 2
    if len(fields) == limits.fields and syntax.name.match(raw, position, cut):
        raise Refused(_too_large(meaning), "too many fields")
    if syntax.prefix.fullmatch(raw, position, cut) is None:
        raise Refused(meaning.refuse_as, "malformed field line")
    if len(raw) >= cut:
        raise Refused(_too_large(meaning), "header section too large")
    return 0


def _too_large(meaning: _Meaning) -> int:
    return 431 if meaning.refuse_as == 400 else 502


def _check_request(
    method: bytes, target: bytes, version: int, meaning: _Meaning
) -> tuple[bytes | None, bytes, bytes]:
    """The host, the target in origin-form and the scheme, of a request that makes sense as a whole."""
    if method == b"CONNECT":
        raise Refused(400, "CONNECT to a reverse proxy")
    if len(meaning.hosts) > 1 or (not meaning.hosts and version == 11):
        raise Refused(400, "not exactly one Host")
    host = meaning.hosts[0] if meaning.hosts else None
    scheme = b""
    if host is not None and not _is_host(host):
        raise Refused(400, "invalid Host")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        match = ABSOLUTE_FORM.fullmatch(target)
        if match is None or not _is_host(match[2]):
            raise Refused(400, "invalid request target")
        scheme, host, target = match.groups()  # RFC 9112 3.2.2: it overrides Host
    if meaning.coded:
        if meaning.lengths or version == 10:
            raise Refused(400, "Transfer-Encoding with Content-Length or in HTTP/1.0")
        if not meaning.chunked:
            raise Refused(400, "chunked is not the final coding")
        if meaning.other_coding:
            raise Refused(501, "unknown transfer coding")
    return host, target, scheme.lower()


def _is_host(host: bytes) -> bool:
    """True for uri-host and port of RFC 3986; it may be empty (RFC 9110 7.2)."""
    match = HOST.fullmatch(host) if len(host) <= _HOST_MAX_BYTES else None
    if match is None or (match[2] and int(match[2]) > _PORT_MAX):
        return False
    return match[1] is None or _is_ipv6(match[1].decode("ascii"))


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def _response_framing(status: int, request_method: bytes, meaning: _Meaning) -> str:
    """How the end of a response is found (RFC 9112 6.3)."""
    if request_method == b"HEAD" or status < 200 or status in (204, 304):
        return "none"
    if meaning.coded:
        return "chunked"
    return "length" if meaning.lengths else "close"


def _one_length(fields: Fields, meaning: _Meaning) -> Fields:
    """The fields with a Content-Length that is one number, once."""
    if meaning.lengths < 2:
        return fields
    kept: Fields = []
    for name, value in fields:
        if name.lower() != b"content-length":
            kept.append((name, value))
        elif meaning.lengths:
            kept.append((name, b"%d" % meaning.length))
            meaning.lengths = 0
    meaning.lengths = 1
    return kept


def _second_reading(method: bytes, version: int, fields: Fields) -> Headers:
    """h11 must find the same fields; the target is ours to judge."""
    try:
        return _headers(
            h11.Request(method=method, target=b"/", headers=fields, http_version=_H11_VERSIONS[version])
        )
    except h11.LocalProtocolError as error:
        raise Refused(400, f"h11: {error}") from error


def _second_reading_of_response(status: int, version: int, fields: Fields) -> Headers:
    """As for requests."""
    kind = h11.Response if status >= 200 else h11.InformationalResponse
    try:
        return _headers(kind(status_code=status, headers=fields, http_version=_H11_VERSIONS[version]))
    except h11.LocalProtocolError as error:
        raise Refused(502, f"h11: {error}") from error


def _headers(event: h11.Request | h11.Response | h11.InformationalResponse) -> Headers:
    headers = event.headers
    return [(lower, raw[0], raw[1]) for (lower, _), raw in zip(headers, headers.raw_items(), strict=True)]

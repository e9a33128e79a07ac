"""Names of fields, and what each means to a proxy.

Two names fold to one if they differ in case and in `-` and `_` only: CGI and WSGI give a program
both under one name (RFC 3875 4.1.18). A message is framed and routed by exact names alone.
"""

from fastlb.model.fields import FieldConfig, UnderscoreFields

# RFC 9110 7.6.1, Proxy-Connection, which never was one, and the settings of an upgrade that is gone
# (RFC 9113 3.1).
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"trailer",
        b"te",
        b"http2-settings",
    }
)
FORWARDED_FOR = b"x-forwarded-for"
FORWARDED_PROTO = b"x-forwarded-proto"
# What trusted proxies may say about the client besides.
FORWARDED_KEPT = frozenset({FORWARDED_PROTO, b"x-forwarded-host", b"x-forwarded-port"})
FORWARDED = FORWARDED_KEPT | {FORWARDED_FOR, b"forwarded"}
_DROPPED = HOP_BY_HOP | {b"forwarded", FORWARDED_FOR}
_FOLDED = _DROPPED | FORWARDED_KEPT | {b"content-length", b"max-forwards"}
TRAILER = frozenset({b"trailer"})
# Connection may name them, and they stay: a message without them would be another one.
KEPT_ALWAYS = frozenset({b"host", b"content-length"})
KEPT_OF_RESPONSES = KEPT_ALWAYS | {b"date"}


class FieldNames:
    """What passes from a request to a backend, by its name. Names are in lower case."""

    def __init__(self, config: FieldConfig) -> None:
        self._protocols = config.protocols
        self._client = config.client_names
        self._head = config.head_names
        self._drops_underscores = config.underscores is UnderscoreFields.DROP
        self._dropped = _DROPPED | FORWARDED_KEPT | self._client
        # A client behind a proxy that passes Connection on could hide itself.
        self._kept = KEPT_ALWAYS | FORWARDED_KEPT | self._client

    def dropped(self, trusted: bool, named: frozenset[bytes]) -> frozenset[bytes]:
        """The names that do not pass. `trusted`: a proxy that is believed; `named`: by Connection."""
        dropped = _DROPPED if trusted else self._dropped
        return dropped | (named - self._kept) if named else dropped

    def trailers(self, lines: bytes) -> bytes:
        """Of the lines of a trailer section those that pass, in either direction."""
        return b"".join(line for line in lines.splitlines(keepends=True) if self._trails(line))

    def _trails(self, line: bytes) -> bool:
        name = line.partition(b":")[0].lower()
        return name.replace(b"_", b"-") not in self._head and not (self._drops_underscores and b"_" in name)

    def folds(self, name: bytes) -> bool:
        """True for a name with `_` in it that does not pass, whoever sent it."""
        fold = name.replace(b"_", b"-")
        return self._drops_underscores or fold in _FOLDED or fold in self._client

    def may_ask_for(self, protocol: bytes) -> bool:
        """True for a member of Upgrade, `protocol[/version]` (RFC 9110 7.8), that is passed on."""
        return protocol.partition(b"/")[0].lower() in self._protocols


DEFAULT_NAMES = FieldNames(FieldConfig())

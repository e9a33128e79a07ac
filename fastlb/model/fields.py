"""Fields of requests that fastlb looks at by name, and what a user may say about them.

CGI and WSGI read `_` and `-` in a name as one character (RFC 3875 4.1.18), so both engines do so
too where a name means something.
"""

import re
from dataclasses import dataclass
from enum import Enum

from fastlb.model.errors import ConfigError

# Who a client is, how it came and what it asked for, in the words of proxies: servers and
# frameworks believe them. Dropped unless a trusted proxy sent them. The engines, the flags and
# docs/semantics.md have the list from here.
CLIENT_FIELDS = (
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Fastly-Client-IP",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-Protocol",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Scheme",
    "X-Url-Scheme",
    "Front-End-Https",
    "X-Original-URL",
    "X-Original-Host",
    "X-Rewrite-URL",
    "Remote-User",
    "X-Remote-User",
    "Script-Name",
    "Path-Info",
)
# What the engines have rules of their own for; flags have no say in it.
OWN_FIELDS = (
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Max-Forwards",
    "Via",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
)
# The protocol of the tunnels that Upgrade may open without a flag.
WEBSOCKET = "websocket"
# What may stand in a head only, besides all those above (RFC 9110 6.5.1): a recipient that takes trailers
# for fields of the head would learn too late how to read, whom to believe, or what was asked.
HEAD_FIELDS = (
    # Authentication.
    *(
        "Authorization",
        "Cookie",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Set-Cookie",
        "WWW-Authenticate",
    ),
    # What modifies a request.
    *("Cache-Control", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since"),
    *("Pragma", "Range", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override"),
    # What controls a response.
    *("Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning"),
    # The format of the content.
    *("Content-Encoding", "Content-Language", "Content-Location", "Content-Range", "Content-Type"),
)
ADDED_NAMES_MAX = 64
ADDED_PROTOCOLS_MAX = 16
PROTOCOL_MAX_BYTES = 32
NAME_MAX_BYTES = 64

# Letters and digits at both ends, because names are looked up by their ends.
_NAME = re.compile(r"[0-9A-Za-z]+(?:[-_]+[0-9A-Za-z]+)*")
_PROTOCOL = re.compile(r"[0-9A-Za-z]+(?:[-.][0-9A-Za-z]+)*")


class UnderscoreFields(str, Enum):
    """What becomes of a field of a request with `_` in its name that is none of those above."""

    PASS = "pass"  # noqa: S105 - not a password
    DROP = "drop"


def folded(name: str) -> str:
    """The name as CGI would read it: in one case, and with one character for `-` and `_`."""
    return name.lower().replace("_", "-")


_CLIENT_NAMES = tuple(map(folded, CLIENT_FIELDS))
_OWN_NAMES = frozenset(map(folded, OWN_FIELDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConfig:
    """What is done with fields of requests by their names.

    `passed`: of CLIENT_FIELDS, those that any client may send. `dropped`: more that only trusted
    proxies may send. `underscores`: other names with `_` in them, from anybody. `upgrades`: the
    protocols besides WEBSOCKET that a client may ask for with Upgrade.
    """

    passed: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    underscores: UnderscoreFields = UnderscoreFields.PASS
    upgrades: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.passed:
            if folded(name) not in _CLIENT_NAMES:
                raise ConfigError(
                    "fields.passed", name, "one of those that are dropped: " + ", ".join(CLIENT_FIELDS)
                )
        for name in self.dropped:
            if not _NAME.fullmatch(name) or len(name) > NAME_MAX_BYTES:
                raise ConfigError(
                    "fields.dropped",
                    name,
                    f"a field name of at most {NAME_MAX_BYTES} letters, digits and hyphens, such as X-User",
                )
            if folded(name) in _OWN_NAMES:
                raise ConfigError("fields.dropped", name, "a field that fastlb has no rule of its own for")
        if len(self.dropped) > ADDED_NAMES_MAX:
            raise ConfigError("fields.dropped", len(self.dropped), f"at most {ADDED_NAMES_MAX} names")
        self._check_upgrades()

    def _check_upgrades(self) -> None:
        for name in self.upgrades:
            if not _PROTOCOL.fullmatch(name) or len(name) > PROTOCOL_MAX_BYTES:
                raise ConfigError(
                    "fields.upgrades",
                    name,
                    f"a protocol of at most {PROTOCOL_MAX_BYTES} letters, digits, hyphens and dots, without "
                    "its version, such as tcp",
                )
            if name.lower() == "h2c":
                raise ConfigError(
                    "fields.upgrades", name, "a protocol besides HTTP: requests in such a tunnel meet no rule"
                )
        if len(self.upgrades) > ADDED_PROTOCOLS_MAX:
            raise ConfigError("fields.upgrades", len(self.upgrades), f"at most {ADDED_PROTOCOLS_MAX} names")

    @property
    def client_names(self) -> frozenset[bytes]:
        """What only trusted proxies may send, folded."""
        passed = frozenset(map(folded, self.passed))
        return frozenset(
            name.encode() for name in (*_CLIENT_NAMES, *map(folded, self.dropped)) if name not in passed
        )

    @property
    def head_names(self) -> frozenset[bytes]:
        """What is not passed on as a trailer, folded. Everything else is: digests, timings, gRPC's status."""
        names = (*OWN_FIELDS, *CLIENT_FIELDS, *HEAD_FIELDS, *self.dropped)
        return frozenset(folded(name).encode() for name in names)

    @property
    def protocols(self) -> frozenset[bytes]:
        """What Upgrade may ask for, in small letters and without versions."""
        return frozenset(name.lower().encode() for name in (WEBSOCKET, *self.upgrades))

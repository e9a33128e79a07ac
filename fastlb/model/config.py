"""What the user asked for, frozen and checked. One class for each noun.

Durations are seconds as floats (`_s`). `None` for a time-out means that there is none.
"""

from dataclasses import dataclass, field
from enum import Enum

from fastlb.model.address import Address
from fastlb.model.errors import ConfigError
from fastlb.model.fields import FieldConfig
from fastlb.model.limits import (
    CHECK_WORDS_MAX_BYTES,
    WEIGHT_MAX,
    WEIGHT_MIN,
    WORKERS_MAX,
    LimitConfig,
    check_label,
)
from fastlb.model.proxied import ProxyProtocol, TrustedProxies


class Mode(str, Enum):
    """What a listener speaks."""

    HTTP = "http"
    TCP = "tcp"


class Policy(str, Enum):
    """Who is picked among the eligible backends."""

    LEAST_CONN = "least_conn"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"


class AllDown(str, Enum):
    """What happens to clients while no backend is up, backups included.

    FAIL: 503, or RST in TCP mode. PANIC: they are balanced over all backends that are not draining.
    """

    FAIL = "fail"
    PANIC = "panic"


class OnDown(str, Enum):
    """What happens to the open exchanges of a backend whose checks begin to fail."""

    KEEP = "keep"
    CLOSE = "close"


class EjectErrors(str, Enum):
    """Which server errors count as failures in traffic, as a refused connection does.

    GATEWAY: 502, 503 and 504. ALL: every 5xx and what is above, but 501 and 505, which speak of the
    request.
    """

    OFF = "off"
    GATEWAY = "gateway"
    ALL = "all"

    def counts(self, status: int) -> bool:
        """True if an answer with this status is a failure of the backend."""
        if self is EjectErrors.GATEWAY:
            return 502 <= status <= 504
        return self is EjectErrors.ALL and status >= 500 and status not in (501, 505)


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectConfig:
    """When failures in traffic take a backend out of rotation, whatever its checks say.

    `after`: failures in a row. `time_s`: of the first ejection; each further one is longer by it.
    `share_percent`: greatest part of the pool that is out for this at once; 0 = nobody ever.
    """

    after: int = 5
    time_s: float = 10.0
    share_percent: int = 50

    def __post_init__(self) -> None:
        _check("ejection.after", self.after, 1, 1000)
        _check("ejection.time_s", self.time_s, 0.01, 86_400, " seconds")
        _check("ejection.share_percent", self.share_percent, 0, 100)


class EngineChoice(str, Enum):
    """Which engine the user wants."""

    AUTO = "auto"
    NATIVE = "native"
    PURE = "pure"


class LogFormat(str, Enum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


def _check(path: str, value: float, low: float, high: float, unit: str = "") -> None:
    if not low <= value <= high:
        raise ConfigError(path, value, f"from {low:g} to {high:g}{unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """A bound address and what it speaks.

    `proxy_protocol`: every connection begins with a PROXY header, from one of `trusted_proxies`.
    `socket_mode`: who may connect to a UNIX socket, as in chmod(2); None = what the umask leaves.
    """

    address: Address
    mode: Mode = Mode.HTTP
    proxy_protocol: bool = False
    socket_mode: int | None = None

    def __post_init__(self) -> None:
        if self.socket_mode is not None:
            _check("listener.socket_mode", self.socket_mode, 0, 0o777)
            if not self.address.is_unix:
                raise ConfigError("listener.socket_mode", self.socket_mode, "given for a UNIX socket only")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendConfig:
    """One address traffic may be sent to.

    `weight`: share of the traffic, 1 to 256. `max_conns`: exchanges at once, 0 = no limit.
    `backup`: used only while every other backend is out. `name`: for logs; the address if empty.
    `proxy_protocol`: connections to it begin with a PROXY header, and serve one client each.
    """

    address: Address
    weight: int = 1
    max_conns: int = 0
    backup: bool = False
    name: str = ""
    proxy_protocol: ProxyProtocol = ProxyProtocol.OFF

    def __post_init__(self) -> None:
        _check("backend.weight", self.weight, WEIGHT_MIN, WEIGHT_MAX)
        _check("backend.max_conns", self.max_conns, 0, 1_000_000)
        check_label(self.name)

    @property
    def label(self) -> str:
        """The name that log lines use."""
        return self.name or str(self.address)


@dataclass(frozen=True, slots=True)
class StatusRange:
    """HTTP status codes from `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 100 <= self.first <= self.last <= 999:
            raise ConfigError(
                "probe.expect", f"{self.first}-{self.last}", "a range of status codes such as 200-399"
            )

    def __contains__(self, status: int) -> bool:
        return self.first <= status <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeConfig:
    """How often one backend is asked, and how many answers in a row change its state.

    `path` is asked with GET in HTTP mode. An answer counts as a pass if its status is in one of `expect`.
    TCP mode only connects, or it sends `send` and waits for an answer with `expect_bytes` in it.
    `timeout_s` covers the whole probe. `fast_interval_s`: between two probes of a backend that is down or
    in doubt, never longer than `interval_s`; None = half of it.
    """

    enabled: bool = True
    path: str = "/"
    host: str = ""
    expect: tuple[StatusRange, ...] = (StatusRange(200, 399),)
    send: bytes = b""
    expect_bytes: bytes = b""
    interval_s: float = 2.0
    fast_interval_s: float | None = None
    timeout_s: float = 1.0
    rise: int = 2  # passes in a row, down -> up
    fall: int = 3  # failures in a row, up -> down

    def __post_init__(self) -> None:
        _check("probe.interval_s", self.interval_s, 0.01, 86_400, " seconds")
        if self.fast_interval_s is not None:
            _check("probe.fast_interval_s", self.fast_interval_s, 0.01, self.interval_s, " seconds")
        _check("probe.timeout_s", self.timeout_s, 0.01, 3600, " seconds")
        for name, words in (("send", self.send), ("expect_bytes", self.expect_bytes)):
            if len(words) > CHECK_WORDS_MAX_BYTES:
                raise ConfigError(f"probe.{name}", words[:20], f"at most {CHECK_WORDS_MAX_BYTES} bytes")
        _check("probe.rise", self.rise, 1, 100)
        _check("probe.fall", self.fall, 1, 100)
        if (
            not self.path.startswith("/")
            or not self.path.isascii()
            or not self.path.isprintable()
            or " " in self.path
        ):
            raise ConfigError("probe.path", self.path, "a path that starts with / and has no spaces")
        if not self.expect:
            raise ConfigError("probe.expect", self.expect, "at least one range of status codes")

    @property
    def in_doubt_s(self) -> float:
        """How often a backend is asked that is down or in doubt."""
        return self.interval_s / 2 if self.fast_interval_s is None else self.fast_interval_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutConfig:
    """How long fastlb waits, in seconds. What each ends with is in docs/semantics.md.

    `connect_s`: TCP connect to one backend.
    `header_s`: from the first byte of a request to the end of its header section (408), and from the
        accept to the end of a PROXY header.
    `idle_s`: HTTP client that sends nothing before its first request or in the middle of a body;
        TCP session in which nothing moves.
    `keepalive_s`: HTTP client that sends nothing between two requests; above the 60 s for
        which the load balancers of large clouds keep an idle connection, so that they leave first.
    `response_s`: from the request's end to the first byte of the response (504); None = for ever.
    `send_s`: HTTP client that takes nothing of a response; it is looked at four times in it, so it
        may get a quarter more.
    `tunnel_s`: no byte in either direction, of a TCP session, an upgraded connection or a
        response under way.
    `fin_s`: the other direction after one side has sent FIN.
    `upstream_idle_s`: unused pooled connection; below the 5 s of the usual application servers.
    `queue_s`: waiting for a backend below its `max_conns` (503).
    `drain_s`: open exchanges after SIGTERM.
    """

    connect_s: float = 3.0
    header_s: float = 10.0
    idle_s: float = 60.0
    keepalive_s: float = 75.0
    response_s: float | None = None
    send_s: float = 60.0
    tunnel_s: float = 3600.0
    fin_s: float = 30.0
    upstream_idle_s: float = 4.0
    queue_s: float = 5.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for name in (
            *("connect_s", "header_s", "idle_s", "keepalive_s", "response_s", "send_s", "tunnel_s"),
            *("fin_s", "upstream_idle_s", "queue_s"),
        ):
            value = getattr(self, name)
            if value is not None:
                _check(f"timeouts.{name}", value, 0.001, 604_800, " seconds")
        _check("timeouts.drain_s", self.drain_s, 0, 604_800, " seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Where log lines go. `access`: a path, `-` for standard output, or `off`."""

    access: str = "off"
    format: LogFormat = LogFormat.TEXT
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine needs to know; the same for both.

    `access_format` is None when no access log is wanted, so that nothing is recorded.
    `fields` says which fields of requests are dropped.
    `via` is the pseudonym in the Via field of requests (RFC 9110 7.6.3), empty = no Via.
    `trusted_proxies` may say in X-Forwarded-* and with the PROXY protocol who a client is.
    `seed` makes the random policy repeatable; None = from the system.
    """

    workers: int = 1
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    fields: FieldConfig = field(default_factory=FieldConfig)
    access_format: LogFormat | None = None
    eject_errors: EjectErrors = EjectErrors.GATEWAY
    via: str = "fastlb"
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    seed: int | None = None

    def __post_init__(self) -> None:
        _check("workers", self.workers, 1, WORKERS_MAX)
        self.limits.check_buffers(self.workers)
        if len(self.via) > 64 or not all(c.isascii() and (c.isalnum() or c in "-._:") for c in self.via):
            raise ConfigError("via", self.via, "a name or host of at most 64 letters, digits and -._:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that one run of fastlb needs."""

    listeners: tuple[ListenerConfig, ...]
    backends: tuple[BackendConfig, ...]
    policy: Policy = Policy.LEAST_CONN
    all_down: AllDown = AllDown.FAIL
    on_down: OnDown = OnDown.KEEP
    ejection: EjectConfig = field(default_factory=EjectConfig)
    eject_errors: EjectErrors = EjectErrors.GATEWAY
    engine: EngineChoice = EngineChoice.AUTO
    workers: int = 1
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    timeouts: TimeoutConfig = field(default_factory=TimeoutConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    fields: FieldConfig = field(default_factory=FieldConfig)
    log: LogConfig = field(default_factory=LogConfig)
    via: str = "fastlb"
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)

    def __post_init__(self) -> None:
        if not self.listeners:
            raise ConfigError("listen", "", "at least one address")
        if not self.backends:
            raise ConfigError("backend", "", "at least one address")
        _check("workers", self.workers, 1, WORKERS_MAX)
        self.limits.check_buffers(self.workers)
        seen: set[str] = set()
        for backend in self.backends:
            if backend.label in seen:
                raise ConfigError("backend.name", backend.label, "given once")
            seen.add(backend.label)
        if not self.trusted_proxies and any(listener.proxy_protocol for listener in self.listeners):
            raise ConfigError(
                "trusted_proxies",
                "",
                "given: a listener with proxy_protocol needs one, such as 10.0.0.0/8, 127.0.0.1 or unix",
            )

"""From the flags as typed to a checked `Config`. Pure: no file, no socket, no clock."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from fastlb.model.address import PORT_MAX, Address
from fastlb.model.config import (
    AllDown,
    BackendConfig,
    Config,
    EjectConfig,
    EjectErrors,
    EngineChoice,
    ListenerConfig,
    LogConfig,
    LogFormat,
    Mode,
    OnDown,
    Policy,
    ProbeConfig,
    StatusRange,
    TimeoutConfig,
)
from fastlb.model.errors import ConfigError
from fastlb.model.fields import FieldConfig, UnderscoreFields
from fastlb.model.limits import WORKERS_MAX, LimitConfig
from fastlb.model.proxied import TrustedProxies, parse_trusted_proxies
from fastlb.surface.backend_text import parse_backend_text
from fastlb.surface.durations import parse_duration
from fastlb.surface.escapes import parse_bytes
from fastlb.surface.flags import FLAGS
from fastlb.surface.listen_text import parse_listen_text
from fastlb.surface.numbers import parse_whole
from fastlb.surface.sizes import parse_size

LEVELS = ("debug", "info", "warning", "error")
TCP_IDLE_TIMEOUT = "1h"
# PATH_MAX of Linux.
VALUE_MAX_CHARS = 4096
_CHECK_FLAGS = (
    "--check-path",
    "--check-host",
    "--check-expect",
    "--check-send",
    "--check-expect-bytes",
    "--check-interval",
    "--check-fast-interval",
    "--check-timeout",
    "--rise",
    "--fall",
    "--all-down",
    "--on-down",
)
_HTTP_ONLY_FLAGS = (
    "--check-path",
    "--check-host",
    "--check-expect",
    "--eject-errors",
    "--header-timeout",
    "--keepalive-timeout",
    "--response-timeout",
    "--send-timeout",
    "--tunnel-timeout",
    "--upstream-idle-timeout",
    "--via",
    "--trusted-proxy",
    "--pass-field",
    "--drop-field",
    "--underscore-fields",
    "--upgrade",
    "--max-request-line",
    "--max-header-size",
    "--max-header-fields",
    "--max-body-size",
    "--buffer-requests",
)
_TCP_ONLY_FLAGS = ("--check-send", "--check-expect-bytes")
# These are about PROXY headers too, in both modes.
_PROXY_HEADER_FLAGS = frozenset({"--header-timeout", "--trusted-proxy"})
_FLAG_OF_PATH = {
    "trusted_proxies": "--trusted-proxy",
    "workers": "--workers",
    "limits.connections": "--max-connections",
    "limits.client_connections": "--max-client-connections",
    "limits.line_bytes": "--max-request-line",
    "limits.header_bytes": "--max-header-size",
    "limits.fields": "--max-header-fields",
    "limits.body_bytes": "--max-body-size",
    "limits.tries": "--tries",
    "limits.request_buffer_bytes": "--buffer-requests",
    "limits.retry_percent": "--retry-budget",
    "limits.buffer_bytes": "--buffer-memory",
    "probe.path": "--check-path",
    "probe.send": "--check-send",
    "probe.expect_bytes": "--check-expect-bytes",
    "probe.interval_s": "--check-interval",
    "probe.fast_interval_s": "--check-fast-interval",
    "probe.timeout_s": "--check-timeout",
    "probe.rise": "--rise",
    "probe.fall": "--fall",
    "ejection.after": "--eject-after",
    "ejection.time_s": "--eject-time",
    "ejection.share_percent": "--eject-share",
    "timeouts.connect_s": "--connect-timeout",
    "timeouts.header_s": "--header-timeout",
    "timeouts.idle_s": "--idle-timeout",
    "timeouts.keepalive_s": "--keepalive-timeout",
    "timeouts.response_s": "--response-timeout",
    "timeouts.send_s": "--send-timeout",
    "timeouts.tunnel_s": "--tunnel-timeout",
    "timeouts.fin_s": "--fin-timeout",
    "timeouts.upstream_idle_s": "--upstream-idle-timeout",
    "timeouts.queue_s": "--queue-timeout",
    "timeouts.drain_s": "--drain-timeout",
}
_FLAG_OF_FIELDS = {
    "fields.passed": "--pass-field",
    "fields.dropped": "--drop-field",
    "fields.upgrades": "--upgrade",
}
_STATUS_RANGE = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")
# RFC 9110 7.6.3: received-by is a pseudonym (token) or a host with an optional port.
_VIA_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z:-]+")
# RFC 3986 3.2: what may stand in a reg-name or an IP literal, and a port; as clients may send it.
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+;=-]+)(?::([0-9]{1,5}))?")

_Choice = TypeVar("_Choice", bound=Enum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What stood on the command line.

    `single`: flag -> text, without the flags that were not given. `repeated`: flag -> texts.
    `switches`: the flags without a value that were given.
    """

    single: Mapping[str, str]
    repeated: Mapping[str, Sequence[str]]
    switches: frozenset[str] = frozenset()

    def text(self, flag: str) -> str:
        """The value as typed, or the default of the flag."""
        return self.single.get(flag, _DEFAULTS[flag])

    def has(self, flag: str) -> bool:
        """True if the flag was given."""
        return flag in self.single or flag in self.switches or bool(self.repeated.get(flag))


_DEFAULTS = {flag.name: flag.default for flag in FLAGS}


def read_settings(typed: Typed, *, cpus: int) -> Config:
    """Check everything that was typed. `cpus`: what `--workers auto` stands for.

    Raises: ConfigError whose path is the flag, whose value is what was typed and whose
            expectation says what would be right.
    """
    _refuse_unprintable(typed)
    mode = _choice(Mode, "--mode", typed)
    listeners = _listeners(typed, mode)
    _refuse_conflicts(typed, mode, proxied=any(listener.proxy_protocol for listener in listeners))
    backends = _backends(typed)
    try:
        return Config(
            listeners=listeners,
            backends=backends,
            policy=_choice(Policy, "--policy", typed),
            all_down=_choice(AllDown, "--all-down", typed),
            on_down=_choice(OnDown, "--on-down", typed),
            ejection=_ejection(typed),
            eject_errors=_choice(EjectErrors, "--eject-errors", typed),
            engine=_choice(EngineChoice, "--engine", typed),
            workers=_workers(typed, cpus),
            probe=_probe(typed),
            timeouts=_timeouts(typed, mode),
            limits=_limits(typed),
            fields=_fields(typed),
            log=_log(typed),
            via=_via(typed),
            trusted_proxies=_trusted_proxies(typed),
        )
    except ConfigError as error:
        flag = _FLAG_OF_PATH.get(error.path)
        if flag is None:
            raise
        raise ConfigError(flag, typed.text(flag), error.expected) from None


def _refuse_unprintable(typed: Typed) -> None:
    """Control characters, and bytes that are not UTF-8 (they arrive as lone surrogates)."""
    texts = [*typed.single.items()]
    texts += [(flag, text) for flag, values in typed.repeated.items() for text in values]
    for flag, text in texts:
        if not text:
            raise ConfigError(flag, text, "a value: it is empty")
        if not text.isprintable():
            raise ConfigError(flag, text, "printable text")
        if len(text) > VALUE_MAX_CHARS:
            raise ConfigError(flag, text, f"at most {VALUE_MAX_CHARS} characters long")


def _refuse_conflicts(typed: Typed, mode: Mode, *, proxied: bool) -> None:
    """`proxied`: some listener reads PROXY headers."""
    if typed.has("--no-check"):
        for flag in _CHECK_FLAGS:
            if typed.has(flag):
                raise ConfigError(
                    flag, typed.text(flag), "used when --no-check is given: leave one of them out"
                )
    if mode is Mode.HTTP:
        for flag in _TCP_ONLY_FLAGS:
            if typed.has(flag):
                raise ConfigError(flag, typed.text(flag), "used in --mode http: leave it out")
    else:
        for flag in _HTTP_ONLY_FLAGS:
            if typed.has(flag) and not (proxied and flag in _PROXY_HEADER_FLAGS):
                raise ConfigError(flag, typed.text(flag), "used in --mode tcp: leave it out")


def _listeners(typed: Typed, mode: Mode) -> tuple[ListenerConfig, ...]:
    texts = typed.repeated.get("--listen", ())
    if not texts:
        raise ConfigError("--listen", "", "given: add one, such as --listen :8080")
    listeners = tuple(parse_listen_text(text, mode) for text in texts)
    seen: set[Address] = set()
    for text, listener in zip(texts, listeners, strict=True):
        # Port 0 is a new port each time.
        if listener.address in seen and (listener.address.port or listener.address.is_unix):
            raise ConfigError("--listen", text, "an address to give twice")
        seen.add(listener.address)
    return listeners


def _backends(typed: Typed) -> tuple[BackendConfig, ...]:
    texts = typed.repeated.get("--backend", ())
    if not texts:
        raise ConfigError("--backend", "", "given: add one, such as --backend 127.0.0.1:9001")
    backends = tuple(parse_backend_text(text) for text in texts)
    addresses: set[Address] = set()
    labels: set[str] = set()
    for text, backend in zip(texts, backends, strict=True):
        if backend.address in addresses:
            raise ConfigError("--backend", text, "an address to give twice; weight=2 doubles its share")
        if backend.label in labels:
            raise ConfigError("--backend", text, f"named {backend.label} alone: each name is given once")
        addresses.add(backend.address)
        labels.add(backend.label)
    return backends


def _choice(choices: type[_Choice], flag: str, typed: Typed) -> _Choice:
    text = typed.text(flag)
    try:
        return choices(text)
    except ValueError:
        raise ConfigError(flag, text, _one_of([str(each.value) for each in choices])) from None


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _workers(typed: Typed, cpus: int) -> int:
    text = typed.text("--workers")
    if text == "auto":
        return max(1, min(cpus, WORKERS_MAX))
    if not text.isdigit():
        raise ConfigError("--workers", text, f"auto or a whole number from 1 to {WORKERS_MAX}")
    return parse_whole(text, path="--workers")


def _limits(typed: Typed) -> LimitConfig:
    retry_budget = typed.text("--retry-budget")
    return LimitConfig(
        line_bytes=_size(typed, "--max-request-line"),
        header_bytes=_size(typed, "--max-header-size"),
        fields=parse_whole(typed.text("--max-header-fields"), path="--max-header-fields"),
        body_bytes=_size(typed, "--max-body-size", none="off"),
        request_buffer_bytes=_size(typed, "--buffer-requests", none="off"),
        connections=_connections(typed, "--max-connections", none="auto"),
        client_connections=_connections(typed, "--max-client-connections", none="off"),
        buffer_bytes=_size(typed, "--buffer-memory", none="auto"),
        tries=parse_whole(typed.text("--tries"), path="--tries"),
        retry_percent=None if retry_budget == "off" else parse_whole(retry_budget, path="--retry-budget"),
    )


def _fields(typed: Typed) -> FieldConfig:
    try:
        return FieldConfig(
            passed=tuple(typed.repeated.get("--pass-field", ())),
            dropped=tuple(typed.repeated.get("--drop-field", ())),
            underscores=_choice(UnderscoreFields, "--underscore-fields", typed),
            upgrades=tuple(typed.repeated.get("--upgrade", ())),
        )
    except ConfigError as error:
        raise ConfigError(_FLAG_OF_FIELDS.get(error.path, error.path), error.value, error.expected) from None


def _size(typed: Typed, flag: str, *, none: str = "") -> int:
    """Bytes, at least one; 0 stands for the word `none`."""
    text = typed.text(flag)
    if none and text == none:
        return 0
    size = parse_size(text, path=flag)
    if not size:
        raise ConfigError(flag, text, f"{none} or 1 byte or more" if none else "1 byte or more")
    return size


def _connections(typed: Typed, flag: str, *, none: str) -> int:
    text = typed.text(flag)
    if text == none:
        return 0
    if not text.isdigit() or not text.strip("0"):
        raise ConfigError(flag, text, f"{none} or a whole number of 1 or more")
    return parse_whole(text, path=flag)


def _probe(typed: Typed) -> ProbeConfig:
    return ProbeConfig(
        enabled=not typed.has("--no-check"),
        path=typed.text("--check-path"),
        host=_check_host(typed),
        expect=parse_expect(typed.text("--check-expect")),
        send=parse_bytes(typed.text("--check-send"), path="--check-send"),
        expect_bytes=parse_bytes(typed.text("--check-expect-bytes"), path="--check-expect-bytes"),
        interval_s=_seconds(typed, "--check-interval"),
        fast_interval_s=_seconds(typed, "--check-fast-interval")
        if typed.has("--check-fast-interval")
        else None,
        timeout_s=_seconds(typed, "--check-timeout"),
        rise=parse_whole(typed.text("--rise"), path="--rise"),
        fall=parse_whole(typed.text("--fall"), path="--fall"),
    )


def _ejection(typed: Typed) -> EjectConfig:
    return EjectConfig(
        after=parse_whole(typed.text("--eject-after"), path="--eject-after"),
        time_s=_seconds(typed, "--eject-time"),
        share_percent=parse_whole(typed.text("--eject-share"), path="--eject-share"),
    )


def _check_host(typed: Typed) -> str:
    text = typed.text("--check-host")
    match = _HOST.fullmatch(text)
    if text and (match is None or int(match[1] or 0) > PORT_MAX):
        raise ConfigError("--check-host", text, "a host name or address, with a port if need be")
    return text


def parse_expect(text: str) -> tuple[StatusRange, ...]:
    """Read `200-399,404`. Raises: ConfigError naming `--check-expect`."""
    expected = "status codes from 100 to 999, such as 200-399,404"
    ranges = []
    for part in text.split(","):
        match = _STATUS_RANGE.fullmatch(part)
        if match is None:
            raise ConfigError("--check-expect", text, expected)
        first, last = match[1], match[2] or match[1]
        try:
            ranges.append(StatusRange(int(first), int(last)))
        except ConfigError:
            raise ConfigError("--check-expect", text, f"{expected}, lower one first") from None
    return tuple(ranges)


def _seconds(typed: Typed, flag: str) -> float:
    return parse_duration(typed.text(flag), path=flag)


def _timeouts(typed: Typed, mode: Mode) -> TimeoutConfig:
    response = typed.text("--response-timeout")
    if mode is Mode.TCP and not typed.has("--idle-timeout"):
        idle_s = parse_duration(TCP_IDLE_TIMEOUT, path="--idle-timeout")
    else:
        idle_s = _seconds(typed, "--idle-timeout")
    return TimeoutConfig(
        connect_s=_seconds(typed, "--connect-timeout"),
        header_s=_seconds(typed, "--header-timeout"),
        idle_s=idle_s,
        keepalive_s=_seconds(typed, "--keepalive-timeout"),
        response_s=None if response == "off" else _seconds(typed, "--response-timeout"),
        send_s=_seconds(typed, "--send-timeout"),
        tunnel_s=_seconds(typed, "--tunnel-timeout"),
        fin_s=_seconds(typed, "--fin-timeout"),
        upstream_idle_s=_seconds(typed, "--upstream-idle-timeout"),
        queue_s=_seconds(typed, "--queue-timeout"),
        drain_s=_seconds(typed, "--drain-timeout"),
    )


def _log(typed: Typed) -> LogConfig:
    level = typed.text("--log-level")
    if level not in LEVELS:
        raise ConfigError("--log-level", level, _one_of(LEVELS))
    return LogConfig(
        access=typed.text("--access-log"),
        format=_choice(LogFormat, "--log-format", typed),
        level=level,
    )


def _trusted_proxies(typed: Typed) -> TrustedProxies:
    return parse_trusted_proxies(typed.repeated.get("--trusted-proxy", ()), path="--trusted-proxy")


def _via(typed: Typed) -> str:
    text = typed.text("--via")
    if text == "off":
        return ""
    if not _VIA_NAME.fullmatch(text):
        raise ConfigError("--via", text, "off or a name without spaces, such as fastlb")
    return text

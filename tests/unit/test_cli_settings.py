"""From the flags as typed to a checked configuration."""

import pytest

from fastlb.model.address import Address
from fastlb.model.config import (
    AllDown,
    Config,
    EjectConfig,
    EjectErrors,
    EngineChoice,
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
from fastlb.model.limits import LimitConfig
from fastlb.model.proxied import parse_trusted_proxies
from fastlb.surface.flags import FLAGS
from fastlb.surface.settings import Typed, read_settings

LISTEN = {"--listen": (":8080",), "--backend": ("127.0.0.1:9001",)}


def read(single=None, switches=(), repeated=None):
    """Settings of a minimal command line with some more flags."""
    return read_settings(
        Typed(single=single or {}, repeated=repeated or LISTEN, switches=frozenset(switches)), cpus=3
    )


def test_minimal_command_line_means_the_defaults_of_the_model():
    """The table of flags and the model state the defaults twice; they must say the same."""
    config = read()
    plain = Config(listeners=config.listeners, backends=config.backends, workers=3)

    assert config == plain


def test_every_flag_reaches_the_configuration():
    """A flag that is read and then dropped would lie to its user."""
    config = read(
        {
            "--mode": "http",
            "--via": "edge",
            "--policy": "random",
            "--check-path": "/up",
            "--check-host": "app.test",
            "--check-expect": "204,300-399",
            "--check-interval": "500ms",
            "--check-timeout": "250ms",
            "--check-fast-interval": "100ms",
            "--rise": "4",
            "--fall": "5",
            "--all-down": "panic",
            "--on-down": "close",
            "--eject-errors": "all",
            "--eject-after": "7",
            "--eject-time": "3s",
            "--eject-share": "20",
            "--connect-timeout": "11s",
            "--header-timeout": "12s",
            "--idle-timeout": "13s",
            "--response-timeout": "14s",
            "--send-timeout": "14s",
            "--tunnel-timeout": "15s",
            "--fin-timeout": "16s",
            "--upstream-idle-timeout": "17s",
            "--queue-timeout": "18s",
            "--drain-timeout": "19s",
            "--access-log": "/tmp/access.log",
            "--log-format": "json",
            "--log-level": "error",
            "--workers": "6",
            "--engine": "pure",
            "--max-connections": "77",
            "--max-client-connections": "7",
            "--keepalive-timeout": "20s",
            "--max-request-line": "4k",
            "--max-header-size": "16K",
            "--max-header-fields": "50",
            "--max-body-size": "10m",
            "--tries": "2",
            "--buffer-requests": "8k",
            "--retry-budget": "5",
            "--buffer-memory": "1g",
            "--underscore-fields": "drop",
        },
        repeated={
            "--listen": (":1", "unix:/s,proxy_protocol,mode=0660"),
            "--backend": ("a:1", "b:2,weight=2"),
            "--trusted-proxy": ("10.0.0.0/8", "unix"),
            "--pass-field": ("X-Real-IP", "x-scheme"),
            "--drop-field": ("X-User",),
            "--upgrade": ("tcp",),
        },
    )

    assert [str(listener.address) for listener in config.listeners] == [":1", "unix:/s"]
    assert [listener.proxy_protocol for listener in config.listeners] == [False, True]
    assert [listener.socket_mode for listener in config.listeners] == [None, 0o660]
    assert config.trusted_proxies == parse_trusted_proxies(["10.0.0.0/8", "unix"])
    assert [(backend.label, backend.weight) for backend in config.backends] == [("a:1", 1), ("b:2", 2)]
    assert (config.policy, config.engine, config.workers) == (Policy.RANDOM, EngineChoice.PURE, 6)
    assert config.via == "edge"
    assert config.limits == LimitConfig(
        line_bytes=4096,
        header_bytes=16_384,
        fields=50,
        body_bytes=10_485_760,
        request_buffer_bytes=8192,
        connections=77,
        client_connections=7,
        buffer_bytes=1_073_741_824,
        tries=2,
        retry_percent=5,
    )
    assert config.fields == FieldConfig(
        passed=("X-Real-IP", "x-scheme"),
        dropped=("X-User",),
        underscores=UnderscoreFields.DROP,
        upgrades=("tcp",),
    )
    assert (config.all_down, config.on_down) == (AllDown.PANIC, OnDown.CLOSE)
    assert config.eject_errors is EjectErrors.ALL
    assert config.ejection == EjectConfig(after=7, time_s=3.0, share_percent=20)
    assert config.probe == ProbeConfig(
        path="/up",
        host="app.test",
        expect=(StatusRange(204, 204), StatusRange(300, 399)),
        interval_s=0.5,
        fast_interval_s=0.1,
        timeout_s=0.25,
        rise=4,
        fall=5,
    )
    assert config.timeouts == TimeoutConfig(
        connect_s=11,
        header_s=12,
        idle_s=13,
        keepalive_s=20,
        response_s=14,
        send_s=14,
        tunnel_s=15,
        fin_s=16,
        upstream_idle_s=17,
        queue_s=18,
        drain_s=19,
    )
    assert config.log == LogConfig(access="/tmp/access.log", format=LogFormat.JSON, level="error")


def test_what_a_check_says_in_tcp_mode_reaches_the_configuration():
    """With its escapes read; in http mode a check asks for a path."""
    probe = read({"--mode": "tcp", "--check-send": r"PING\r\n", "--check-expect-bytes": r"\x2bPONG"}).probe

    assert (probe.send, probe.expect_bytes) == (b"PING\r\n", b"+PONG")
    for flag in ("--check-send", "--check-expect-bytes"):
        with pytest.raises(ConfigError, match="used in --mode http") as refused:
            read({flag: "x"})
        assert refused.value.path == flag
        with pytest.raises(ConfigError, match="at most 4096 bytes") as refused:
            read({"--mode": "tcp", flag: "é" * 2049})
        assert refused.value.path == flag


def test_flag_table_has_every_flag_once():
    """Help, README and command line are made from it."""
    names = [flag.name for flag in FLAGS]

    assert len(names) == len(set(names))
    assert all(name.startswith("--") for name in names)


def test_tcp_mode_keeps_idle_sessions_for_an_hour():
    """A quiet database session is not a slow client; peers agree on an hour."""
    assert read({"--mode": "tcp"}).timeouts.idle_s == 3600
    assert read({"--mode": "tcp", "--idle-timeout": "5m"}).timeouts.idle_s == 300
    assert read({"--mode": "tcp"}).listeners[0].mode is Mode.TCP


def test_workers_auto_is_the_cpus_within_the_limit():
    """A machine with more CPUs than workers may exist still starts."""
    assert read_settings(Typed(single={}, repeated=LISTEN), cpus=1000).workers == 64
    assert read({"--workers": "auto"}).workers == 3


def test_off_turns_off():
    """`off` is the one word for nothing, wherever nothing is allowed."""
    config = read(
        dict.fromkeys(
            ("--via", "--response-timeout", "--access-log", "--max-body-size", "--retry-budget"), "off"
        )
    )

    assert (config.via, config.timeouts.response_s, config.log.access) == ("", None, "off")
    assert (config.limits.body_bytes, config.limits.retry_percent) == (0, None)


def test_no_check_disables_probes():
    """The switch has no value and means what it says."""
    assert read(switches=["--no-check"]).probe.enabled is False


@pytest.mark.parametrize("missing", ["--listen", "--backend"])
def test_missing_address_is_named(missing):
    """The message carries an example, so that nobody needs the manual."""
    given = {flag: values for flag, values in LISTEN.items() if flag != missing}

    with pytest.raises(ConfigError, match="such as") as refused:
        read(repeated=given)

    assert refused.value.path == missing


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--mode", "udp"),
        ("--policy", "leastconn"),
        ("--all-down", "open"),
        ("--on-down", "kill"),
        ("--eject-errors", "500"),
        ("--eject-after", "0"),
        ("--eject-time", "0s"),
        ("--eject-share", "101"),
        ("--engine", "fast"),
        ("--workers", "0"),
        ("--workers", "65"),
        ("--workers", "many"),
        ("--workers", "9" * 4000),
        ("--max-connections", "0"),
        ("--max-connections", "-1"),
        ("--max-connections", "10000001"),
        ("--max-client-connections", "0"),
        ("--max-client-connections", "auto"),
        ("--max-client-connections", "10000001"),
        ("--check-path", "up"),
        ("--check-path", "/a b"),
        ("--check-host", "a b"),
        ("--check-host", "a/b"),
        ("--check-host", "a,b"),
        ("--check-host", "a:65536"),
        ("--underscore-fields", "off"),
        ("--check-expect", "200-"),
        ("--check-expect", "1000"),
        ("--check-expect", "099"),
        ("--check-expect", "300-200"),
        ("--check-interval", "0s"),
        ("--check-timeout", "2h"),
        ("--check-fast-interval", "3s"),
        ("--check-fast-interval", "0s"),
        ("--rise", "0"),
        ("--fall", "101"),
        ("--fall", "²"),
        ("--connect-timeout", "0s"),
        ("--header-timeout", "10"),
        ("--idle-timeout", "forever"),
        ("--response-timeout", "0s"),
        ("--tunnel-timeout", "off"),
        ("--fin-timeout", "0ms"),
        ("--upstream-idle-timeout", "0s"),
        ("--queue-timeout", "0s"),
        ("--drain-timeout", "200h"),
        ("--keepalive-timeout", "0s"),
        ("--keepalive-timeout", "off"),
        ("--max-request-line", "63"),
        ("--max-request-line", "65k"),
        ("--max-header-size", "1023"),
        ("--max-header-size", "off"),
        ("--max-header-fields", "0"),
        ("--max-header-fields", "257"),
        ("--max-body-size", "0"),
        ("--max-body-size", "8589934592g"),
        ("--tries", "0"),
        ("--tries", "11"),
        ("--tries", "off"),
        ("--buffer-requests", "0"),
        ("--buffer-requests", "65k"),
        ("--retry-budget", "101"),
        ("--retry-budget", "20%"),
        ("--buffer-memory", "0"),
        ("--buffer-memory", "2m"),
        ("--buffer-memory", "off"),
        ("--access-log", ""),
        ("--access-log", "/tmp/\udcff"),
        ("--log-format", "xml"),
        ("--log-level", "loud"),
        ("--via", "a b"),
        ("--via", "a\r\nX-Evil: 1"),
        ("--via", "x" * 5000),
    ],
)
def test_bad_value_is_refused_with_its_flag_and_text(flag, text):
    """The user sees the flag that was typed, never the name of a field inside."""
    with pytest.raises(ConfigError) as refused:
        read({flag: text})

    assert (refused.value.path, refused.value.value) == (flag, text)


@pytest.mark.parametrize(
    ("repeated", "flag"),
    [
        ({"--listen": (":80", ":80"), "--backend": ("a:1",)}, "--listen"),
        ({"--listen": ("unix:/a", "unix:/a"), "--backend": ("a:1",)}, "--listen"),
        (
            {"--listen": (":80", ":80,proxy_protocol"), "--backend": ("a:1",), "--trusted-proxy": ("::1",)},
            "--listen",
        ),
        ({"--listen": (":80",), "--backend": ("a:1", "http://a:1")}, "--backend"),
        ({"--listen": (":80",), "--backend": ("a:1,name=x", "a:2,name=x")}, "--backend"),
    ],
)
def test_the_same_thing_twice_is_refused(repeated, flag):
    """A copy left in a long command line is a mistake, not a double share."""
    with pytest.raises(ConfigError) as refused:
        read(repeated=repeated)

    assert refused.value.path == flag


def test_the_search_for_the_same_thing_twice_is_not_quadratic(monkeypatch):
    """Ten thousand backends took half a minute to start."""
    compared = []
    equal = Address.__eq__
    monkeypatch.setattr(Address, "__eq__", lambda self, other: compared.append(1) or equal(self, other))
    texts = tuple(f"127.0.{n // 250}.{n % 250}:{80 + n}" for n in range(1000))
    read(repeated={"--listen": texts, "--backend": texts})

    assert len(compared) < 1000


@pytest.mark.parametrize("host", ["a..b", ".a", "x" * 64])
@pytest.mark.parametrize("flag", ["--listen", "--backend"])
def test_host_name_that_cannot_exist_is_bad_input(flag, host):
    """The resolver of Python raises UnicodeError for these, long after the flags were read."""
    with pytest.raises(ConfigError, match="host name") as refused:
        read(repeated=LISTEN | {flag: (f"{host}:80",)})

    assert refused.value.path == flag


def test_two_listeners_may_leave_the_port_to_the_kernel():
    """Port 0 is a different port each time."""
    config = read(repeated={"--listen": (":0", ":0"), "--backend": ("a:1",)})

    assert len(config.listeners) == 2


@pytest.mark.parametrize("flag", ["--check-path", "--header-timeout", "--via", "--max-body-size"])
def test_flags_of_http_are_refused_in_tcp_mode(flag):
    """A flag that would do nothing tells its user something false."""
    value = {"--check-path": "/", "--header-timeout": "1s", "--via": "x", "--max-body-size": "1m"}[flag]

    with pytest.raises(ConfigError, match="tcp"):
        read({"--mode": "tcp", flag: value})


def test_check_flags_do_not_go_with_no_check():
    """One of the two was not meant, and only the user knows which."""
    with pytest.raises(ConfigError, match="--no-check"):
        read({"--rise": "2"}, switches=["--no-check"])


def test_listener_with_headers_needs_a_trusted_proxy():
    """It would refuse everybody; the message names the flag that is missing."""
    with pytest.raises(ConfigError, match="such as") as refused:
        read(repeated=LISTEN | {"--listen": (":80,proxy_protocol",)})

    assert (refused.value.path, refused.value.value) == ("--trusted-proxy", "")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "unix:/path"])
def test_bad_trusted_proxy_is_named(text):
    """The user sees which of several is wrong."""
    with pytest.raises(ConfigError) as refused:
        read(repeated=LISTEN | {"--trusted-proxy": ("::1", text)})

    assert (refused.value.path, refused.value.value) == ("--trusted-proxy", text)


@pytest.mark.parametrize(
    ("flag", "text"),
    [("--pass-field", "X-Mine"), ("--drop-field", "Host"), ("--drop-field", "a b"), ("--upgrade", "h2c")],
)
def test_bad_field_name_is_named(flag, text):
    """The same for fields of requests, and for protocols."""
    with pytest.raises(ConfigError) as refused:
        read(repeated=LISTEN | {flag: ("X-Real-IP", text)})

    assert (refused.value.path, refused.value.value) == (flag, text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (":80,proxy_protocol=v1", "option of a listener"),
        (":80,", "option of a listener"),
        (":80,proxy", "option of a listener"),
        (":80,proxy_protocol,proxy_protocol", "twice"),
        (":80,mode=0660", "only a path has a mode"),
        ("unix:/s,mode=0660,mode=0600", "twice"),
        ("unix:/s,mode=rw", "three octal digits"),
        ("unix:/s,mode=0888", "three octal digits"),
        ("unix:/s,mode=", "three octal digits"),
        ("unix:/s,mode", "option of a listener"),
    ],
)
def test_bad_option_of_a_listener_is_named(text, why):
    """An option with a typing error must not be taken for a part of the address."""
    with pytest.raises(ConfigError, match=why) as refused:
        read(repeated=LISTEN | {"--listen": (text,), "--trusted-proxy": ("::1",)})

    assert text in refused.value.path


def test_flags_about_headers_are_for_tcp_mode_too():
    """A PROXY header has the same source and the same time-out in both modes; without one they do nothing."""
    repeated = LISTEN | {"--listen": (":80,proxy_protocol",), "--trusted-proxy": ("::1",)}
    config = read({"--mode": "tcp", "--header-timeout": "3s"}, repeated=repeated)

    assert (config.timeouts.header_s, config.listeners[0].proxy_protocol) == (3, True)
    with pytest.raises(ConfigError, match="tcp"):
        read({"--mode": "tcp"}, repeated=LISTEN | {"--trusted-proxy": ("::1",)})

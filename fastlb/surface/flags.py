"""Every flag of `fastlb`, once: the command line, its help and the check of the README use this table."""

from dataclasses import dataclass
from enum import Enum

from fastlb.model.fields import CLIENT_FIELDS


class Topic(str, Enum):
    """The headings of `fastlb --help`, in order."""

    TRAFFIC = "Traffic"
    BALANCING = "Balancing"
    HEALTH = "Health"
    TIMEOUTS = "Time-outs"
    LIMITS = "Limits"
    LOGGING = "Logging"
    PROCESS = "Process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `default` is what a user would have typed; empty if there is none."""

    name: str
    topic: Topic
    help: str
    metavar: str = ""
    default: str = ""
    repeatable: bool = False

    @property
    def is_switch(self) -> bool:
        """True if the flag takes no value."""
        return not self.metavar


def _duration(name: str, default: str, text: str, *, topic: Topic = Topic.TIMEOUTS) -> Flag:
    return Flag(name=name, topic=topic, metavar="DURATION", default=default, help=text)


FLAGS = (
    Flag(
        name="--listen",
        topic=Topic.TRAFFIC,
        metavar="ADDRESS[,OPTION...]",
        repeatable=True,
        help="Where clients connect: :8080, 0.0.0.0:8080, [::]:8080 or unix:/path. Repeatable. "
        "Options: proxy_protocol (each connection begins with a PROXY header, v1 or v2), mode=0660 (who may "
        "connect to the path).",
    ),
    Flag(
        name="--backend",
        topic=Topic.TRAFFIC,
        metavar="ADDRESS[,OPTION...]",
        repeatable=True,
        help="Where requests go: host:port, [v6]:port, http://host:port or unix:/path. Repeatable. "
        "Options: weight=1..256, backup, max_conns=N, name=TEXT, proxy_protocol=v1|v2.",
    ),
    Flag(
        name="--mode",
        topic=Topic.TRAFFIC,
        metavar="http|tcp",
        default="http",
        help="Balance HTTP requests, or whole TCP sessions.",
    ),
    Flag(
        name="--trusted-proxy",
        topic=Topic.TRAFFIC,
        metavar="CIDR|ADDRESS|unix",
        repeatable=True,
        help="Whose X-Forwarded-* fields are kept, and whose PROXY headers are believed. Repeatable.",
    ),
    Flag(
        name="--pass-field",
        topic=Topic.TRAFFIC,
        metavar="NAME",
        repeatable=True,
        help="A field of requests that any client may send, of those that only a --trusted-proxy may: "
        f"{', '.join(CLIENT_FIELDS)}. Repeatable.",
    ),
    Flag(
        name="--drop-field",
        topic=Topic.TRAFFIC,
        metavar="NAME",
        repeatable=True,
        help="One more field of requests that only a --trusted-proxy may send. Repeatable.",
    ),
    Flag(
        name="--underscore-fields",
        topic=Topic.TRAFFIC,
        metavar="pass|drop",
        default="pass",
        help="Fields of requests with _ in their names, which CGI and WSGI read as -. Those that resemble a "
        "field that is framed with, set or dropped here never pass.",
    ),
    Flag(
        name="--upgrade",
        topic=Topic.TRAFFIC,
        metavar="NAME",
        repeatable=True,
        help="One more protocol that clients may ask for with Upgrade, besides websocket. Repeatable.",
    ),
    Flag(
        name="--via",
        topic=Topic.TRAFFIC,
        metavar="NAME|off",
        default="fastlb",
        help="The name in the Via field that requests to backends carry.",
    ),
    Flag(
        name="--policy",
        topic=Topic.BALANCING,
        metavar="least_conn|round_robin|random",
        default="least_conn",
        help="Who is picked among the backends that are up. All three respect the weights.",
    ),
    Flag(
        name="--check-path",
        topic=Topic.HEALTH,
        metavar="PATH",
        default="/",
        help="What a health check asks for with GET. In tcp mode a check connects.",
    ),
    Flag(
        name="--check-host",
        topic=Topic.HEALTH,
        metavar="HOST",
        help="The Host of a health check. Default: the address of the backend.",
    ),
    Flag(
        name="--check-expect",
        topic=Topic.HEALTH,
        metavar="CODES",
        default="200-399",
        help="Status codes that pass, such as 200-399,404.",
    ),
    Flag(
        name="--check-send",
        topic=Topic.HEALTH,
        metavar="BYTES",
        help=r"What a check in tcp mode says: text with \r, \n, \t, \0, \\ and \xHH. Default: nothing.",
    ),
    Flag(
        name="--check-expect-bytes",
        topic=Topic.HEALTH,
        metavar="BYTES",
        help="What has to be in the first 16k of the answer, in tcp mode; written like --check-send. "
        "Default: no answer is waited for.",
    ),
    _duration("--check-interval", "2s", "Time between two checks of a backend.", topic=Topic.HEALTH),
    Flag(
        name="--check-fast-interval",
        topic=Topic.HEALTH,
        metavar="DURATION",
        help="The same for one that is down or in doubt. Default: half of --check-interval.",
    ),
    _duration("--check-timeout", "1s", "Longest time for one whole check.", topic=Topic.HEALTH),
    Flag(
        name="--rise",
        topic=Topic.HEALTH,
        metavar="N",
        default="2",
        help="Passes in a row that bring a backend back.",
    ),
    Flag(
        name="--fall",
        topic=Topic.HEALTH,
        metavar="N",
        default="3",
        help="Failures in a row that take a backend out.",
    ),
    Flag(
        name="--no-check",
        topic=Topic.HEALTH,
        help="No health checks. Failed connections still take a backend out for a while.",
    ),
    Flag(
        name="--all-down",
        topic=Topic.HEALTH,
        metavar="fail|panic",
        default="fail",
        help="With every backend down, backups included: 503, or balance over all of them all the same.",
    ),
    Flag(
        name="--on-down",
        topic=Topic.HEALTH,
        metavar="keep|close",
        default="keep",
        help="The open exchanges of a backend whose checks fail: keep or close them.",
    ),
    Flag(
        name="--eject-errors",
        topic=Topic.HEALTH,
        metavar="off|gateway|all",
        default="gateway",
        help="Server errors that count like a failed connection. gateway: 502, 503, 504. "
        "all: every 5xx but 501 and 505.",
    ),
    Flag(
        name="--eject-after",
        topic=Topic.HEALTH,
        metavar="N",
        default="5",
        help="Failures in a row, in traffic, that take a backend out for a while.",
    ),
    _duration(
        "--eject-time",
        "10s",
        "How long that lasts; twice as long the second time, and so on up to 5m.",
        topic=Topic.HEALTH,
    ),
    Flag(
        name="--eject-share",
        topic=Topic.HEALTH,
        metavar="PERCENT",
        default="50",
        help="Greatest part of the backends that is out for failures in traffic. 0: none ever is.",
    ),
    _duration("--connect-timeout", "3s", "Connecting to one backend."),
    _duration(
        "--header-timeout",
        "10s",
        "From the first byte of a request to the end of its head; from accept to the end of a PROXY header.",
    ),
    _duration("--idle-timeout", "1m", "A client that sends nothing. Default in tcp mode: 1h."),
    _duration("--keepalive-timeout", "75s", "An idle client between two requests."),
    Flag(
        name="--response-timeout",
        topic=Topic.TIMEOUTS,
        metavar="DURATION|off",
        default="off",
        help="From the end of a request to the first byte of its response.",
    ),
    _duration("--send-timeout", "1m", "A client that takes nothing of a response."),
    _duration("--tunnel-timeout", "1h", "No byte either way: a WebSocket, or a response under way."),
    _duration("--fin-timeout", "30s", "The other direction, after one side has ended its own."),
    _duration("--upstream-idle-timeout", "4s", "An unused connection to a backend."),
    _duration("--queue-timeout", "5s", "Waiting while every backend is at its max_conns."),
    _duration("--drain-timeout", "30s", "Open exchanges, after SIGTERM or SIGINT."),
    Flag(
        name="--max-request-line",
        topic=Topic.LIMITS,
        metavar="SIZE",
        default="8k",
        help="The first line of a request; a longer one is answered with 414.",
    ),
    Flag(
        name="--max-header-size",
        topic=Topic.LIMITS,
        metavar="SIZE",
        default="64k",
        help="The header section of a request (431) or of a response (502).",
    ),
    Flag(
        name="--max-header-fields",
        topic=Topic.LIMITS,
        metavar="N",
        default="100",
        help="Fields in a header section; more are answered like one that is too large.",
    ),
    Flag(
        name="--max-body-size",
        topic=Topic.LIMITS,
        metavar="SIZE|off",
        default="off",
        help="The body of a request; a longer one is answered with 413.",
    ),
    Flag(
        name="--buffer-requests",
        topic=Topic.LIMITS,
        metavar="SIZE|off",
        default="64k",
        help="Of a body with a Content-Length, awaited before a backend is picked; 64k at most.",
    ),
    Flag(
        name="--tries",
        topic=Topic.LIMITS,
        metavar="N",
        default="3",
        help="Backends that one request or session may meet, 1 to 10; the first counts.",
    ),
    Flag(
        name="--retry-budget",
        topic=Topic.LIMITS,
        metavar="PERCENT|off",
        default="20",
        help="Retries in 10 s, in percent of the requests of that time; 3 a second are always allowed.",
    ),
    Flag(
        name="--buffer-memory",
        topic=Topic.LIMITS,
        metavar="SIZE|auto",
        default="auto",
        help="Memory for bytes in flight. auto: a quarter of the machine's, at least 64m.",
    ),
    Flag(
        name="--access-log",
        topic=Topic.LOGGING,
        metavar="PATH|-|off",
        default="off",
        help="One line for each request or TCP session. - is standard output. SIGUSR1 reopens it.",
    ),
    Flag(
        name="--log-format",
        topic=Topic.LOGGING,
        metavar="text|json",
        default="text",
        help="How the lines of both logs look.",
    ),
    Flag(
        name="--log-level",
        topic=Topic.LOGGING,
        metavar="debug|info|warning|error",
        default="info",
        help="The least that is said on standard error.",
    ),
    Flag(
        name="--workers",
        topic=Topic.PROCESS,
        metavar="N|auto",
        default="auto",
        help="Threads of the native engine. auto: one for each CPU that this process may use.",
    ),
    Flag(
        name="--engine",
        topic=Topic.PROCESS,
        metavar="auto|native|pure",
        default="auto",
        help="auto: native where it is built, else pure. `fastlb doctor` says which and why.",
    ),
    Flag(
        name="--max-connections",
        topic=Topic.PROCESS,
        metavar="N|auto",
        default="auto",
        help="Clients at once. auto: what the limit on open files allows.",
    ),
    Flag(
        name="--max-client-connections",
        topic=Topic.PROCESS,
        metavar="N|off",
        default="off",
        help="Connections at once of one client address, of IPv6 of one /64; more are reset.",
    ),
)

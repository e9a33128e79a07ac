"""What is measured, and the targets it is held to."""

from dataclasses import dataclass

from benchmarks.origin import BULK_PATH, SMALL_PATH

NATIVE = "fastlb native"
PURE = "fastlb pure"
DIRECT = "direct"
FLOOR = "epoll floor"
PROXIES = (NATIVE, "HAProxy", "nginx", "Envoy")
STARLETTE = "Starlette + httpx"
BEST_PEER = "best peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of load, given in turn to each of `balancers`.

    `path`: what is asked of the origin. `new_connections`: one client connection per request.
    `beside`: the scenario whose turns its own follow at once, because the two are compared.
    """

    key: str
    title: str
    http: bool = True
    connections: int = 64
    path: str = SMALL_PATH
    new_connections: bool = False
    access_log: bool = False
    balancers: tuple[str, ...] = (*PROXIES, DIRECT)
    beside: str = ""

    @property
    def bulk(self) -> bool:
        """True for large responses."""
        return self.path == BULK_PATH


LOADS = (
    Scenario(key="http-64", title="HTTP keep-alive, 64 connections", balancers=(*PROXIES, FLOOR, DIRECT)),
    Scenario(
        key="http-512",
        title="HTTP keep-alive, 512 connections",
        connections=512,
        balancers=(*PROXIES, FLOOR, DIRECT),
    ),
    Scenario(key="http-new", title="HTTP, new client connection each", new_connections=True),
    Scenario(key="tcp-64", title="TCP small, 64 connections", http=False),
    Scenario(key="tcp-512", title="TCP small, 512 connections", http=False, connections=512),
    Scenario(key="tcp-new", title="TCP, new connection each", http=False, new_connections=True),
    Scenario(key="tcp-bulk", title="TCP bulk, 1 MiB responses", http=False, connections=16, path=BULK_PATH),
    Scenario(key="http-bulk", title="HTTP bulk, 1 MiB responses", connections=16, path=BULK_PATH),
    Scenario(
        key="http-64-log",
        title="HTTP keep-alive, 64, access log on",
        access_log=True,
        beside="http-64",
        balancers=PROXIES,
    ),
    Scenario(key="python", title="HTTP keep-alive, 64, in pure Python", balancers=(PURE, STARLETTE)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleScenario:
    """Memory of the balancer per client that is open and idle after one small request."""

    key: str
    title: str
    http: bool
    clients: int = 2000
    balancers: tuple[str, ...] = PROXIES


IDLES = (
    IdleScenario(key="idle-http", title="Idle HTTP keep-alive client", http=True),
    IdleScenario(key="idle-tcp", title="Idle TCP session", http=False),
)

CHURN = "churn"
CHURN_TITLE = "acquire + release"
CHURN_BACKENDS = (10, 1000, 100_000)

KEYS = (*(one.key for one in (*LOADS, *IDLES)), CHURN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioTarget:
    """CPU per request of the native engine as a share of a peer's, at most `at_most`."""

    key: str
    peer: str
    at_most: float


RATIO_TARGETS = (
    RatioTarget(key="http-64", peer="HAProxy", at_most=0.80),
    RatioTarget(key="http-64", peer="nginx", at_most=0.55),
    RatioTarget(key="http-64", peer="Envoy", at_most=0.25),
    RatioTarget(key="http-512", peer="HAProxy", at_most=0.60),
    RatioTarget(key="http-new", peer="HAProxy", at_most=1.0),
    RatioTarget(key="tcp-64", peer="nginx", at_most=0.97),
    RatioTarget(key="tcp-512", peer="nginx", at_most=0.97),
    RatioTarget(key="tcp-new", peer="HAProxy", at_most=1.0),
    RatioTarget(key="tcp-bulk", peer=BEST_PEER, at_most=1.0),
    RatioTarget(key="http-bulk", peer=BEST_PEER, at_most=1.0),
)
IDLE_TARGETS_BYTES = {"idle-http": 1024, "idle-tcp": 2048}
CHURN_TARGETS_NS = {10: 150, 100_000: 500}
# The access log costs this share of CPU per request more, at most.
LOG_TARGET = 1.10
# Requests per second of the pure engine beside Starlette's, at least.
PURE_TARGET = 3.0

"""A limit on everything, and each limit has a name.

Both engines obey the same limits. The defaults are those of docs/semantics.md.
"""

from dataclasses import dataclass

from fastlb.model.errors import ConfigError

WEIGHT_MIN = 1
WEIGHT_MAX = 256
# A plan may scale weights (slow start), so engines accept more than a person may write.
PLAN_WEIGHT_MAX = 65_535
PLAN_TABLE_MAX = 65_536
BACKENDS_MAX = 65_536
WORKERS_MAX = 64
# Of the name that access lines have for a backend.
LABEL_MAX_BYTES = 1024
# A chunk-size line with its extensions; the size itself is at most 15 hexadecimal digits.
CHUNK_LINE_MAX_BYTES = 1024
CHUNK_SIZE_MAX_DIGITS = 15
TRAILER_MAX_BYTES = 8192
# Idle connections that are kept to one backend; of each worker of the native engine.
IDLE_MAX = 512
# Different backends that one exchange may meet, whatever the user says.
TRIES_MAX = 10
# What one exchange weighs in a load, so that what failures have added to it can fade in small steps.
LOAD_UNIT = 1024
# All that failures can add to the load of one backend: 65,536 exchanges.
PHANTOM_MAX = 65_536 * LOAD_UNIT
# Retries are counted over the last so many seconds; so many a second are always allowed.
RETRY_WINDOW_S = 10
RETRIES_MIN_PER_S = 3
# Of what a check in TCP mode says, and of what it waits for.
CHECK_WORDS_MAX_BYTES = 4096
# Of a request body: what is kept for another try, and may be awaited before a backend is picked.
REQUEST_KEPT_MAX_BYTES = 65_536
# A client that has its answer may send on: so long in all, and so long without a byte. What it sends goes
# to a backend that takes it, or is thrown away; of a request before another one at most so much.
LINGER_S = 30.0
LINGER_SILENCE_S = 5.0
REST_MAX_BYTES = 65_536
# The same in a drain; and what an idle client has, after our FIN or for its last request in a drain.
LAST_REQUEST_S = 2.0
# Below it a worker could not hold one request of the longest kind beside a few others.
BUFFER_WORKER_MIN_BYTES = 1_048_576


def check_label(label: str) -> None:
    """Raise ConfigError for a label that is too long for an access line."""
    if len(label.encode()) > LABEL_MAX_BYTES:
        raise ConfigError("backend.name", f"{label[:20]}...", f"at most {LABEL_MAX_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
    """What one client or the whole balancer may use.

    `header_bytes`: request or response header section, bytes (431; 502 for a response).
    `line_bytes`: request line, bytes (414).
    `fields`: number of header fields (431; 502 for a response).
    `body_bytes`: request body, bytes (413); 0 = no limit.
    `request_buffer_bytes`: of a request body with a Content-Length, awaited before a backend is
        picked; 0 = none.
    `connections`: client connections open at once; 0 = derived from the fd limit.
    `client_connections`: of them, from one client address (IPv4) or network (IPv6, /64); 0 = no limit.
    `buffer_bytes`: memory for bytes in flight, all workers together (503); 0 = derived from the
        memory of the machine.
    `tries`: different backends that one exchange may meet, the first included.
    `retry_percent`: retries in RETRY_WINDOW_S, in percent of the exchanges of that time;
        RETRIES_MIN_PER_S are always allowed; None = no limit.
    `queue_depth`: exchanges waiting because every backend is at its `max_conns`.
    """

    header_bytes: int = 65_536
    line_bytes: int = 8192
    fields: int = 100
    body_bytes: int = 0
    request_buffer_bytes: int = REQUEST_KEPT_MAX_BYTES
    connections: int = 0
    client_connections: int = 0
    buffer_bytes: int = 0
    tries: int = 3
    retry_percent: int | None = 20
    queue_depth: int = 1024

    def __post_init__(self) -> None:
        for name, low, high in (
            ("header_bytes", 1024, 65_536),
            ("line_bytes", 64, 65_536),
            ("fields", 1, 256),
            ("body_bytes", 0, 2**63 - 1),
            ("request_buffer_bytes", 0, REQUEST_KEPT_MAX_BYTES),
            ("connections", 0, 10_000_000),
            ("client_connections", 0, 10_000_000),
            ("buffer_bytes", 0, 2**48),
            ("tries", 1, TRIES_MAX),
            ("queue_depth", 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"limits.{name}", value, f"from {low} to {high}")
        if self.retry_percent is not None and not 0 <= self.retry_percent <= 100:
            raise ConfigError("limits.retry_percent", self.retry_percent, "from 0 to 100")

    def check_buffers(self, workers: int) -> None:
        """Raises: ConfigError if the memory for buffers is too little for so many workers."""
        least = workers * BUFFER_WORKER_MIN_BYTES
        if self.buffer_bytes and self.buffer_bytes < least:
            raise ConfigError(
                "limits.buffer_bytes", self.buffer_bytes, f"{least} or more: 1m for each worker"
            )

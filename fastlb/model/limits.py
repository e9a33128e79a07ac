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
# A chunk-size line with its extensions; the size itself is at most 15 hexadecimal digits.
CHUNK_LINE_MAX_BYTES = 1024
CHUNK_SIZE_MAX_DIGITS = 15
TRAILER_MAX_BYTES = 8192
# Tries of one exchange: the first backend and one other.
TRIES_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
    """What one client or the whole balancer may use.

    `header_bytes`: request or response header section, bytes (431; 502 for a response).
    `line_bytes`: request line, bytes (414).
    `fields`: number of header fields (431; 502 for a response).
    `connections`: client connections open at once; 0 = derived from the fd limit.
    `queue_depth`: exchanges waiting because every backend is at its `max_conns`.
    """

    header_bytes: int = 65_536
    line_bytes: int = 8192
    fields: int = 100
    connections: int = 0
    queue_depth: int = 1024

    def __post_init__(self) -> None:
        for name, low, high in (
            ("header_bytes", 1024, 65_536),
            ("line_bytes", 64, 65_536),
            ("fields", 1, 256),
            ("connections", 0, 10_000_000),
            ("queue_depth", 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"limits.{name}", value, f"from {low} to {high}")

"""What it costs to parse one whole head, result object included."""

from typing import Any

import pytest

from benchmarks.micro.heads import REQUESTS, RESPONSES


@pytest.mark.parametrize("client", REQUESTS)
def test_request(engine: Any, benchmark: Any, client: str) -> None:
    """A request head of a real client, complete in one piece."""
    raw = REQUESTS[client]
    benchmark.group = f"request head: {client}, {len(raw)} bytes"
    parsed = benchmark(engine.http1.parse_request, raw)
    assert parsed.head_bytes == len(raw)


@pytest.mark.parametrize("server", RESPONSES)
def test_response(engine: Any, benchmark: Any, server: str) -> None:
    """A response head of a real server, complete in one piece."""
    raw = RESPONSES[server]
    benchmark.group = f"response head: {server}, {len(raw)} bytes"
    parsed = benchmark(engine.http1.parse_response, raw)
    assert parsed.head_bytes == len(raw)

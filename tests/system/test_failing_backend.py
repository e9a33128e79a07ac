"""A backend that fails every request and passes its check."""

import asyncio

import failing_backend
import pytest


@pytest.mark.parametrize(("kind", "method"), [("reset", "POST"), ("503", "GET")])
def test_backend_that_fails_all_but_its_check_costs_few_requests(engine, kind, method):
    """Its check passes four times a second, because each failure brings it forward. A third of all
    requests would fail for ever. The script measures longer, and at other rates."""
    share = asyncio.run(failing_backend.measure(kind, method, 100, 8, engine.name))

    assert share.asked == 800
    assert share.percent < 2


def test_table_of_failing_backends_is_printed(capsys):
    """The script is what figures are taken with."""
    asyncio.run(failing_backend.measure_all("native", [20], 0.5))

    assert len(capsys.readouterr().out.splitlines()) == 5

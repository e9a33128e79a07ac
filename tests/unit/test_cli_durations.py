"""Durations as people write them."""

import pytest

from fastlb.model.errors import ConfigError
from fastlb.surface.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2), ("250ms", 0.25), ("1m", 60), ("1h", 3600), ("1.5s", 1.5), ("0s", 0)]
)
def test_duration_is_a_number_and_its_unit(text, seconds):
    """All four units of the help are understood."""
    assert parse_duration(text, path="--x") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["5", "0.5"])
def test_bare_number_is_refused_with_a_hint(text):
    """Seconds or milliseconds: peers disagree, so the user has to say."""
    with pytest.raises(ConfigError, match=f"write {text}s or {text}ms"):
        parse_duration(text, path="--x")


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-5s", "+5s", "5S", "5d", "1m30s", "1e3s", ".5s", "٥s", "inf"]
)
def test_anything_else_is_no_duration(text):
    """What is not understood is never guessed."""
    with pytest.raises(ConfigError, match="250ms, 2s, 1m or 1h"):
        parse_duration(text, path="--x")

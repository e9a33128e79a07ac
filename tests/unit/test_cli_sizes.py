"""Sizes as people write them."""

import pytest

from fastlb.model.errors import ConfigError
from fastlb.surface.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"), [("8192", 8192), ("8k", 8192), ("8K", 8192), ("1m", 2**20), ("2G", 2**31), ("0", 0)]
)
def test_size_is_bytes_or_a_number_with_its_unit(text, size):
    """As in the configuration files of nginx and HAProxy: powers of 1024."""
    assert parse_size(text, path="--x") == size


@pytest.mark.parametrize(
    "text", ["", "k", "8kb", "8KiB", "1.5m", "-1", "+1", "8 k", "1t", "0x10", "٥k", "9" * 16]
)
def test_anything_else_is_no_size(text):
    """What is not understood is never guessed."""
    with pytest.raises(ConfigError, match="8192, 8k or 1m"):
        parse_size(text, path="--x")

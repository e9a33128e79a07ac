"""Bytes as people write them in a shell."""

import pytest

from fastlb.model.errors import ConfigError
from fastlb.surface.escapes import parse_bytes


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("PING", b"PING"),
        (r"PING\r\n", b"PING\r\n"),
        (r"\x10\xfF\0\t\\x41", b"\x10\xff\x00\t\\x41"),
        ("é", b"\xc3\xa9"),
        ("", b""),
    ],
)
def test_escapes_are_those_of_c(text, read):
    """What is not escaped is UTF-8."""
    assert parse_bytes(text, path="--check-send") == read


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x1", r"\xg1", r"a\u0041", "a\\"])
def test_what_is_no_escape_is_refused(text):
    """It would be sent as something that nobody meant."""
    with pytest.raises(ConfigError) as refused:
        parse_bytes(text, path="--check-send")

    assert (refused.value.path, refused.value.value) == ("--check-send", text)

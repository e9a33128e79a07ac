"""What a user may say about fields of requests."""

import re
from pathlib import Path

import pytest

from fastlb.model.errors import ConfigError
from fastlb.model.fields import CLIENT_FIELDS, OWN_FIELDS, FieldConfig, folded

DOCS = Path(__file__).parents[2] / "docs"


def test_the_list_of_fields_is_that_of_the_page():
    """The page is where people look; a name that is missing there is dropped by surprise."""
    text = (DOCS / "semantics.md").read_text(encoding="utf-8")
    listed = text.partition("Fields of the client:")[2].partition(".\n")[0]

    assert tuple(re.findall(r"`([^`]+)`", listed)) == CLIENT_FIELDS


def test_no_name_is_on_both_lists():
    """What has rules of its own cannot be let through."""
    assert not set(map(folded, CLIENT_FIELDS)) & set(map(folded, OWN_FIELDS))


def test_names_are_taken_in_every_case_and_spelling():
    """HTTP does not tell cases apart, and CGI not even the two strokes."""
    config = FieldConfig(passed=("x_real_ip",), dropped=("X_My-User",))

    assert b"x-real-ip" not in config.client_names
    assert b"x-my-user" in config.client_names


def test_passed_and_dropped_is_passed():
    """The narrower of the two words wins."""
    assert b"x-real-ip" not in FieldConfig(passed=("X-Real-IP",), dropped=("X-Real-IP",)).client_names


@pytest.mark.parametrize("name", ["X-Mine", "X-Forwarded-For", "Host", ""])
def test_only_what_would_be_dropped_can_be_passed(name):
    """A flag without any effect would be a mistake that nobody sees."""
    with pytest.raises(ConfigError) as refused:
        FieldConfig(passed=(name,))

    assert refused.value.path == "fields.passed"


@pytest.mark.parametrize("name", [*OWN_FIELDS, "content_length", "a b", "", "-a", "a_", "a:", "x" * 65, "é"])
def test_only_names_without_a_rule_of_their_own_can_be_dropped(name):
    """Without Host or its framing a request would be another one."""
    with pytest.raises(ConfigError) as refused:
        FieldConfig(dropped=(name,))

    assert (refused.value.path, refused.value.value) == ("fields.dropped", name)


def test_names_are_limited_in_number():
    """They stand in a table of fixed size."""
    names = tuple(f"X-{n}" for n in range(64))

    assert len(FieldConfig(dropped=names).client_names) == len(CLIENT_FIELDS) + 64
    with pytest.raises(ConfigError):
        FieldConfig(dropped=(*names, "Y"))


@pytest.mark.parametrize("name", ["h2c", "H2C", "websocket/13", "a b", "", "a,b", "x" * 33])
def test_protocol_that_cannot_be_allowed_is_refused(name):
    """Versions make no protocol, and h2c would be a way past every rule."""
    with pytest.raises(ConfigError) as refused:
        FieldConfig(upgrades=("tcp", name))

    assert (refused.value.path, refused.value.value) == ("fields.upgrades", name)


def test_protocols_are_limited_in_number():
    """They stand in a table of fixed size, too."""
    names = tuple(f"p{n}" for n in range(16))

    assert len(FieldConfig(upgrades=names).protocols) == 17
    with pytest.raises(ConfigError):
        FieldConfig(upgrades=(*names, "q"))

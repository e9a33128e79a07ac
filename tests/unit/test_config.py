"""What a Config refuses as a whole."""

import time

import pytest

from fastlb.model.address import Address
from fastlb.model.config import BackendConfig, Config, EngineConfig, ListenerConfig, ProbeConfig
from fastlb.model.errors import ConfigError

LISTENERS = (ListenerConfig(address=Address(port=0)),)


def test_a_name_given_twice_is_refused():
    """Log lines could not say which of the two they mean."""
    one, other = (BackendConfig(address=Address(host="::1", port=port), name="blue") for port in (1, 2))

    with pytest.raises(ConfigError) as refused:
        Config(listeners=LISTENERS, backends=(one, other))
    assert (refused.value.path, refused.value.value) == ("backend.name", "blue")


def test_many_backends_are_checked_in_linear_time():
    """Twenty times as many may take a hundred times as long, with noise, but not four hundred times."""

    def took_s(count: int) -> float:
        backends = tuple(
            BackendConfig(address=Address(host="::1", port=n), name=f"b{n}") for n in range(count)
        )
        turns = []
        for _ in range(5):
            started_s = time.perf_counter()
            Config(listeners=LISTENERS, backends=backends)
            turns.append(time.perf_counter() - started_s)
        return min(turns)

    assert took_s(4000) < 100 * took_s(200)


@pytest.mark.parametrize("missing", ["listeners", "backends"])
def test_a_balancer_without_one_end_is_refused(missing):
    """Nobody could ask it, or nobody could answer."""
    settings = {"listeners": LISTENERS, "backends": (BackendConfig(address=Address(port=1)),), missing: ()}

    with pytest.raises(ConfigError) as refused:
        Config(**settings)
    assert refused.value.path == missing.removesuffix("ers").removesuffix("s")


@pytest.mark.parametrize("via", ["a b", "a,b", "\xe9", "a" * 65])
def test_a_name_that_would_spoil_the_field_is_refused(via):
    """Via is a list with comments; a name is one word of it (RFC 9110 7.6.3)."""
    with pytest.raises(ConfigError) as refused:
        EngineConfig(via=via)
    assert refused.value.path == "via"


def test_a_check_that_no_answer_can_pass_is_refused():
    """Every backend would be down for ever."""
    with pytest.raises(ConfigError) as refused:
        ProbeConfig(expect=())
    assert refused.value.path == "probe.expect"

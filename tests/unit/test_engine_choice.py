"""Which engine is loaded, and what happens when it is not there."""

import importlib
import importlib.util
import sys

import pytest

import fastlb.engine.choice as seam
from fastlb.model.config import EngineChoice
from fastlb.model.errors import EngineUnavailableError


@pytest.fixture
def no_native(monkeypatch):
    """An installation without the extension module."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastlb.native.engine" else real(name)
    )


@pytest.fixture
def broken_native(monkeypatch):
    """An installation whose extension module is there and does not import."""

    def import_module(name):
        raise ImportError(f"{name}: undefined symbol: nonsense")

    monkeypatch.setattr(seam, "native_missing_reason", lambda: None)
    monkeypatch.setattr(importlib, "import_module", import_module)


def test_auto_takes_the_pure_engine_where_no_native_one_is_built(no_native):
    """And says why, because it is slower."""
    loaded = seam.load(EngineChoice.AUTO)

    assert (loaded.name, loaded.engine_class.__name__) == ("pure", "PureEngine")
    assert "not built" in loaded.reason


def test_auto_takes_the_pure_engine_off_linux(monkeypatch):
    """epoll and splice are Linux."""
    monkeypatch.setattr(sys, "platform", "darwin")

    assert seam.load(EngineChoice.AUTO).reason == "the native engine needs Linux, this is darwin"


def test_a_native_engine_that_was_asked_for_and_is_missing_is_an_error(no_native):
    """Running ten times slower than asked would be a bad surprise."""
    with pytest.raises(EngineUnavailableError, match=r"--engine native: .*--engine pure"):
        seam.load(EngineChoice.NATIVE)


@pytest.mark.parametrize("choice", [EngineChoice.AUTO, EngineChoice.NATIVE])
def test_a_native_engine_that_does_not_import_is_never_papered_over(broken_native, choice):
    """A broken installation has to be seen, not slow."""
    with pytest.raises(ImportError, match="undefined symbol") as caught:
        seam.load(choice)

    assert not isinstance(caught.value, EngineUnavailableError)


def test_pure_can_be_asked_for_anywhere():
    """To compare, or to look for a fault."""
    assert seam.load(EngineChoice.PURE).reason == "asked for"

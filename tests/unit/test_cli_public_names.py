"""What `import fastlb` offers."""

import pytest

import fastlb


def test_every_public_name_can_be_used():
    """A name in __all__ that does not import is a promise broken."""
    for name in fastlb.__all__:
        assert getattr(fastlb, name) is not None


def test_unknown_name_is_an_attribute_error():
    """hasattr() and typing errors work as with any module."""
    with pytest.raises(AttributeError, match="no attribute 'Supervizor'"):
        fastlb.Supervizor  # noqa: B018 - the look-up is the test

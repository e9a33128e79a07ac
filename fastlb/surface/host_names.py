"""Host names that can be asked for at all; whether they exist is found out at start."""

from fastlb.model.address import Address
from fastlb.model.errors import ConfigError


def refuse_impossible_host(address: Address, text: str, *, path: str) -> None:
    """Raise ConfigError naming `path` if the host has a label that is empty or above 63 bytes.

    getaddrinfo() would encode it the same way (RFC 3490) and raise UnicodeError.
    """
    if address.is_numeric or not address.host:
        return
    try:
        address.host.encode("idna")
    except UnicodeError:
        expected = "an address: each part of a host name between dots has 1 to 63 characters"
        raise ConfigError(path, text, expected) from None

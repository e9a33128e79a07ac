"""From host names to numeric addresses, off the event loop."""

import asyncio
import socket

from fastlb.model.address import Address
from fastlb.model.errors import StartError


async def lookup(address: Address) -> tuple[Address, ...]:
    """Every numeric address of a host name, IPv4 before IPv6, each group as the resolver sorts it.

    IPv4 goes first because `localhost` resolves to both, and most application servers listen on
    127.0.0.1 only. An empty host, every local address, stays as it is.
    Raises: OSError (socket.gaierror), also for what no resolver could be asked for.
    """
    if address.is_numeric or not address.host:
        return (address,)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # the name is encoded first (RFC 3490), `a..b` cannot be
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    unique = dict.fromkeys(str(entry[4][0]) for entry in found)
    return tuple(Address(host=host, port=address.port) for host in unique)


async def resolve(address: Address, flag: str) -> Address:
    """The first numeric address of a host name. Raises: StartError that names `flag`."""
    try:
        found = await lookup(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"{flag} {address}: cannot resolve {address.host!r}: {reason}") from error
    return found[0]

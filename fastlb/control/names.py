"""Follows host names: a backend that moves to another address is found there."""

import asyncio

from fastlb.control.logs import OperationLog
from fastlb.control.member import Member
from fastlb.control.membership import Membership
from fastlb.control.resolve import lookup
from fastlb.model.address import Address

EVERY_S = 30.0


class NameFollower:
    """Resolves the names of all members again and again, off the event loop."""

    def __init__(self, membership: Membership, log: OperationLog) -> None:
        self._membership = membership
        self._log = log
        self._failing: set[str] = set()

    async def follow(self) -> None:
        """Look every half a minute, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Resolve each name once. An address that still is among the answers stays."""
        for member in self._membership.members:
            if not member.config.address.is_numeric:
                found = await self._lookup(member)
                if found and member.address not in found and member in self._membership.members:
                    self._move(member, found)

    async def _lookup(self, member: Member) -> tuple[Address, ...]:
        try:
            found = await lookup(member.config.address)
        except OSError as error:
            if member.label not in self._failing:
                self._failing.add(member.label)
                reason = (error.strerror or str(error)).lower()
                self._log.warning(
                    "name does not resolve, its last address stays", backend=member.label, reason=reason
                )
            return ()
        self._failing.discard(member.label)
        return found

    def _move(self, member: Member, found: tuple[Address, ...]) -> None:
        if not any(self._membership.move(member, address) for address in found):
            self._log.warning("name resolves to addresses of other backends", backend=member.label)

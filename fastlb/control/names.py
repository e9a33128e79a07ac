"""Follows host names: a backend that moves to another address is found there, and one whose name did
not resolve at the start joins when it does."""

import asyncio
from collections.abc import Iterable

from fastlb.control.logs import OperationLog
from fastlb.control.member import Member
from fastlb.control.membership import Membership
from fastlb.control.resolve import Resolver
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig
from fastlb.model.errors import ConfigError

# Names of backends that are well are looked up in every so many rounds, the others in each.
ROUND_S = 5.0
ROUNDS = 6


class NameFollower:
    """Resolves the names of all members again and again, all at once, off the event loop.

    `absent`: backends whose names did not resolve yet.
    """

    def __init__(
        self,
        membership: Membership,
        log: OperationLog,
        resolver: Resolver,
        absent: Iterable[BackendConfig] = (),
    ) -> None:
        self._membership = membership
        self._log = log
        self._resolver = resolver
        self._absent = {config.label: config for config in absent}
        self._failing: set[str] = set(self._absent)

    async def follow(self) -> None:
        """Look for ever, until cancelled."""
        rounds = 0
        while True:
            await asyncio.sleep(ROUND_S)
            rounds += 1
            await self.look(everybody=rounds % ROUNDS == 0)

    async def look(self, *, everybody: bool = True) -> None:
        """Resolve each name once, or only those of backends that are not well."""
        work = [self._join(config) for config in self._absent.values()]
        work += [
            self._follow(member)
            for member in self._membership.members
            if not member.config.address.is_numeric and (everybody or not member.in_rotation)
        ]
        for error in await asyncio.gather(*work, return_exceptions=True):
            # Only a fault of ours; the other names go on all the same.
            if isinstance(error, Exception):
                self._log.error("a name could not be followed", error=repr(error))

    async def _join(self, config: BackendConfig) -> None:
        found = await self._lookup(config, "name still does not resolve")
        if not found or config.label not in self._absent:
            return
        del self._absent[config.label]
        try:
            self._membership.add(config, found[0], found[1:])
        except ConfigError:
            self._absent[config.label] = config
            self._complain(config.label, "name resolves to addresses of other backends", "")

    async def _follow(self, member: Member) -> None:
        """A backend that is well stays while its address is among the answers: answers come shuffled, and
        in parts. One that is not takes all that there are now."""
        found = await self._lookup(member.config, "name does not resolve, its last addresses stay")
        if not found or member not in self._membership.members:
            return
        if (member.in_rotation and member.address in found) or set(found) == set(member.addresses):
            return
        if not self._membership.move(member, found):
            self._complain(member.label, "name resolves to addresses of other backends", "")

    async def _lookup(self, config: BackendConfig, trouble: str) -> tuple[Address, ...]:
        try:
            found = await self._resolver.lookup(config.address)
        except OSError as error:
            self._complain(config.label, trouble, (error.strerror or str(error)).lower())
            return ()
        self._failing.discard(config.label)
        return found

    def _complain(self, label: str, trouble: str, reason: str) -> None:
        """Once, until it resolves."""
        if label not in self._failing:
            self._failing.add(label)
            self._log.warning(trouble, backend=label, reason=reason or None)

"""What the control plane knows of one backend."""

from dataclasses import dataclass, field

from fastlb.health.passive import Ejection
from fastlb.health.rise_fall import Health, State
from fastlb.model.address import Address
from fastlb.model.config import BackendConfig


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """A backend as the control plane knows it. Only Membership changes it."""

    config: BackendConfig
    address: Address  # numeric or UNIX: the one that worked last
    slot: int
    added_s: float
    health: Health = field(default_factory=Health)
    ejection: Ejection = field(default_factory=Ejection)
    failing: bool = False  # all that it is sent, as far as is known
    draining: bool = False
    recovered_s: float | None = None  # slow start since then
    addresses: tuple[Address, ...] = ()  # all, in order; empty for the one alone

    @property
    def label(self) -> str:
        """The name that log lines use."""
        return self.config.label

    @property
    def others(self) -> tuple[Address, ...]:
        """Where to ask if `address` refuses, in order."""
        if self.address not in self.addresses:
            return ()
        at = self.addresses.index(self.address)
        return self.addresses[at + 1 :] + self.addresses[:at]

    @property
    def status(self) -> str:
        """`up`, `down`, `unknown`, `ejected` or `draining`."""
        if self.draining:
            return "draining"
        if self.health.state is State.UP and self.ejection.until_s is not None:
            return "ejected"
        return self.health.state.value

    @property
    def in_rotation(self) -> bool:
        """True if it may be picked (a backup: once every primary is out)."""
        return self.status == "up"

    @property
    def in_doubt(self) -> bool:
        """True while checks have something to find out: it is down, or about to be, or may be back."""
        waiting = self.ejection.until_s is not None and not self.ejection.unseen
        return self.health.state is not State.UP or self.health.against > 0 or waiting

    @property
    def standing(self) -> tuple[str, bool]:
        """Its status, and whether it fails in rotation."""
        status = self.status
        return status, self.failing and status == "up"

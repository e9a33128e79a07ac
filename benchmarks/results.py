"""What a run has found, and the figures derived from it: medians, and ratios within each round."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.scenarios import BEST_PEER, DIRECT, FLOOR, NATIVE, PURE, STARLETTE
from benchmarks.turn import Sample

# Above this share of the machine's CPU the figures are not worth keeping.
_FOREIGN_NOTABLE = 0.05
NOT_PEERS = (NATIVE, PURE, STARLETTE, FLOOR, DIRECT)


@dataclass(slots=True, kw_only=True)
class Results:
    """Samples by scenario and balancer, one for each round; and why something is missing.

    `samples[key][name][round]`; None where a turn failed, so that rounds stay aligned.
    `logged[key][name]`: access-log lines per request.
    """

    head: dict[str, Any]
    samples: dict[str, dict[str, list[Sample | None]]] = field(default_factory=dict)
    logged: dict[str, dict[str, float]] = field(default_factory=dict)
    idle_bytes: dict[str, dict[str, float]] = field(default_factory=dict)
    churn_ns: dict[int, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, key: str, name: str, sample: Sample | None) -> None:
        """Append one turn."""
        self.samples.setdefault(key, {}).setdefault(name, []).append(sample)

    def taken(self, key: str, name: str) -> list[Sample]:
        """The turns that gave a figure."""
        return [one for one in self.samples.get(key, {}).get(name, ()) if one]

    def median_of(self, key: str, name: str, figure: str) -> float | None:
        """Median of one figure of a sample over the rounds, None if there is none."""
        values = [getattr(one, figure) for one in self.taken(key, name)]
        return median(values) if values else None

    def machine_us(self, key: str, name: str) -> float | None:
        """Median of the whole machine's CPU per request, less that of the direct turn of the round."""
        pairs = self._rounds(key, name, DIRECT)
        return median([one.machine_us - direct.machine_us for one, direct in pairs]) if pairs else None

    def ratios(self, key: str, name: str, peer: str) -> list[float]:
        """CPU per request of `name` as a share of that of `peer`, round by round.

        BEST_PEER is the cheapest real peer of each round.
        """
        if peer == BEST_PEER:
            return self._ratios_to_best(key, name)
        return [one.cpu_us / other.cpu_us for one, other in self._rounds(key, name, peer)]

    def log_ratios(self, plain: str, logged: str, name: str) -> list[float]:
        """CPU per request with the access log on, as a share of that with it off, round by round."""
        off, on = (self.samples.get(key, {}).get(name, ()) for key in (plain, logged))
        return [b.cpu_us / a.cpu_us for a, b in zip(off, on, strict=False) if a and b]

    def foreign(self) -> float:
        """Median share of the machine's CPU that other programs took during the turns."""
        every = (turns for names in self.samples.values() for turns in names.values())
        shares = [one.foreign for turns in every for one in turns if one]
        return median(shares) if shares else 0.0

    def disturbance(self) -> str:
        """What to say beside the figures if the machine was not quiet; empty if it was."""
        share = self.foreign()
        return (
            f"not quiet: other programs took {share:.0%} of the machine" if share > _FOREIGN_NOTABLE else ""
        )

    def _rounds(self, key: str, name: str, other: str) -> list[tuple[Sample, Sample]]:
        names = self.samples.get(key, {})
        return [(a, b) for a, b in zip(names.get(name, ()), names.get(other, ()), strict=False) if a and b]

    def _ratios_to_best(self, key: str, name: str) -> list[float]:
        names = self.samples.get(key, {})
        peers = [turns for peer, turns in names.items() if peer not in NOT_PEERS]
        ratios = []
        for index, one in enumerate(names.get(name, ())):
            others = [other.cpu_us for turns in peers for other in turns[index : index + 1] if other]
            if one and others:
                ratios.append(one.cpu_us / min(others))
        return ratios

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, least and greatest of some figures."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None if there are no figures."""
        return cls(middle=median(values), low=min(values), high=max(values)) if values else None

"""What a pilot foresees for a list: figures with intervals, their file, what came of them.

OUT/pilot.json holds the estimates; the run that follows compares itself with them at its end.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from avatarmill.records.atomic import read_bytes, write_bytes

NAME = "pilot.json"
LEVEL = 0.9
"""Of the intervals."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of the whole list and the interval in which it lies with probability `LEVEL`."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Estimate":
        """The same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def __contains__(self, actual: float) -> bool:
        """Whether a measured figure lies in the interval."""
        return self.low <= actual <= self.high


@dataclass(frozen=True, slots=True)
class Pilot:
    """Estimates for a list of `sources`, made from `sample` of them."""

    recipe: str
    sources: int
    sample: int
    estimates: Mapping[str, Estimate]
    """worker_seconds, gpu_seconds (of whole GPUs), clips, bytes, yield; and stage seconds as
    `seconds.STAGE`."""


def write_pilot(out: Path, pilot: Pilot) -> None:
    """Writes OUT/pilot.json."""
    write_bytes(out / NAME, json.dumps(asdict(pilot), indent=1).encode() + b"\n")


def read_pilot(out: Path) -> Pilot | None:
    """The pilot of a run folder; None without one."""
    try:
        document = json.loads(read_bytes(out / NAME))
    except FileNotFoundError:
        return None
    estimates = {name: Estimate(**values) for name, values in document.pop("estimates").items()}
    return Pilot(**document, estimates=estimates)


def compare(pilot: Pilot, actual: Mapping[str, float]) -> dict[str, dict[str, float | bool]]:
    """By figure: the estimate with its interval, what came of it, and whether that lies inside."""
    return {
        name: {
            **asdict(pilot.estimates[name]),
            "actual": value,
            "inside": value in pilot.estimates[name],
        }
        for name, value in actual.items()
        if name in pilot.estimates
    }

"""Every input ends in exactly one state, and the states add up to the inputs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from avatarmill.records.index import read_rows, write_table

State = Literal[
    "kept",  # at least one sample was written
    "rejected",  # no sample; the reason says why
    "duplicate",  # the same bytes were listed before
    "failed",  # our own error; the input deserves another try
]
STATES: tuple[State, ...] = get_args(State)

LEDGER_INDEX = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
    ]
)


class LedgerError(RuntimeError):
    """The ledger does not add up: an input is missing, there twice, or was never listed."""


@dataclass(frozen=True, slots=True)
class InputState:
    """How one input ended."""

    uri: str
    sha256: str
    state: State
    reason: str = ""
    """Of a rejection or failure; empty when kept."""
    samples: int = 0
    """Samples written from it."""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state is {self.state!r}, one of {', '.join(STATES)}")
        if (self.state == "kept") != (self.samples > 0):
            raise ValueError(f"{self.uri} is {self.state} with {self.samples} samples")
        if (self.state == "kept") == bool(self.reason):
            raise ValueError(f"{self.uri} is {self.state} with reason {self.reason!r}")


def check_ledger(states: Iterable[InputState], listed: Iterable[str]) -> dict[State, int]:
    """Return the count of each state, once the states match the listed URIs one to one.

    Raises LedgerError naming up to five URIs that are missing, doubled or unknown.
    """
    states = list(states)
    have, want = Counter(state.uri for state in states), Counter(listed)
    _refuse("listed more than once", [uri for uri, n in want.items() if n > 1])
    _refuse("without a state", list(want - have))
    _refuse("with more than one state", [uri for uri, n in have.items() if n > 1])
    _refuse("never listed", list(have - want))
    counts = Counter(state.state for state in states)
    return {state: counts[state] for state in STATES}


def write_ledger(path: Path, states: Iterable[InputState]) -> None:
    """Write the state of every input in order of URI: same states, same bytes."""
    ordered = sorted(states, key=lambda state: state.uri)
    write_table(path, [asdict(state) for state in ordered], LEDGER_INDEX)


def read_ledger(path: Path) -> list[InputState]:
    """Read a ledger. Raises ValueError for a row outside the schema."""
    return [InputState(**row) for row in read_rows(path)]  # type: ignore[arg-type]


def _refuse(what: str, uris: list[str]) -> None:
    if uris:
        shown = ", ".join(sorted(uris)[:5])
        raise LedgerError(f"{len(uris)} inputs {what}: {shown}")

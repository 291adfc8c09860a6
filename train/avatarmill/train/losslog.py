"""The loss curve as a CSV file that a resumed run continues where its checkpoint stood."""

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LossRow:
    """One optimizer step, averaged over all ranks."""

    step: int
    loss: float
    latent_loss: float
    """Mean squared velocity error of valid tokens; 2 is what a constant zero would get."""
    shape_loss: float
    valid_fraction: float
    learning_rate: float
    seconds: float
    """Training time so far."""


COLUMNS = tuple(field.name for field in fields(LossRow))


class LossLog:
    """Appends rows; on opening, forgets those after `step` (a crash left them behind)."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [row for row in read_loss_log(path) if row.step <= step]
        path.parent.mkdir(parents=True, exist_ok=True)
        # Line buffered, so that the curve can be watched and survives a kill.
        self._file = path.open("w", newline="", buffering=1)
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._writer.writerows(astuple(row) for row in kept)

    def append(self, row: LossRow) -> None:
        """Write one row."""
        self._writer.writerow(astuple(row))

    def close(self) -> None:
        """Close the file; `contextlib.closing` does it at the end of a block."""
        self._file.close()


def read_loss_log(path: Path) -> list[LossRow]:
    """The rows of a loss log; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A killed process may leave half a line at the end.
    whole = [row for row in rows if all(row[name] for name in COLUMNS)]
    return [LossRow(int(row["step"]), *(float(row[name]) for name in COLUMNS[1:])) for row in whole]

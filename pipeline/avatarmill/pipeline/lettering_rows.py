"""Groups pieces of a picture that could be letters into rows, as letters of a line stand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIKE = 60.0
"""Largest difference of a channel between a letter and the mean of its line, of 255."""

Boxes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Letters:
    """Pieces of a picture that could be letters."""

    boxes: Boxes
    """[n, 4] x0, y0, x1, y1."""
    colors: NDArray[np.float64]
    """[n, 3]."""

    def take(self, which: NDArray[np.integer] | NDArray[np.bool_]) -> "Letters":
        """Those of some rows."""
        return Letters(self.boxes[which], self.colors[which])


def leftmost_row(letters: Letters) -> NDArray[np.int64]:
    """Rows of the letters, sorted by x0, that continue the first one, from left to right.

    A piece continues a row when it is alike in colour, begins less than 1.3 heights to the right
    of it, lies between its top and bottom with 0.6 heights to spare, and is 0.45 to 2 heights
    tall. Top, bottom and colour are medians and mean of the row so far.
    """
    row = [0]
    while (following := _next_letter(letters, row)) is not None:
        row.append(following)
    return np.array(row)


def _next_letter(letters: Letters, row: list[int]) -> int | None:
    """The next piece, from left to right, that continues a row."""
    line, first = letters.boxes[row], row[-1] + 1
    color, top, bottom = letters.colors[row[0]], float(line[0, 1]), float(line[0, 3])
    if len(row) > 1:  # Most rows end before that.
        color = letters.colors[row].mean(0)
        top, bottom = np.median(line[:, [1, 3]], axis=0).tolist()
    height = max(bottom - top, 1.0)
    # Textured pictures have hundreds of pieces, and nearly all lie too far to the right.
    end = int(letters.boxes[:, 0].searchsorted(line[:, 2].max() + 1.3 * height))
    boxes = letters.boxes[first:end]
    own = boxes[:, 3] - boxes[:, 1]
    # Letters stand on the line; some hang below it and lower-case ones stay under its top.
    fits = (boxes[:, 1] > top - 0.6 * height) & (boxes[:, 3] < bottom + 0.6 * height)
    fits &= (own >= 0.45 * height) & (own <= 2.0 * height)
    for place in np.flatnonzero(fits).tolist():
        if np.abs(color - letters.colors[first + place]).max() <= ALIKE:
            return first + int(place)
    return None

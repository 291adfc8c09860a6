"""The search for the next letter skips most pieces, and finds what asking each of them finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.lettering_rows import ALIKE, Letters, leftmost_row


def continues(letters: Letters, row: list[int], index: int) -> bool:
    """The definition, of one piece."""
    line, (x0, y0, _, y1) = letters.boxes[row], letters.boxes[index]
    top, bottom = np.median(line[:, 1]), np.median(line[:, 3])
    height = max(bottom - top, 1.0)
    near = x0 - line[:, 2].max() < 1.3 * height
    level = y0 > top - 0.6 * height and y1 < bottom + 0.6 * height
    sized = 0.45 * height <= y1 - y0 <= 2.0 * height
    alike = np.abs(letters.colors[row].mean(0) - letters.colors[index]).max() <= ALIKE
    return bool(near and level and sized and alike)


def plain_row(letters: Letters) -> list[int]:
    """Asks every piece, from left to right."""
    row = [0]
    for index in range(1, len(letters.boxes)):
        if continues(letters, row, index):
            row.append(index)
    return row


# Few places and colours: many pieces then begin at one x, touch, or lie exactly at a limit.
PIECES = st.tuples(
    st.integers(0, 60),
    st.integers(0, 12),
    st.integers(1, 10),
    st.integers(0, 20),
    st.sampled_from([0.0, 30.0, 60.0, 61.0, 120.0]),
)


@given(st.lists(PIECES, min_size=1, max_size=40))
def test_rows_are_those_of_the_definition(pieces: list[tuple[int, int, int, int, float]]) -> None:
    pieces.sort(key=lambda piece: piece[0])
    boxes = np.array([(x, y, x + wide, y + tall) for x, y, wide, tall, _ in pieces])
    colors = np.array([(color, 0.0, 255.0 - color) for *_, color in pieces])
    letters = Letters(boxes, colors)
    assert leftmost_row(letters).tolist() == plain_row(letters)


def test_a_line_is_parted_from_what_is_beside_it() -> None:
    line = [(10 * k, 100, 10 * k + 8, 112) for k in range(6)]
    other_color, other_line, far = (24, 100, 30, 112), (33, 140, 40, 152), (90, 100, 98, 112)
    boxes = np.array(sorted([*line, other_color, other_line, far]))
    colors = np.zeros((len(boxes), 3))
    colors[(boxes == other_color).all(-1)] = 255.0
    found = leftmost_row(Letters(boxes, colors))
    assert boxes[found].tolist() == [list(box) for box in line]

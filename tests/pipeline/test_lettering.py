"""Burnt-in text is found on pictures; patterns of cloth and noise are not text."""

import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.pipeline.lettering import lettering_mask, text_lines
from avatarmill.synth.overlay import Text, draw_text

SIDE = 320


def backdrop(seed: int = 0) -> NDArray[np.uint8]:
    """Soft coloured blotches."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 130, (8, 8, 3)).astype(np.float32)
    grown = np.repeat(np.repeat(coarse, SIDE // 8, 0), SIDE // 8, 1)
    for axis in (0, 1):
        grown = np.mean([np.roll(grown, shift, axis) for shift in range(-20, 21)], axis=0)
    return grown.astype(np.uint8)


def line(
    text: str, size: float, box: tuple[int, int, int, int], plate: tuple[int, int, int] | None
) -> Text:
    return Text(text, "title", 0, 0, box, size, (255, 255, 255), plate)


@pytest.mark.parametrize("plate", [None, (10, 10, 10)])
@pytest.mark.parametrize("size", [20.0, 44.0])
def test_lines_of_text_are_found_where_they_are(
    size: float, plate: tuple[int, int, int] | None
) -> None:
    picture = backdrop()
    box = (20, 100, 310, 100 + round(1.6 * size))
    draw_text(picture, line("THE NEW COAT"[: 12 if size < 40 else 8], size, box, plate))
    found = lettering_mask(picture)
    assert found[box[1] : box[3], box[0] : box[2]].sum() > 0.9 * found.sum() > 200


def test_pictures_without_text_have_none() -> None:
    assert not any(len(text_lines(backdrop(seed))) for seed in range(5))
    assert not len(text_lines(np.zeros((40, 40, 3), np.uint8)))


def test_dots_and_stripes_are_no_text() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    dots = ((rows % 28 - 14) ** 2 + (columns % 28 - 14) ** 2) < 50
    stripes = (rows // 12) % 2 == 0
    for pattern in (dots, stripes):
        picture = np.where(pattern[..., None], 230, 40).astype(np.uint8).repeat(3, -1)
        assert not len(text_lines(picture))


def test_large_pictures_give_boxes_in_their_own_pixels() -> None:
    picture = np.ascontiguousarray(backdrop().repeat(4, 0).repeat(4, 1))
    box = (100, 500, 1200, 660)
    draw_text(picture, line("HOW TO WALK", 100.0, box, (0, 0, 0)))
    x0, y0, x1, y1 = text_lines(picture)[0]
    assert box[0] <= x0 < x1 <= box[2] and box[1] <= y0 < y1 <= box[3] and x1 - x0 > 500

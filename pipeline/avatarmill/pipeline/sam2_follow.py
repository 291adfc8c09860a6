"""Follows one person through a window of frames with a video predictor, and calls it back.

The predictor remembers what it was shown. Where its mask leaves the landmarks or the box, it is
shown the person anew and goes on from there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.types import Bytes, Float

LEAST_AGREEMENT = 0.5
"""Below it a mask has drifted."""
_BOX_MARGIN = 0.15
"""Of the longer side of the box: hair and cloth that the box has missed."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What is known of a person in the T frames of a window; pixels."""

    boxes: Float
    """[T, 4] x0, y0, x1, y1."""
    points: Float
    """[T, K, 2] on the person."""
    labels: NDArray[np.int32]
    """[T, K] 1 where a point is seen, -1 where it is not used."""
    known: Bytes
    """[N, H, W] masks of the first N frames, from the window before; N may be 0."""

    def agreement(self, row: int, mask: Bytes) -> float:
        """How far a mask [H, W] of a row is the person's, 0..1.

        The least of: the share of seen points on it, the share of it that lies in the widened box,
        and its overlap with the known mask where there is one.
        """
        own = mask > 127
        shares = [_share_in_box(own, self.boxes[row]), self._share_of_points(row, own)]
        if row < len(self.known):
            known = self.known[row] > 127
            shares.append(float((own & known).sum() / max((own | known).sum(), 1)))
        return min(shares)

    def _share_of_points(self, row: int, own: NDArray[np.bool_]) -> float:
        points = self.points[row][self.labels[row] == 1].astype(int)
        inside = ((points >= 0) & (points < own.shape[::-1])).all(1)
        x, y = points[inside].T
        return float(own[y, x].mean()) if len(x) else 1.0

    def handed(self) -> list[int]:
        """Known rows to start from: the first and the last whose mask fits the landmarks."""
        alone = Prompts(self.boxes, self.points, self.labels, self.known[:0])
        fit = [
            row
            for row, mask in enumerate(self.known)
            if alone.agreement(row, mask) >= LEAST_AGREEMENT
        ]
        return sorted({fit[0], fit[-1]}) if fit else []


def _share_in_box(own: NDArray[np.bool_], box: Float) -> float:
    margin = _BOX_MARGIN * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = np.maximum(np.floor(box[:2] - margin), 0).astype(int)
    x1, y1 = np.ceil(box[2:] + margin).astype(int)
    return float(own[y0:y1, x0:x1].sum() / max(own.sum(), 1))


def follow(
    predictor: Any, state: Any, prompts: Prompts, *, shape: tuple[int, int], max_prompts: int
) -> tuple[Bytes, list[int]]:
    """Masks [T, H, W] 0..255 of a window, and the rows at which box and points were shown.

    Starts from the masks that are handed over, or without any from box and points of the first
    frame. At the first row that has drifted the person is shown anew, at most `max_prompts` times;
    rows before it keep their masks. Rows before the first that was handed over stay empty.

    Args:
        predictor: a `sam2` video predictor.
        state: its state with the frames of the window.
        prompts: of the window.
        shape: H, W of the frames.
        max_prompts: how often it is called back.
    """
    masks = np.zeros((len(prompts.boxes), *shape), np.uint8)
    handed = prompts.handed()
    shown = [] if handed else [0]
    _propagate(predictor, state, prompts, (handed, shown), None, masks)
    for _ in range(max_prompts):
        after = shown[-1] + 1 if shown else handed[0] + 1
        rows = range(after, len(masks))
        drifted = (r for r in rows if prompts.agreement(r, masks[r]) < LEAST_AGREEMENT)
        row = next(drifted, None)
        if row is None:
            break
        shown.append(row)
        _propagate(predictor, state, prompts, (handed, shown), row, masks)
    return masks, shown


def _propagate(
    predictor: Any,
    state: Any,
    prompts: Prompts,
    rows: tuple[list[int], list[int]],
    start: int | None,
    masks: Bytes,
) -> None:
    """Shows the person on rows handed over and shown, and masks all rows from `start` on."""
    # A correction would begin from the drifted mask; after a reset it begins from the prompt.
    predictor.reset_state(state)
    handed, shown = rows
    # What is shown later corrects what was handed over.
    for row in (r for r in handed if r not in shown):
        predictor.add_new_mask(state, frame_idx=row, obj_id=1, mask=prompts.known[row] > 127)
    for row in shown:
        used = prompts.labels[row] >= 0
        predictor.add_new_points_or_box(
            state,
            frame_idx=row,
            obj_id=1,
            points=prompts.points[row][used],
            labels=prompts.labels[row][used],
            box=prompts.boxes[row],
        )
    for row, _, logits in predictor.propagate_in_video(state, start_frame_idx=start):
        odds = np.clip(logits[0, 0].float().cpu().numpy(), -30, 30)
        masks[row] = np.rint(255 / (1 + np.exp(-odds)))

"""Which frames of a track become the clip: sharp, well seen, and different from each other."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.pipeline.frame_scores import SCORE_NAMES, FrameScores
from avatarmill.pipeline.measure import measure
from avatarmill.pipeline.types import Bytes, Fit, Frames, Reason, Reject, Selection, Track

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SelectConfig:
    """How many frames a clip has and what each must satisfy."""

    num_references: int = 4
    num_targets: int = 2
    crop_size: int = 512
    candidates: int = 40
    """Frames looked at, evenly spread over the track."""
    min_person_px: int = 96
    """Smallest extent of the person's mask, pixels of the decoded frame."""
    min_inside: float = 0.15
    """Share of the body that must be inside the image."""
    min_brightness: float = 0.2
    """What the lightest twentieth of the person's box must reach, 0..1."""
    max_clipped: float = 0.3
    """Share of the person that may be burnt out."""
    min_sharpness: float = 0.02
    """Energy of fine detail over that of the picture."""
    min_relative_sharpness: float = 0.4
    """The same over the median of the track."""
    max_spill: float = 0.35
    """Share of the mask that may lie further from the body than clothes reach."""
    max_occluded: float = 0.35
    """Share of the body inside the image that may be hidden behind something."""
    min_mask_agreement: float = 0.65
    """Share of the fitted body in view that the mask must cover."""
    min_landmarks: float = 0.5
    """Share of the visible landmarks that must lie on the mask."""
    max_residual: float = 0.1
    """Reprojection error of a frame as a fraction of the person's extent."""
    max_lettering: float = 0.05
    """Share of the person that may lie under burnt-in text."""

    def __post_init__(self) -> None:
        limits = {"num_references": 1, "num_targets": 0, "crop_size": 16, "min_person_px": 1}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")
        for limit in LIMITS:
            value = getattr(self, limit.setting)
            if limit.score != "extent" and not 0 <= value <= 1:
                raise ValueError(f"{limit.setting} {value} must be 0..1")
        if self.candidates < self.num_frames:
            raise ValueError(
                f"candidates {self.candidates} must cover the {self.num_frames} frames of a clip"
            )

    @property
    def num_frames(self) -> int:
        """References and targets together."""
        return self.num_references + self.num_targets


class Limit(NamedTuple):
    """A score a frame must not break, and what breaking it is called."""

    score: str
    setting: str
    kind: Literal["least", "most"]
    reason: Reason


LIMITS = (
    Limit("extent", "min_person_px", "least", Reason.PERSON_TOO_SMALL),
    Limit("inside", "min_inside", "least", Reason.TRUNCATED_PERSON),
    Limit("brightness", "min_brightness", "least", Reason.BADLY_EXPOSED),
    Limit("clipped", "max_clipped", "most", Reason.BADLY_EXPOSED),
    Limit("sharpness", "min_sharpness", "least", Reason.BLURRED),
    Limit("spill", "max_spill", "most", Reason.MASK_DISAGREES),
    Limit("agreement", "min_mask_agreement", "least", Reason.MASK_DISAGREES),
    Limit("occluded", "max_occluded", "most", Reason.OCCLUDED),
    Limit("landmarks", "min_landmarks", "least", Reason.LANDMARKS_DISAGREE),
    Limit("residual", "max_residual", "most", Reason.FIT_DIVERGED),
    Limit("lettering", "max_lettering", "most", Reason.OVERLAID),
)
"""In this order: a frame that breaks several is counted under the first."""


def select(
    frames: Frames,
    track: Track,
    masks: Bytes,
    fit: Fit,
    body: Body,
    config: SelectConfig | None = None,
) -> Selection | Reject:
    """Measure frames of a track and choose among them; see `choose`.

    Args:
        frames: of the shot.
        track: T rows.
        masks: [T, H, W] 0..255.
        fit: of the track.
        body: for the silhouette the mask is compared with.
        config: defaults when None.

    Returns:
        Rows of the track, or why it has no clip.
    """
    config = config or SelectConfig()
    rows = candidate_rows(len(track.frame_indices), config.candidates)
    return choose(measure(frames, track, masks, fit, body, rows), config)


def candidate_rows(count: int, candidates: int) -> NDArray[np.int64]:
    """At most so many rows of a track of `count` frames, evenly spread, both ends included."""
    spread = np.linspace(0, count - 1, min(count, candidates)).round()
    return np.unique(spread.astype(np.int64))


def choose(scores: FrameScores, config: SelectConfig) -> Selection | Reject:
    """Reference and held-out target frames, from what was measured and nothing else.

    Other limits or other numbers of frames need no pixel again: the same scores give the same
    choice. Frames are picked one by one, each as far as possible in view and pose from those
    already taken, weighted by its quality; targets come after the references in the same way.

    Args:
        scores: of the candidates.
        config: limits and numbers of frames.

    Returns:
        Rows of the track, or the commonest reason why its frames are of no use.
    """
    if len(scores) < config.num_frames:
        evidence = f"{len(scores)} frames < {config.num_frames}"
        return _reject(Reason.TRACK_TOO_SHORT, evidence, scores)
    broken = broken_limits(scores, config)
    usable = scores.take(np.array([limit is None for limit in broken]))
    if len(usable) < config.num_frames:
        return _refusal(scores, broken, len(usable), config)
    quality = _quality(usable)
    # The first reference shows the face, where any does.
    first = int((quality * (0.2 + usable.face)).argmax())
    picked = pick_diverse(usable.looks, quality, config.num_frames, first=first)
    chosen = [int(usable.rows[index]) for index in picked]
    return Selection(
        references=tuple(chosen[: config.num_references]),
        targets=tuple(chosen[config.num_references :]),
        scores=_summary(usable, picked, len(usable) / len(scores)),
    )


def broken_limits(scores: FrameScores, config: SelectConfig) -> list[Limit | None]:
    """The first limit that each frame breaks, None for frames that break none."""
    sharp = config.min_relative_sharpness * float(np.median(scores.sharpness))
    broken: list[Limit | None] = []
    for row in range(len(scores)):
        found = next((limit for limit in LIMITS if _breaks(scores, row, limit, config)), None)
        if found is None and scores.sharpness[row] < sharp:
            found = Limit("sharpness", "min_relative_sharpness", "least", Reason.BLURRED)
        broken.append(found)
    return broken


def _breaks(scores: FrameScores, row: int, limit: Limit, config: SelectConfig) -> bool:
    value, bound = float(getattr(scores, limit.score)[row]), getattr(config, limit.setting)
    return bool(value < bound if limit.kind == "least" else value > bound)


def pick_diverse(
    looks: Array, quality: Array, count: int, *, first: int | None = None
) -> list[int]:
    """Indices of `count` frames: the best first, then farthest-point picks weighted by quality.

    Args:
        looks: [n, D] points whose distance is how different two frames are.
        quality: [n] above 0.
        count: at most n.
        first: where to begin, if not at the best.
    """
    picked = [int(quality.argmax()) if first is None else first]
    distance = np.linalg.norm(looks - looks[picked[0]], axis=-1)
    while len(picked) < count:
        # A little distance for all, so that equal frames are still picked by quality.
        score = quality * (distance + 1e-3)
        score[picked] = -1
        picked.append(int(score.argmax()))
        distance = np.minimum(distance, np.linalg.norm(looks - looks[picked[-1]], axis=-1))
    return picked


def _quality(scores: FrameScores) -> Array:
    """[n] above 0: what makes one usable frame better than another, multiplied."""
    sharp = scores.sharpness / np.median(scores.sharpness).clip(1e-6)
    quality: Array = (
        np.clip(sharp, 0.2, 1.5)
        * (0.1 + scores.confidence)
        * (0.1 + scores.agreement)
        * (1.1 - scores.occluded)
        * (1.05 - scores.clipped)
        / ((1 + 20 * scores.residual) * (1 + 10 * scores.lettering))
    )
    return quality


def _refusal(
    scores: FrameScores, broken: list[Limit | None], usable: int, config: SelectConfig
) -> Reject:
    """The commonest reason, with the median of its score over the frames that broke it."""
    counts = Counter(limit for limit in broken if limit is not None)
    # Of equally common ones the first of the list, so that the verdict does not depend on order.
    limit = max(counts, key=lambda one: (counts[one], -_rank(one)))
    values = [
        float(value)
        for value, own in zip(getattr(scores, limit.score), broken, strict=True)
        if own == limit
    ]
    bound = getattr(config, limit.setting)
    if limit.setting == "min_relative_sharpness":
        bound = bound * float(np.median(scores.sharpness))
    sign = "<" if limit.kind == "least" else ">"
    evidence = (
        f"{usable} of {len(scores)} frames usable < {config.num_frames}; {counts[limit]} with "
        f"{limit.score} {np.median(values):.3g} {sign} {bound:.3g}"
    )
    return _reject(limit.reason, evidence, scores)


def _rank(limit: Limit) -> int:
    return LIMITS.index(limit) if limit in LIMITS else len(LIMITS)


def _summary(scores: FrameScores, picked: list[int], usable: float) -> dict[str, float]:
    """Medians over the chosen frames, how far apart their views are, how many could be chosen."""
    summary = {name: float(np.median(getattr(scores, name)[picked])) for name in SCORE_NAMES}
    spread = scores.looks[picked][:, :3]
    summary["view_spread"] = float(np.linalg.norm(spread[:, None] - spread[None], axis=-1).max())
    summary["usable"] = usable
    return {name: round(value, 4) for name, value in summary.items()}


def _reject(reason: Reason, evidence: str, scores: FrameScores) -> Reject:
    start, stop = scores.pts_seconds[[0, -1]] if len(scores) else (0.0, 0.0)
    return Reject(reason, evidence, "select", float(start), float(stop))

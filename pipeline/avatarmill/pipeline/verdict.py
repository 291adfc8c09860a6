"""Whether what was followed is a person: runs long enough, and a body that stays one body."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.people_config import PeopleConfig
from avatarmill.pipeline.steadiness import (
    WRISTS,
    Steadiness,
    body_size,
    core_motion,
    face_distance,
    measure,
)
from avatarmill.pipeline.tracking_config import allowed_motion
from avatarmill.pipeline.types import Bytes, Float, Landmarks, Reason, Reject


def judge(
    landmarks: Landmarks,
    masks: Bytes,
    rows: NDArray[np.int64],
    pts_seconds: NDArray[np.float64],
    config: PeopleConfig,
) -> tuple[NDArray[np.int64], Landmarks] | Reject:
    """The frames in which one followed figure is a person, or why it is none.

    Pure: no child is involved.

    Args:
        landmarks: over the T frames in which the figure was found.
        masks: [T, H, W] 0..255, raw.
        rows: [T] of the shot's frames, rising.
        pts_seconds: [F] times of all frames of the shot.
        config: the limits.

    Returns:
        The positions among the T frames that are kept, with their landmarks, cleaned.
    """
    start, stop = _span(rows, pts_seconds)

    def reject(reason: Reason, evidence: str) -> Reject:
        return Reject(reason, evidence, "people", start, stop, "track")

    runs = _runs(landmarks.body, rows, pts_seconds, config)
    longest = max(runs, key=len)
    begin, end = _span(rows[longest], pts_seconds)
    if len(longest) < config.min_frames or end - begin < config.min_seconds:
        return reject(
            Reason.TRACK_TOO_SHORT,
            f"{len(longest)} frames in a row, {end - begin:.2f} s; at least {config.min_frames} "
            f"and {config.min_seconds} s",
        )
    kept = np.concatenate([run for run in runs if len(run) >= config.min_run])
    own = rows_of(landmarks, kept)
    size = float(np.median(body_size(own.body))) / min(masks.shape[1:])
    if size < config.min_size:
        return reject(
            Reason.PERSON_TOO_SMALL, f"body size {size:.3f} of the image, limit {config.min_size}"
        )
    broken = _broken_limits(measure(own, masks[kept]), config)
    return reject(Reason.LANDMARKS_DISAGREE, broken) if broken else (kept, _cleaned(own))


def rows_of(landmarks: Landmarks, rows: NDArray[np.int64]) -> Landmarks:
    """Some frames of landmarks."""
    return Landmarks(**{f.name: getattr(landmarks, f.name)[rows] for f in fields(Landmarks)})


def frame_seconds(pts_seconds: NDArray[np.float64]) -> float:
    """Usual time between frames, 0 of a single one."""
    return float(np.median(np.diff(pts_seconds))) if len(pts_seconds) > 1 else 0.0


def _span(rows: NDArray[np.int64], pts_seconds: NDArray[np.float64]) -> tuple[float, float]:
    stop = float(pts_seconds[rows[-1]]) + frame_seconds(pts_seconds)
    return float(pts_seconds[rows[0]]), stop


def _runs(
    body: Float,
    rows: NDArray[np.int64],
    pts_seconds: NDArray[np.float64],
    config: PeopleConfig,
) -> list[NDArray[np.int64]]:
    """Positions of frames without a long gap and without a jump, run by run."""
    gaps = np.diff(pts_seconds[rows])
    allowed = np.array([allowed_motion(float(g), config.tracking.max_motion) for g in gaps])
    longest = max(config.max_gap_seconds, 1.5 * frame_seconds(pts_seconds))
    ends = (gaps > longest) | (core_motion(body) > allowed)
    return np.split(np.arange(len(rows)), np.flatnonzero(ends) + 1)


def _broken_limits(steadiness: Steadiness, config: PeopleConfig) -> str:
    """The limits that are broken, as evidence; empty when all hold."""
    above = ("limb_deviation", "limb_asymmetry", "face_distance", "plane_residual")
    below = ("mask_support", "core_visibility")
    broken = []
    for name in above:
        value, limit = getattr(steadiness, name), getattr(config, f"max_{name}")
        if value > limit:
            broken.append(f"{name} {value:.2f} > {limit}")
    for name in below:
        value, limit = getattr(steadiness, name), getattr(config, f"min_{name}")
        if value < limit:
            broken.append(f"{name} {value:.2f} < {limit}")
    return ", ".join(broken)


_MAX_HAND_DISTANCE = 0.6
"""Wrist of a hand from the body's wrist, in body sizes: above it the hand is somebody else's."""
_MAX_FACE_DISTANCE = 0.15
"""Nose of a face mesh from the body's: above it a mesh laid on a profile by guesswork, or somebody
else's. Of real clips' faces nine in ten are within 0.08, and 1 of 350 is above."""


def _cleaned(landmarks: Landmarks) -> Landmarks:
    """Hands and faces far from the body's own wrists and nose become NaN."""
    size = body_size(landmarks.body)
    hands = []
    for hand, wrist in zip((landmarks.left_hand, landmarks.right_hand), WRISTS, strict=True):
        offset = hand[:, 0, :2] - landmarks.body[:, wrist, :2]
        stray = np.linalg.norm(offset, axis=-1) > _MAX_HAND_DISTANCE * size
        hands.append(np.where(stray[:, None, None], np.nan, hand).astype(np.float32))
    stray = face_distance(landmarks, size) > _MAX_FACE_DISTANCE
    face = np.where(stray[:, None, None], np.nan, landmarks.face).astype(np.float32)
    return Landmarks(landmarks.body, landmarks.body_world, hands[0], hands[1], face)

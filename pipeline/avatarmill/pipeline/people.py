"""The people of a shot: MediaPipe's landmarks cut into steady tracks, false persons turned away.

MediaPipe follows one figure at a time and may jump to another, or see one in a wheel. A track is a
run of frames in which the figure neither vanishes nor jumps, and whose body stays one body: limbs
of constant length, sides that match, a face where the head is.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.boxes import track_boxes
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, ChildFailure, python_module
from avatarmill.pipeline.children.venv import mediapipe_python
from avatarmill.pipeline.second_look import confirmed_share
from avatarmill.pipeline.steadiness import (
    WRISTS,
    Steadiness,
    body_size,
    core_motion,
    face_distance,
    measure,
)
from avatarmill.pipeline.types import Bytes, Float, Frames, Landmarks, Reason, Reject, Track


@dataclass(frozen=True, slots=True)
class PeopleConfig:
    """What counts as a person. Measured on people and on false persons: see the README."""

    min_frames: int = 5
    min_seconds: float = 0.7
    """Shorter tracks are TRACK_TOO_SHORT; both must hold."""
    max_gap_seconds: float = 0.35
    """A figure unseen for longer ends its track."""
    max_motion: float = 0.9
    """Displacement of the trunk within 0.1 s, in body sizes: above it another figure."""
    min_size: float = 0.06
    """Body size over the shorter image side: below it PERSON_TOO_SMALL."""
    max_limb_deviation: float = 0.14
    max_limb_asymmetry: float = 0.4
    max_face_distance: float = 0.1
    max_plane_residual: float = 0.2
    min_mask_support: float = 0.6
    min_core_visibility: float = 0.6
    """Limits of the measures of steadiness: broken by one, LANDMARKS_DISAGREE."""
    second_looks: int = 8
    """Frames of a track that are looked at again, mirrored and without tracking."""
    min_confirmed: float = 0.5
    """Share of second looks that must find the same body, else LANDMARKS_DISAGREE."""
    max_tracks: int = 4
    """The longest tracks of a shot that are kept."""
    model_complexity: int = 1
    detection_confidence: float = 0.5
    tracking_confidence: float = 0.5
    python: Path | None = None
    """Interpreter of the MediaPipe environment; found by itself when None."""
    deadline_base_seconds: float = 60.0
    deadline_per_frame: float = 1.0
    memory_limit_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if self.min_frames < 2:
            raise ValueError(f"PeopleConfig.min_frames is {self.min_frames}, at least 2")
        if self.model_complexity not in (0, 1, 2):
            raise ValueError(f"PeopleConfig.model_complexity is {self.model_complexity}, 0, 1 or 2")


@dataclass(frozen=True, slots=True)
class People:
    """What was found in a shot."""

    tracks: tuple[Track, ...]
    masks: tuple[Bytes, ...]
    """[T, H, W] MediaPipe's own mask of each track, 0..255, over the frames of the track."""
    rejects: tuple[Reject, ...]
    """Pieces that were turned away beside the tracks that were kept."""


def people_child(config: PeopleConfig) -> Child:
    """The child that holds MediaPipe; one per worker, closed by its owner.

    Raises ValueError when the MediaPipe environment is missing.
    """
    return Child(
        python_module(
            "avatarmill.pipeline.children.mediapipe_child", mediapipe_python(config.python)
        ),
        memory_limit_bytes=config.memory_limit_bytes,
        env={"OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2", "MEDIAPIPE_DISABLE_GPU": "1"},
    )


def find_people(child: Child, frames: Frames, config: PeopleConfig) -> People | Reject:
    """Steady tracks of the people in a shot.

    Rejects the shot when none is left: NO_PERSON, TRACK_TOO_SHORT, LANDMARKS_DISAGREE or
    PERSON_TOO_SMALL (the reason of its longest piece), and the child's failures.
    """
    try:
        landmarks, masks = _detect(child, frames, config)
        found = tracks_of(landmarks, masks, frames.pts_seconds, config)
        return found if isinstance(found, Reject) else _confirmed(child, frames, found, config)
    except ChildFailure as failure:
        return replace(failure.reject("people"), level="shot")


def _detect(child: Child, frames: Frames, config: PeopleConfig) -> tuple[Landmarks, Bytes]:
    request = {
        "call": "holistic",
        "model_complexity": config.model_complexity,
        "detection_confidence": config.detection_confidence,
        "tracking_confidence": config.tracking_confidence,
    }
    deadline = config.deadline_base_seconds + config.deadline_per_frame * len(frames.images)
    reply = child.call(Message(request, {"images": frames.images}), deadline_seconds=deadline)
    arrays = reply.arrays
    return Landmarks(**{f.name: arrays[f.name] for f in fields(Landmarks)}), arrays["masks"]


def _confirmed(
    child: Child, frames: Frames, people: People, config: PeopleConfig
) -> People | Reject:
    """Keeps the tracks whose body is found again by looks that know nothing of the tracking."""
    kept: list[tuple[Track, Bytes]] = []
    rejects: list[Reject] = []
    for track, masks in zip(people.tracks, people.masks, strict=True):
        share = confirmed_share(
            child,
            frames.images,
            track,
            looks=config.second_looks,
            complexity=config.model_complexity,
            confidence=config.detection_confidence,
            deadline_seconds=config.deadline_base_seconds,
        )
        if share >= config.min_confirmed:
            kept.append((replace(track, index=len(kept)), masks))
            continue
        times = frames.pts_seconds[track.frame_indices]
        evidence = f"{share:.2f} of second looks find the same body, limit {config.min_confirmed}"
        rejects.append(
            Reject(
                Reason.LANDMARKS_DISAGREE,
                evidence,
                "people",
                float(times[0]),
                float(times[-1]) + _step(frames.pts_seconds),
                "track",
            )
        )
    if not kept:
        return max(rejects, key=lambda reject: reject.stop_seconds - reject.start_seconds)
    return People(
        tuple(track for track, _ in kept),
        tuple(masks for _, masks in kept),
        (*people.rejects, *rejects),
    )


def tracks_of(
    landmarks: Landmarks, masks: Bytes, pts_seconds: NDArray[np.float64], config: PeopleConfig
) -> People | Reject:
    """Cuts landmarks over all F frames of a shot into tracks and judges each.

    `masks` [F, H, W] 0..255. Pure: no child is involved.
    """
    found = np.flatnonzero(np.isfinite(landmarks.body[:, 0, 0]))
    if len(found) == 0:
        stop = float(pts_seconds[-1]) + _step(pts_seconds)
        evidence = f"no figure in {len(pts_seconds)} frames"
        return Reject(
            Reason.NO_PERSON, evidence, "people", float(pts_seconds[0]), stop, level="shot"
        )
    pieces = sorted(_pieces(landmarks.body, found, pts_seconds, config), key=len, reverse=True)
    kept: list[tuple[NDArray[np.int64], Landmarks]] = []
    rejects: list[Reject] = []
    for rows in pieces:
        own = _cleaned(_rows_of(landmarks, rows))
        reject = _verdict(own, masks[rows], pts_seconds, rows, config)
        if reject is not None:
            rejects.append(reject)
        elif len(kept) < config.max_tracks:
            kept.append((rows, own))
    if not kept:
        return rejects[0]
    kept.sort(key=lambda piece: int(piece[0][0]))
    tracks = tuple(
        Track(i, rows, track_boxes(own, masks[rows]), own) for i, (rows, own) in enumerate(kept)
    )
    return People(tracks, tuple(masks[rows] for rows, _ in kept), tuple(rejects))


def _pieces(
    body: Float,
    found: NDArray[np.int64],
    pts_seconds: NDArray[np.float64],
    config: PeopleConfig,
) -> list[NDArray[np.int64]]:
    """Runs of detected rows without a long gap and without a jump."""
    gap = np.diff(pts_seconds[found])
    # Motion grows with time between frames; a slow source is allowed more.
    allowed = config.max_motion * np.maximum(gap / 0.1, 1.0) ** 0.5
    ends = (gap > max(config.max_gap_seconds, 1.5 * _step(pts_seconds))) | (
        core_motion(body[found]) > allowed
    )
    return np.split(found, np.flatnonzero(ends) + 1)


def _step(pts_seconds: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(pts_seconds))) if len(pts_seconds) > 1 else 0.0


def _verdict(
    landmarks: Landmarks,
    masks: Bytes,
    pts_seconds: NDArray[np.float64],
    rows: NDArray[np.int64],
    config: PeopleConfig,
) -> Reject | None:
    """Why a piece is not a track, or None."""
    start, stop = float(pts_seconds[rows[0]]), float(pts_seconds[rows[-1]])
    stop += _step(pts_seconds)

    def reject(reason: Reason, evidence: str) -> Reject:
        return Reject(reason, evidence, "people", start, stop, "track")

    if len(rows) < config.min_frames or stop - start < config.min_seconds:
        return reject(
            Reason.TRACK_TOO_SHORT,
            f"{len(rows)} frames in a row, {stop - start:.2f} s; at least {config.min_frames} and "
            f"{config.min_seconds} s",
        )
    size = float(np.median(body_size(landmarks.body))) / min(masks.shape[1:])
    if size < config.min_size:
        return reject(
            Reason.PERSON_TOO_SMALL, f"body size {size:.3f} of the image, limit {config.min_size}"
        )
    broken = _broken_limits(measure(landmarks, masks), config)
    return reject(Reason.LANDMARKS_DISAGREE, broken) if broken else None


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


def _rows_of(landmarks: Landmarks, rows: NDArray[np.int64]) -> Landmarks:
    return Landmarks(**{f.name: getattr(landmarks, f.name)[rows] for f in fields(Landmarks)})


_MAX_HAND_DISTANCE = 0.6
"""Wrist of a hand from the body's wrist, in body sizes: above it the hand is somebody else's."""
_MAX_FACE_DISTANCE = 0.35


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

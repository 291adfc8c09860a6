"""From landmarks detected in views of a known body to points that are rigid on its bones."""

from dataclasses import dataclass

import numpy as np
from calibrate_render import INTRINSICS, SIZE, Views
from numpy.typing import NDArray

from avatarmill.avatar.body import JOINT_NAMES, Body
from avatarmill.pipeline.fit_landmarks import (
    FACE,
    FACE_ROWS,
    LEFT_HAND_ROWS,
    LEFT_HIP,
    LEFT_SHOULDER,
    NUM_BODY,
    NUM_LANDMARKS,
    RIGHT_HAND_ROWS,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    LandmarkMap,
)
from avatarmill.pipeline.types import Landmarks

Array = NDArray[np.float64]

_NUM_HEAD = 11  # the first rows of MediaPipe's body: nose, eyes, ears, corners of the mouth
_PELVIS, _HEAD, _JAW, _LEFT_EYE, _RIGHT_EYE = (
    JOINT_NAMES.index(name) for name in ("pelvis", "head", "jaw", "left_eye", "right_eye")
)
_LIMBS = (
    *("collar", "elbow", "wrist", "wrist", "wrist", "wrist"),
    *("pelvis", "knee", "ankle", "ankle", "foot"),
)
"""Bones of MediaPipe's shoulder, elbow, wrist, three knuckles, hip, knee, ankle, heel and toe."""
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_JAW_POINTS, _LEFT_IRIS, _RIGHT_IRIS = (14, 17, 84, 314), 473, 468

# Residuals in metres at which a detection's weight has fallen to a quarter.
_BODY_SCALE, _HAND_SCALE, _FACE_SCALE = 0.03, 0.012, 0.008
_ITERATIONS = 30
_FRONTAL_BODY, _FRONTAL_HEAD = 0.5, 0.82  # cosine between the front and the way to the camera
_SMALL_FACE_WEIGHT = 0.1  # of faces some 40 pixels wide, next to close-ups of 250
_MIRROR = np.array([-1, 1, 1])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where one landmark was seen."""

    pixels: Array
    """[N, 2], NaN where it was not found."""
    weights: Array
    """[N], 0 where the detection does not count."""
    scale: float


def calibrate(body: Body, views: Views, found: Landmarks) -> LandmarkMap:
    """Triangulates every landmark in the frame of its bone, then averages left and right."""
    joints = body.joint_template.numpy().astype(np.float64)
    transforms = body.transforms(views.params)[1].numpy().astype(np.float64)
    bone = landmark_bones()
    evidence = _evidence(views, found, transforms)
    points = np.array(
        [
            triangulate(joints[b], transforms[:, b], seen)
            for b, seen in zip(bone, evidence, strict=True)
        ]
    )
    base = bone.copy()
    # Shoulder and hip move with the bone above, but are measured from the joint they stand for.
    for row, name in (
        *((LEFT_SHOULDER, "left_shoulder"), (RIGHT_SHOULDER, "right_shoulder")),
        *((LEFT_HIP, "left_hip"), (RIGHT_HIP, "right_hip")),
    ):
        base[row] = JOINT_NAMES.index(name)
    offset = points - joints[base]
    offset = (offset + offset[_mirrored_rows(points)] * _MIRROR) / 2
    return LandmarkMap(bone, base, offset)


def triangulate(start: Array, transforms: Array, seen: Evidence) -> Array:
    """The rest point [3] whose images under `transforms` [N, 4, 4] project onto the pixels.

    Gauss-Newton on the distance, in metres at the point's depth, with Geman-McClure weights: a
    detector errs seldom but then by a limb.
    """
    used = np.isfinite(seen.pixels[:, 0]) & (seen.weights > 0)
    pixels, weights = seen.pixels[used], seen.weights[used]
    turn, shift = transforms[used, :3, :3], transforms[used, :3, 3]
    focal, centre = INTRINSICS[0, 0], INTRINSICS[:2, 2]
    slopes = np.tile(np.eye(3)[:2], (len(pixels), 1, 1))
    point = start.copy()
    for iteration in range(_ITERATIONS):
        placed = turn @ point + shift
        ray = placed[:, :2] / placed[:, 2:]
        error = (ray - (pixels - centre) / focal) * placed[:, 2:]
        slopes[:, :, 2] = -ray
        jacobian = slopes @ turn
        trust = weights / (1 + (error**2).sum(1) / seen.scale**2) ** 2
        # The first step is damped more: it starts from the joint, where few views agree.
        damping = (1e-2 if iteration == 0 else 1e-4) * np.eye(3)
        normal = np.einsum("n,nia,nib->ab", trust, jacobian, jacobian) + damping
        point -= np.linalg.solve(normal, np.einsum("n,nia,ni->a", trust, jacobian, error))
    return point


def landmark_bones() -> NDArray[np.int64]:
    """[L] the joint each landmark is rigid to."""
    body = [_HEAD] * _NUM_HEAD
    for limb in _LIMBS:
        names = (limb, limb) if limb == "pelvis" else (f"left_{limb}", f"right_{limb}")
        body += [JOINT_NAMES.index(name) for name in names]
    hands = [
        JOINT_NAMES.index(f"{side}_{name}") for side in ("left", "right") for name in _hand_bones()
    ]
    special = dict.fromkeys(_JAW_POINTS, _JAW) | {_LEFT_IRIS: _LEFT_EYE, _RIGHT_IRIS: _RIGHT_EYE}
    return np.array([*body, *hands, *(special.get(point, _HEAD) for point in FACE)])


def _hand_bones() -> tuple[str, ...]:
    """The 21 of a hand: wrist, then four a finger, of which the tip moves with the last bone."""
    return ("wrist", *(f"{finger}{k}" for finger in _FINGERS for k in (1, 2, 3, 3)))


def _evidence(views: Views, found: Landmarks, transforms: Array) -> list[Evidence]:
    # The camera looks along +z: a front that faces it points along -z.
    body_front, head_front = (-transforms[:, joint, 2, 2] for joint in (_PELVIS, _HEAD))
    close, small = views.framing == "face", np.isin(views.framing, ("full", "hand"))
    seen = []
    for row in range(NUM_BODY):
        pixels = found.body[:, row, :2].astype(np.float64)
        weights = np.nan_to_num(found.body[:, row, 3].astype(np.float64)) ** 2
        weights *= ((pixels > 0) & (pixels < SIZE)).all(1)
        # In close-ups of the face, limbs are guesses; seen from behind, the face is.
        weights *= body_front > _FRONTAL_BODY if row < _NUM_HEAD else ~close
        seen.append(Evidence(pixels, weights, _BODY_SCALE))
    for hand in (found.left_hand, found.right_hand):
        weights = np.isfinite(hand[:, 0, 0]).astype(np.float64)
        seen += [Evidence(pixels, weights, _HAND_SCALE) for pixels in _columns(hand)]
    weights = np.where(small, _SMALL_FACE_WEIGHT, 1.0) * (head_front > _FRONTAL_HEAD)
    chosen = found.face[:, list(FACE)]
    return seen + [Evidence(pixels, weights, _FACE_SCALE) for pixels in _columns(chosen)]


def _columns(points: NDArray[np.float32]) -> list[Array]:
    """[N, 2] pixels of each landmark of [N, L, 3]."""
    return list(points[..., :2].astype(np.float64).swapaxes(0, 1))


def _mirrored_rows(points: Array) -> NDArray[np.int64]:
    """[L] the row that is each landmark's mirror image; raises ValueError when faces do not pair.

    MediaPipe numbers the sides of body and hands alike. Those of the face mesh have no rule: the
    mirror image is the nearest point.
    """
    rows = np.arange(NUM_LANDMARKS)
    pairs = ((1, 4), (2, 5), (3, 6), *((left, left + 1) for left in range(7, NUM_BODY, 2)))
    for left, right in pairs:
        rows[[left, right]] = right, left
    hands = rows[LEFT_HAND_ROWS].copy(), rows[RIGHT_HAND_ROWS].copy()
    rows[RIGHT_HAND_ROWS], rows[LEFT_HAND_ROWS] = hands
    face = points[FACE_ROWS]
    distance = np.linalg.norm(face[:, None] * _MIRROR - face, axis=-1)
    rows[FACE_ROWS] = FACE_ROWS.start + distance.argmin(1)
    unpaired = np.flatnonzero(rows[rows] != np.arange(NUM_LANDMARKS)) - FACE_ROWS.start
    if len(unpaired):
        raise ValueError(
            f"face points {[FACE[row] for row in unpaired]} have no mirror image of their own; "
            "more pictures of the face make their places steadier"
        )
    return rows

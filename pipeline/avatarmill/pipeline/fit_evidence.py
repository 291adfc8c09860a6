"""From detected landmarks to evidence: which of them to believe, and how far."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.pipeline.fit_landmarks import (
    FACE,
    FACE_IRIS,
    FACE_OVAL,
    FACE_ROWS,
    JOINT_ROWS,
    LEFT_HAND_ROWS,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    NUM_BODY,
    NUM_LANDMARKS,
    RIGHT_HAND_ROWS,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
)
from avatarmill.pipeline.fit_lifter import PARENTS, lifter_features, load_lifter
from avatarmill.pipeline.fit_terms import Evidence
from avatarmill.pipeline.types import Landmarks

# Standard deviation of a landmark across the image, metres on the body, when fully visible.
_FACE_SIGMA, _OVAL_SIGMA, _IRIS_SIGMA, _HAND_SIGMA = 0.008, 0.015, 0.004, 0.012
_BODY_SIGMA = np.array(
    [0.015] * 11  # nose, eyes, ears, mouth
    + [0.022] * 6  # shoulders, elbows, wrists
    + [0.03] * 6  # knuckles of pinky, index, thumb
    + [0.03] * 2  # hips
    + [0.022] * 4  # knees, ankles
    + [0.026] * 4  # heels, toes
)

# Bones whose 3D direction is believed, with the standard deviation in radians.
_BONES: tuple[tuple[int, int, float], ...] = (
    *((11, 12, 0.15), (23, 24, 0.15), (23, 11, 0.15), (24, 12, 0.15)),
    *((11, 13, 0.25), (13, 15, 0.25), (12, 14, 0.25), (14, 16, 0.25)),
    *((23, 25, 0.25), (25, 27, 0.25), (24, 26, 0.25), (26, 28, 0.25)),
    *((29, 31, 0.4), (30, 32, 0.4), (7, 0, 0.35), (8, 0, 0.35), (7, 8, 0.3)),
    *((15, 19, 0.5), (15, 17, 0.5), (16, 20, 0.5), (16, 18, 0.5)),
)
_TORSO = (LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP)
# Those between joints that the lifter knows better.
_LIFTED = frozenset(bone[:2] for bone in _BONES[:14])
# Landmarks that must be inside the image for each bone of the lifter.
_LIFTER_SUPPORT: tuple[list[int], ...] = (
    *([23, 24], [23, 24], [23, 24, 11, 12], [23, 25], [24, 26], [23, 24, 11, 12]),
    *([25, 27], [26, 28], [11, 12], [27, 31], [28, 32], [11, 12, 0], [11], [12], [0, 7, 8]),
    *([11], [12], [11, 13], [12, 14], [13, 15], [14, 16]),
)
_TRUNK = (2, 5, 8, 11, 12, 13, 14, 15, 16)
_LIFTER_FLOOR, _OVERCONFIDENCE = 0.05, 1.7
"""Least deviation of a bone in radians; how far the network's own are too small for people whom it
was not trained on."""
_TORSO_FLOOR = 0.3
"""Trust in the 3D torso even where it is outside the image: nothing else tells the lean."""

_EDGE = 0.03
"""Fraction of the longer image side over which trust falls to zero beyond the border."""
_ATTACH = 0.12
"""Metres a hand or face may lie from the wrist or nose of the body it should belong to."""
_ATTACHED = (
    (LEFT_HAND_ROWS, LEFT_HAND_ROWS.start, LEFT_WRIST),
    (RIGHT_HAND_ROWS, RIGHT_HAND_ROWS.start, RIGHT_WRIST),
    (FACE_ROWS, FACE_ROWS.start + FACE.index(1), NOSE),
)


Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """Landmarks of a track in one row order, with how far each is believed."""

    pixels: Tensor
    """[T, L, 2]; zeros where nothing was seen."""
    trust: Tensor
    """[T, L] 0..1: visibility, and inside the image."""
    world: Tensor
    """[T, 33, 3] hip-centred metres in MediaPipe's axes."""
    world_trust: Tensor
    """[T, 33] 0..1."""
    inside: Tensor
    """[T, 33] 1 inside the image, falling to 0 beyond its border; whether visible or hidden."""
    visibility: Tensor
    """[T, 33] MediaPipe's, 0..1."""


@dataclass(frozen=True, slots=True)
class Bones:
    """Directions between points of the body."""

    pairs: Tensor
    """[B, 2] rows of a model of `with_joints`."""
    directions: Tensor
    """[T, B, 3] unit."""
    precision: Tensor
    """[T, B] 1/sigma in 1/radian."""

    def turned(self, turn: Tensor) -> "Bones":
        """The same in other axes; turn is [T, 3, 3]."""
        return replace(self, directions=self.directions @ turn.mT)

    def __add__(self, other: "Bones") -> "Bones":
        return Bones(
            torch.cat((self.pairs, other.pairs)),
            torch.cat((self.directions, other.directions), dim=1),
            torch.cat((self.precision, other.precision), dim=1),
        )


def observe(landmarks: Landmarks, *, width: int, height: int) -> Observation:
    """Stack the landmarks of a track into `NUM_LANDMARKS` rows with their trust.

    MediaPipe extrapolates what lies outside the image with some confidence; the trust of such
    points falls to zero just beyond the border, as nothing was seen there.
    """
    frames = len(landmarks.body)
    pixels = np.full((frames, NUM_LANDMARKS, 2), np.nan)
    pixels[:, :NUM_BODY] = landmarks.body[..., :2]
    pixels[:, LEFT_HAND_ROWS] = landmarks.left_hand[..., :2]
    pixels[:, RIGHT_HAND_ROWS] = landmarks.right_hand[..., :2]
    pixels[:, FACE_ROWS] = landmarks.face[:, FACE, :2]
    trust = np.ones((frames, NUM_LANDMARKS))
    trust[:, :NUM_BODY] = np.nan_to_num(landmarks.body[..., 3])
    inside = _inside(pixels, width, height) * np.isfinite(pixels[..., 0])
    trust *= inside
    world_trust = trust[:, :NUM_BODY].copy()
    seen = np.isfinite(landmarks.body_world[..., 0])
    world_trust[:, _TORSO] = np.maximum(world_trust[:, _TORSO], _TORSO_FLOOR)
    return Observation(
        torch.from_numpy(np.nan_to_num(pixels)),
        torch.from_numpy(trust),
        torch.from_numpy(np.nan_to_num(landmarks.body_world.astype(np.float64))),
        torch.from_numpy(world_trust * seen),
        torch.from_numpy(inside[:, :NUM_BODY]),
        torch.from_numpy(np.nan_to_num(landmarks.body[..., 3].astype(np.float64))),
    )


def weigh(
    seen: Observation, bones: Bones, pixel_metres: Tensor, center: Tensor, *, noise: float = 1.0
) -> Evidence:
    """Evidence of an observation once the depth of the person is known.

    Args:
        seen: the landmarks.
        bones: directions in camera axes.
        pixel_metres: [T] metres a pixel spans at the person.
        center: [2] principal point.
        noise: multiplies all standard deviations.
    """
    trust = seen.trust.clone()
    for rows, own, anchor in _ATTACHED:
        apart = (seen.pixels[:, own] - seen.pixels[:, anchor]).norm(dim=-1) * pixel_metres
        trust[:, rows] *= (apart < _ATTACH).to(trust)[:, None]
    return Evidence(
        pixels=seen.pixels,
        precision=trust / (noise * landmark_sigma()),
        pixel_metres=pixel_metres,
        center=center,
        bone_pairs=bones.pairs,
        bone_directions=bones.directions,
        bone_precision=bones.precision / noise,
    )


def landmark_bones(seen: Observation, *, body: bool) -> Bones:
    """Directions between MediaPipe's world landmarks, in its axes.

    Args:
        seen: the landmarks.
        body: trunk and limbs too, not only head, hands and feet.
    """
    rows = [bone for bone in _BONES if body or bone[:2] not in _LIFTED]
    pairs = torch.tensor([bone[:2] for bone in rows])
    directions = seen.world[:, pairs[:, 1]] - seen.world[:, pairs[:, 0]]
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    sigma = torch.tensor([bone[2] for bone in rows], dtype=torch.float64)
    return Bones(pairs, directions, seen.world_trust[:, pairs].amin(-1) / sigma)


def lifted_bones(seen: Observation, seconds: Array) -> Bones:
    """The directions of the body's bones as the lifter has them, in MediaPipe's axes.

    A bone counts as far as its landmarks are inside the image: the network guesses what lies
    outside, and the prior is a calmer guess. The trunk is believed a little in any case.
    """
    world, trust = seen.world.numpy(), seen.trust[:, :NUM_BODY].numpy()
    pixels, visibility = seen.pixels[:, :NUM_BODY].numpy(), seen.visibility.numpy()
    features = lifter_features(world, pixels, visibility, trust, seconds)
    directions, sigma = load_lifter()(features, world)
    support = torch.stack([seen.inside[:, rows].mean(-1) for rows in _LIFTER_SUPPORT], dim=-1)
    support[:, list(_TRUNK)] = support[:, list(_TRUNK)].clamp_min(_TORSO_FLOOR)
    support = support * (seen.visibility.amax(-1, keepdim=True) > 0)
    first = JOINT_ROWS.start
    pairs = torch.tensor([(first + up, first + bone + 1) for bone, up in enumerate(PARENTS)])
    spread = np.maximum(sigma, _LIFTER_FLOOR) * _OVERCONFIDENCE
    return Bones(pairs, torch.from_numpy(directions), support**2 / torch.from_numpy(spread))


def landmark_sigma() -> Tensor:
    """[L] standard deviation of each landmark across the image, metres on the body."""
    sigma = torch.full((NUM_LANDMARKS,), _HAND_SIGMA, dtype=torch.float64)
    sigma[:NUM_BODY] = torch.from_numpy(_BODY_SIGMA)
    special = {FACE_OVAL: _OVAL_SIGMA, FACE_IRIS: _IRIS_SIGMA}
    face = {point: value for group, value in special.items() for point in group}
    sigma[FACE_ROWS] = torch.tensor(
        [face.get(point, _FACE_SIGMA) for point in FACE], dtype=torch.float64
    )
    return sigma


def _inside(pixels: Array, width: int, height: int) -> Array:
    """1 inside the image, falling to 0 at `_EDGE` of the longer side beyond it."""
    x, y = np.nan_to_num(pixels[..., 0]), np.nan_to_num(pixels[..., 1])
    beyond = np.maximum.reduce([-x, x - width, -y, y - height, np.zeros_like(x)])
    inside: Array = np.clip(1 - beyond / (_EDGE * max(width, height)), 0, 1)
    return inside

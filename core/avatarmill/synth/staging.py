"""Where the camera stands: one that follows an actor by hand, or a ring of calibrated ones."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.actor import Actor
from avatarmill.synth.motion import Motion
from avatarmill.synth.render import View
from avatarmill.synth.wander import wander

Array = NDArray[np.float64]
Framing = Literal["full", "half", "mixed"]

# What a framing shows of the body's height: lower and upper edge of the subject, 0 soles, 1 crown.
_SUBJECT = {
    "full": (-0.03, 1.03),
    "knees": (0.42, 1.04),
    "half": (0.50, 1.04),
    "bust": (0.66, 1.05),
}
Crop = Literal["full", "knees", "half", "bust"]


def look_at(eye: Array, target: Array) -> Array:
    """World-to-camera matrix [4, 4] (OpenCV) of a level camera at `eye` that sees `target`."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix


def pinhole(focal: float, width: int, height: int) -> Array:
    """Intrinsics [3, 3] with the principal point in the middle."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def _pelvis(actor: Actor, motion: Motion) -> Array:
    pelvis: Array = motion.translation.astype(np.float64) + actor.skeleton.joints[0]
    return pelvis


def _subject(actor: Actor, framing: str) -> tuple[float, float]:
    """Height of the subject's middle above the ground and its span, metres."""
    low, high = _SUBJECT[framing]
    tall = float(actor.mesh.rest[:, 1].max()) - actor.skeleton.sole
    return tall * (low + high) / 2, tall * (high - low)


def wild_views(
    rng: np.random.Generator,
    actor: Actor,
    motion: Motion,
    *,
    framing: Crop,
    width: int,
    height: int,
    times: Array | None = None,
    azimuth: float | None = None,
) -> list[View]:
    """A hand-held camera that follows an actor: slow orbit, sway, shake and a drifting distance.

    Args:
        rng: consumed.
        actor: who is followed.
        motion: where the actor is.
        framing: what of the body is seen.
        width, height: of the picture.
        times: [F] seconds of the frames; evenly at the motion's rate by default.
        azimuth: radians by which the camera stands beside the +z axis in the middle of the shot;
            drawn by default.

    Returns:
        One view a frame, all with the same intrinsics.
    """
    times = np.arange(len(motion.pose)) / motion.fps if times is None else times
    focal = float(rng.uniform(1.0, 1.5)) * max(width, height)
    middle, span = _subject(actor, framing)
    fill = rng.uniform(0.66, 0.86)
    distance = focal * span / (fill * height)
    # Arms reach sideways: in narrow pictures the width decides.
    distance = max(distance, focal * min(span, 0.95) / (0.95 * width))
    sway = wander(rng, times, 6, rate=0.22)
    shake = wander(rng, times, 3, rate=2.2) * 0.004
    around = rng.normal(0, 0.55) if azimuth is None else azimuth
    turn = around + rng.normal(0, 0.10) * (times - times.mean())
    turn = turn + rng.uniform(0.0, 0.10) * sway[:, 0]
    away = distance * (1 + 0.07 * sway[:, 1])
    rise = distance * np.tan(np.clip(rng.normal(0.04, 0.09), -0.12, 0.3))
    pelvis = _pelvis(actor, motion)
    target = np.stack([pelvis[:, 0], np.full(len(times), middle), pelvis[:, 2]], axis=-1)
    target += 0.04 * span * sway[:, 2:5] + shake
    offset = np.stack([np.sin(turn), np.zeros_like(turn), np.cos(turn)], axis=-1)
    eyes = target + away[:, None] * offset
    eyes[:, 1] = np.maximum(middle + rise + 0.05 * sway[:, 5], 0.25)
    lens = pinhole(focal, width, height)
    return [View(lens, look_at(e, t), width, height) for e, t in zip(eyes, target, strict=True)]


def group_views(
    rng: np.random.Generator,
    actors: Sequence[Actor],
    motions: Sequence[Motion],
    *,
    framing: Crop,
    width: int,
    height: int,
    times: Array,
    azimuth: float,
) -> list[View]:
    """A hand-held camera that stays where it sees all actors all the time.

    Args:
        rng: consumed.
        actors: who is seen.
        motions: one an actor.
        framing: what of the bodies is seen, if they stand close enough for it.
        width, height: of the picture.
        times: [F] seconds of the frames.
        azimuth: radians by which the camera stands beside the +z axis.

    Returns:
        One view a frame, all with the same intrinsics.
    """
    focal = float(rng.uniform(1.0, 1.4)) * max(width, height)
    pelvis = np.concatenate(
        [_pelvis(a, m)[:, [0, 2]] for a, m in zip(actors, motions, strict=True)]
    )
    centre = 0.5 * (pelvis.min(0) + pelvis.max(0))
    away = np.array([np.sin(azimuth), np.cos(azimuth)])
    aside = (pelvis - centre) @ np.array([away[1], -away[0]])
    towards = float(((pelvis - centre) @ away).max())
    subjects = np.array([_subject(actor, framing) for actor in actors])
    low = (subjects[:, 0] - subjects[:, 1] / 2).min()
    high = (subjects[:, 0] + subjects[:, 1] / 2).max()
    # Arms and strides reach beyond the pelvis.
    reach = float(np.abs(aside).max()) + 0.42
    distance = focal * max(2 * reach / (0.98 * width), (high - low) / (0.84 * height)) + towards
    sway, shake = wander(rng, times, 4, rate=0.2), wander(rng, times, 3, rate=2.2) * 0.004
    target = np.array([centre[0], 0.5 * (low + high), centre[1]])
    targets = target + shake + 0.03 * sway[:, :3]
    angle = azimuth + rng.uniform(0, 0.04) * sway[:, 3]
    offset = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    eyes = targets + distance * offset
    eyes[:, 1] = max(target[1] + distance * np.tan(rng.uniform(-0.03, 0.12)), 0.4)
    lens = pinhole(focal, width, height)
    return [View(lens, look_at(e, t), width, height) for e, t in zip(eyes, targets, strict=True)]


def studio_views(
    rng: np.random.Generator, actor: Actor, motion: Motion, *, count: int, size: int
) -> list[View]:
    """`count` fixed cameras evenly around the middle of a motion, at varied heights.

    All frames of the motion stay in view of every camera.
    """
    pelvis = _pelvis(actor, motion)[:, [0, 2]]
    centre = 0.5 * (pelvis.min(0) + pelvis.max(0))
    roam = float(np.linalg.norm(pelvis - centre, axis=1).max())
    middle, span = _subject(actor, "full")
    focal = 1.6 * size
    reach = max(span * 1.12, 2 * (roam + 0.45))
    distance = focal * reach / size + roam
    start = rng.uniform(0, 2 * np.pi / count)
    views = []
    for index in range(count):
        azimuth = start + 2 * np.pi * index / count + rng.normal(0, 0.05)
        rise = np.radians(rng.uniform(-6, 28))
        away = np.array(
            [np.sin(azimuth) * np.cos(rise), np.sin(rise), np.cos(azimuth) * np.cos(rise)]
        )
        target = np.array([centre[0], middle, centre[1]])
        eye = target + distance * away
        eye[1] = max(eye[1], 0.2)
        views.append(View(pinhole(focal, size, size), look_at(eye, target), size, size))
    return views

"""Garments as geometry: shells cut out of the body and lifted off it, and shoes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, cKDTree

from avatarmill.synth.surfaces import (
    Float,
    Index,
    Material,
    Surface,
    Zone,
    averaging,
    cut,
    inflate,
    loft,
    smooth,
)

PELVIS, NECK, HEAD = 0, 12, 15
SHOULDERS, WRISTS = (16, 17), (20, 21)
HIPS, KNEES, ANKLES = (1, 2), (4, 5), (7, 8)


@dataclass(frozen=True, slots=True)
class Figure:
    """One body shape at rest, before it is dressed."""

    points: Float
    """[V, 3] skin."""
    joints: Float
    """[55, 3]"""
    faces: Index
    weights: Float
    """[V, 55]"""
    outer: NDArray[np.bool_]
    """[F] true for skin faces, false for eyeballs, teeth, tongue and the inside of the mouth."""

    @property
    def height(self) -> float:
        """Metres from the soles to the crown."""
        return float(self.points[:, 1].max() - self.points[:, 1].min())

    @property
    def sole(self) -> float:
        """Height of the soles, metres."""
        return float(self.points[:, 1].min())


def limb_share(figure: Figure, side: int) -> Float:
    """Where each vertex lies along an arm: 0 at the shoulder, 1 at the wrist, [V]."""
    start, stop = figure.joints[SHOULDERS[side], 0], figure.joints[WRISTS[side], 0]
    share: Float = (figure.points[:, 0] - start) / (stop - start)
    return share


def zones_of(figure: Figure, points: Float, faces: Index) -> NDArray[np.uint8]:
    """The pattern zone [F] of faces at rest, by where their middle lies."""
    middle = points[faces].mean(1)
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    for side, arm in enumerate((Zone.LEFT_ARM, Zone.RIGHT_ARM)):
        sign = 1 - 2 * side
        beyond = figure.joints[SHOULDERS[side], 0] * sign + 0.01
        zone[middle[:, 0] * sign > beyond] = arm
    crotch = crotch_height(figure)
    low = middle[:, 1] < crotch + 0.02
    zone[low & (middle[:, 0] >= 0)] = Zone.LEFT_LEG
    zone[low & (middle[:, 0] < 0)] = Zone.RIGHT_LEG
    return zone


def crotch_height(figure: Figure) -> float:
    """Height where the legs part, metres."""
    hips = figure.joints[list(HIPS), 1].mean()
    knees = figure.joints[list(KNEES), 1].mean()
    return float(hips - 0.16 * (hips - knees))


def waist_height(figure: Figure) -> float:
    """Height of the waistband, metres."""
    return float(0.45 * figure.joints[PELVIS, 1] + 0.55 * figure.joints[3, 1])


def top_level(figure: Figure, *, sleeve: float, hem: float, neck: float) -> Float:
    """Positive where a top covers the body, metres from its border, [V].

    Args:
        sleeve: share of the arm that is covered; 0 ends at the shoulder.
        hem: height of the lower border, metres.
        neck: depth of the neckline below the neck joint, metres.
    """
    points, joints = figure.points, figure.joints
    across = np.abs(points[:, 0])
    length = abs(float(joints[WRISTS[0], 0] - joints[SHOULDERS[0], 0]))
    arm = np.maximum(limb_share(figure, 0), limb_share(figure, 1))
    slope = np.array([0.0, 0.88, 0.47], np.float32)
    from_neck = (joints[NECK] + [0, 0.012 - neck, 0] - points) @ slope
    # The neckline is a slanted plane; beyond the neck's width it must not cut the shoulders.
    from_neck = from_neck + np.maximum(across - 0.06 * figure.height / 1.7, 0) * 1.1
    level: Float = np.minimum.reduce([(sleeve - arm) * length, points[:, 1] - hem, from_neck])
    return level.astype(np.float32)


def front_opening(figure: Figure, gap: float) -> Float:
    """Positive outside the opening of a coat, `gap` metres to each side of the middle, [V]."""
    points, joints = figure.points, figure.joints
    top, low = float(joints[NECK, 1]), float(joints[3, 1])
    share = np.clip((points[:, 1] - low) / (top - low), 0, 1)
    # Narrowest at the collar, where the lapels come together behind the neck.
    half = gap * (1 + 0.25 * np.sin(np.pi * share) - 0.25 * share)
    front = points[:, 2] > 0.5 * (joints[9, 2] + joints[NECK, 2])
    return np.where(front, np.abs(points[:, 0]) - half, 1.0).astype(np.float32)


def leg_level(figure: Figure, *, waist: float, hem: float) -> Float:
    """Positive where trousers from height `waist` down to `hem` cover the body, [V]."""
    height = figure.points[:, 1]
    return np.asarray(np.minimum(waist - height, height - hem), np.float32)


def shell(
    figure: Figure, level: Float, clearance: Float, material: Material, *, steps: int = 6
) -> Surface:
    """Cut the body where `level` >= 0 and lift the piece off the skin.

    Args:
        level: [V] signed, as `top_level` and `leg_level` give.
        clearance: [V] least distance from the skin, metres.
        steps: rounds of smoothing.
    """
    values = np.concatenate([figure.points, clearance[:, None], figure.weights], axis=1)
    faces, cloth = cut(figure.faces[figure.outer], values, level)
    weights = cloth[:, 4:] / cloth[:, 4:].sum(1, keepdims=True)
    points = inflate(cloth[:, :3].copy(), faces, cloth[:, 3], steps)
    weights = smooth(weights, averaging(faces, len(points)), 2)
    return Surface(points, weights, faces, material, zones_of(figure, points, faces))


def top_clearance(figure: Figure, *, fit: float, hem: float, sleeve: float) -> Float:
    """Distance of a top from the skin [V]: snug at the shoulders, looser below and at cuffs."""
    height = figure.points[:, 1]
    chest = figure.joints[9, 1]
    drop = np.clip((chest - height) / max(float(chest - hem), 1e-3), 0, 1)
    arm = np.maximum(limb_share(figure, 0), limb_share(figure, 1))
    along = np.clip(arm / max(sleeve, 0.05), 0, 1)
    # Long sleeves are gathered at the wrist, short ones stand off.
    gathered = 1 - 0.75 * along**4 if sleeve > 0.8 else 1.0
    looseness = np.maximum(drop * (arm < 0.05), 0.8 * along * gathered * (sleeve > 0.2))
    return np.asarray(0.010 + fit * looseness, np.float32)


def widen_legs(figure: Figure, points: Float, *, fit: float) -> Float:
    """Straight trouser legs: push points below the knee away from the leg's axis."""
    widened = points.copy()
    for side, sign in enumerate((1, -1)):
        hip, knee, ankle = (figure.joints[chain[side]] for chain in (HIPS, KNEES, ANKLES))
        crotch = crotch_height(figure)
        leg = (points[:, 1] < crotch) & (points[:, 0] * sign > 0)
        share = np.clip((crotch - points[leg, 1]) / (crotch - ankle[1]), 0, 1)
        middle = np.where(
            (points[leg, 1] > knee[1])[:, None],
            knee + (hip - knee) * ((points[leg, 1] - knee[1]) / (hip[1] - knee[1]))[:, None],
            ankle + (knee - ankle) * ((points[leg, 1] - ankle[1]) / (knee[1] - ankle[1]))[:, None],
        )
        away = points[leg] - middle
        away[:, 1] = 0
        away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
        widened[leg] += away * (fit * share**1.3)[:, None]
    return widened


def shoe(figure: Figure, side: int, *, collar: float, clearance: float = 0.008) -> Surface:
    """A shoe or the foot of a boot: the convex hull of a foot, on a sole.

    Args:
        side: 0 left, 1 right.
        collar: height of the upper edge above the soles, metres.
    """
    sign = 1 - 2 * side
    own = figure.points[:, 0] * sign > 0
    foot = own & (figure.points[:, 1] < figure.sole + collar)
    hull = ConvexHull(figure.points[foot])
    ankle = figure.joints[ANKLES[side]]
    heel, toe = figure.points[foot, 2].min(), figure.points[foot, 2].max()
    share = 0.5 - 0.5 * np.cos(np.linspace(0.12, np.pi - 0.1, 18))
    slices = heel + (toe - heel) * share
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    rays = np.stack([np.sin(angles), np.cos(angles), np.zeros_like(angles)], axis=-1)
    bend = figure.points[foot][:, [0, 2]]
    rings = []
    for z in slices:
        near = bend[np.abs(bend[:, 1] - z) < 0.025, 0]
        centre = np.array([near.mean() if len(near) else ankle[0], figure.sole + 0.022, z])
        room = -(hull.equations[:, :3] @ centre + hull.equations[:, 3])
        towards = rays @ hull.equations[:, :3].T
        with np.errstate(divide="ignore"):
            radius = np.where(towards > 1e-6, np.maximum(room, 0) / towards, np.inf).min(1)
        rings.append(centre + (radius + clearance)[:, None] * rays)
    points, faces = loft(_cap(np.array(rings)), closed=True)
    points[:, 1] = np.maximum(points[:, 1], figure.sole - 0.014)
    weights = _foot_weights(figure, side, points)
    zone = np.full(len(faces), Zone.LEFT_LEG + side, np.uint8)
    return Surface(points, weights, faces, Material.SHOES, zone)


def _cap(rings: NDArray[np.float64]) -> Float:
    """Close both ends of a tube with rings shrunk to a point."""
    first, last = rings[0], rings[-1]
    length = np.array([0, 0, 0.008])
    ends = [first.mean(0) + 0.0 * first - length, last.mean(0) + 0.0 * last + length]
    heel = first.mean(0) + 0.72 * (first - first.mean(0)) - 0.8 * length
    toe = last.mean(0) + 0.72 * (last - last.mean(0)) + 0.8 * length
    return np.concatenate([ends[0][None], heel[None], rings, toe[None], ends[1][None]]).astype(
        np.float32
    )


def _foot_weights(figure: Figure, side: int, points: Float) -> Float:
    own = np.flatnonzero(figure.points[:, 0] * (1 - 2 * side) > 0)
    distance, nearest = cKDTree(figure.points[own]).query(points, k=6)
    share = 1 / (np.asarray(distance) + 0.004)
    share /= share.sum(1, keepdims=True)
    return np.asarray((figure.weights[own][nearest] * share[..., None]).sum(1), np.float32)

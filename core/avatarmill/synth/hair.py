"""Hair as geometry: a cap grown off the scalp, and curtains or a bun where the style has them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from avatarmill.synth.garments import HEAD, NECK, Figure
from avatarmill.synth.surfaces import (
    Float,
    Material,
    Surface,
    Zone,
    averaging,
    cut,
    loft,
    smooth,
    vertex_normals,
)

HairStyle = Literal["bald", "short", "bob", "long", "bun"]

# Hairline: degrees of elevation above the head's centre at azimuths from front (0) to back (180).
_AZIMUTH = np.array([0, 22, 42, 58, 68, 78, 90, 104, 116, 128, 150, 180])
_HAIRLINE = np.array([33, 34, 31, 20, 4, -8, 3, 3, -8, -24, -37, -41])
_THICKNESS = {"short": 0.016, "bob": 0.022, "long": 0.020, "bun": 0.010}
_UPPER_SPINE = 9


def head_centre(figure: Figure) -> Float:
    """The middle of the skull: half-way between crown and chin, over the ears, [3] metres."""
    eyes = figure.joints[[23, 24]].mean(0)
    crown = figure.points[:, 1].max()
    back = figure.points[np.abs(figure.points[:, 1] - eyes[1]) < 0.02, 2].min()
    return np.array([0, 0.8 * eyes[1] + 0.2 * crown, 0.52 * eyes[2] + 0.48 * back], np.float32)


def spherical(figure: Figure, points: Float) -> tuple[Float, Float]:
    """Azimuth (0 front, signed) and elevation in degrees of points seen from `head_centre`."""
    away = points - head_centre(figure)
    flat = np.hypot(away[:, 0], away[:, 2])
    return (
        np.degrees(np.arctan2(away[:, 0], away[:, 2])),
        np.degrees(np.arctan2(away[:, 1], flat)),
    )


def hairline_level(figure: Figure, points: Float) -> Float:
    """Degrees above the hairline, positive under hair, [V]; far below zero off the head."""
    azimuth, elevation = spherical(figure, points)
    level = elevation - np.interp(np.abs(azimuth), _AZIMUTH, _HAIRLINE)
    low = points[:, 1] < figure.joints[HEAD, 1] - 0.03
    return np.where(low, -60.0, level).astype(np.float32)


def build_hair(figure: Figure, style: HairStyle, rng: np.random.Generator) -> list[Surface]:
    """The surfaces of one hair style; none for a bald head."""
    if style == "bald":
        return []
    scale = figure.height / 1.7 if figure.height > 1.4 else 0.9
    thickness = _THICKNESS[style] * scale * rng.uniform(0.8, 1.25)
    cap = _cap(figure, thickness, rng)
    if style == "bun":
        return [cap, _bun(figure, rng)]
    if style == "short":
        return [cap]
    return [cap, _curtain(figure, style, thickness, rng)]


def _rigid(count: int, joint: int = HEAD) -> Float:
    weights = np.zeros((count, 55), np.float32)
    weights[:, joint] = 1
    return weights


def _surface(points: Float, weights: Float, faces: NDArray[np.int64]) -> Surface:
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    return Surface(points.astype(np.float32), weights, faces, Material.HAIR, zone)


def _cap(figure: Figure, thickness: float, rng: np.random.Generator) -> Surface:
    level = hairline_level(figure, figure.points)
    values = np.concatenate([figure.points, level[:, None]], axis=1)
    faces, grown = cut(figure.faces[figure.outer], values, level)
    points = grown[:, :3].copy()
    mean = averaging(faces, len(points))
    rise = np.clip(grown[:, 3] / 26, 0, 1) ** 0.7
    azimuth, elevation = spherical(figure, points)
    phase = rng.uniform(0, 6.28, 2)
    tufts = 1 + 0.18 * np.sin(np.radians(azimuth) * 5 + phase[0]) * np.sin(
        np.radians(elevation) * 6 + phase[1]
    )
    out = points - head_centre(figure)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    direction = 0.5 * out + 0.5 * smooth(vertex_normals(points, faces), mean, 8)
    lifted = points + direction * (0.002 + thickness * rise * tufts)[:, None]
    # Smoothing the inside only keeps the hairline where it was cut.
    relaxed = smooth(lifted, mean, 5)
    points = np.where((grown[:, 3] > 6)[:, None], relaxed, lifted)
    return _surface(points, _rigid(len(points)), faces)


def _bun(figure: Figure, rng: np.random.Generator) -> Surface:
    crown = figure.points[:, 1].max()
    centre = head_centre(figure)
    back = figure.points[np.abs(figure.points[:, 1] - centre[1]) < 0.02, 2].min()
    high = rng.random() < 0.5
    size = rng.uniform(0.034, 0.046)
    middle = np.array([0, crown + 0.006 if high else centre[1] + 0.03, 0.35 * centre[2]])
    middle[2] = centre[2] - 0.045 if high else back - 0.016
    tilt = np.linspace(0.02, np.pi - 0.02, 12)
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rings = middle + size * np.stack(
        [
            np.sin(tilt)[:, None] * np.sin(turn),
            np.broadcast_to(-0.85 * np.cos(tilt)[:, None], (12, 20)),
            np.sin(tilt)[:, None] * np.cos(turn),
        ],
        axis=-1,
    )
    points, faces = loft(rings.astype(np.float32), closed=True)
    return _surface(points, _rigid(len(points)), faces)


def _curtain(
    figure: Figure, style: HairStyle, thickness: float, rng: np.random.Generator
) -> Surface:
    """Hair that falls from the cap around the sides and the back of the head."""
    centre = head_centre(figure)
    chin = figure.joints[NECK, 1] + 0.35 * (figure.joints[HEAD, 1] - figure.joints[NECK, 1])
    span = centre[1] - chin
    drop = rng.uniform(0.85, 1.15) * span if style == "bob" else rng.uniform(1.9, 2.7) * span
    start = rng.uniform(62, 72)
    angles = np.radians(np.linspace(start, 360 - start, 60))
    heights = np.linspace(centre[1] + 0.075, centre[1] - drop, 26)
    radius = np.stack([_reach(figure, centre, height, angles) for height in heights])
    # Hair falls: it follows the head outwards and hangs plumb below its widest point.
    widest = np.maximum.accumulate(radius, axis=0)
    below = np.clip((centre[1] - heights) / max(drop, 1e-3), 0, 1)[:, None]
    inward = 0.12 if style == "bob" else 0.22
    radius = np.minimum(np.maximum(radius, widest * (1 - inward * below)), 1.12 * widest[9])
    radius = gaussian_filter1d(gaussian_filter1d(radius, 2.0, axis=1), 1.5, axis=0)
    # It leaves from under the cap and lies close to the cheeks at both ends.
    out = np.clip(np.arange(len(heights)) / 5, 0, 1)[:, None] - 0.35
    edge = np.minimum(angles - angles[0], angles[-1] - angles)
    radius += (thickness + 0.004) * out * (0.15 + 0.85 * np.clip(edge / 0.5, 0, 1))
    wave = rng.uniform(0, 0.03)
    radius *= 1 + wave * np.sin(9 * angles + 14 * below) + 0.012 * np.sin(23 * angles)
    away = np.stack([np.sin(angles), np.zeros_like(angles), np.cos(angles)], axis=-1)
    rings = centre * [1, 0, 1] + radius[..., None] * away
    rings[..., 1] = heights[:, None]
    if style == "long":
        # The strands next to the face end higher, so that hair lies behind the shoulders.
        front = np.clip((np.abs(np.cos(angles / 2)) - 0.35) / 0.5, 0, 1)
        rings[..., 1] += (below**2) * front * 0.45 * drop
    points, faces = loft(rings, closed=False)
    return _surface(points, _falling_weights(figure, points), faces[:, ::-1])


def _reach(figure: Figure, centre: Float, height: float, angles: NDArray[np.float64]) -> Float:
    """How far out the body reaches in each direction at one height (arms left out), [M]."""
    near = (np.abs(figure.points[:, 1] - height) < 0.018) & (np.abs(figure.points[:, 0]) < 0.11)
    slab = figure.points[near][:, [0, 2]] - centre[[0, 2]]
    if not len(slab):
        return np.zeros(len(angles), np.float32)
    towards = np.arctan2(slab[:, 0], slab[:, 1])
    gap = np.abs((towards[None] - angles[:, None] + np.pi) % (2 * np.pi) - np.pi)
    distance = np.linalg.norm(slab, axis=1)
    reach: Float = np.where(gap < 0.22, distance[None], 0).max(1)
    return reach


def _falling_weights(figure: Figure, points: Float) -> Float:
    """The head carries hair down to the chin; lower down it follows neck and upper back."""
    neck, head = figure.joints[NECK, 1], figure.joints[HEAD, 1]
    low = np.clip((head + 0.01 - points[:, 1]) / (head - neck + 0.09), 0, 1)[:, None]
    body = np.zeros((len(points), 55), np.float32)
    trunk = np.abs(figure.points[:, 0]) < 0.2
    nearest = cKDTree(figure.points[trunk]).query(points)[1]
    body[:] = figure.weights[trunk][nearest]
    weights = (1 - low) * _rigid(len(points)) + low * (
        0.6 * body + 0.4 * _rigid(len(points), _UPPER_SPINE)
    )
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)

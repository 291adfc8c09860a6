"""Hair as geometry: a cap grown off the scalp, and curtains, buns or tails where styles ask."""

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

HairStyle = Literal["bald", "buzz", "short", "curly", "bob", "long", "bun", "ponytail"]

# Hairline: degrees of elevation above the head's centre at azimuths from front (0) to back (180).
_AZIMUTH = np.array([0, 22, 42, 58, 68, 78, 90, 104, 116, 128, 150, 180])
_HAIRLINE = np.array([33, 34, 31, 20, 4, -8, 3, 3, -8, -24, -37, -41])
_THICKNESS = {
    "buzz": 0.0035,
    "short": 0.021,
    "curly": 0.046,
    "bob": 0.026,
    "long": 0.024,
    "bun": 0.012,
    "ponytail": 0.012,
}
_HAT_ROOM = 0.006  # metres that a hat leaves for hair
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


def build_hair(
    figure: Figure, style: HairStyle, rng: np.random.Generator, *, under_hat: bool = False
) -> list[Surface]:
    """The surfaces of one hair style; none for a bald head.

    Args:
        under_hat: press the hair on top flat, so that a hat covers it.
    """
    if style == "bald":
        return []
    scale = figure.height / 1.7 if figure.height > 1.4 else 0.9
    thickness = _THICKNESS[style] * scale * rng.uniform(0.8, 1.35)
    if under_hat:
        thickness = min(thickness, _HAT_ROOM)
    cap = _cap(figure, style, thickness, rng, plain=under_hat)
    if style == "bun":
        return [cap, _bun(figure, rng)]
    if style == "ponytail":
        return [cap, _tail(figure, rng, low=under_hat)]
    if style in ("buzz", "short", "curly"):
        return [cap]
    return [cap, _curtain(figure, style, thickness, rng, low=under_hat)]


def _rigid(count: int, joint: int = HEAD) -> Float:
    weights = np.zeros((count, 55), np.float32)
    weights[:, joint] = 1
    return weights


def _surface(points: Float, weights: Float, faces: NDArray[np.int64]) -> Surface:
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    return Surface(points.astype(np.float32), weights, faces, Material.HAIR, zone)


def _cap(
    figure: Figure, style: HairStyle, thickness: float, rng: np.random.Generator, *, plain: bool
) -> Surface:
    """Hair on the scalp: `thickness` metres over it, tapering to the hairline."""
    level = hairline_level(figure, figure.points)
    azimuth, elevation = spherical(figure, figure.points)
    if style in ("short", "bob", "long") and not plain and rng.random() < 0.45:
        # A fringe: hair that hangs over the forehead.
        fringe = np.float32(rng.uniform(8, 17)) * np.exp(-((azimuth / 38) ** 6))
        level = np.asarray(level + fringe, np.float32)
    # No hairline is a clean curve.
    turn = azimuth + np.float32(rng.uniform(0, 30))
    ragged = 0.7 * np.sin(0.23 * turn) + 0.5 * np.sin(0.61 * turn)
    level = np.asarray(level + ragged, np.float32)
    values = np.concatenate([figure.points, level[:, None]], axis=1)
    faces, grown = cut(figure.faces[figure.outer], values, level)
    points = grown[:, :3].copy()
    mean = averaging(faces, len(points))
    rise = np.clip(grown[:, 3] / (14 if style == "curly" else 24), 0, 1) ** 0.6
    azimuth, elevation = spherical(figure, points)
    body = np.ones(len(points)) if plain else _volume(style, azimuth, elevation, rng)
    out = points - head_centre(figure)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    direction = 0.6 * out + 0.4 * smooth(vertex_normals(points, faces), mean, 8)
    height = (0.002 + thickness * rise * body).astype(np.float32)
    lifted = np.asarray(points + direction * height[:, None], np.float32)
    # Smoothing the inside only keeps the hairline where it was cut.
    relaxed = smooth(lifted, mean, 1 if style == "curly" else 4)
    points = np.where((grown[:, 3] > 6)[:, None], relaxed, lifted)
    return _surface(points, _rigid(len(points)), faces)


def _volume(
    style: HairStyle, azimuth: Float, elevation: Float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Where hair is thick and where it is flat: tufts, curls, a parting, a quiff, [V]."""
    turn = np.radians(azimuth).astype(np.float64)
    tilt = np.radians(elevation).astype(np.float64)
    phase = rng.uniform(0, 6.28, 4)
    if style == "curly":
        lumps = np.sin(9 * turn + phase[0]) * np.sin(11 * tilt + phase[1])
        small = np.sin(17 * turn + phase[2]) * np.sin(15 * tilt + phase[3])
        return np.asarray(1 + 0.16 * lumps + 0.10 * small)
    body: NDArray[np.float64] = 1 + 0.16 * np.sin(turn * 5 + phase[0]) * np.sin(tilt * 6 + phase[1])
    if style == "buzz":
        return body
    if style == "short":
        # Cropped at the sides, full on top, and often combed up over the forehead.
        full = np.clip((elevation - 5) / 45, 0, 1)
        front = np.exp(-((azimuth / 50) ** 2)) * np.exp(-(((elevation - 52) / 22) ** 2))
        body = body * (0.35 + 0.75 * full) + rng.uniform(-0.2, 0.8) * front
        body += 0.10 * np.sin(14 * turn + phase[2]) * full
    if rng.random() < 0.7:
        # The parting: a furrow from the forehead to the crown on one side or in the middle.
        at = rng.choice([-1, 0, 1]) * rng.uniform(0.25, 0.40)
        across = np.cos(tilt) * np.sin(turn) - at
        ahead = np.clip(np.cos(turn) * np.cos(tilt) * 1.5 + 0.6, 0, 1)
        body -= 0.75 * np.exp(-((across / 0.055) ** 2)) * ahead * (elevation > 20)
    return np.maximum(body, 0.08)


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


def _tail(figure: Figure, rng: np.random.Generator, *, low: bool) -> Surface:
    """A ponytail: a lock tied at the back of the head that swings out and falls."""
    centre = head_centre(figure)
    height = centre[1] + (-0.03 if low else rng.uniform(-0.02, 0.06))
    spot = figure.points[np.abs(figure.points[:, 1] - height) < 0.02]
    back = float(spot[np.abs(spot[:, 0]) < 0.08, 2].min())
    length = rng.uniform(0.16, 0.34)
    share = np.linspace(0, 1, 16)
    along = share * length
    out = 0.042 * np.clip(along / 0.06, 0, 1) ** 0.7 - 0.012
    path = np.stack([0 * share, height - np.clip(along - 0.03, 0, None) * 0.97, back - out], -1)
    below = figure.points[np.abs(figure.points[:, 0]) < 0.05]
    for k, point in enumerate(path):
        skin = below[np.abs(below[:, 1] - point[1]) < 0.03, 2].min()
        path[k, 2] = min(point[2], skin - 0.018)
    path[:, 2] = gaussian_filter1d(path[:, 2], 1.0, mode="nearest")
    # Tied tight, then full, then a point.
    width = np.interp(share, [0, 0.08, 0.3, 0.75, 1], [0.016, 0.012, 0.026, 0.019, 0.002])
    turn = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    lumps = 1 + 0.07 * np.cos(5 * turn + 9 * share[:, None])
    step = np.gradient(path, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    side = np.array([1.0, 0.0, 0.0])
    behind = np.cross(side, step)
    radius = (width[:, None] * lumps)[..., None]
    rings = path[:, None] + radius * (
        np.cos(turn)[:, None] * side + 0.8 * np.sin(turn)[:, None] * behind[:, None]
    )
    points, faces = loft(rings.astype(np.float32), closed=True)
    return _surface(points, _falling_weights(figure, points), faces)


def _curtain(
    figure: Figure, style: HairStyle, thickness: float, rng: np.random.Generator, *, low: bool
) -> Surface:
    """Hair that falls from the cap around the sides and the back of the head."""
    centre = head_centre(figure)
    chin = figure.joints[NECK, 1] + 0.35 * (figure.joints[HEAD, 1] - figure.joints[NECK, 1])
    span = centre[1] - chin
    drop = rng.uniform(0.85, 1.15) * span if style == "bob" else rng.uniform(1.9, 2.7) * span
    start = rng.uniform(62, 72)
    angles = np.radians(np.linspace(start, 360 - start, 60))
    heights = np.linspace(centre[1] + (0.01 if low else 0.075), centre[1] - drop, 26)
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

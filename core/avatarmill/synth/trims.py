"""Edges of garments as geometry: rolled hems, ribbed necks, cuffs, folded collars, lapels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatarmill.synth.garments import NECK, SHOULDERS, Figure, zones_of
from avatarmill.synth.surfaces import Float, Index, Surface, loft, vertex_normals

Profile = NDArray[np.float64]
"""[K, 2] metres across an edge, from the garment outwards: (beyond the border, off the cloth)."""

HEM: Profile = np.array(
    [[-0.018, 0.0005], [-0.016, 0.0026], [0.000, 0.0030], [0.003, 0.0], [0, -4e-3]]
)
RIB: Profile = np.array(
    [[-0.014, 0.001], [-0.011, 0.004], [0.006, 0.0045], [0.010, 1e-3], [4e-3, -4e-3]]
)
STAND: Profile = np.array(
    [[-0.006, 0.001], [0.0, 0.004], [0.026, 0.007], [0.030, 0.003], [0.02, -1e-3]]
)
CUFF: Profile = np.array(
    [[-0.046, 0.001], [-0.044, 0.005], [0.000, 0.0050], [0.003, 1e-3], [0, -3e-3]]
)
ROLL: Profile = np.array(
    [[-0.010, 0.001], [0.018, 0.003], [0.024, 0.008], [0.016, 0.013], [-0.022, 0.020]]
)
"""A collar that stands and folds over."""


def border_loops(faces: Index) -> list[Index]:
    """The closed open-edge loops of a surface, each with the surface on its left."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    size = int(faces.max()) + 1
    key, back = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    free = edges[~np.isin(key, back)]
    following = dict(zip(free[:, 0].tolist(), free[:, 1].tolist(), strict=True))
    loops = []
    while following:
        start, at = following.popitem()
        loop = [start]
        while at != start and at in following:
            loop.append(at)
            at = following.pop(at)
        loops.append(np.array(loop, np.int64))
    # The order must not depend on how vertices are numbered inside a dictionary.
    return sorted((np.roll(loop, -int(loop.argmin())) for loop in loops), key=lambda loop: loop[0])


def loop_place(figure: Figure, surface: Surface, loop: Index) -> str:
    """Which edge of a garment a border loop is: "neck", "sleeve" or "hem"."""
    middle = surface.points[loop].mean(0)
    if abs(middle[0]) > abs(figure.joints[SHOULDERS[0], 0]) - 0.03:
        return "sleeve"
    return "neck" if middle[1] > figure.joints[NECK, 1] - 0.16 else "hem"


def _ease(values: Float, steps: int) -> Float:
    """Smooth along a closed loop."""
    for _ in range(steps):
        values = 0.5 * values + 0.25 * (np.roll(values, 1, 0) + np.roll(values, -1, 0))
    return values


def _unit(vectors: Float) -> Float:
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9))


def edge_frame(surface: Surface, loop: Index, *, slack: float = 0.0) -> tuple[Float, Float, Float]:
    """Points of a loop with the unit directions beyond the border and off the cloth, [L, 3].

    Cloth turns in a little where it is cut, so directions come from the loop as a ring around
    its axis; `slack` (0..1) mixes in the cloth's own.
    """
    points = _ease(surface.points[loop], 6)
    normals = vertex_normals(surface.points, surface.faces)[loop]
    tangent = _ease(np.roll(points, -1, 0) - np.roll(points, 1, 0), 3)
    local = _unit(np.cross(tangent, normals))
    axis = _unit(np.cross(points - points.mean(0), tangent).sum(0, keepdims=True))
    axis *= np.sign((local @ axis[0]).mean())
    beyond = _unit(_ease(slack * local + (1 - slack) * axis, 8))
    lift = _ease(_unit(points - points.mean(0)), 2) * (1 - slack) + slack * normals
    lift = lift - (lift * beyond).sum(1, keepdims=True) * beyond
    return points, beyond, _unit(_ease(lift, 8))


def band(
    figure: Figure,
    surface: Surface,
    loop: Index,
    profile: Profile,
    *,
    peak: float = 0.0,
    split: float = 0.0,
) -> Surface:
    """A strip along one border of a garment, raised by `profile`; it moves with the border.

    Args:
        peak: how much longer, metres, the last row is in front: the points of a collar.
        split: half the width, metres, left open in front.
    """
    neck = loop_place(figure, surface, loop) == "neck"
    points, beyond, lift = edge_frame(surface, loop, slack=0.5 if neck else 0.0)
    across = np.tile(profile[:, :1], (1, len(loop)))
    if peak:
        front = points[:, 2] - points[:, 2].min()
        across[-1] -= peak * np.clip(front / front.max(), 0, 1) ** 3
    rings = points + across[..., None] * beyond + profile[:, 1, None, None] * lift
    strip, faces = loft(rings.astype(np.float32), closed=True)
    # A strip that folds back over itself shows its other side.
    faces = faces if profile[-1, 1] > profile[0, 1] else faces[:, ::-1]
    if split:
        at = strip[faces].mean(1)
        open_front = (np.abs(at[:, 0]) < split) & (at[:, 2] > points[:, 2].mean())
        faces = faces[~open_front]
    weights = np.tile(surface.weights[loop], (len(profile), 1))
    zone = zones_of(figure, strip, faces)
    return Surface(strip, weights, faces, surface.material, zone)


def bands(figure: Figure, surface: Surface, profiles: dict[str, Profile]) -> Iterable[Surface]:
    """Strips along every border of a garment whose place has a profile."""
    for loop in border_loops(surface.faces):
        place = loop_place(figure, surface, loop)
        if place in profiles and len(loop) > 8:
            yield band(figure, surface, loop, profiles[place])


def lapels(figure: Figure, surface: Surface, *, low: float, width: float) -> Surface:
    """The turned-back fronts of an open coat and the collar that joins them behind the neck.

    Args:
        surface: the coat's upper part, cut open in front.
        low: height where the lapels end, metres.
        width: widest, metres.
    """
    loop = max(border_loops(surface.faces), key=len)
    edge = _ease(surface.points[loop], 6)
    top = float(figure.joints[NECK, 1])
    front = np.clip((edge[:, 2] - figure.joints[NECK, 2]) / 0.05, 0, 1)[:, None]
    rise = np.clip((edge[:, 1:2] - low) / (top - low), 0, 1)
    # Away from the opening in front, down the back behind the neck.
    outwards = np.concatenate([np.sign(edge[:, :1]) + 0 * rise, 0.35 + 0 * rise, 0 * rise], axis=1)
    behind = np.concatenate([0.5 * np.sign(edge[:, :1]), -1 + 0 * rise, -0.3 + 0 * rise], axis=1)
    towards = _unit(_ease(front * outwards + (1 - front) * behind, 6))
    reach = front * width * np.sin(np.pi * (0.12 + 0.62 * rise)) + (1 - front) * 0.045
    reach = _ease(reach * np.clip((edge[:, 1:2] - low) / 0.05, 0, 1), 4)
    normals = vertex_normals(surface.points, surface.faces)
    tree = cKDTree(surface.points)
    rows = []
    for share, off in ((-0.03, 0.002), (0.0, 0.008), (0.5, 0.011), (0.97, 0.009), (1.0, 0.001)):
        row = edge + share * reach * towards
        nearest = tree.query(row, k=4)[1]
        normal = _unit(normals[nearest].mean(1))
        height = ((row - surface.points[nearest].mean(1)) * normal).sum(1, keepdims=True)
        rows.append(_ease(row + (off - height) * normal, 2))
    strip, faces = loft(np.stack(rows), closed=True)
    faces = faces[np.tile(reach[:, 0], len(rows))[faces].min(1) > 0.004]
    weights = np.tile(surface.weights[loop], (len(rows), 1))
    return Surface(strip, weights, faces, surface.material, zones_of(figure, strip, faces))

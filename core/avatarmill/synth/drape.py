"""Hanging cloth: skirts lofted around hips and legs, and the push that keeps the legs inside."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import ConvexHull, cKDTree

from avatarmill.synth.garments import ANKLES, HIPS, KNEES, PELVIS, Figure, waist_height
from avatarmill.synth.surfaces import Float, Index, Material, Surface, Zone, loft

_AROUND = 72  # vertices of a ring
_ROOM = 0.010  # metres kept between cloth and leg
_REACH = 0.40  # metres beyond the skinned cloth where a leg is looked for
_FOLLOW = 0.6  # how much of a thigh's motion the hem follows before any push
# A leg is a chain of cones between stations: (joint that carries it, share of its bone).
_STATIONS = ((0, 0.18), (0, 0.5), (0, 0.96), (1, 0.05), (1, 0.33), (1, 0.66), (1, 1.0))


@dataclass(frozen=True, slots=True)
class Drape:
    """Rings of hanging cloth and the legs they must not cut, in the rest pose."""

    rings: NDArray[np.int32]
    """[R, M] vertices, waist first; the lining's rings come last."""
    twin: NDArray[np.int32]
    """[R] the outer ring whose push each ring shares: itself, except for the lining."""
    closed: bool
    """Whether rings go all the way round; an open coat's do not."""
    spheres: Float
    """[S, 4] centre and radius of the legs' stations, left leg first."""
    carriers: NDArray[np.int64]
    """[S] joint that carries each station."""

    def shifted(self, offset: int) -> "Drape":
        """The same drape in a mesh where its vertices start at `offset`."""
        rings = self.rings + np.int32(offset)
        return Drape(rings, self.twin, self.closed, self.spheres, self.carriers)


@dataclass(frozen=True, slots=True)
class Cut:
    """The pattern of a skirt; metres."""

    waist: float
    """Height of the upper edge."""
    hem: float
    """Height of the lower edge."""
    clearance: float
    flare: float
    """Widening, metres a metre."""
    folds: int
    phase: float
    """Where the folds are, radians."""
    gap: float = 0.0
    """Half the angle left open in front, radians."""
    band: float = 0.0
    """Height of a waistband that stands off."""
    wide: float = 0.0
    """What trousers underneath add to the legs."""


def skirt(
    figure: Figure, material: Material, cut: Cut, above: Float | None = None
) -> tuple[Surface, Drape]:
    """A surface of its own around hips and legs with a rim and a lining at the hem.

    Each ring is the outline of the body at its height as seen from the axis, never narrower than
    the ring above it once past the hips, widened by the flare and waved by folds.

    Args:
        above: points of the garment the skirt is sewn to; its upper edge covers them.
    """
    angles = np.linspace(cut.gap, 2 * np.pi - cut.gap, _AROUND, endpoint=cut.gap > 0)
    count = max(7, int((cut.waist - cut.hem) / 0.035))
    heights = np.linspace(cut.waist, cut.hem, count)
    axis = figure.joints[PELVIS] * [0, 1, 1]
    radius = _radii(figure, cut, heights, angles, axis, above)
    radius, heights, twin = _finish(radius, heights, cut.band)
    rings = np.stack(
        [
            axis[0] + radius * np.sin(angles),
            np.broadcast_to(heights[:, None], radius.shape),
            axis[2] + radius * np.cos(angles),
        ],
        axis=-1,
    )
    closed = cut.gap == 0
    points, faces = loft(rings, closed=closed)
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    surface = Surface(points, _hanging_weights(figure, points), faces[:, ::-1], material, zone)
    ids = np.arange(len(points), dtype=np.int32).reshape(len(heights), _AROUND)
    return surface, Drape(ids, twin, closed, *_leg_stations(figure, cut.wide))


def belt(figure: Figure, cut: Cut, under: Float) -> Surface:
    """A band over the seam between a skirt and what it is sewn to.

    Args:
        under: points of both, which the belt must cover.
    """
    angles = np.linspace(cut.gap, 2 * np.pi - cut.gap, _AROUND, endpoint=cut.gap > 0)
    axis = figure.joints[PELVIS] * [0, 1, 1]
    trunk = under[np.abs(under[:, 0]) < 0.3 * figure.height / 1.7]
    middle = cut.waist - 0.016
    radius = outline(trunk, axis, middle, angles, half=0.022)
    rise = np.array([-0.021, -0.020, -0.012, 0.012, 0.020, 0.021])
    out = np.array([-0.008, 0.003, 0.006, 0.006, 0.003, -0.008])
    reach = radius + out[:, None]
    height = np.broadcast_to(middle + rise[:, None], reach.shape)
    rings = np.stack([reach * np.sin(angles), height, axis[2] + reach * np.cos(angles)], axis=-1)
    points, faces = loft(rings.astype(np.float32), closed=cut.gap == 0)
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    return Surface(points, _hanging_weights(figure, points), faces, Material.TOP, zone)


def _radii(
    figure: Figure,
    cut: Cut,
    heights: NDArray[np.float64],
    angles: NDArray[np.float64],
    axis: Float,
    above: Float | None,
) -> NDArray[np.float64]:
    """Distance [R, M] of the cloth from the axis at every height and angle."""
    torso = figure.points[np.abs(figure.points[:, 0]) < 0.3 * figure.height / 1.7]
    radius = np.zeros((len(heights), len(angles)))
    for ring, height in enumerate(heights):
        radius[ring] = outline(torso, axis, height, angles)
        if ring and height < figure.joints[PELVIS, 1]:
            radius[ring] = np.maximum(radius[ring], radius[ring - 1] * 0.997)
    wrap: Literal["wrap", "nearest"] = "wrap" if cut.gap == 0 else "nearest"
    radius = gaussian_filter1d(gaussian_filter1d(radius, 3, axis=1, mode=wrap), 1.2, axis=0)
    down = np.maximum(cut.waist - 0.12 - heights, 0)[:, None]
    # Folds are not as regular as a cosine: their spacing breathes around the waist.
    turn = cut.folds * angles + 0.9 * np.sin(2 * angles + cut.phase) + cut.phase
    wave = 1 + 0.13 * np.minimum(down, 0.6) * np.cos(turn)
    radius = (radius + cut.clearance + cut.flare * down) * wave
    if above is None:
        return radius
    trunk = above[np.abs(above[:, 0]) < 0.3 * figure.height / 1.7]
    for ring, height in enumerate(heights):
        if height > trunk[:, 1].min() - 0.02:
            sewn = outline(trunk, axis, height, angles)
            radius[ring] = np.maximum(radius[ring], sewn + 0.003)
    return radius


def _finish(
    radius: NDArray[np.float64], heights: NDArray[np.float64], band: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    """Add an upper edge, a waistband and a lining to rings: radii, heights, twins."""
    top = [radius[0] - 0.010, radius[0] + 0.002]
    levels = [heights[0] - 0.004, heights[0] + 0.002]
    if band:
        edge = heights[0] - band
        low = np.array([np.interp(edge, heights[::-1], column[::-1]) for column in radius.T])
        top += [low + 0.005, low + 0.003]
        levels += [edge + 0.002, edge - 0.002]
        kept = heights < edge - 0.012
        radius, heights = radius[kept], heights[kept]
    count = len(top) + len(radius)
    rows = np.concatenate([top, radius, [radius[-1] - 0.006], [radius[-2] - 0.008]])
    tall = np.concatenate([levels, heights, [heights[-1] + 0.001], [heights[-2]]])
    twin = np.concatenate([np.arange(count), [count - 1, count - 2]]).astype(np.int32)
    return rows, tall, twin


def outline(
    points: Float,
    axis: NDArray[np.floating],
    height: float,
    angles: NDArray[np.float64],
    *,
    half: float = 0.035,
) -> NDArray[np.float64]:
    """Radius [M] of the convex outline of a slice, `half` metres up and down, seen from an axis."""
    slab = points[np.abs(points[:, 1] - height) < half][:, [0, 2]] - axis[[0, 2]]
    hull = ConvexHull(slab)
    rays = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    towards = rays @ hull.equations[:, :2].T
    with np.errstate(divide="ignore"):
        distance = np.where(towards > 1e-6, -hull.equations[:, 2] / towards, np.inf)
    radius: NDArray[np.float64] = np.maximum(distance.min(1), 0.02)
    return radius


def _hanging_weights(figure: Figure, points: Float) -> Float:
    """Weights of hanging cloth: the body's at the waist, then shared by hips and both thighs."""
    trunk = np.abs(figure.points[:, 0]) < 0.28
    nearest = cKDTree(figure.points[trunk]).query(points)[1]
    weights = figure.weights[trunk][nearest]
    hip = figure.joints[HIPS[0], 1]
    span = hip - figure.joints[KNEES[0], 1]
    low = _FOLLOW * np.clip((hip + 0.06 - points[:, 1]) / (0.9 * span), 0, 1)[:, None]
    across = np.clip(0.5 + points[:, 0] / (0.26 * figure.height / 1.7), 0, 1)[:, None]
    side = across * across * (3 - 2 * across)
    hanging = np.zeros_like(weights)
    hanging[:, PELVIS : PELVIS + 1] = 1 - low
    hanging[:, 1:2], hanging[:, 2:3] = low * side, low * (1 - side)
    blend = np.clip((waist_height(figure) - points[:, 1]) / 0.1, 0, 1)[:, None]
    return np.asarray(weights * (1 - blend) + hanging * blend, np.float32)


def _leg_stations(figure: Figure, wide: float) -> tuple[Float, Index]:
    """Spheres [S, 4] whose chains of cones enclose both legs, and the joints that carry them."""
    spheres, carriers = [], []
    for side, sign in enumerate((1, -1)):
        chain = (HIPS[side], KNEES[side], ANKLES[side])
        leg = figure.points[figure.points[:, 0] * sign > 0.005]
        for bone, share in _STATIONS:
            start, stop = figure.joints[chain[bone]], figure.joints[chain[bone + 1]]
            middle = start + share * (stop - start)
            away = leg[np.abs(leg[:, 1] - middle[1]) < 0.025][:, [0, 2]] - middle[[0, 2]]
            away = away[np.linalg.norm(away, axis=1) < 0.16 * figure.height / 1.7]
            low, high = away.min(0), away.max(0)
            centre = middle + np.array([0.5 * (low + high)[0], 0, 0.5 * (low + high)[1]])
            spheres.append([*centre, 0.5 * float((high - low).max()) + wide])
            carriers.append(chain[bone])
    return np.array(spheres, np.float32), np.array(carriers, np.int64)


def settle_cloth(points: Float, drape: Drape, transforms: Float) -> None:
    """Push hanging cloth off the legs of one posed actor, in place.

    Args:
        points: [V, 3] skinned points of the actor's mesh.
        drape: of the same mesh.
        transforms: [55, 3, 4] skinning transforms the points were posed with.
    """
    carried = transforms[drape.carriers]
    centres = np.einsum("src,sc->sr", carried[:, :, :3], drape.spheres[:, :3]) + carried[:, :, 3]
    spheres = np.concatenate([centres, drape.spheres[:, 3:] + np.float32(_ROOM)], axis=1)
    outer = int(drape.twin.max()) + 1
    push = np.zeros((outer, drape.rings.shape[1]), np.float32)
    _measure_push(points, drape.rings, outer, spheres, push)
    _spread_push(push, drape.closed)
    _apply_push(points, drape.rings, drape.twin, push)


@njit(cache=True, error_model="numpy", inline="always")
def _centre(points, ring):  # type: ignore[no-untyped-def]
    """The middle between the left and the right flank of a ring."""
    left, right = points[ring[ring.shape[0] // 4]], points[ring[(3 * ring.shape[0]) // 4]]
    return (
        0.5 * (left[0] + right[0]),
        0.5 * (left[1] + right[1]),
        0.5 * (left[2] + right[2]),
    )


@njit(cache=True, error_model="numpy")
def _cone_distance(x, y, z, a, b):  # type: ignore[no-untyped-def]
    """Distance of a point from the cone between two spheres (x, y, z, radius), about."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    px, py, pz = x - a[0], y - a[1], z - a[2]
    share = (px * ux + py * uy + pz * uz) / (ux * ux + uy * uy + uz * uz + 1e-9)
    share = min(max(share, 0.0), 1.0)
    px, py, pz = px - share * ux, py - share * uy, pz - share * uz
    return np.sqrt(px * px + py * py + pz * pz) - (a[3] + share * (b[3] - a[3]))


@njit(cache=True, error_model="numpy")
def _legs_distance(x, y, z, spheres):  # type: ignore[no-untyped-def]
    """Distance of a point from the nearer of two legs."""
    half = spheres.shape[0] // 2
    nearest = np.inf
    for leg in range(2):
        for k in range(leg * half, leg * half + half - 1):
            nearest = min(nearest, _cone_distance(x, y, z, spheres[k], spheres[k + 1]))
    return nearest


@njit(cache=True, error_model="numpy")
def _measure_push(points, rings, outer, spheres, push):  # type: ignore[no-untyped-def]
    """How far each vertex must move away from its ring's centre to be outside both legs.

    Rays are walked inwards from beyond by the distance to the legs (sphere tracing), so a leg
    that has left the ring altogether is found too.
    """
    for r in range(outer):
        cx, cy, cz = _centre(points, rings[r])
        for m in range(rings.shape[1]):
            p = points[rings[r, m]]
            dx, dy, dz = p[0] - cx, p[1] - cy, p[2] - cz
            radius = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6
            dx, dy, dz = dx / radius, dy / radius, dz / radius
            t = radius + _REACH
            for _ in range(32):
                gap = _legs_distance(cx + t * dx, cy + t * dy, cz + t * dz, spheres)
                if gap < 1e-3:
                    break
                t -= gap
                if t <= radius:
                    break
            push[r, m] = max(t - radius, 0.0)


@njit(cache=True, error_model="numpy")
def _spread_push(push, closed):  # type: ignore[no-untyped-def]
    """Round off the dents: cloth near a leg gives way too, and falls plumb below a knee."""
    count, around = push.shape
    for r in range(1, count):
        for m in range(around):
            push[r, m] = max(push[r, m], 0.93 * push[r - 1, m])
    for r in range(count - 2, -1, -1):
        for m in range(around):
            push[r, m] = max(push[r, m], 0.80 * push[r + 1, m])
    fresh = np.empty(around, push.dtype)
    for r in range(count):
        for _ in range(10):
            for m in range(around):
                before = m - 1 if m > 0 else (around - 1 if closed else 0)
                after = m + 1 if m + 1 < around else (0 if closed else m)
                fresh[m] = max(push[r, m], 0.5 * (push[r, before] + push[r, after]))
            push[r] = fresh


@njit(cache=True, error_model="numpy")
def _apply_push(points, rings, twin, push):  # type: ignore[no-untyped-def]
    """Move every ring outwards; the lining goes with the cloth it lines."""
    for r in range(rings.shape[0]):
        cx, cy, cz = _centre(points, rings[r])
        for m in range(rings.shape[1]):
            step = push[twin[r], m]
            if step > 0:
                p = points[rings[r, m]]
                dx, dy, dz = p[0] - cx, p[1] - cy, p[2] - cz
                scale = step / (np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6)
                p[0] += dx * scale
                p[1] += dy * scale
                p[2] += dz * scale

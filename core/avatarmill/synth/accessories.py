"""Things worn on the head: glasses from bent wire, caps, beanies and brimmed hats."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from avatarmill.synth.drape import outline
from avatarmill.synth.garments import HEAD, Figure
from avatarmill.synth.hair import head_centre
from avatarmill.synth.surfaces import Float, Index, Material, Surface, Zone, loft

Array = NDArray[np.float64]
_AROUND = 48  # vertices of a hat's ring


def _rigid(points: Float, faces: Index, material: Material) -> Surface:
    """A piece that only the head moves."""
    weights = np.zeros((len(points), 55), np.float32)
    weights[:, HEAD] = 1
    zone = np.full(len(faces), Zone.TRUNK, np.uint8)
    return Surface(points.astype(np.float32), weights, faces, material, zone)


def tube(path: Array, radius: float, *, closed: bool) -> tuple[Float, Index]:
    """A hexagonal wire of `radius` metres along a path [N, 3] that never runs straight up."""
    step = np.gradient(path, axis=0)
    if closed:
        step = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    # Rims lie in a plane that faces forward, temples in one that faces sideways.
    forward = np.array([0.0, 0.0, 1.0]) if closed else np.array([0.0, 1.0, 0.0])
    side = np.cross(step, forward)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    up = np.cross(side, step)
    turn = np.linspace(0, 2 * np.pi, 6, endpoint=False)
    across = np.cos(turn)[:, None] * side[:, None] + np.sin(turn)[:, None] * up[:, None]
    rings = path[:, None] + radius * across
    if closed:
        rings = np.concatenate([rings, rings[:1]])
    return loft(rings, closed=True)


def glasses(figure: Figure, kind: str, rng: np.random.Generator) -> list[Surface]:
    """Frames over the eyes, temples to the ears and a bridge; dark lenses for "sunglasses"."""
    eye = figure.joints[23].astype(np.float64)
    size = float(eye[0]) / 0.032  # of the face
    half = np.array([rng.uniform(0.0225, 0.0255), rng.uniform(0.016, 0.021)]) * size
    square, wire = rng.uniform(2.0, 4.5), rng.uniform(0.0011, 0.0021) * size
    if kind == "sunglasses":
        half, wire = half * 1.08, wire * 1.2
    near = np.abs(figure.points - eye) < [half[0], half[1], 0.06]
    front = float(figure.points[near.all(1), 2].max()) + 0.004
    pieces: list[Surface] = []
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    # A superellipse: a circle at 2, nearly a box at 4.5.
    cos, sin = np.cos(turn), np.sin(turn)
    x = np.sign(cos) * np.abs(cos) ** (2 / square) * half[0]
    y = np.sign(sin) * np.abs(sin) ** (2 / square) * half[1]
    for sign in (1, -1):
        centre = np.array([sign * (eye[0] + 0.0015), eye[1] - 0.003, front])
        rim = np.stack([centre[0] + x, centre[1] + y, front - 6.0 * (x * sign) * abs(x)], axis=-1)
        rim[:, 2] = front - 3.0 * np.maximum(sign * x + 0.01, 0) ** 2 / size
        pieces.append(_rigid(*tube(rim, wire, closed=True), Material.GLASSES))
        if kind == "sunglasses":
            pieces.append(_lens(rim, sign))
        hinge = np.array([centre[0] + sign * half[0], centre[1] + 0.35 * half[1], rim[:, 2].min()])
        pieces.append(_temple(figure, hinge, sign, wire))
    inner = float(eye[0]) + 0.0015 - half[0]
    span = np.linspace(-1, 1, 7)
    bridge = np.stack(
        [inner * span, eye[1] + 0.002 + 0.003 * (1 - span**2), front + 0.002 * (1 - span**2)], -1
    )
    return [*pieces, _rigid(*tube(bridge, wire, closed=False), Material.GLASSES)]


def _lens(rim: Array, sign: int) -> Surface:
    """A pane that fills a rim."""
    points = np.concatenate([rim, rim.mean(0, keepdims=True) + [[0, 0, 0.001]]])
    at = np.arange(len(rim))
    faces = np.stack([at, (at + 1) % len(rim), np.full(len(rim), len(rim))], axis=1)
    return _rigid(points, faces.astype(np.int64), Material.GLASSES)


def _temple(figure: Figure, hinge: Array, sign: int, wire: float) -> Surface:
    """The arm of the glasses: along the side of the head to behind the top of the ear."""
    stop = float(head_centre(figure)[2]) - 0.012
    z = np.linspace(hinge[2], stop, 10)
    x = np.empty_like(z)
    head = figure.points[np.abs(figure.points[:, 1] - hinge[1]) < 0.010]
    for k, depth in enumerate(z):
        slab = head[np.abs(head[:, 2] - depth) < 0.012, 0] * sign
        x[k] = max(float(slab.max(initial=0.0)) + 0.002, abs(hinge[0]) * (1 if k == 0 else 0))
    x = np.clip(np.maximum(x, abs(hinge[0])), None, abs(hinge[0]) + 0.016)
    drop = np.array([0.0] * 8 + [0.004, 0.012])
    path = np.stack([sign * gaussian_filter1d(x, 1.0), hinge[1] - drop, z], axis=-1)
    return _rigid(*tube(path, wire, closed=False), Material.GLASSES)


def hat(figure: Figure, kind: str, rng: np.random.Generator) -> list[Surface]:
    """A "cap", "beanie" or "brimmed hat" that fits the head over flattened hair."""
    angles = np.linspace(0, 2 * np.pi, _AROUND, endpoint=False)
    eyes, crown = float(figure.joints[23, 1]), float(figure.points[:, 1].max())
    base = eyes + 0.55 * (crown - eyes) * rng.uniform(0.72, 0.85)
    centre = head_centre(figure).astype(np.float64)
    extra = {"cap": 0.012, "beanie": 0.014, "brimmed hat": 0.014}[kind]
    edge = outline(figure.points, centre, base, angles) + extra
    edge = gaussian_filter1d(edge, 1.5, axis=0, mode="wrap")
    dome = crown + extra + (0.002 if kind == "cap" else rng.uniform(0.004, 0.03))
    share = np.sin(np.linspace(0, 0.5 * np.pi, 14))[:-1]
    heights = base + (dome - base) * share
    radius = edge * (1 - share[:, None] ** 2.7) ** 0.42
    if kind == "beanie":
        pieces = [_crown(heights, radius, angles, centre, dome)]
        pieces.append(_fold(heights, radius, angles, centre, rng.uniform(0.035, 0.05)))
        return pieces
    if kind == "cap":
        top = _crown(heights, radius, angles, centre, dome)
        return [top, _visor(radius[0], angles, centre, base, rng)]
    # A stiff crown goes straight up and ends flat.
    tall = rng.uniform(0.008, 0.022)
    heights = np.linspace(base, crown + tall, 8)
    radius = edge * np.linspace(1.0, 0.86, 8)[:, None]
    top = _crown(heights, radius, angles, centre, crown + tall + 0.004, dent=0.012)
    return [top, _brim(radius[0], angles, centre, base, rng)]


def _place(rings: Array, angles: Array, centre: Array, heights: Array) -> Array:
    """Points [R, M, 3] of rings given as radii; the back of a hat sits lower than the front."""
    tilt = 0.020 * (1 - np.cos(angles)) / 2
    return np.stack(
        [
            centre[0] + rings * np.sin(angles),
            heights[:, None] - tilt + 0 * rings,
            centre[2] + rings * np.cos(angles),
        ],
        axis=-1,
    )


def _hat_surface(rings: Array) -> Surface:
    points, faces = loft(rings.astype(np.float32), closed=True)
    return _rigid(points, faces, Material.HAT)


def _crown(
    heights: Array, radius: Array, angles: Array, centre: Array, top: float, *, dent: float = 0.0
) -> Surface:
    """The dome over the head, with a turned-in edge."""
    last = radius[-1]
    close = [(0.93, 0.35), (0.75, 0.75), (0.5, 0.94), (0.25, 1.0), (0.01, 1.0)]
    rows = [radius[0] - 0.006, *radius, *(last * share for share, _ in close)]
    rise = top - heights[-1]
    ends = [heights[-1] + rise * up - dent * (up > 0.9) for _, up in close]
    levels = np.array([heights[0] + 0.004, *heights, *ends])
    return _hat_surface(_place(np.array(rows), angles, centre, levels))


def _fold(heights: Array, radius: Array, angles: Array, centre: Array, tall: float) -> Surface:
    """The turned-up edge of a beanie, ribbed."""
    rib = 0.0012 * np.cos(24 * angles)
    level = heights[0] + np.array([0.002, -0.003, 0.002, 0.5 * tall, tall, tall + 0.003, tall])
    out = np.array([0.000, 0.003, 0.0065, 0.0075, 0.0065, 0.003, -0.002])
    rings = np.stack(
        [np.array([np.interp(h, heights, column) for column in radius.T]) for h in level]
    )
    return _hat_surface(_place(rings + out[:, None] + rib, angles, centre, level))


def _visor(
    edge: Array, angles: Array, centre: Array, base: float, rng: np.random.Generator
) -> Surface:
    """The peak of a cap: a curved plate that grows out of the front."""
    length = rng.uniform(0.055, 0.07)
    ahead = np.clip((np.cos(angles) - 0.42) / 0.58, 0, 1) ** 0.55
    share = np.array([-0.06, 0.5, 0.97, 1.0, 0.97, 0.5, -0.06])
    thick = np.array([0.001, 0.001, 0.001, 0.0, -0.0025, -0.003, -0.003])
    rings = edge + share[:, None] * length * ahead
    placed = _place(rings, angles, centre, base + 0.006 + thick)
    # The plate bends down towards its sides and its front.
    side = np.sin(angles) ** 2
    placed[..., 1] -= (0.016 * np.clip(share, 0, 1) ** 1.5)[:, None] * ahead + 0.012 * side * ahead
    return _hat_surface(placed)


def _brim(
    edge: Array, angles: Array, centre: Array, base: float, rng: np.random.Generator
) -> Surface:
    """The brim of a hat all around, turned up a little at the sides."""
    width = rng.uniform(0.045, 0.075)
    share = np.array([-0.05, 0.3, 0.7, 0.98, 1.0, 0.98, 0.6, -0.05])
    thick = np.array([0.002, 0.002, 0.002, 0.002, 0.0, -0.002, -0.002, -0.002])
    placed = _place(edge + share[:, None] * width, angles, centre, base + 0.004 + thick)
    up = 0.014 * np.sin(angles) ** 2 - 0.010 * np.cos(angles) ** 2
    placed[..., 1] += np.clip(share, 0, 1)[:, None] ** 2 * up
    return _hat_surface(placed)

"""Procedural places behind the actors: rooms, streets and plain backdrops, ray cast per pixel.

Everything is a floor, an enclosing room or sky, boxes and balls with procedural textures, so a
moving camera sees true parallax and actors stand on the same floor in every frame.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatarmill.synth.shading import fract, noise2

Array = NDArray[np.float64]
SceneKind = Literal["room", "hall", "street", "park", "studio"]
ROOM, STREET, STUDIO = range(3)
TEXTURES = 9
"""plain, windows, shelves, picture, brick, planks, stripes, tiles, rough."""
PLAIN, WINDOWS, SHELVES, PICTURE, BRICK, PLANKS, STRIPES, TILES, ROUGH = range(TEXTURES)


@dataclass(frozen=True, slots=True)
class Light:
    """A sun or lamp from one direction, and the hemisphere around (linear RGB)."""

    direction: Array
    """[3] unit vector towards the light."""
    sun: Array
    sky: Array
    ground: Array

    def packed(self) -> Array:
        """[4, 3] for the kernels."""
        return np.stack([self.direction, self.sun, self.sky, self.ground])


@dataclass(frozen=True, slots=True)
class Scene:
    """One place; arrays are as the kernels read them, colours linear RGB."""

    kind: int
    size: Array
    """[3] half width, height and half depth of a room, metres."""
    surfaces: Array
    """[6, 8] floor, four walls, ceiling or sky: color, second color, texture, texture scale."""
    boxes: Array
    """[N, 14] middle, half size, color, second color, texture, texture scale."""
    balls: Array
    """[M, 7] centre, radius, color: trees and lamps."""
    light: Light


def _linear(rgb: Array) -> Array:
    linear: Array = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear


def _color(rng: np.random.Generator, low: float, high: float, vivid: float) -> Array:
    """A random linear colour between two sRGB greys with some saturation."""
    grey = rng.uniform(low, high)
    return _linear(np.clip(grey + rng.normal(0, vivid, 3), 0.02, 0.98))


def sample_light(rng: np.random.Generator, kind: SceneKind) -> Light:
    """A key light from above and a hemisphere whose ratio varies from overcast to hard sun."""
    azimuth = (
        rng.uniform(-1.3, 1.3) if kind not in ("street", "park") else rng.uniform(-np.pi, np.pi)
    )
    height = np.radians(rng.uniform(35, 65))
    direction = np.array(
        [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
    )
    warm = rng.uniform(-0.08, 0.10)
    hard = rng.uniform(0.35, 0.95) if kind != "studio" else rng.uniform(0.35, 0.55)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    sky = (1.02 - 0.5 * hard) * np.array([1 - 0.5 * warm, 1.0, 1 + 0.5 * warm])
    return Light(direction, hard * tint, 0.78 * sky, 0.42 * sky * tint)


def sample_scene(rng: np.random.Generator, kind: SceneKind, *, extent: float = 0.0) -> Scene:
    """A random place of one kind around the origin, with its light.

    Args:
        extent: half width in metres that must stay free for actor and camera.
    """
    light = sample_light(rng, kind)
    if kind == "studio":
        grey = _color(rng, 0.25, 0.85, 0.03)
        surfaces = np.zeros((6, 8))
        surfaces[:, :3] = surfaces[:, 3:6] = grey
        return Scene(
            STUDIO, np.array([8.0, 6.0, 8.0]), surfaces, np.zeros((0, 14)), np.zeros((0, 7)), light
        )
    builders = {"room": _room, "hall": _hall, "street": _street, "park": _park}
    return builders[kind](rng, light, extent)


def _surface(rng: np.random.Generator, low: float, high: float, kinds: list[int]) -> Array:
    first, second = _color(rng, low, high, 0.07), _color(rng, low, high, 0.07)
    return np.array([*first, *second, rng.choice(kinds), rng.uniform(0.7, 1.5)])


def _room(rng: np.random.Generator, light: Light, extent: float) -> Scene:
    size = np.array([rng.uniform(3.2, 5), rng.uniform(2.7, 3.4), rng.uniform(3.2, 5)])
    size[[0, 2]] = np.maximum(size[[0, 2]], extent + 0.9)
    wall = _surface(rng, 0.35, 0.92, [PLAIN, PLAIN, BRICK, STRIPES, PLANKS])
    walls = np.stack([wall] * 4)
    floor = _surface(rng, 0.2, 0.65, [PLANKS, TILES, ROUGH, PLAIN])
    ceiling = np.array([*_color(rng, 0.8, 0.95, 0.02)] * 2 + [PLAIN, 1.0])
    boxes = [_furniture(rng, size) for _ in range(rng.integers(4, 9))]
    boxes += [_hanging(rng, size) for _ in range(rng.integers(2, 7))]
    return Scene(
        ROOM, size, np.stack([floor, *walls, ceiling]), np.stack(boxes), np.zeros((0, 7)), light
    )


def _hall(rng: np.random.Generator, light: Light, extent: float) -> Scene:
    """A shop or a gym: wide, high, bright, with rows of racks, pillars and mats."""
    size = np.array([rng.uniform(7, 12), rng.uniform(4, 6.5), rng.uniform(7, 12)])
    size[[0, 2]] = np.maximum(size[[0, 2]], extent + 3.0)
    wall = _surface(rng, 0.6, 0.95, [PLAIN, PLAIN, BRICK, TILES])
    floor = _surface(rng, 0.3, 0.7, [PLANKS, PLANKS, TILES, PLAIN])
    ceiling = np.array([*_color(rng, 0.75, 0.95, 0.02), *_color(rng, 0.4, 0.6, 0.02), TILES, 2.0])
    clear = extent + 1.0
    boxes = [_hanging(rng, size) for _ in range(rng.integers(2, 6))]
    turn = rng.random() < 0.5
    for side in (-1, 1):
        for away in np.arange(clear, size[2 if turn else 0] - 0.6, rng.uniform(2.0, 3.0)):
            half = np.array([0.3, rng.uniform(0.7, 1.1), rng.uniform(1.0, 2.5)])
            along = rng.uniform(-0.5, 0.5) * size[0 if turn else 2]
            place = np.array([side * away, half[1], along])
            if turn:
                place, half = place[[2, 1, 0]], half[[2, 1, 0]]
            colors = [*_color(rng, 0.2, 0.85, 0.2), *_color(rng, 0.2, 0.85, 0.2)]
            kind = rng.choice([SHELVES, SHELVES, STRIPES, PLAIN])
            boxes.append(np.array([*place, *half, *colors, kind, rng.uniform(0.8, 1.6)]))
    for corner in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        spot = np.array([0.62 * size[0] * corner[0], size[1] / 2, 0.62 * size[2] * corner[1]])
        boxes.append(np.array([*spot, 0.2, size[1] / 2, 0.2, *wall[:6], PLAIN, 1.0]))
    return Scene(
        ROOM, size, np.stack([floor, *[wall] * 4, ceiling]), np.stack(boxes), _no_balls(), light
    )


def _no_balls() -> Array:
    return np.zeros((0, 7))


def _on_wall(rng: np.random.Generator, size: Array, half: Array) -> tuple[Array, Array]:
    """Place a box of half size (along wall, up, off wall) with its back on a random wall."""
    side = int(rng.integers(4))
    sign = 1 if side % 2 else -1
    if side < 2:
        half = half[[2, 1, 0]]
        return np.array([sign * (size[0] - half[0]), 0, rng.uniform(-0.85, 0.85) * size[2]]), half
    return np.array([rng.uniform(-0.85, 0.85) * size[0], 0, sign * (size[2] - half[2])]), half


def _furniture(rng: np.random.Generator, size: Array) -> Array:
    half = np.array([rng.uniform(0.25, 0.9), rng.uniform(0.2, 1.05), rng.uniform(0.15, 0.38)])
    middle, half = _on_wall(rng, size, half)
    middle[1] = half[1]
    kind = rng.choice([SHELVES, PLANKS, PLAIN, STRIPES])
    colors = [*_color(rng, 0.15, 0.75, 0.12), *_color(rng, 0.15, 0.75, 0.12)]
    return np.array([*middle, *half, *colors, kind, rng.uniform(0.7, 1.3)])


def _hanging(rng: np.random.Generator, size: Array) -> Array:
    half = np.array([rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.5), 0.02])
    middle, half = _on_wall(rng, size, half)
    middle[1] = rng.uniform(1.3, 1.9)
    kind = rng.choice([PICTURE, PICTURE, WINDOWS])
    colors = [*_color(rng, 0.2, 0.9, 0.2), *_color(rng, 0.2, 0.9, 0.2)]
    return np.array([*middle, *half, *colors, kind, rng.uniform(0.4, 0.9)])


def _street(rng: np.random.Generator, light: Light, extent: float) -> Scene:
    clear = max(extent - 3.0, 0.0)
    ground = _surface(rng, 0.25, 0.55, [ROUGH, TILES, BRICK, ROUGH])
    if rng.random() < 0.35:  # a lawn
        ground[:3], ground[3:6], ground[6] = (0.05, 0.13, 0.03), (0.10, 0.20, 0.05), ROUGH
    sky = np.array([0.25, 0.45, 0.85]) * rng.uniform(0.6, 1.1) + rng.uniform(0, 0.25)
    haze = 0.5 * sky + 0.5 * rng.uniform(0.7, 0.95)
    walls = np.tile(np.array([*haze, *sky, PLAIN, rng.uniform(0.5, 1.5)]), (4, 1))
    top = np.array([*sky, *haze, PLAIN, 1.0])
    boxes, balls = [], []
    for angle in np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 1):
        away = clear + rng.uniform(9, 20)
        half = np.array([rng.uniform(1.5, 4), rng.uniform(1.5, 6), rng.uniform(1.5, 4)])
        kind = rng.choice([WINDOWS, WINDOWS, BRICK, PLAIN, PLANKS])
        colors = [*_color(rng, 0.25, 0.8, 0.08), *_color(rng, 0.1, 0.5, 0.06)]
        place = [away * np.sin(angle), half[1], away * np.cos(angle)]
        boxes.append([*place, *half, *colors, kind, rng.uniform(0.8, 1.6)])
        if rng.random() < 0.6:
            near, turn = clear + rng.uniform(4.5, 9), angle + rng.uniform(0.2, 0.5)
            green = np.array([0.05, 0.14, 0.03]) * rng.uniform(0.6, 1.7)
            spot = [near * np.sin(turn), rng.uniform(1.6, 2.8), near * np.cos(turn)]
            balls.append([*spot, rng.uniform(0.7, 1.5), *green])
            trunk = [spot[0], spot[1] / 2, spot[2], 0.12, spot[1] / 2, 0.12]
            boxes.append([*trunk, 0.06, 0.04, 0.025, 0.05, 0.03, 0.02, PLANKS, 1.0])
    return Scene(
        STREET,
        np.array([60.0, 60.0, 60.0]),
        np.stack([ground, *walls, top]),
        np.array(boxes),
        np.array(balls).reshape(-1, 7),
        light,
    )


def _park(rng: np.random.Generator, light: Light, extent: float) -> Scene:
    """A lawn or sand between trees, with benches and a far row of bushes."""
    open_street = _street(rng, light, extent)
    ground, *others = open_street.surfaces
    if rng.random() < 0.7:
        ground = np.array([0.05, 0.13, 0.03, 0.11, 0.21, 0.05, ROUGH, rng.uniform(0.8, 2.0)])
    else:
        ground = np.array([0.42, 0.33, 0.20, 0.55, 0.46, 0.30, ROUGH, rng.uniform(0.8, 2.0)])
    clear = max(extent - 3.0, 0.0)
    boxes, balls = [], []
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(8, 14)), endpoint=False):
        turn, away = angle + rng.uniform(-0.25, 0.25), clear + rng.uniform(5, 22)
        spot = np.array([away * np.sin(turn), 0.0, away * np.cos(turn)])
        green = np.array([0.05, 0.14, 0.03]) * rng.uniform(0.5, 1.7) * rng.uniform(0.7, 1.3, 3)
        tall, wide = rng.uniform(2.0, 3.6), rng.uniform(0.8, 1.5)
        for _ in range(3):  # a crown of several balls is not round
            shift = rng.uniform(-0.6, 0.6, 3) * wide
            balls.append([*(spot + [0, tall, 0] + shift), wide * rng.uniform(0.6, 1.0), *green])
        bark = [0.06, 0.04, 0.025, 0.05, 0.03, 0.02, PLANKS, 1.0]
        boxes.append([*(spot + [0, tall / 2, 0]), 0.13, tall / 2, 0.13, *bark])
    for angle in rng.uniform(0, 2 * np.pi, 10):  # bushes at the far end
        far, wide = rng.uniform(26, 36), rng.uniform(2.5, 4.5)
        green = np.array([0.06, 0.12, 0.05]) * rng.uniform(0.6, 1.3)
        balls.append([far * np.sin(angle), 0.3 * wide, far * np.cos(angle), wide, *green])
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(1, 4))):
        away = clear + rng.uniform(4.5, 8)
        seat = [away * np.sin(angle), 0.24, away * np.cos(angle)]
        wood = [*_color(rng, 0.2, 0.5, 0.08), *_color(rng, 0.2, 0.5, 0.08), PLANKS, 1.0]
        boxes.append([*seat, 0.9, 0.24, 0.25, *wood])
    surfaces = np.stack([ground, *others])
    return Scene(STREET, open_street.size, surfaces, np.array(boxes), np.array(balls), light)


@njit(cache=True, error_model="numpy")
def texture(kind, u, v, a, foot):  # type: ignore[no-untyped-def]
    """Linear colour of a textured surface at (u, v) metres.

    Args:
        a: [8] color, second color, texture, scale.
        foot: size of a pixel there, metres; finer detail fades.
    """
    u, v = u / a[7], v / a[7]
    share, shade = 0.0, 1.0
    if kind == WINDOWS:
        s, t = abs(fract(u / 1.3) - 0.5), abs(fract(v / 1.5) - 0.5)
        if s < 0.28 and t < 0.32:
            share = 1.0 if s > 0.02 else 0.4
            shade = 0.7 + 0.6 * noise2(math.floor(u / 1.3), math.floor(v / 1.5))
    elif kind == SHELVES:
        row = math.floor(v / 0.34)
        book = math.floor(u / 0.045 + 3 * noise2(u * 5, row))
        share = noise2(book * 1.37, row * 1.7)
        shade = 0.35 if fract(v / 0.34) < 0.08 else 0.45 + 0.9 * noise2(book, row)
    elif kind == PICTURE:
        share = 1.0 if noise2(u * 5, v * 5) + 0.4 * noise2(u * 17, v * 17) > 0.7 else 0.0
        shade = 0.6 + 0.8 * noise2(u * 2.5, v * 2.5)
    elif kind == BRICK:
        row = math.floor(v / 0.075)
        odd = fract(0.5 * row)
        s, t = fract(u / 0.22 + odd), fract(v / 0.075)
        sharp = min(1.0, 0.012 / max(foot, 1e-4))
        share = sharp if s < 0.05 or t < 0.14 else 0.0
        shade = 0.85 + 0.3 * noise2(math.floor(u / 0.22 + odd), row) * sharp
    elif kind == PLANKS:
        plank = math.floor(u / 0.14)
        shade = 0.75 + 0.4 * noise2(plank * 1.3, math.floor(v / 1.2 + 0.37 * plank))
        shade *= 0.9 + 0.2 * noise2(u * 60, v * 3) * min(1.0, 0.01 / max(foot, 1e-4))
        share = 0.35 if fract(u / 0.14) < 0.04 else 0.0
    elif kind == STRIPES:
        share = 1.0 if fract(u / 0.16) < 0.5 else 0.0
    elif kind == TILES:
        s, t = fract(u / 0.5), fract(v / 0.5)
        share = 2 * fract(0.5 * (math.floor(u / 0.5) + math.floor(v / 0.5)))
        shade = 0.75 if s < 0.02 or t < 0.02 else 1.0
    elif kind == ROUGH:
        share = noise2(u * 9, v * 9) * 0.6 + 0.4 * noise2(u * 1.3, v * 1.3)
        shade = 0.8 + 0.4 * noise2(u * 40, v * 40) * min(1.0, 0.015 / max(foot, 1e-4))
    shade *= 0.92 + 0.16 * noise2(u * 0.8, v * 0.8)
    return (
        (a[0] + share * (a[3] - a[0])) * shade,
        (a[1] + share * (a[4] - a[1])) * shade,
        (a[2] + share * (a[5] - a[2])) * shade,
    )


@njit(cache=True, error_model="numpy")
def hit_box(o, ix, iy, iz, box):  # type: ignore[no-untyped-def]
    """Distance along a ray from `o` [3] to a box and the axis of the face hit (inf, -1: none).

    Args:
        ix, iy, iz: one over the ray's direction.
    """
    near, far, axis = -np.inf, np.inf, -1
    for k in range(3):
        inverse = ix if k == 0 else (iy if k == 1 else iz)
        a = (box[k] - box[3 + k] - o[k]) * inverse
        b = (box[k] + box[3 + k] - o[k]) * inverse
        first, last = min(a, b), max(a, b)
        if first > near:
            near, axis = first, k
        far = min(far, last)
        if near > far:
            return np.inf, -1
    if near <= 0.05:
        return np.inf, -1
    return near, axis


@njit(cache=True, error_model="numpy")
def hit_ball(o, x, y, z, ball):  # type: ignore[no-untyped-def]
    """Distance along a unit ray from `o` [3] to a ball, inf for none."""
    ox, oy, oz = o[0] - ball[0], o[1] - ball[1], o[2] - ball[2]
    b = ox * x + oy * y + oz * z
    inside = b * b - (ox * ox + oy * oy + oz * oz - ball[3] * ball[3])
    if inside <= 0 or b > 0:
        return np.inf
    return -b - math.sqrt(inside)

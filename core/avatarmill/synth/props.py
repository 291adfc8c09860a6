"""Things that get into the way of the camera: poles, tables, boxes, plants and passing panels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.cast import Props
from avatarmill.synth.render import View

Array = NDArray[np.float64]
PropKind = Literal["pole", "table", "box", "plant", "passing"]
# Low things hide legs only: a half-body picture would not show them.
_TALL: tuple[PropKind, ...] = ("pole", "plant", "passing")
_TRIES = 40
# Metres between a thing's middle and the camera's or a person's path, besides its own radius.
_FROM_EYE, _FROM_PERSON = 0.45, 0.30


@dataclass(frozen=True, slots=True)
class Solid:
    """A painted mesh standing on the ground at the origin."""

    points: Array
    """[V, 3] metres."""
    faces: NDArray[np.int32]
    """[F, 3]"""
    color: Array
    """[V, 3] linear."""

    def placed(self, x: float, z: float, heading: float) -> "Solid":
        """The same thing elsewhere on the ground, turned about the vertical."""
        return Solid(self.points @ _about_y(heading).T + [x, 0, z], self.faces, self.color)

    @property
    def radius(self) -> float:
        """Of the upright cylinder around the origin that holds it, metres."""
        return float(np.linalg.norm(self.points[:, [0, 2]], axis=1).max())


@dataclass(frozen=True, slots=True)
class Occluder:
    """A prop in the way, as it is recorded."""

    kind: PropKind
    props: Props
    x: float
    z: float
    """Where it stands, or is when it passes the line of sight; metres in the world."""

    def at(self, frames: NDArray[np.int64]) -> "Occluder":
        """The thing in some frames."""
        if self.props.transforms is None:
            return self
        return replace(self, props=replace(self.props, transforms=self.props.transforms[frames]))


def _about_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _joined(solids: list[Solid]) -> Solid:
    offsets = np.cumsum([0, *(len(solid.points) for solid in solids)])
    return Solid(
        np.concatenate([solid.points for solid in solids]),
        np.concatenate([solid.faces + o for solid, o in zip(solids, offsets, strict=False)]).astype(
            np.int32
        ),
        np.concatenate([solid.color for solid in solids]),
    )


# Faces need no orientation: things are drawn from both sides.
def block(low: tuple[float, float, float], high: tuple[float, float, float], color: Array) -> Solid:
    """An axis-aligned box."""
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [(q[0], q[a], q[a + 1]) for q in quads for a in (1, 2)]
    return Solid(corners, np.array(faces, np.int32), np.tile(color, (8, 1)))


def tube(bottom: float, top: float, radii: tuple[float, float], color: Array) -> Solid:
    """An upright, closed cone stump of 20 sides."""
    sides = 20
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.zeros(sides), np.sin(angle)], axis=-1)
    points = np.concatenate(
        [ring * radii[0] + [0, bottom, 0], ring * radii[1] + [0, top, 0], [[0, top, 0]]]
    )
    a = np.arange(sides)
    b = (a + 1) % sides
    faces = np.concatenate(
        [
            np.stack([a, a + sides, b], -1),
            np.stack([b, a + sides, b + sides], -1),
            np.stack([a + sides, np.full(sides, 2 * sides), b + sides], -1),
        ]
    )
    return Solid(points, faces.astype(np.int32), np.tile(color, (len(points), 1)))


def _paint(rng: np.random.Generator) -> Array:
    """A linear colour such as paint has: from dark grey to vivid."""
    grey = rng.uniform(0.05, 0.55)
    return np.clip(grey * (1 + rng.normal(0, 0.45, 3)), 0.02, 0.8)


def _pole(rng: np.random.Generator) -> Solid:
    radius = rng.uniform(0.04, 0.12)
    foot = tube(0, 0.12, (1.8 * radius, 1.6 * radius), 0.4 * _paint(rng))
    return _joined([foot, tube(0, rng.uniform(2.3, 2.6), (radius, 0.9 * radius), _paint(rng))])


def _table(rng: np.random.Generator) -> Solid:
    x, z, y = rng.uniform(0.45, 0.75), rng.uniform(0.3, 0.4), rng.uniform(0.68, 0.78)
    wood, cloth = _paint(rng), _paint(rng)
    top = block((-x, y - 0.04, -z), (x, y, z), wood)
    legs = [
        block((sx * (x - 0.05) - 0.03, 0, sz * (z - 0.05) - 0.03),
              (sx * (x - 0.05) + 0.03, y - 0.04, sz * (z - 0.05) + 0.03), 0.7 * wood)
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]  # fmt: skip
    at = rng.uniform(-0.5, 0.5) * x
    thing = block((at - 0.15, y, -0.1), (at + 0.15, y + rng.uniform(0.15, 0.4), 0.1), cloth)
    return _joined([top, *legs, thing])


def _crates(rng: np.random.Generator) -> Solid:
    half, height = rng.uniform(0.22, 0.4), rng.uniform(0.5, 0.9)
    first = block((-half, 0, -half), (half, height, half), _paint(rng))
    if rng.random() < 0.5:
        return first
    small, rise = 0.7 * half, 0.6 * height
    second = block((-small, height, -small), (small, height + rise, small), _paint(rng))
    return _joined([first, second])


def _plant(rng: np.random.Generator) -> Solid:
    """A pot with long leaves that bend over."""
    pot = tube(0, 0.32, (0.12, 0.18), _paint(rng))
    green = np.array([0.04, 0.13, 0.03]) * rng.uniform(0.7, 1.8)
    tall = rng.uniform(0.9, 1.5)
    leaves = []
    for _ in range(int(rng.integers(24, 40))):
        way, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.38)
        rise, width = tall * rng.uniform(0.55, 1.0), rng.uniform(0.025, 0.06)
        share = np.linspace(0, 1, 6)
        spine = np.stack([reach * share**2, 0.3 + rise * np.sin(1.9 * share), 0 * share], axis=-1)
        side = width * np.sin(np.pi * (0.12 + 0.88 * share))[:, None] * np.array([[0, 0.2, 1.0]])
        points = np.stack([spine - side, spine + side], axis=1).reshape(-1, 3) @ _about_y(way).T
        steps = 2 * np.arange(5)[:, None]
        faces = np.concatenate([steps + [0, 1, 2], steps + [1, 3, 2]])
        shade = green * rng.uniform(0.7, 1.4)
        leaves.append(Solid(points, faces.astype(np.int32), np.tile(shade, (12, 1))))
    return _joined([pot, *leaves])


def _panel(rng: np.random.Generator) -> Solid:
    """What is carried or rolled past a camera: a board on a trolley."""
    half, top = rng.uniform(0.18, 0.38), rng.uniform(1.3, 2.0)
    board = block((-half, 0.15, -0.03), (half, top, 0.03), _paint(rng))
    return _joined([board, block((-half, 0.05, -0.2), (half, 0.15, 0.2), 0.5 * _paint(rng))])


_MAKERS = {"pole": _pole, "table": _table, "box": _crates, "plant": _plant, "passing": _panel}


def sample_occluder(
    rng: np.random.Generator,
    cameras: Sequence[Sequence[View]],
    pelvis: Array,
    others: Array,
    times: Array,
    *,
    tall: bool = False,
) -> Occluder:
    """A thing on the line of sight to a person in some frame of the first shot of a place.

    Args:
        rng: consumed.
        cameras: the views of every shot there; those of the first begin with the place.
        pelvis: [F, 2] where the hidden person is on the ground.
        others: [N, 2] places on the ground where nobody may be run through.
        times: [F] seconds.
        tall: only things that hide an upper body.
    """
    kinds = _TALL if tall else get_args(PropKind)
    kind: PropKind = kinds[int(rng.integers(len(kinds)))]
    solid = _MAKERS[kind](rng)
    eyes = np.array([_eye(view) for camera in cameras for view in camera])
    # Tried until neither camera nor people run through it; in tight places the best try stands.
    best, chosen = -np.inf, (0.0, 0.0, 0)
    for _ in range(_TRIES):
        frame = int(rng.integers(len(cameras[0])))
        line = pelvis[frame] - eyes[frame]
        aside = np.array([line[1], -line[0]]) / np.linalg.norm(line)
        spot = eyes[frame] + rng.uniform(0.5, 0.88) * line + rng.normal(0, 0.14) * aside
        free = min(
            np.linalg.norm(eyes - spot, axis=1).min() - solid.radius - _FROM_EYE,
            np.linalg.norm(others - spot, axis=1).min() - solid.radius - _FROM_PERSON,
        )
        if free > best:
            best, chosen = float(free), (float(spot[0]), float(spot[1]), frame)
        if free > 0:
            break
    x, z, frame = chosen
    away = eyes[frame] - [x, z]
    heading = float(np.arctan2(away[0], away[1]))
    if kind != "passing":
        standing = solid.placed(x, z, heading + float(rng.uniform(-0.5, 0.5)))
        return Occluder(kind, _props(standing, None), x, z)
    return Occluder(kind, _props(solid, _passage(rng, x, z, heading, times - times[frame])), x, z)


def _eye(view: View) -> Array:
    """Where a camera stands on the ground, [2]."""
    rotation, offset = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    at: Array = (-rotation.T @ offset)[[0, 2]]
    return at


def _passage(rng: np.random.Generator, x: float, z: float, heading: float, times: Array) -> Array:
    """Rigid motion [F, 4, 4] across the line of sight, at (x, z) when `times` is 0."""
    speed = rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)
    matrices = np.tile(np.eye(4), (len(times), 1, 1))
    matrices[:, :3, :3] = _about_y(heading)
    matrices[:, :3, 3] = [x, 0, z]
    matrices[:, :3, 3] += (speed * times)[:, None] * _about_y(heading)[:, 0]
    return matrices


def _props(solid: Solid, transforms: Array | None) -> Props:
    return Props(
        solid.points.astype(np.float32),
        solid.faces,
        solid.color.astype(np.float32),
        None if transforms is None else transforms.astype(np.float32),
    )

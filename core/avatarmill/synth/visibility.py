"""Which anchors of dressed people a camera really sees, by exact rays against every triangle.

The rule: an anchor lies on the bare body, so it first gets a *cover*, the outermost point of the
person's own clothed mesh that its normal meets at rest. The cover is a fixed point of that mesh
and moves with it. An anchor is visible when its cover lies inside the image, its surface faces
the camera there, and the segment to the eye meets no triangle of anybody's clothed mesh or of a
prop more than `TOLERANCE` in front of it. Anchors over which nothing is drawn are never visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from avatarmill.avatar.anchors import Anchors
from avatarmill.avatar.zbuffer import NEAR
from avatarmill.synth.actor import Actor, free_body
from avatarmill.synth.cast import Props, merge_cast
from avatarmill.synth.motion import Motion
from avatarmill.synth.render import View
from avatarmill.synth.surfaces import Material

REACH = 0.15
"""Metres along the normal within which cloth or hair counts as an anchor's cover: a full skirt."""
TOLERANCE = 0.001
"""Metres: triangles nearer than this to a cover do not hide it."""
_BEHIND = 0.01  # cloth may lie this deep inside the skin that it replaced
_SKIN_REACH = 0.002  # one's own skin; skin further along is another part of the body
_LEAST_SHARE = 0.05  # of skinning weight in common, or the cloth belongs to another limb
_BARE = (Material.SKIN, Material.EYE, Material.MOUTH)
_CELL = 8  # pixels; rays are binned by image cell

Mesh = tuple[NDArray[np.floating], NDArray[np.integer], NDArray[np.integer]]
"""World points [V, 3], faces [F, 3] and owner [F] (person, -1 for props) of `posed_meshes`."""


@dataclass(frozen=True, slots=True)
class Covers:
    """The outermost point over each of T anchors on one actor's own mesh."""

    face: NDArray[np.int32]
    """[T] index into the actor's faces, -1 where nothing is drawn over the anchor."""
    barycentric: NDArray[np.float64]
    """[T, 3] weights of the face's vertices."""
    outward: NDArray[np.float64]
    """[T] 1 if the face's winding makes the side away from the body its front, else -1."""

    def __len__(self) -> int:
        return len(self.face)


def cover_anchors(actor: Actor, anchors: Anchors) -> Covers:
    """Find the cover of every anchor; once an actor, at rest, where limbs are apart.

    Cloth, hair and accessories cover an anchor if its normal meets them within `REACH` and they
    move with the same joints; otherwise its own skin does.

    Raises:
        ValueError: the anchors belong to another body than the actor's.
    """
    body = free_body()
    if anchors.fingerprint != body.fingerprint:
        raise ValueError(
            f"anchors of body {anchors.fingerprint[:12]} do not lie on the actors' body"
            f" {body.fingerprint[:12]}: take load_anchors(free_body())"
        )
    with torch.no_grad():
        vertices, _ = body.rest(torch.from_numpy(actor.shape), torch.zeros(52))
        points, normals = anchors.points(vertices), anchors.normals(vertices)
    mesh = actor.mesh
    corners = mesh.rest[mesh.faces].astype(np.float64)
    centres = corners.mean(1)
    radii = np.linalg.norm(corners - centres[:, None], axis=-1).max(1)
    face, barycentric = _find_covers(
        points.double().numpy(),
        normals.double().numpy(),
        anchors.weights.double().numpy(),
        corners,
        np.column_stack([centres, radii]),
        np.isin(mesh.material, _BARE),
        mesh.faces,
        (mesh.starts, mesh.joints, mesh.values),
    )
    edges = corners[face, 1:] - corners[face, :1]
    along = (np.cross(edges[:, 0], edges[:, 1]) * normals.numpy()).sum(1)
    return Covers(face, barycentric, np.where(along < 0, -1.0, 1.0))


@njit(cache=True, parallel=True)
def _find_covers(points, normals, weights, corners, balls, bare, faces, skinning):  # type: ignore[no-untyped-def]
    """Cover of each anchor: face [T] and barycentric weights [T, 3]."""
    count = points.shape[0]
    found = np.full(count, -1, np.int32)
    barycentric = np.zeros((count, 3))
    half = 0.5 * (REACH + _BEHIND)
    for i in prange(count):
        origin, way = points[i], normals[i]
        mx = origin[0] + (half - _BEHIND) * way[0]
        my = origin[1] + (half - _BEHIND) * way[1]
        mz = origin[2] + (half - _BEHIND) * way[2]
        best = -np.inf
        for f in range(corners.shape[0]):
            ball = balls[f]
            dx, dy, dz, near = ball[0] - mx, ball[1] - my, ball[2] - mz, ball[3] + half
            if dx * dx + dy * dy + dz * dz > near * near:
                continue
            t, u, v, w = _cross(corners[f], origin, way)
            low, high = (-_SKIN_REACH, _SKIN_REACH) if bare[f] else (-_BEHIND, REACH)
            if not (low <= t <= high and t > best):
                continue
            if not bare[f] and _common(faces[f], skinning, weights[i]) < _LEAST_SHARE:
                continue
            best, found[i] = t, f
            barycentric[i, 0], barycentric[i, 1], barycentric[i, 2] = u, v, w
    return found, barycentric


@njit(cache=True)
def _common(face, skinning, weights):  # type: ignore[no-untyped-def]
    """How much of a face's skinning [0..1] an anchor with `weights` [55] shares."""
    starts, joints, values = skinning
    total = 0.0
    for corner in face:
        for k in range(starts[corner], starts[corner + 1]):
            total += values[k] * weights[joints[k]]
    return total / 3


@njit(cache=True)
def _triple(a, b, c):  # type: ignore[no-untyped-def]
    """a . (b x c); exactly the negative of a . (c x b), so rays cannot slip between faces."""
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        + a[1] * (b[2] * c[0] - b[0] * c[2])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@njit(cache=True)
def _cross(corners, origin, way):  # type: ignore[no-untyped-def]
    """Where a line meets a triangle: its parameter (nan if it does not) and barycentrics."""
    a, b, c = corners[0] - origin, corners[1] - origin, corners[2] - origin
    u, v, w = _triple(way, b, c), _triple(way, c, a), _triple(way, a, b)
    total = u + v + w
    if total == 0.0 or not ((u >= 0 and v >= 0 and w >= 0) or (u <= 0 and v <= 0 and w <= 0)):
        return np.nan, 0.0, 0.0, 0.0
    return _triple(a, b, c) / total, u / total, v / total, w / total


def anchor_visibility(covers: Covers, mesh: Mesh, person: int, view: View) -> NDArray[np.bool_]:
    """Which anchors [T] of one person a camera sees in one frame; see the module for the rule.

    Args:
        covers: of that person's actor.
        mesh: everything that is in the picture, as `posed_meshes` gives it.
        person: whose anchors; its faces come in the order of its actor's mesh.
        view: camera.

    Raises:
        ValueError: the mesh has no such person.
    """
    points, faces, owner = mesh
    own = faces[owner == person]
    if len(own) <= covers.face.max(initial=-1):
        raise ValueError(f"the mesh has {len(own)} faces of person {person}: not this actor's")
    matrix = np.asarray(view.world_to_camera, np.float64)
    seen = np.ascontiguousarray(points @ matrix[:3, :3].T + matrix[:3, 3], np.float64)
    drawn = covers.face >= 0
    corners = seen[own[covers.face[drawn]]]
    targets = (corners * covers.barycentric[drawn, :, None]).sum(1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    k = view.intrinsics
    lens = np.array([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], np.float64)
    pixels = targets[:, :2] / np.maximum(targets[:, 2:], NEAR) * lens[:2] + lens[2:]
    size = np.array([view.width, view.height])
    facing = (normals * targets).sum(1) * covers.outward[drawn] < 0
    inside = ((pixels >= 0) & (pixels < size)).all(1) & (targets[:, 2] > NEAR)
    candidates = np.flatnonzero(facing & inside)
    clear = _clear(seen, faces, lens, size, targets[candidates], pixels[candidates])
    visible = np.zeros(len(covers), np.bool_)
    visible[np.flatnonzero(drawn)[candidates[clear]]] = True
    return visible


def _clear(
    seen: NDArray[np.float64],
    faces: NDArray[np.integer],
    lens: NDArray[np.float64],
    size: NDArray[np.int64],
    targets: NDArray[np.float64],
    pixels: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether the segments from the eye at the origin to `targets` [N, 3] meet no face."""
    columns, rows = (size - 1) // _CELL + 1
    cell = (pixels[:, 1] // _CELL).astype(np.int64) * columns + (pixels[:, 0] // _CELL).astype(int)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(columns * rows + 1))
    hidden = np.zeros(len(targets), np.bool_)
    limit = 1 - TOLERANCE / np.linalg.norm(targets[order], axis=1)
    grid = (columns, rows, starts)
    _cast(seen, faces, lens, grid, targets[order], pixels[order], limit, hidden)
    clear = np.empty(len(targets), np.bool_)
    clear[order] = ~hidden
    return clear


@njit(cache=True)
def _cast(seen, faces, lens, grid, targets, pixels, limit, hidden):  # type: ignore[no-untyped-def]
    """Mark in `hidden` the targets, sorted by image cell, that some face lies in front of.

    All rays leave one eye, so a face can only meet rays whose pixel lies in its projection's box.
    """
    columns, rows, starts = grid
    for f in range(faces.shape[0]):
        a, b, c = seen[faces[f, 0]], seen[faces[f, 1]], seen[faces[f, 2]]
        if max(a[2], b[2], c[2]) <= 0:
            continue
        left, top, right, bottom = -np.inf, -np.inf, np.inf, np.inf
        if min(a[2], b[2], c[2]) >= NEAR:
            left, top, right, bottom = _pixel_box(a, b, c, lens)
        x0, x1 = max(left // _CELL, 0.0), min(right // _CELL, columns - 1.0)
        y0, y1 = max(top // _CELL, 0.0), min(bottom // _CELL, rows - 1.0)
        if x0 > x1 or y0 > y1:
            continue
        volume = _triple(a, b, c)
        for row in range(int(y0), int(y1) + 1):
            first, last = row * columns + int(x0), row * columns + int(x1)
            for i in range(starts[first], starts[last + 1]):
                x, y = pixels[i]
                if hidden[i] or not (left <= x <= right and top <= y <= bottom):
                    continue
                p = targets[i]
                u, v, w = _triple(p, b, c), _triple(p, c, a), _triple(p, a, b)
                if (u >= 0 and v >= 0 and w >= 0) or (u <= 0 and v <= 0 and w <= 0):
                    total = u + v + w
                    hidden[i] = total != 0 and 0 < volume / total < limit[i]


@njit(cache=True)
def _pixel_box(a, b, c, lens):  # type: ignore[no-untyped-def]
    """Left, top, right and bottom of a projected triangle, a little widened against rounding."""
    slack = 1e-3
    ax, ay = lens[0] * a[0] / a[2] + lens[2], lens[1] * a[1] / a[2] + lens[3]
    bx, by = lens[0] * b[0] / b[2] + lens[2], lens[1] * b[1] / b[2] + lens[3]
    cx, cy = lens[0] * c[0] / c[2] + lens[2], lens[1] * c[1] / c[2] + lens[3]
    return (
        min(ax, bx, cx) - slack,
        min(ay, by, cy) - slack,
        max(ax, bx, cx) + slack,
        max(ay, by, cy) + slack,
    )


def cast_visibility(
    actors: Sequence[Actor],
    motions: Sequence[Motion],
    views: Sequence[View],
    anchors: Anchors,
    *,
    props: Props | None = None,
) -> NDArray[np.bool_]:
    """Visibility [F, P, T] of the anchors of P people over F frames, one view a frame.

    Raises:
        ValueError: counts of views, motions and props do not fit, or foreign anchors.
    """
    cast = merge_cast(actors, motions, props)
    if len(views) != len(cast):
        raise ValueError(f"{len(views)} views do not fit {len(cast)} frames")
    covers = [cover_anchors(actor, anchors) for actor in actors]
    visible = np.zeros((len(views), len(actors), len(anchors)), np.bool_)
    for frame, view in enumerate(views):
        mesh = (cast.points(frame), cast.faces, cast.owner)
        for person, cover in enumerate(covers):
            visible[frame, person] = anchor_visibility(cover, mesh, person, view)
    return visible

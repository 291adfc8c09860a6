"""The colour a camera ray finds in a scene: nearest surface, its texture, its light."""

import math

import numpy as np
from numba import njit, prange

from avatarmill.synth.scenery import ROOM, STUDIO, hit_ball, hit_box, texture
from avatarmill.synth.shading import noise, noise2, ramp

_TILE = 8  # rays along each side of a block that shares its list of things in view


@njit(cache=True, error_model="numpy")
def shadow_at(px, py, pz, view, closeness, bias):  # type: ignore[no-untyped-def]
    """Share of the light that reaches a world point, by a shadow map smoothed over 3x3 texels.

    Args:
        view: [3, 4] world -> (x pixel * z, y pixel * z, z) of the light's camera.
        closeness: [S, S] 1 / z of what it sees, 0 for nothing; empty for no shadows.
        bias: metres by which a surface may lie behind what the map recorded.
    """
    z = view[2, 0] * px + view[2, 1] * py + view[2, 2] * pz + view[2, 3]
    scale = 1.0 / z
    x = (view[0, 0] * px + view[0, 1] * py + view[0, 2] * pz + view[0, 3]) * scale
    y = (view[1, 0] * px + view[1, 1] * py + view[1, 2] * pz + view[1, 3]) * scale
    size = closeness.shape[0]
    if not (1.5 <= x < size - 2.5 and 1.5 <= y < size - 2.5):
        return 1.0
    ix, iy = int(x - 0.5), int(y - 0.5)
    fx, fy = x - 0.5 - ix, y - 0.5 - iy
    limit = 1.0 / (z - bias)
    lit = 0.0
    for dy in range(-1, 3):
        wy = 1.0 - fy if dy == -1 else (fy if dy == 2 else 1.0)
        for dx in range(-1, 3):
            wx = 1.0 - fx if dx == -1 else (fx if dx == 2 else 1.0)
            if closeness[iy + dy, ix + dx] < limit:
                lit += wx * wy
    return lit / 9.0


@njit(cache=True, error_model="numpy")
def irradiance(light, nx, ny, nz, lit):  # type: ignore[no-untyped-def]
    """Light (r, g, b) that a matt surface gathers: hemisphere and sun."""
    facing = max(nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2], 0.0) * lit
    up = 0.5 + 0.5 * ny
    return (
        light[3, 0] + up * (light[2, 0] - light[3, 0]) + facing * light[1, 0],
        light[3, 1] + up * (light[2, 1] - light[3, 1]) + facing * light[1, 1],
        light[3, 2] + up * (light[2, 2] - light[3, 2]) + facing * light[1, 2],
    )


@njit(cache=True, error_model="numpy")
def _cast(o, x, y, z, scene, near, shadow, foot):  # type: ignore[no-untyped-def]
    """Linear colour of a unit ray from `o`; see `paint_backdrop`.

    Args:
        near: places of the boxes and, counted on from them, balls that the ray may meet.
    """
    kind, size, surfaces, boxes, balls, light, feet = scene
    best, box, ball, face = np.inf, -1, -1, 0
    count = boxes.shape[0]
    ix = 1.0 / (x if abs(x) > 1e-9 else 1e-9)
    iy = 1.0 / (y if abs(y) > 1e-9 else 1e-9)
    iz = 1.0 / (z if abs(z) > 1e-9 else 1e-9)
    for i in near:
        if i < count:
            t, axis = hit_box(o, ix, iy, iz, boxes[i])
            if t < best:
                best, box, face = t, i, axis
        else:
            t = hit_ball(o, x, y, z, balls[i - count])
            if t < best:
                best, ball = t, i - count
    # The enclosing room, or ground and sky: what a ray leaves through.
    leave = ((size[0] if x > 0 else -size[0]) - o[0]) * ix
    wall = 0
    t = ((size[1] if y > 0 else 0.0) - o[1]) * iy
    if 0 < t < leave:
        leave, wall = t, 1
    t = ((size[2] if z > 0 else -size[2]) - o[2]) * iz
    if 0 < t < leave:
        leave, wall = t, 2
    if leave < best:
        return _enclosure(o, x, y, z, leave, wall, scene, shadow, foot)
    px, py, pz = o[0] + best * x, o[1] + best * y, o[2] + best * z
    if ball >= 0:
        b = balls[ball]
        leaf = 0.9 + 1.1 * (noise(px * 9, py * 9, pz * 9) - 0.5) * min(1.0, 0.05 / (foot * best))
        nx, ny, nz = (px - b[0]) / b[3], (py - b[1]) / b[3], (pz - b[2]) / b[3]
        r, g, c = irradiance(light, nx, ny, nz, 1.0)
        return r * b[4] * leaf, g * b[5] * leaf, c * b[6] * leaf
    b = boxes[box]
    nx = (-1.0 if x > 0 else 1.0) if face == 0 else 0.0
    ny = (-1.0 if y > 0 else 1.0) if face == 1 else 0.0
    nz = (-1.0 if z > 0 else 1.0) if face == 2 else 0.0
    u = pz - b[2] if face == 0 else px - b[0]
    v = pz - b[2] if face == 1 else py - b[1] + b[4]
    tr, tg, tb = texture(int(b[12]), u, v, b[6:], foot * best)
    r, g, c = irradiance(light, nx, ny, nz, 1.0)
    return r * tr, g * tg, c * tb


@njit(cache=True, error_model="numpy")
def _sky(x, y, z, surface):  # type: ignore[no-untyped-def]
    """Haze at the horizon, blue above, clouds in between."""
    high = ramp(-0.05, 0.55, y)
    cloud = 0.5 * high * ramp(0.5, 0.8, noise2(x / (y + 0.25) * 2, z / (y + 0.25) * 2))
    r = surface[0] + high * (surface[3] - surface[0])
    g = surface[1] + high * (surface[4] - surface[1])
    b = surface[2] + high * (surface[5] - surface[2])
    return r + cloud * (0.95 - r), g + cloud * (0.95 - g), b + cloud * (0.95 - b)


@njit(cache=True, error_model="numpy")
def _contact(x, z, feet):  # type: ignore[no-untyped-def]
    """Share of the light that is left on the ground beside feet [K, 3] (x, height, z)."""
    left = 1.0
    for k in range(feet.shape[0]):
        dx, dz = x - feet[k, 0], z - feet[k, 2]
        near = 1.0 - (dx * dx + dz * dz) * (1.0 / (0.19 * 0.19))
        if near > 0.0:
            left *= 1.0 - 0.38 * near * near * (1.0 - ramp(0.08, 0.25, feet[k, 1]))
    return left


@njit(cache=True, error_model="numpy")
def _enclosure(o, x, y, z, t, wall, scene, shadow, foot):  # type: ignore[no-untyped-def]
    kind, size, surfaces, boxes, balls, light, feet = scene
    px, py, pz = o[0] + t * x, o[1] + t * y, o[2] + t * z
    floor = wall == 1 and y < 0
    lit, touch = 1.0, 1.0
    if floor:
        lit = shadow_at(px, py, pz, shadow[0], shadow[1], 0.01)
        touch = _contact(px, pz, feet)
    if kind == STUDIO:
        # A seamless backdrop: floor and wall are one sheet, a little darker towards the edge.
        dim = (
            (1.0 - 0.22 * ramp(1.0, 7.0, math.sqrt(px * px + pz * pz)))
            * (0.72 + 0.28 * lit)
            * touch
        )
        return surfaces[0, 0] * dim, surfaces[0, 1] * dim, surfaces[0, 2] * dim
    if not floor and kind != ROOM:
        return _sky(x, y, z, surfaces[1])
    nx = (-1.0 if x > 0 else 1.0) if wall == 0 else 0.0
    ny = (-1.0 if y > 0 else 1.0) if wall == 1 else 0.0
    nz = (-1.0 if z > 0 else 1.0) if wall == 2 else 0.0
    index = 0
    if wall == 1:
        index = 0 if floor else 5
    elif wall == 0:
        index = 2 if x > 0 else 1
    else:
        index = 4 if z > 0 else 3
    s = surfaces[index]
    tr, tg, tb = texture(int(s[6]), pz if wall == 0 else px, pz if wall == 1 else py, s, foot * t)
    r, g, b = irradiance(light, nx, ny, nz, lit)
    r, g, b = r * tr * touch, g * tg * touch, b * tb * touch
    if kind == ROOM:  # corners gather less light
        corner = 0.75 + 0.25 * ramp(0.0, 0.5, py) if not floor else 1.0
        return r * corner, g * corner, b * corner
    haze = ramp(12.0, 50.0, t) if floor else 0.0  # the far ground fades
    return (
        r + haze * (surfaces[1, 0] - r),
        g + haze * (surfaces[1, 1] - g),
        b + haze * (surfaces[1, 2] - b),
    )


@njit(cache=True, error_model="numpy")
def _extent(camera, middle, half, step, height, width):  # type: ignore[no-untyped-def]
    """Rays (left, top, right, bottom), ends included, that may meet a box; all if it comes near."""
    eye, turn, lens = camera
    left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
    for corner in range(8):
        x = middle[0] + (half[0] if corner & 1 else -half[0]) - eye[0]
        y = middle[1] + (half[1] if corner & 2 else -half[1]) - eye[1]
        z = middle[2] + (half[2] if corner & 4 else -half[2]) - eye[2]
        away = turn[0, 2] * x + turn[1, 2] * y + turn[2, 2] * z
        if away < 0.02:
            return 0, 0, width, height
        u = (turn[0, 0] * x + turn[1, 0] * y + turn[2, 0] * z) / away
        v = (turn[0, 1] * x + turn[1, 1] * y + turn[2, 1] * z) / away
        u, v = (
            ((u - lens[0, 2]) / lens[0, 0] - 0.5) / step,
            ((v - lens[1, 2]) / lens[1, 1] - 0.5) / step,
        )
        left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    return (
        int(max(left - 1, 0.0)),
        int(max(top - 1, 0.0)),
        int(min(right + 2, width)),
        int(min(bottom + 2, height)),
    )


@njit(cache=True, error_model="numpy")
def _extents(camera, boxes, balls, step, height, width):  # type: ignore[no-untyped-def]
    """`_extent` of all boxes, then all balls, [N, 4]."""
    out = np.empty((boxes.shape[0] + balls.shape[0], 4), np.int32)
    half = np.empty(3)
    for i in range(out.shape[0]):
        if i < boxes.shape[0]:
            bounds = _extent(camera, boxes[i, :3], boxes[i, 3:6], step, height, width)
        else:
            ball = balls[i - boxes.shape[0]]
            half[:] = ball[3]
            bounds = _extent(camera, ball[:3], half, step, height, width)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = bounds
    return out


@njit(cache=True, parallel=True, error_model="numpy")
def paint_backdrop(camera, scene, shadow, step, out):  # type: ignore[no-untyped-def]
    """Cast one ray every `step` pixels into `out` [h, w, 3], linear.

    A coarse backdrop, interpolated later, looks like a lens focused on the actor.

    Args:
        camera: (eye [3], camera-to-world rotation, inverse intrinsics).
        scene: (kind, size, surfaces, boxes, balls, light, feet) as in `Scene`, `Light.packed`
            and `Cast.feet`.
        shadow: (light view, closeness) as in `shadow_at`.
    """
    eye, turn, lens = camera
    height, width = out.shape[:2]
    extents = _extents(camera, scene[3], scene[4], step, height, width)
    for row in prange((height + _TILE - 1) // _TILE):
        found = np.empty(extents.shape[0], np.int32)
        top, bottom = row * _TILE, min(row * _TILE + _TILE, height)
        for left in range(0, width, _TILE):
            right, count = min(left + _TILE, width), 0
            for k in range(extents.shape[0]):
                across = extents[k, 0] < right and extents[k, 2] > left
                if across and extents[k, 1] < bottom and extents[k, 3] > top:
                    found[count] = k
                    count += 1
            for j in range(top, bottom):
                v = lens[1, 1] * (j * step + 0.5) + lens[1, 2]
                for i in range(left, right):
                    u = lens[0, 0] * (i * step + 0.5) + lens[0, 2]
                    scale = 1.0 / math.sqrt(u * u + v * v + 1)
                    x = (turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]) * scale
                    y = (turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]) * scale
                    z = (turn[2, 0] * u + turn[2, 1] * v + turn[2, 2]) * scale
                    near = found[:count]
                    r, g, b = _cast(eye, x, y, z, scene, near, shadow, lens[0, 0] * step)
                    out[j, i, 0], out[j, i, 1], out[j, i, 2] = r, g, b


@njit(cache=True, parallel=True, error_model="numpy")
def soften(image, out):  # type: ignore[no-untyped-def]
    """3x3 binomial blur of [h, w, 3], which hides the grain of one ray a sample."""
    height, width = image.shape[:2]
    for j in prange(height):
        up, down = max(j - 1, 0), min(j + 1, height - 1)
        for i in range(width):
            left, right = max(i - 1, 0), min(i + 1, width - 1)
            for c in range(3):
                above = image[up, left, c] + 2 * image[up, i, c] + image[up, right, c]
                here = image[j, left, c] + 2 * image[j, i, c] + image[j, right, c]
                below = image[down, left, c] + 2 * image[down, i, c] + image[down, right, c]
                out[j, i, c] = (above + 2 * here + below) / 16

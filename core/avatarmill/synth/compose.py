"""The pixel loop: shade what an actor covers, lay it over the backdrop, average, encode."""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from avatarmill.avatar.zbuffer import weights_at
from avatarmill.synth.backdrop import shadow_at
from avatarmill.synth.shading import (
    BOTTOM,
    EYE,
    GLASSES,
    HAIR,
    MOUTH,
    PROP,
    SHOES,
    SKIN,
    TOP,
    cloth_albedo,
    eye_albedo,
    hair_albedo,
    noise_pair,
    skin_albedo,
)

_CURVE_SIZE = 4096


def _curve() -> NDArray[np.uint8]:
    """sRGB bytes of linear values 0..2, highlights rolled off instead of clipped."""
    x = np.linspace(0, 2, _CURVE_SIZE)
    x = np.where(x < 0.8, x, 1.0 - 0.2 * np.exp(-(x - 0.8) / 0.2))
    x = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8)


_CURVE = _curve()


@njit(cache=True, error_model="numpy")
def _albedo(x, y, z, r, g, b, material, zone, look, soft):  # type: ignore[no-untyped-def]
    """Linear albedo of a rest point; (r, g, b) is its vertex paint."""
    axes, cloth, head = look
    if material == MOUTH or material == PROP:
        return r, g, b
    if material == SKIN:
        return skin_albedo(x, y, z, r, g, b, head)
    if material == EYE:
        return eye_albedo(x, y, z, head)
    if material == HAIR:
        return hair_albedo(x, y, z, head)
    if material == SHOES and y < cloth[2, 9]:
        sole = 0.55 if cloth[2, 8] < 0.5 else 0.03
        return sole, sole, sole
    return cloth_albedo(x, y, z, zone, axes, cloth[material - TOP], soft)


@njit(cache=True, error_model="numpy")
def _gloss(material):  # type: ignore[no-untyped-def]
    """Strength and sharpness, a power of two, of the highlight."""
    if material == EYE:
        return 0.8, 64
    if material == SKIN:
        return 0.05, 16
    if material == HAIR:
        return 0.10, 16
    if material == SHOES:
        return 0.06, 16
    if material == GLASSES:
        return 0.5, 32
    return 0.0, 1


@njit(cache=True, error_model="numpy")
def _lit(albedo, n, away, material, lit, light):  # type: ignore[no-untyped-def]
    """Colour of a surface under hemisphere and wrapped sun, with a highlight (Blinn)."""
    facing = n[0] * light[0, 0] + n[1] * light[0, 1] + n[2] * light[0, 2]
    wrap = 0.25 if material == SKIN else 0.1
    sun = max((facing + wrap) / (1 + wrap), 0.0) * lit
    shine = 0.0
    gloss, power = _gloss(material)
    if gloss > 0 and lit > 0:
        hx, hy, hz = light[0, 0] + away[0], light[0, 1] + away[1], light[0, 2] + away[2]
        half = (n[0] * hx + n[1] * hy + n[2] * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
        shine = max(half, 0.0)
        while power > 1:
            shine, power = shine * shine, power // 2
        shine *= gloss * lit
    up = 0.5 + 0.5 * n[1]
    # Skin scatters: the edge of its shadows is red, not grey.
    warm = 0.15 * max(0.0, 0.35 - abs(facing)) * lit if material == SKIN else 0.0
    red = light[3, 0] + up * (light[2, 0] - light[3, 0]) + (sun + warm) * light[1, 0]
    green = light[3, 1] + up * (light[2, 1] - light[3, 1]) + sun * light[1, 1]
    blue = light[3, 2] + up * (light[2, 2] - light[3, 2]) + sun * light[1, 2]
    return (
        albedo[0] * red + shine * light[1, 0],
        albedo[1] * green + shine * light[1, 1],
        albedo[2] * blue + shine * light[1, 2],
    )


@njit(cache=True, error_model="numpy", inline="always")
def _mix(vertices, first, i, j, k, a, b, c):  # type: ignore[no-untyped-def]
    """Barycentric mean of three columns from `first` on of three rows of [V, 12]."""
    return (
        a * vertices[i, first] + b * vertices[j, first] + c * vertices[k, first],
        a * vertices[i, first + 1] + b * vertices[j, first + 1] + c * vertices[k, first + 1],
        a * vertices[i, first + 2] + b * vertices[j, first + 2] + c * vertices[k, first + 2],
    )


@njit(cache=True, error_model="numpy")
def _face_normal(vertices, i, j, k):  # type: ignore[no-untyped-def]
    """Normal of a triangle, as long as twice its area."""
    ax, ay = vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1]
    bx, by = vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1]
    az, bz = vertices[j, 2] - vertices[i, 2], vertices[k, 2] - vertices[i, 2]
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@njit(cache=True, error_model="numpy")
def _shade(f, u, v, planes, faces, vertices, look, eye, light, light_view, shadow, soft):  # type: ignore[no-untyped-def]
    """Linear colour of face `f` at image point (u, v) of the supersampled picture."""
    a, b, c, _ = weights_at(planes, f, u, v)
    i, j, k, material = faces[f, 0], faces[f, 1], faces[f, 2], faces[f, 3]
    qx, qy, qz = _mix(vertices, 0, i, j, k, a, b, c)
    nx, ny, nz = _mix(vertices, 3, i, j, k, a, b, c)
    px, py, pz = _mix(vertices, 6, i, j, k, a, b, c)
    r, g, h = _mix(vertices, 9, i, j, k, a, b, c)
    vx, vy, vz = eye[0] - qx, eye[1] - qy, eye[2] - qz
    distance = math.sqrt(vx * vx + vy * vy + vz * vz)
    closer = 1.0 / distance
    vx, vy, vz = vx * closer, vy * closer, vz * closer
    if material == PROP:
        nx, ny, nz = _face_normal(vertices, i, j, k)
    elif material == TOP or material == BOTTOM:
        # Small folds: the cloth's normal leans with a noise that sticks to the cloth.
        lean, tilt = noise_pair(px * 13, py * 9, pz * 13)
        nx, ny = nx + 0.30 * (lean - 0.5), ny + 0.30 * (tilt - 0.5)
    elif material == HAIR and look[2][max(faces[f, 5], 0), 8, 0] > 0.5:
        # Curls catch the light on all sides.
        lean, tilt = noise_pair(px * 110, py * 110, pz * 110)
        nx, ny = nx + 1.8 * (lean - 0.5), ny + 1.8 * (tilt - 0.5)
    length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    # Skirts and hair curtains are seen from inside too.
    inside = nx * vx + ny * vy + nz * vz < -0.15 * length and material >= HAIR
    scale = (-1.0 if inside else 1.0) / length
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    lit = 1.0
    if shadow.shape[0] > 0:
        lit = shadow_at(
            qx + 0.012 * nx, qy + 0.012 * ny, qz + 0.012 * nz, light_view, shadow, 0.012
        )
    who = max(faces[f, 5], 0)
    own = (look[0][who], look[1][who], look[2][who])
    albedo = _albedo(px, py, pz, r, g, h, material, faces[f, 4], own, soft * distance)
    dim = 0.5 if inside else 1.0
    red, green, blue = _lit(albedo, (nx, ny, nz), (vx, vy, vz), material, lit, light)
    return red * dim, green * dim, blue * dim


@njit(cache=True, error_model="numpy")
def _cover(face, closeness, y, x, s, faces, masks, mask_y, mask_x):  # type: ignore[no-untyped-def]
    """Write one pixel of the masks; whether its sub-samples are one smooth piece, or empty.

    Returns:
        0: nothing is there; 1: all sub-samples show one smooth piece of one surface; 2: else.
    """
    f = face[y, x]
    one, near, far = f >= 0, closeness[y, x], closeness[y, x]
    material, zone, who = faces[f, 3], faces[f, 4], faces[f, 5]
    empty = 0
    for j in range(s):
        for i in range(s):
            other = face[y + j, x + i]
            if other < 0:
                one, empty = False, empty + 1
                continue
            near, far = max(near, closeness[y + j, x + i]), min(far, closeness[y + j, x + i])
            if faces[other, 3] != material or faces[other, 4] != zone or faces[other, 5] != who:
                one = False
    if empty == s * s:
        return 0
    if one and who >= 0:
        masks[who, mask_y, mask_x] = 255
    elif not one:
        _claim(face, faces, y, x, s, masks, mask_y, mask_x)
    # near and far hold 1 / z: the depths differ by less than 15 mm.
    return 1 if one and near - far < 0.015 * near * far else 2


@njit(cache=True, error_model="numpy")
def _claim(face, faces, y, x, s, masks, mask_y, mask_x):  # type: ignore[no-untyped-def]
    """Give a pixel of the masks [P, H, W], so far 0, to whom it belongs."""
    most, winner, covered = 0, -1, 0
    for p in range(masks.shape[0]):
        own = 0
        for j in range(s):
            for i in range(s):
                f = face[y + j, x + i]
                if f >= 0 and faces[f, 5] == p:
                    own += 1
        covered += own
        if own > most:
            most, winner = own, p
    if winner >= 0 and 2 * covered >= s * s:
        masks[winner, mask_y, mask_x] = 255


@njit(cache=True, error_model="numpy")
def _row_behind(backdrop, y, step, row):  # type: ignore[no-untyped-def]
    """Interpolate the coarse backdrop down to one row [w, 3] of the image."""
    v = y / step
    j = min(int(v), backdrop.shape[0] - 2)
    low = np.float32(v - j)
    for i in range(row.shape[0]):
        for c in range(3):
            row[i, c] = backdrop[j, i, c] + low * (backdrop[j + 1, i, c] - backdrop[j, i, c])


@njit(cache=True, error_model="numpy", inline="always")
def _behind(row, x, step):  # type: ignore[no-untyped-def]
    """Linear colour of the backdrop at a pixel of a row."""
    i = min(x // step, row.shape[0] - 2)
    t = np.float32(x - i * step) / np.float32(step)
    return (
        row[i, 0] + t * (row[i + 1, 0] - row[i, 0]),
        row[i, 1] + t * (row[i + 1, 1] - row[i, 1]),
        row[i, 2] + t * (row[i + 1, 2] - row[i, 2]),
    )


@njit(cache=True, error_model="numpy", inline="always")
def _encode(value, scale):  # type: ignore[no-untyped-def]
    return _CURVE[min(int(value * scale + 0.5), _CURVE_SIZE - 1)]


@njit(cache=True, parallel=True, error_model="numpy")
def compose(buffer, faces, vertices, look, camera, light, shadow, backdrop, image, masks):  # type: ignore[no-untyped-def]
    """Fill `image` [H, W, 3] and `masks` [P, H, W], which comes zeroed.

    Args:
        buffer: (face, closeness, planes, left, top, s) of the supersampled `FaceBuffer`, whose
            window is whole pixels.
        faces: [F, 6] three vertices, material, zone, owner.
        vertices: [V, 12] world point, world normal, rest point, paint.
        look: (axes, cloth, head) of the actors, [P, ...].
        camera: (eye [3], size of a pixel at one metre, metres).
        light: `Light.packed()`.
        shadow: (light view, closeness), empty for no shadows.
        backdrop: (linear colours [h, w, 3], step), one every `step` pixels.
    """
    face, closeness, planes, left, top, s = buffer
    eye, foot = camera
    light_view, depth = shadow
    behind, step = backdrop
    height, width = image.shape[:2]
    first, last = left // s, left // s + face.shape[1] // s
    highest, lowest = top // s, top // s + face.shape[0] // s
    plain = (_CURVE_SIZE - 1) / 2.0
    for y in prange(height):
        row = np.empty((behind.shape[1], 3), np.float32)
        _row_behind(behind, y, step, row)
        inside = highest <= y < lowest
        for x in range(width):
            kind = 0
            if inside and first <= x < last:
                kind = _cover(face, closeness, s * y - top, s * x - left, s, faces, masks, y, x)
            if kind == 0:
                r, g, b = _behind(row, x, step)
                image[y, x, 0] = _encode(r, plain)
                image[y, x, 1] = _encode(g, plain)
                image[y, x, 2] = _encode(b, plain)
                continue
            count = 1 if kind == 1 else s
            red, green, blue = 0.0, 0.0, 0.0
            for j in range(count):
                for i in range(count):
                    f = face[s * y - top + j, s * x - left + i]
                    if f >= 0:
                        u, v = s * x + i + 0.5, s * y + j + 0.5
                        r, g, b = _shade(
                            f,
                            u,
                            v,
                            planes,
                            faces,
                            vertices,
                            look,
                            eye,
                            light,
                            light_view,
                            depth,
                            foot,
                        )
                    else:
                        r, g, b = _behind(row, x, step)
                    red, green, blue = red + r, green + g, blue + b
            scale = plain / (count * count)
            image[y, x, 0] = _encode(red, scale)
            image[y, x, 1] = _encode(green, scale)
            image[y, x, 2] = _encode(blue, scale)

"""Per-pixel albedo and light, in numba: skin, eyes, cloth patterns, hair, sun, sky and shadows.

Colours inside are linear; the sRGB curve is applied once, when the sub-samples of a pixel have
been averaged. Distances are metres of the rest pose, so patterns stick to the cloth as it moves.
"""

import math

import numpy as np
from numba import njit

SKIN, EYE, MOUTH, HAIR, TOP, BOTTOM, SHOES = range(7)
GLASSES, HAT, PROP = 7, 8, 9
"""Values of `surfaces.Material` as plain integers, which numba needs."""
PLAIN, STRIPED, CHECKED, DOTTED, PRINTED = range(5)
"""Places of `appearance.PATTERNS`."""
CLOTH_FIELDS = 12
"""color (3), second color (3), pattern, period, phase, hem height, closure, logo height."""


@njit(cache=True, inline="always")
def hash01(x, y, z):  # type: ignore[no-untyped-def]
    """A number in 0..1 for three integers, the same on every machine."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263)
    h = h + np.uint32(z) * np.uint32(2147483647)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    return float((h ^ (h >> np.uint32(16))) & np.uint32(0xFFFF)) * (1.0 / 65535.0)


@njit(cache=True, inline="always")
def fract(x):  # type: ignore[no-untyped-def]
    """What is above the next lower whole number; much faster than `x % 1`."""
    return x - math.floor(x)


@njit(cache=True, error_model="numpy")
def noise(x, y, z):  # type: ignore[no-untyped-def]
    """Value noise in 0..1 with unit period, trilinear with smooth weights."""
    gx, gy, gz = math.floor(x), math.floor(y), math.floor(z)
    ix, iy, iz = int(gx), int(gy), int(gz)
    fx, fy, fz = x - gx, y - gy, z - gz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    near = (hash01(ix, iy, iz) * (1 - fx) + hash01(ix + 1, iy, iz) * fx) * (1 - fy)
    near += (hash01(ix, iy + 1, iz) * (1 - fx) + hash01(ix + 1, iy + 1, iz) * fx) * fy
    far = (hash01(ix, iy, iz + 1) * (1 - fx) + hash01(ix + 1, iy, iz + 1) * fx) * (1 - fy)
    far += (hash01(ix, iy + 1, iz + 1) * (1 - fx) + hash01(ix + 1, iy + 1, iz + 1) * fx) * fy
    return near * (1 - fz) + far * fz


@njit(cache=True, inline="always")
def _hash_pair(x, y, z):  # type: ignore[no-untyped-def]
    """Two numbers in 0..1 for three integers; numba's products of uint32 have 64 bits."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263)
    h = h + np.uint32(z) * np.uint32(2147483647)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = h ^ (h >> np.uint32(16))
    return (
        float(h & np.uint32(0xFFFF)) * (1.0 / 65535.0),
        float((h >> np.uint32(16)) & np.uint32(0xFFFF)) * (1.0 / 65535.0),
    )


@njit(cache=True, error_model="numpy")
def noise_pair(x, y, z):  # type: ignore[no-untyped-def]
    """Two independent value noises for the price of one; see `noise`."""
    gx, gy, gz = math.floor(x), math.floor(y), math.floor(z)
    ix, iy, iz = int(gx), int(gy), int(gz)
    fx, fy, fz = x - gx, y - gy, z - gz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    first, second = 0.0, 0.0
    for dz in range(2):
        wz = fz if dz else 1 - fz
        for dy in range(2):
            w = wz * (fy if dy else 1 - fy)
            a, b = _hash_pair(ix, iy + dy, iz + dz)
            c, d = _hash_pair(ix + 1, iy + dy, iz + dz)
            first += w * (a + fx * (c - a))
            second += w * (b + fx * (d - b))
    return first, second


@njit(cache=True, error_model="numpy")
def noise2(x, y):  # type: ignore[no-untyped-def]
    """Value noise in 0..1 with unit period in the plane."""
    gx, gy = math.floor(x), math.floor(y)
    ix, iy = int(gx), int(gy)
    fx, fy = x - gx, y - gy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    low = hash01(ix, iy, 7) * (1 - fx) + hash01(ix + 1, iy, 7) * fx
    high = hash01(ix, iy + 1, 7) * (1 - fx) + hash01(ix + 1, iy + 1, 7) * fx
    return low * (1 - fy) + high * fy


@njit(cache=True, inline="always")
def ramp(low, high, x):  # type: ignore[no-untyped-def]
    """0 below `low`, 1 above `high`, cubic in between."""
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, error_model="numpy")
def chart(x, y, z, zone, axes):  # type: ignore[no-untyped-def]
    """Cloth coordinates (around, along) in metres of a rest point: the zone's axis unrolled."""
    radius = axes[zone, 3]
    if zone == 1 or zone == 2:
        return math.atan2(y - axes[zone, 1], z - axes[zone, 2]) * radius, abs(x)
    return math.atan2(x - axes[zone, 0], z - axes[zone, 2]) * radius, y


@njit(cache=True, error_model="numpy")
def pattern_share(kind, u, v, period, phase, x, z, zone, soft):  # type: ignore[no-untyped-def]
    """How much of the second colour, 0..1, a pattern shows; `soft` is the edge blur in metres."""
    if kind == STRIPED:
        t = abs(fract(v / period + phase) - 0.5) * period
        return 1 - ramp(0.17 * period - soft, 0.17 * period + soft, t)
    if kind == CHECKED:
        s = abs(fract(u / period) - 0.5) * period
        t = abs(fract(v / period + phase) - 0.5) * period
        edge = 0.14 * period
        return 0.5 * (2 - ramp(edge - soft, edge + soft, s) - ramp(edge - soft, edge + soft, t))
    if kind == DOTTED:
        row = math.floor(v / period + phase)
        s = fract(u / period + fract(0.5 * row)) - 0.5
        t = fract(v / period + phase) - 0.5
        r = math.sqrt(s * s + t * t) * period
        return 1 - ramp(0.27 * period - soft, 0.27 * period + soft, r)
    return 0.0


@njit(cache=True, error_model="numpy")
def logo(x, y, soft):  # type: ignore[no-untyped-def]
    """A sun on the chest, a disc with twelve rays, 0..1: a print that is nobody's mark."""
    r = math.sqrt(x * x + y * y)
    disc = 1 - ramp(0.040 - soft, 0.040 + soft, r)
    beside = 0.083 * abs(math.sin(6 * math.atan2(y, x)) / 6)  # metres from the nearest ray's axis
    ray = 1 - ramp(0.008 - soft, 0.008 + soft, beside)
    return max(disc, ray * ramp(0.052 - soft, 0.052 + soft, r) * (1 - ramp(0.088, 0.092, r)))


@njit(cache=True, error_model="numpy")
def cloth_albedo(x, y, z, zone, axes, cloth, soft):  # type: ignore[no-untyped-def]
    """Albedo of woven cloth at a rest point: pattern, weave and a closure line on coats."""
    u, v = chart(x, y, z, zone, axes)
    kind = int(cloth[6])
    share = 0.0
    if kind == PRINTED:
        if zone == 0 and z > axes[0, 2]:
            share = logo(x, y - cloth[11], soft)
    elif kind != PLAIN:
        share = pattern_share(kind, u, v, cloth[7], cloth[8], x, z, zone, soft)
    tone = 0.97 + 0.06 * noise2(u * 45, v * 45)
    if soft < 0.004:
        tone *= 1 + 0.14 * (noise2(u * 260, v * 260) - 0.5) * min(1.0, 0.0015 / soft)
    if cloth[10] > 0.5 and zone == 0 and z > axes[0, 2]:
        tone *= 1 - 0.55 * (1 - ramp(0.0015, 0.004 + soft, abs(x - 0.012)))
        button = abs(fract(v / 0.11) - 0.5) * 0.11
        dot = math.sqrt(button * button + (x + 0.012) ** 2)
        tone *= 1 - 0.6 * (1 - ramp(0.007, 0.009 + soft, dot))
    # A darker seam where the cloth ends.
    tone *= 1 - 0.25 * (1 - ramp(0.010, 0.014 + soft, y - cloth[9]))
    return (
        (cloth[0] + share * (cloth[3] - cloth[0])) * tone,
        (cloth[1] + share * (cloth[4] - cloth[1])) * tone,
        (cloth[2] + share * (cloth[5] - cloth[2])) * tone,
    )


@njit(cache=True, error_model="numpy")
def hair_albedo(x, y, z, head):  # type: ignore[no-untyped-def]
    """Strands that run down from the crown with a band of sheen, or curls."""
    if head[8, 0] > 0.5:
        fine = noise2(x * 330 + z * 210, y * 330)
        shade = 0.38 + 0.9 * noise(x * 95, y * 95, z * 95) + 0.35 * (fine - 0.5)
    else:
        dx, dz = x - head[4, 0], z - head[4, 2]
        angle, away = math.atan2(dx, dz), math.sqrt(dx * dx + dz * dz)
        strand, fine = noise2(angle * 38, y * 11), noise2(angle * 120, y * 25)
        shade = 0.56 + 0.5 * strand + 0.34 * (fine - 0.5)
        # Light gathers where hair bends over from the crown to the sides.
        if y > head[4, 1] - 0.09:
            shade += 0.55 * ramp(0.045, 0.066, away) * (1 - ramp(0.070, 0.096, away)) * strand
    return head[3, 0] * shade, head[3, 1] * shade, head[3, 2] * shade


@njit(cache=True, error_model="numpy")
def eye_albedo(x, y, z, head):  # type: ignore[no-untyped-def]
    """White, iris with a dark rim and pupil, by the angle from the eye's rest axis (+z)."""
    radius, size = head[5, 0], head[5, 1]
    dx, dy, dz = abs(x) - head[0, 0], y - head[0, 1], z - head[0, 2]
    r = math.sqrt(dx * dx + dy * dy) / radius if dz > 0 else 1.0
    white = 0.80 - 0.18 * ramp(0.5, 0.95, r)
    t = ramp(size * 0.94, size * 1.06, r)
    inner = 1 - 0.55 * ramp(size * 0.7, size * 0.98, r)
    inner *= (0.75 + 0.5 * noise2(x * 900, y * 900)) * ramp(size * 0.40, size * 0.50, r) * (1 - t)
    # The upper lid shades the ball.
    shadow = 1 - 0.45 * ramp(0.1, 0.75, dy / radius)
    white, inner = white * t * shadow, inner * shadow
    return (
        head[2, 0] * inner + white,
        head[2, 1] * inner + white * 0.96,
        head[2, 2] * inner + white * 0.96,
    )


@njit(cache=True, error_model="numpy")
def wrinkles(dx, dy, radius):  # type: ignore[no-untyped-def]
    """How dark the lines of an old face are around an eye (dx outwards, dy up, metres), 0..1."""
    u, v = dx / radius, dy / radius
    # Lines across the forehead, crow's feet, bags under the eyes.
    line = abs(fract(v * 1.15 + 0.3 * noise2(u * 1.1 + 7, v * 0.4)) - 0.5)
    brow = 0.34 * (1 - ramp(0.05, 0.16, line)) * ramp(2.0, 2.5, v) * (1 - ramp(4.2, 4.8, v))
    foot = abs(fract(v * 1.5 - 0.45 * (u - 2.0) * v) - 0.5)
    crow = 0.34 * (1 - ramp(0.05, 0.2, foot)) * ramp(1.7, 2.0, u) * (1 - ramp(2.5, 3.1, u))
    crow *= 1 - ramp(0.7, 1.3, abs(v))
    under = abs(math.sqrt(u * u + (v + 0.1) * (v + 0.1) * 1.6) - 1.75)
    bag = 0.30 * (1 - ramp(0.08, 0.3, under)) * ramp(0.5, 1.0, -v)
    return max(brow, max(crow, bag))


@njit(cache=True, error_model="numpy")
def skin_albedo(x, y, z, r, g, b, head):  # type: ignore[no-untyped-def]
    """Painted vertex colour (r, g, b) with mottling, brows and lashes; see `ActorMesh.head`."""
    tone = 0.95 + 0.10 * noise2(x * 45 + z * 31, y * 45)
    dx, dy, dz = abs(x) - head[0, 0], y - head[0, 1], z - head[0, 2]
    if dz < -0.012 or abs(dy) > 0.06 or abs(dx) > 0.045:
        return r * tone, g * tone, b * tone
    radius = head[5, 0]
    if head[8, 1] > 0:
        tone *= 1 - head[8, 1] * wrinkles(dx, dy, radius)
    cover = 0.0
    # The brow: an arch that thins towards the temple.
    along = dx / (1.55 * radius)
    if -1 < along < 1.25:
        arch = head[6, 0] + radius * (0.22 - 0.32 * (along - 0.25) ** 2)
        width = head[6, 1] * (1.0 - 0.45 * max(along, -0.2))
        hairs = 0.75 + 0.5 * noise2(x * 700, y * 160)
        cover = (1 - ramp(width * 0.55, width * 1.1, abs(dy - arch))) * min(1.0, hairs)
        cover *= 0.88 * (1 - ramp(0.85, 1.25, along)) * ramp(-1.0, -0.75, along)
    # Lids darken towards the eye: lashes and the fold.
    lid = math.sqrt((dx / 1.25) ** 2 + (dy * 1.35) ** 2) / radius
    tone *= 1 - head[5, 2] * (1 - ramp(0.75, 1.35, lid))
    return (
        (r + cover * (head[7, 0] - r)) * tone,
        (g + cover * (head[7, 1] - g)) * tone,
        (b + cover * (head[7, 2] - b)) * tone,
    )


@njit(cache=True)
def cloth_sample(points, zones, axes, cloth):  # type: ignore[no-untyped-def]
    """Linear albedo [N, 3] of cloth at rest points [N, 3], unblurred."""
    out = np.empty((points.shape[0], 3))
    for i in range(points.shape[0]):
        x, y, z = points[i]
        out[i, 0], out[i, 1], out[i, 2] = cloth_albedo(x, y, z, zones[i], axes, cloth, 1e-4)
    return out

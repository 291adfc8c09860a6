"""Skin colour of every vertex: lips, lashes, cheeks, nose, ears, beards, the mouth's inside."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.synth.appearance import Look
from avatarmill.synth.garments import Figure
from avatarmill.synth.hair import hairline_level
from avatarmill.synth.surfaces import Float

_ROLL_LOWER = 39  # the facial action mouthRollLower
_BLINKS = (8, 9)  # the facial actions eyeBlinkLeft and eyeBlinkRight
_LASH = np.array([0.012, 0.009, 0.008])
_LIPS = (0.0255, 0.0092, 0.0108)  # half width, height of the upper and the lower lip, metres


def to_linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear RGB of sRGB, both 0..1."""
    linear: NDArray[np.float64] = np.where(
        rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )
    return linear


@lru_cache(maxsize=1)
def lower_lip(body: Body) -> NDArray[np.bool_]:
    """The vertices [V] of the lower lip that rolling it in moves most."""
    rolled = np.linalg.norm(body.exprdirs.numpy()[:, :, _ROLL_LOWER], axis=1)
    return np.asarray(rolled > 0.7 * rolled.max(), np.bool_)


@lru_cache(maxsize=1)
def lash_share(body: Body) -> Float:
    """How much of an upper lid's edge each vertex is, 0..1 [V]: blinking moves edges most."""
    share = np.zeros(body.num_vertices, np.float32)
    for action in _BLINKS:
        moved = np.linalg.norm(body.exprdirs.numpy()[:, :, action], axis=1)
        share = np.maximum(share, np.clip((moved / moved.max() - 0.62) / 0.2, 0, 1))
    return np.asarray(share * ~body.vertex_inner.numpy(), np.float32)


@lru_cache(maxsize=1)
def lip_share(body: Body) -> tuple[Float, NDArray[np.bool_]]:
    """How much of a lip each vertex is, 0..1 [V], and which lie behind the lips [V].

    The line between the lips is where the lower lip, which rolling in moves, ends; vertices keep
    their meaning over all body shapes, so the template decides.
    """
    template = body.template.numpy()
    lower = template[lower_lip(body)]
    line, front = lower[:, 1].max(), lower[:, 2].max()
    across = np.abs(template[:, 0]) / _LIPS[0]
    above = template[:, 1] - line
    bulge = 1 - np.clip(across, 0, 1) ** 2.2
    # Distance inside the outline, in metres; the upper lip dips in the middle.
    dip = 1 - 0.12 * np.exp(-((across / 0.12) ** 2))
    room = np.where(above > 0, _LIPS[1] * bulge * dip - above, _LIPS[2] * bulge + above)
    depth = front - 0.013 * np.clip(across, 0, 1.2) ** 2 - template[:, 2]
    near = (across < 1.15) & (np.abs(above) < 0.02) & (depth < 0.025)
    share = np.where(near, np.clip((room + 0.0012) / 0.0022, 0, 1), 0).astype(np.float32)
    behind = (across < 1.0) & (np.abs(above) < 0.03) & (depth > 0.009) & (depth < 0.06)
    return share, behind


def paint_skin(body: Body, figure: Figure, look: Look) -> Float:
    """Linear vertex colours [V, 3] of the bare body."""
    skin, lips = to_linear(look.skin), to_linear(look.lips)
    color = np.tile(skin, (len(figure.points), 1))
    flush = skin * [1.12, 0.86, 0.84]
    for centre, radius, amount in _flushes(figure):
        away = np.linalg.norm((figure.points - centre) / radius, axis=1)
        share = amount * np.clip(1 - away, 0, 1)[:, None] ** 0.7
        color += share * (flush - color)
    share, behind = lip_share(body)
    color += share[:, None] * (lips - color)
    if look.stubble:
        beard = look.stubble * _beard(figure)[:, None] * (1 - share[:, None])
        color += beard * (0.6 * to_linear(look.hair) + 0.1 * skin - color)
    color += 0.85 * lash_share(body)[:, None] * (_LASH - color)
    color[behind | body.vertex_inner.numpy()] = [0.16, 0.03, 0.03]
    if look.hair_style != "bald":
        # Hair thins out below its edge instead of ending like a cap.
        root = np.clip(1 + hairline_level(figure, figure.points) / 7, 0, 1)[:, None]
        color += 0.75 * root * (to_linear(look.hair) - color)
    return color.astype(np.float32)


def _beard(figure: Figure) -> Float:
    """Where a beard grows, 0..1 [V]: below nose and ears, around the mouth, above the throat."""
    eye, head = figure.joints[23], figure.joints[15]
    points = figure.points
    below = np.clip((eye[1] - 0.052 - points[:, 1]) / 0.012, 0, 1)
    # The upper edge falls from the ears to the corners of the mouth, and so does the lower one.
    cheek = np.clip((eye[1] - 0.036 - 0.35 * (points[:, 2] - head[2]) - points[:, 1]) / 0.02, 0, 1)
    front = np.clip((points[:, 2] - head[2] - 0.012) / 0.02, 0, 1)
    throat = np.clip((points[:, 1] - eye[1] + 0.140) / 0.02, 0, 1)
    return np.asarray(below * cheek * front * throat * 0.75, np.float32)


def _flushes(figure: Figure) -> list[tuple[Float, float, float]]:
    """Places with more blood (centre, radius in metres, amount): cheeks, nose, ears, knuckles."""
    eye = figure.joints[23]
    places = []
    for sign in (1, -1):
        mirror = np.array([sign, 1, 1], np.float32)
        places.append((((eye + [0.012, -0.042, 0.0]) * mirror), 0.036, 0.55))
        places.append((figure.joints[28 if sign > 0 else 43], 0.05, 0.35))
    nose = (eye * [0, 1, 1] + [0, -0.040, 0.035]).astype(np.float32)
    return [*places, (nose, 0.022, 0.5)]

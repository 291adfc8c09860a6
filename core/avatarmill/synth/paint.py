"""Skin colour of every vertex: lips, cheeks, nose, hands, ears, and the inside of the mouth."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.synth.appearance import Look
from avatarmill.synth.garments import Figure
from avatarmill.synth.surfaces import Float

_ROLL_LIPS = (39, 40)  # mouthRollLower, mouthRollUpper


def to_linear(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear RGB of sRGB, both 0..1."""
    linear: NDArray[np.float64] = np.where(
        rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
    )
    return linear


@lru_cache(maxsize=1)
def lip_share(body: Body) -> Float:
    """How much of a lip each vertex is, 0..1: what moves most when lips are rolled in, [V]."""
    rolled = np.linalg.norm(body.exprdirs.numpy()[:, :, _ROLL_LIPS], axis=1)
    share = (rolled / rolled.max(0)).max(1)
    return np.clip((share - 0.35) / 0.25, 0, 1).astype(np.float32)


def paint_skin(body: Body, figure: Figure, look: Look) -> Float:
    """Linear vertex colours [V, 3] of the bare body."""
    skin, lips = to_linear(look.skin), to_linear(look.lips)
    color = np.tile(skin, (len(figure.points), 1))
    flush = skin * [1.12, 0.86, 0.84]
    for centre, radius, amount in _flushes(figure):
        away = np.linalg.norm((figure.points - centre) / radius, axis=1)
        share = amount * np.clip(1 - away, 0, 1)[:, None] ** 0.7
        color += share * (flush - color)
    share = lip_share(body)[:, None]
    color += share * (lips - color)
    inner = body.vertex_inner.numpy()
    color[inner] = [0.22, 0.05, 0.05]
    return color.astype(np.float32)


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

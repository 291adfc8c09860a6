"""The upper teeth, which the body mesh lacks."""

import numpy as np

from avatarmill.avatar.body import Body
from avatarmill.synth.garments import HEAD, Figure
from avatarmill.synth.paint import lower_lip
from avatarmill.synth.surfaces import Material, Surface, Zone, loft

ENAMEL = (0.60, 0.55, 0.46)
"""Linear albedo of teeth."""
_HALF = 0.019  # metres from the middle to the last tooth that shows
_BEHIND = 0.0105  # metres from the front of the lips back to the front teeth


def teeth(body: Body, figure: Figure) -> Surface:
    """The upper row of teeth behind the lips: an arch that an open mouth shows."""
    lip = figure.points[lower_lip(body)]
    line, front = float(lip[:, 1].max()), float(lip[:, 2].max())
    x = np.linspace(-_HALF, _HALF, 33)
    # Four teeth a side: each bulges a little, gaps lie between.
    bulge = 0.0007 * np.abs(np.cos(np.pi * x / 0.0075))
    depth = front - _BEHIND - 26.0 * x**2 + bulge
    height = line + np.array([-0.0012, -0.0008, 0.004, 0.008])
    back = np.array([-0.0015, 0.0, 0.0003, -0.001])
    rings = np.stack(
        [
            np.broadcast_to(x, (4, 33)),
            np.broadcast_to(height[:, None], (4, 33)),
            depth + back[:, None],
        ],
        axis=-1,
    )
    points, faces = loft(rings.astype(np.float32), closed=False)
    weights = np.zeros((len(points), 55), np.float32)
    weights[:, HEAD] = 1
    return Surface(
        points, weights, faces, Material.MOUTH, np.full(len(faces), Zone.TRUNK, np.uint8)
    )

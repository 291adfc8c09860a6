"""Scores of the pixels of one person: blur and exposure."""

import cv2
import numpy as np

from avatarmill.pipeline.types import Bytes

_SHARPNESS_SIDE = 192
"""Side the person's box is shrunk to before blur is measured, so that size does not count."""
_WHITE = 252
"""Byte from which all channels of a burnt-out pixel are."""

Box = tuple[int, int, int, int]


def sharpness(image: Bytes, box: Box) -> float:
    """Energy of the Laplacian over the variance of the picture, inside a box x0, y0, x1, y1.

    The box is shrunk (never enlarged) to a common size first. 0 where the box is empty.
    """
    part = _part(image, box)
    if min(part.shape[:2]) < 8:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = _SHARPNESS_SIDE / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 25.0))


def brightness(image: Bytes, box: Box) -> float:
    """0..1: what the lightest twentieth of a box reaches in its strongest channel.

    Black clothes in a lit room are beside something lighter; in an underexposed frame nothing is.
    """
    part = _part(image, box)
    return float(np.percentile(part.max(-1), 95)) / 255 if part.size else 0.0


def clipped_share(image: Bytes, mask: Bytes) -> float:
    """Share of the masked pixels that are burnt out; 0 where the mask is empty."""
    person = mask > 127
    return float((image.min(-1)[person] >= _WHITE).mean()) if person.any() else 0.0


def _part(image: Bytes, box: Box) -> Bytes:
    x0, y0, x1, y1 = box
    return image[y0:y1, x0:x1]

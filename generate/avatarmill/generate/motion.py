"""Motions that drive an avatar: SMPL-X axis-angles from AMASS files, or the walk we ship."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.body import NUM_EXPRESSION, NUM_JOINTS, BodyParams
from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle

WALK = Path(__file__).parent / "data" / "walk.npz"
"""Two strides of procedural gait, made by scripts/make_walk_motion.py."""

UpAxis = Literal["y", "z"]

_BODY_JOINTS = 22
_HAND_JOINTS = 30
_FACE_JOINTS = 3
"""Jaw and eyes, which SMPL+H files do not have."""

# x to the right, z up  ->  x to the right, y up.
_Z_UP_TO_Y_UP = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, slots=True)
class Motion:
    """F frames in the world: metres, y up."""

    pose: Tensor
    """[F, 55, 3] axis-angle; joint 0 turns the body about its pelvis."""
    translation: Tensor
    """[F, 3]."""
    expression: Tensor
    """[F, 52]."""
    fps: float

    def __post_init__(self) -> None:
        num = len(self.pose)
        expected = ((NUM_JOINTS, 3), (3,), (NUM_EXPRESSION,))
        for value, tail in zip(
            (self.pose, self.translation, self.expression), expected, strict=True
        ):
            if value.shape != (num, *tail):
                raise ValueError(f"expected {[num, *tail]} in a motion, got {list(value.shape)}")
        if num == 0 or not self.fps > 0:
            raise ValueError(f"a motion needs frames and a rate, got {num} at {self.fps} fps")

    def __len__(self) -> int:
        return len(self.pose)

    def params(self, frame: int, shape: Tensor) -> BodyParams:
        """Unbatched body parameters of one frame for a body of `shape` [20]."""
        return BodyParams(self.pose[frame], shape, self.expression[frame], self.translation[frame])

    def at_most(self, fps: float, seconds: float) -> "Motion":
        """Every k-th frame so that the rate is at most `fps`, cut to `seconds`."""
        step = max(1, math.ceil(self.fps / fps - 1e-6))
        stop = max(1, round(seconds * self.fps))
        keep = slice(0, stop, step)
        return Motion(
            self.pose[keep], self.translation[keep], self.expression[keep], self.fps / step
        )


def load_motion(path: Path) -> Motion:
    """Read an AMASS-style motion file as it stands; see `upright` for a z-up world.

    It holds `poses` [F, 165] (SMPL-X) or [F, 156] (SMPL+H), `trans` [F, 3], `mocap_framerate` (or
    `mocap_frame_rate`) and, in our own files, `expression` [F, 52]. Arrays are never unpickled.

    Raises:
        ValueError: missing arrays, wrong widths, or values that are not finite.
    """
    with np.load(path, allow_pickle=False) as file:
        names = set(file.files)
        rate = next((n for n in ("mocap_framerate", "mocap_frame_rate") if n in names), None)
        if rate is None or not {"poses", "trans"} <= names:
            raise ValueError(
                f"{path.name} holds {', '.join(sorted(names))}; a motion needs poses, trans "
                "and mocap_framerate (AMASS)"
            )
        poses, trans, fps = _floats(file["poses"]), _floats(file["trans"]), float(file[rate])
        face = _floats(file["expression"]) if "expression" in names else None
    if not (np.isfinite(poses).all() and np.isfinite(trans).all()):
        raise ValueError(f"{path.name} holds values that are not finite")
    still = torch.zeros(len(poses), NUM_EXPRESSION)
    expression = still if face is None else torch.from_numpy(face)
    return Motion(_full_pose(poses, path), torch.from_numpy(trans), expression, fps)


def _floats(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _full_pose(poses: NDArray[np.float32], path: Path) -> Tensor:
    """[F, 165] or [F, 156] -> [F, 55, 3]; a SMPL+H file gets a still jaw and still eyes."""
    without_face = 3 * (_BODY_JOINTS + _HAND_JOINTS)
    width = poses.shape[-1]
    if poses.ndim != 2 or width not in (3 * NUM_JOINTS, without_face):
        raise ValueError(
            f"{path.name} holds poses {list(poses.shape)}, expected [F, 165] (SMPL-X) or "
            "[F, 156] (SMPL+H)"
        )
    pose = torch.from_numpy(poses).reshape(len(poses), -1, 3)
    if width == without_face:
        still = torch.zeros(len(poses), _FACE_JOINTS, 3)
        pose = torch.cat([pose[:, :_BODY_JOINTS], still, pose[:, _BODY_JOINTS:]], dim=1)
    return pose


def upright(motion: Motion, pelvis: Tensor) -> Motion:
    """A z-up motion (AMASS) in our y-up world: x stays, z becomes y, -y becomes z.

    `pelvis` [3] is the rest position of joint 0 of the body to be driven: the root turns about
    it, not about the origin. With W the change of axes,
    W (R (v - p) + p + t) = W R (v - p) + p + t'  for  t' = W (p + t) - p.
    """
    turn = _Z_UP_TO_Y_UP
    root = matrix_to_axis_angle(turn @ axis_angle_to_matrix(motion.pose[:, 0]))
    pose = torch.cat([root[:, None], motion.pose[:, 1:]], dim=1)
    translation = (pelvis + motion.translation) @ turn.T - pelvis
    return Motion(pose, translation, motion.expression, motion.fps)


def relaxed_pose() -> BodyParams:
    """Standing at the origin with the arms hanging at a slant: the pose of turntables."""
    params = BodyParams.rest(())
    slant = math.radians(52.0)
    # The left arm lies along +x: turning it about z by a negative angle lowers it.
    params.pose[16, 2], params.pose[17, 2] = -slant, slant
    params.pose[18, 1], params.pose[19, 1] = -0.25, 0.25
    return params

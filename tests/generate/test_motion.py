"""Motions: AMASS files stand upright and move the limbs that they name."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.avatar.body import JOINT_NAMES, Body, BodyParams, load_body
from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.generate.motion import WALK, Motion, load_motion, relaxed_pose, upright

NUM_FRAMES = 5
SHAPE = torch.zeros(20)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def joint(name: str) -> int:
    return JOINT_NAMES.index(name)


def pelvis(body: Body) -> torch.Tensor:
    rest: torch.Tensor = body.rest(SHAPE, torch.zeros(52))[1][0]
    return rest


def amass_file(
    path: Path, turns: dict[str, tuple[float, float, float]] | None = None, *, width: int = 165
) -> Path:
    """An AMASS-style file: a person standing in the z-up world, facing -y, plus joint turns."""
    pose = np.zeros((NUM_FRAMES, 55, 3))
    pose[:, 0] = (math.pi / 2, 0.0, 0.0)
    for name, turn in (turns or {}).items():
        pose[:, joint(name)] = turn
    if width == 156:
        pose = np.delete(pose, [22, 23, 24], axis=1)
    trans = np.zeros((NUM_FRAMES, 3))
    trans[:, 1] = -np.arange(NUM_FRAMES) * 0.1  # walking forward
    flat, rate = pose.reshape(NUM_FRAMES, -1), np.float64(120.0)
    np.savez(path, poses=flat, trans=trans, mocap_framerate=rate, gender=np.array("neutral"))
    return path


def joints_of(body: Body, motion: Motion, frame: int = 0) -> torch.Tensor:
    found: torch.Tensor = body.transforms(motion.params(frame, SHAPE))[0]
    return found


@pytest.mark.parametrize("width", [165, 156])
def test_amass_motion_stands_upright_and_walks_forward(
    body: Body, tmp_path: Path, width: int
) -> None:
    motion = upright(load_motion(amass_file(tmp_path / "a.npz", width=width)), pelvis(body))
    at = joints_of(body, motion)
    assert at[joint("head"), 1] > at[joint("pelvis"), 1] + 0.4 > at[joint("left_foot"), 1] + 1.0
    assert at[joint("left_wrist"), 0] > 0.4 > -0.4 > at[joint("right_wrist"), 0]
    assert at[joint("left_foot"), 2] > at[joint("left_ankle"), 2], "toes point to +z"
    step = joints_of(body, motion, 4) - at
    torch.testing.assert_close(step, torch.tensor([0.0, 0.0, 0.4]).expand(55, 3), atol=1e-5, rtol=0)
    assert motion.fps == 120.0


def test_turning_the_world_is_exact(body: Body, tmp_path: Path) -> None:
    """Every joint of the upright motion is the z-up joint with its axes renamed."""
    raw = load_motion(amass_file(tmp_path / "a.npz", {"left_elbow": (0.0, -1.0, 0.3)}))
    turned = upright(raw, pelvis(body))
    before, after = joints_of(body, raw, 3), joints_of(body, turned, 3)
    renamed = torch.stack([before[:, 0], before[:, 2], -before[:, 1]], dim=-1)
    torch.testing.assert_close(after, renamed, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_the_named_arm_rises(body: Body, tmp_path: Path, side: str, sign: float) -> None:
    lift = {f"{side}_shoulder": (0.0, 0.0, sign * 1.2)}
    motion = upright(load_motion(amass_file(tmp_path / "a.npz", lift)), pelvis(body))
    at, other = joints_of(body, motion), "right" if side == "left" else "left"
    assert at[joint(f"{side}_wrist"), 1] > at[joint(f"{side}_shoulder"), 1] + 0.3
    assert abs(at[joint(f"{other}_wrist"), 1] - at[joint(f"{other}_shoulder"), 1]) < 0.15


def test_fingers_of_a_hand_file_move_that_hand(body: Body, tmp_path: Path) -> None:
    """SMPL+H has no jaw and eyes: its hands sit three joints earlier."""
    curl = {"left_index1": (0.0, 0.0, -1.2)}
    plain = load_motion(amass_file(tmp_path / "a.npz", width=156))
    bent = load_motion(amass_file(tmp_path / "b.npz", curl, width=156))
    moved = (joints_of(body, bent) - joints_of(body, plain)).norm(dim=-1) > 1e-3
    assert {JOINT_NAMES[i] for i in moved.nonzero()[:, 0].tolist()} == {
        "left_index2",
        "left_index3",
    }


def test_shipped_walk_is_upright_and_alternates(body: Body) -> None:
    motion = load_motion(WALK)
    at = torch.stack([joints_of(body, motion, frame) for frame in range(len(motion))])
    assert (at[:, joint("head"), 1] > at[:, joint("pelvis"), 1] + 0.4).all()
    lead = at[:, joint("left_ankle"), 2] - at[:, joint("right_ankle"), 2]
    assert lead.max() > 0.15 and lead.min() < -0.15, "both feet lead in turn"
    assert motion.translation[-1, 2] - motion.translation[0, 2] > 1.0


def test_motion_is_thinned_and_cut() -> None:
    motion = load_motion(WALK)
    short = motion.at_most(12.0, 1.0)
    assert short.fps == 12.0 and len(short) == 12
    torch.testing.assert_close(short.pose[1], motion.pose[2])
    assert len(motion.at_most(1000.0, 1000.0)) == len(motion)


def test_relaxed_arms_hang(body: Body) -> None:
    at = body.transforms(relaxed_pose())[0]
    for side, sign in (("left", 1), ("right", -1)):
        wrist, shoulder = at[joint(f"{side}_wrist")], at[joint(f"{side}_shoulder")]
        assert wrist[1] < shoulder[1] - 0.25 and sign * wrist[0] > sign * shoulder[0]


def test_root_turns_compose() -> None:
    turn = torch.tensor([[0.3, -0.8, 0.5]])
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(turn)), turn)


def test_other_widths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "smpl.npz"
    np.savez(path, poses=np.zeros((3, 72)), trans=np.zeros((3, 3)), mocap_framerate=30.0)
    with pytest.raises(ValueError, match=r"poses \[3, 72\], expected \[F, 165\]"):
        load_motion(path)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", joints=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds joints; a motion needs poses, trans"):
        load_motion(tmp_path / "x.npz")


def test_nan_is_refused(tmp_path: Path) -> None:
    path = amass_file(tmp_path / "a.npz", {"head": (math.nan, 0.0, 0.0)})
    with pytest.raises(ValueError, match="values that are not finite"):
        load_motion(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(path, poses=objects, trans=np.zeros((1, 3)), mocap_framerate=30.0)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_motion(path)


def test_wrong_shapes_do_not_make_a_motion() -> None:
    rest = BodyParams.rest(4)
    with pytest.raises(ValueError, match=r"expected \[4, 3\] in a motion, got \[3, 3\]"):
        Motion(rest.pose, torch.zeros(3, 3), rest.expression, 30.0)
    with pytest.raises(ValueError, match="a motion needs frames and a rate"):
        Motion(rest.pose, rest.translation, rest.expression, 0.0)

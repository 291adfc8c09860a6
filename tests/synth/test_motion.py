"""Procedural motion: planted feet, joint limits, arms that hang."""

from typing import get_args

import numpy as np
import pytest
import torch

from avatarmill.avatar.body import BodyParams
from avatarmill.synth.actor import Actor, free_body, sample_actor
from avatarmill.synth.motion import Motion, MotionKind, sample_motion, walk_between

KINDS = get_args(MotionKind)


@pytest.fixture(scope="module")
def actor() -> Actor:
    return sample_actor(np.random.default_rng(5))


def joints_of(actor: Actor, motion: Motion) -> np.ndarray:
    """World joints [F, 55, 3]."""
    frames = len(motion.pose)
    params = BodyParams(
        torch.from_numpy(motion.pose),
        torch.from_numpy(actor.shape).expand(frames, -1),
        torch.from_numpy(motion.expression),
        torch.from_numpy(motion.translation),
    )
    joints, _ = free_body().transforms(params)
    return joints.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_planted_feet_do_not_slide(actor: Actor, kind: MotionKind, seed: int) -> None:
    motion = sample_motion(np.random.default_rng(seed), 90, 30, kind, actor.skeleton)
    joints = joints_of(actor, motion)
    for side, ball in enumerate((10, 11)):
        held = motion.planted[1:, side] & motion.planted[:-1, side]
        step = np.linalg.norm(np.diff(joints[:, ball], axis=0), axis=1)
        assert held.any()
        # Millimetres a frame; the floor is what float32 parameters can say.
        assert 1000 * step[held].max() < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_feet_stay_on_or_above_the_ground(actor: Actor, kind: MotionKind) -> None:
    motion = sample_motion(np.random.default_rng(1), 90, 30, kind, actor.skeleton)
    joints = joints_of(actor, motion)
    rest = actor.skeleton.joints[[10, 11], 1] - actor.skeleton.sole
    assert (joints[:, [10, 11], 1] - rest).min() > -0.03
    assert np.abs((joints[:, [10, 11], 1] - rest)[motion.planted]).max() < 1e-3


def test_walkers_move_forward_and_swing_their_arms_against_their_legs(actor: Actor) -> None:
    motion = sample_motion(np.random.default_rng(3), 120, 30, "walk", actor.skeleton, lively=0)
    joints = joints_of(actor, motion)
    way = np.linalg.norm(joints[-1, 0] - joints[0, 0])
    assert 1.5 < way < 7.0
    heading = np.diff(joints[:, 0], axis=0).mean(0)
    heading /= np.linalg.norm(heading)
    feet = (joints[:, 7] - joints[:, 8]) @ heading
    hands = (joints[:, 20] - joints[:, 21]) @ heading
    assert np.corrcoef(feet, hands)[0, 1] < -0.5


@pytest.mark.parametrize("kind", ["walk", "idle"])
def test_arms_mostly_hang(actor: Actor, kind: MotionKind) -> None:
    below = []
    for seed in range(6):
        motion = sample_motion(np.random.default_rng(seed), 60, 30, kind, actor.skeleton)
        joints = joints_of(actor, motion)
        below.append(joints[:, [18, 19], 1] < joints[:, [16, 17], 1] - 0.1)
    assert np.mean(below) > 0.8


def test_knees_and_elbows_bend_the_right_way_only(actor: Actor) -> None:
    for seed, kind in enumerate(KINDS):
        motion = sample_motion(np.random.default_rng(seed), 60, 30, kind, actor.skeleton)
        knees, left, right = motion.pose[:, [4, 5]], motion.pose[:, 18], motion.pose[:, 19]
        assert knees[..., 0].min() > -0.02 and knees[..., 0].max() < 2.4
        assert np.abs(knees[..., 1:]).max() == 0
        assert left[:, 1].max() < 0 < right[:, 1].min()
        assert 0 <= motion.expression.min() and motion.expression.max() <= 1


def test_motion_is_smooth_and_seeded(actor: Actor) -> None:
    first, again = (
        sample_motion(np.random.default_rng(8), 60, 30, "gesture", actor.skeleton) for _ in range(2)
    )
    np.testing.assert_array_equal(first.pose, again.pose)
    np.testing.assert_array_equal(first.translation, again.translation)
    joints = joints_of(actor, first)
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 30
    assert speed.max() < 8  # metres a second, of a fingertip in the liveliest wave


def test_placing_is_a_rigid_move_of_all_joints(actor: Actor) -> None:
    motion = sample_motion(np.random.default_rng(8), 20, 30, "walk", actor.skeleton)
    before, after = joints_of(actor, motion), joints_of(actor, motion.placed(1.5, -2.0, 2.2))
    c, s = np.cos(2.2), np.sin(2.2)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    np.testing.assert_allclose(after, before @ turn.T + [1.5, 0, -2.0], atol=2e-6)
    np.testing.assert_allclose(turn @ [0, 0, 1], [np.sin(2.2), 0, np.cos(2.2)])


def test_a_walk_between_two_places_starts_and_stops_there(actor: Actor) -> None:
    start, stop = (-1.8, 0.4), (1.6, 1.1)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        motion = walk_between(rng, 91, 30, actor.skeleton, start, stop)
        pelvis = motion.translation + actor.skeleton.joints[0]
        np.testing.assert_allclose(pelvis[[0, -1]][:, [0, 2]], [start, stop], atol=0.06)


def test_bad_requests_are_refused(actor: Actor) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="kind 'fly' is not one of walk"):
        sample_motion(rng, 10, 30, "fly", actor.skeleton)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_frames 0 must be >= 1"):
        sample_motion(rng, 0, 30, "walk", actor.skeleton)
    with pytest.raises(ValueError, match="must be above 0 and at most 2.2"):
        walk_between(rng, 31, 30, actor.skeleton, (0, 0), (5, 0))
    with pytest.raises(ValueError, match="num_frames 1 must be >= 2"):
        walk_between(rng, 1, 30, actor.skeleton, (0, 0), (1, 0))
    with pytest.raises(ValueError, match="do not fit"):
        zeros = np.zeros((2, 3), np.float32)
        Motion(zeros, zeros, zeros, zeros > 1, 30.0, np.zeros(3))

"""Procedural motion: planted feet, joint limits, arms that hang."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatarmill.avatar.body import JOINT_NAMES, BodyParams
from avatarmill.synth.actor import Actor, figure_of, free_body, sample_actor
from avatarmill.synth.gait import Skeleton
from avatarmill.synth.gestures import measure_girth
from avatarmill.synth.limits import clamp_joint, excess_degrees, soft_clamp
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


def slim(scale: float) -> Skeleton:
    """The average skeleton at another size."""
    _, joints = free_body().rest(torch.zeros(20), torch.zeros(52))
    return Skeleton(joints.double().numpy() * scale, -1.3 * scale)


SIZES = [slim(scale) for scale in (1.0, 0.75, 1.12)]


def chain(skeleton: Skeleton, motion: Motion) -> np.ndarray:
    """World joints [F, 55, 3] by forward kinematics in double precision."""
    places = np.zeros((len(motion.pose), 55, 3))
    turns: list[Rotation] = []
    for joint, parent in enumerate(free_body().parents):
        local = Rotation.from_rotvec(motion.pose[:, joint].astype(np.float64))
        if parent < 0:
            turns.append(local)
            places[:, 0] = motion.translation + skeleton.joints[0]
            continue
        bone = skeleton.joints[joint] - skeleton.joints[parent]
        places[:, joint] = places[:, parent] + turns[parent].apply(bone)
        turns.append(turns[parent] * local)
    return places


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
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


@pytest.mark.parametrize("seed", range(50))
def test_fifty_walks_never_slide(seed: int) -> None:
    rng = np.random.default_rng([seed, 50])
    kind: MotionKind = ("walk", "turn", "pause")[seed % 3]
    walker = SIZES[seed % len(SIZES)]
    motion = sample_motion(rng, 75, 25, kind, walker)
    for side, ball in enumerate((10, 11)):
        held = motion.planted[:, side]
        place = chain(walker, motion)[:, ball]
        stances = np.split(np.arange(len(held)), np.flatnonzero(np.diff(held)) + 1)
        for stance in stances:
            if held[stance[0]]:
                drift = np.linalg.norm(place[stance] - place[stance[0]], axis=1)
                assert 1000 * drift.max() < 2.0  # over the whole stance, so each frame too


@pytest.mark.parametrize("kind", KINDS)
def test_no_joint_leaves_its_limits_or_jumps(kind: MotionKind) -> None:
    for seed in range(6):
        rng = np.random.default_rng([seed, 51])
        motion = sample_motion(rng, 60, 30, kind, SIZES[seed % len(SIZES)])
        excess = excess_degrees(motion.pose)
        worst = np.unravel_index(excess.argmax(), excess.shape)
        assert excess.max() < 0.5, (JOINT_NAMES[worst[1]], worst[0], excess.max())
        turns = [Rotation.from_rotvec(motion.pose[:, joint]) for joint in range(55)]
        spin = np.stack([30 * (r[1:] * r[:-1].inv()).as_rotvec() for r in turns], axis=1)
        jerk = 30 * np.linalg.norm(np.diff(spin, axis=0), axis=-1)
        body = np.arange(55) < 22
        # Radians a second squared: legs that strike, then fingers, then eyes that jump.
        assert jerk[:, body].max() < 700 and jerk[:, 25:].max() < 150
        assert jerk[:, 23:25].max() < 700


@pytest.mark.parametrize("kind", KINDS)
def test_arms_stay_out_of_the_trunk(kind: MotionKind) -> None:
    inside = []
    for seed in range(4):
        rng = np.random.default_rng([seed, 52])
        shape = rng.normal(0, 1, 20).clip(-2, 2).astype(np.float32)
        figure = figure_of(free_body(), shape)
        girth = measure_girth(figure.points, figure.weights, figure.joints)
        skeleton = Skeleton(figure.joints.astype(np.float64), figure.sole, girth)
        motion = sample_motion(rng, 50, 10, kind, skeleton)
        joints = chain(skeleton, motion)
        for elbow, wrist in ((18, 20), (19, 21)):
            forearm = np.stack([joints[:, elbow], joints[:, [elbow, wrist]].mean(1)], axis=1)
            points = np.concatenate([forearm, joints[:, None, wrist]], axis=1)
            inside.append(depth_in_trunk(points, motion, skeleton))
    # Metres that an arm's axis is inside an upright trunk's surface.
    assert np.concatenate(inside).max() < 0.01


def depth_in_trunk(points: np.ndarray, motion: Motion, skeleton: Skeleton) -> np.ndarray:
    """Depth [F] in metres of the deepest of `points` [F, K, 3] below the skin of the chest."""
    girth = skeleton.girth
    assert girth is not None
    turn = Rotation.from_rotvec(motion.pose[:, 0])
    for joint in (3, 6, 9):
        turn = turn * Rotation.from_rotvec(motion.pose[:, joint])
    chest = chain(skeleton, motion)[:, 9]
    local = np.stack([turn.inv().apply(points[:, k] - chest) for k in range(3)], axis=1)
    local += skeleton.joints[9]
    height = local[..., 1]
    middle, wide, deep = (np.interp(height, girth[:, 0], girth[:, k]) for k in (1, 2, 3))
    share = np.hypot(local[..., 0] / wide, (local[..., 2] - middle) / deep)
    belly = (height > skeleton.joints[3, 1]) & (height < girth[-1, 0])
    return np.asarray(np.where(belly, (1 - share) * np.minimum(wide, deep), -1).max(1))


def test_a_pause_has_standing_and_walking(actor: Actor) -> None:
    motion = sample_motion(np.random.default_rng(4), 150, 30, "pause", actor.skeleton)
    pelvis = joints_of(actor, motion)[:, 0]
    speed = 30 * np.linalg.norm(np.diff(pelvis[:, [0, 2]], axis=0), axis=1)
    assert speed.min() < 0.05 and speed.max() > 0.6
    assert motion.planted[speed.argmin()].all()


def test_joggers_fly_and_walkers_do_not(actor: Actor) -> None:
    cases: tuple[tuple[MotionKind, bool], ...] = (("jog", True), ("walk", False))
    for kind, flies in cases:
        motion = sample_motion(np.random.default_rng(2), 120, 60, kind, actor.skeleton)
        joints = joints_of(actor, motion)
        rest = actor.skeleton.joints[[7, 8, 10, 11], 1] - actor.skeleton.sole
        lifted = (joints[:, [7, 8, 10, 11], 1] - rest > 0.015).reshape(-1, 4).all(axis=1)
        assert lifted.any() == flies


def test_heads_keep_still_while_bodies_walk(actor: Actor) -> None:
    motion = sample_motion(np.random.default_rng(6), 120, 30, "walk", actor.skeleton)
    world = Rotation.from_rotvec(motion.pose[:, 0])
    pelvis = world.as_euler("YXZ", degrees=True)
    for joint in (3, 6, 9, 12, 15):
        world = world * Rotation.from_rotvec(motion.pose[:, joint])
    head = world.as_euler("YXZ", degrees=True)
    fast = [np.abs(np.diff(turn[:, 2], 2)).mean() for turn in (head, pelvis)]
    assert fast[0] < 0.3 * fast[1]


def test_hands_and_faces_use_their_whole_range() -> None:
    poses, actions = [], []
    for seed in range(12):
        rng = np.random.default_rng([seed, 53])
        motion = sample_motion(rng, 120, 10, "dance", SIZES[0])
        poses.append(motion.pose[:, 25:])
        actions.append(motion.expression)
    pose, action = np.concatenate(poses), np.concatenate(actions)
    assert (np.ptp(pose, axis=0).max(-1) > np.radians(15)).all()
    assert (action.max(0) > [0.0 if k == 26 else 0.1 for k in range(52)]).all()
    assert action.min() >= 0 and action.max() <= 1
    blinks = (action[:, 8] > 0.8).mean()
    assert 0.005 < blinks < 0.12


def test_soft_limits_leave_the_middle_alone() -> None:
    values = np.linspace(-200, 200, 801)
    clamped = soft_clamp(values, -40.0, 60.0)
    assert -40 <= clamped.min() and clamped.max() <= 60
    assert (np.diff(clamped) >= 0).all()
    middle = (values > -25) & (values < 45)
    np.testing.assert_allclose(clamped[middle], values[middle])
    bent = clamp_joint(np.radians([[120.0, 30, 0]]), 12)
    assert excess_degrees(np.concatenate([np.zeros((1, 12, 3)), bent[None]], axis=1)).max() == 0
    wild = np.zeros((1, 55, 3))
    wild[0, 4, 0], wild[0, 16, 1] = -0.5, np.pi / 2
    np.testing.assert_allclose(excess_degrees(wild)[0, [4, 16]], [28.65 - 5, 30], atol=0.1)
    with pytest.raises(ValueError, match="left_shoulder has no row"):
        clamp_joint(np.zeros((1, 3)), 16)


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

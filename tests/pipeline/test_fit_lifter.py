"""The correction of bone directions, and the measures a fit is held against."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatarmill.avatar.body import load_body
from avatarmill.pipeline.fit_landmarks import NUM_BODY, point_model
from avatarmill.pipeline.fit_lifter import PARENTS, lifter_features, load_lifter, unit
from avatarmill.pipeline.fit_truth import (
    acceleration,
    aligned_errors_mm,
    body_joints,
    body_params,
    joints_from_landmarks,
    true_landmarks,
    turned_degrees,
)

Array = NDArray[np.float64]
LENS = np.array([[600.0, 0, 256], [0, 600, 256], [0, 0, 1]])


def cloud(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def standing() -> tuple[Array, Array, Array]:
    """World landmarks [4, 33, 3], their pixels and the joints of a body with hanging arms."""
    pose = np.zeros((4, 55, 3), np.float32)
    pose[:, 0, 0] = np.pi
    pose[:, 16, 2], pose[:, 17, 2] = -1.2, 1.2
    place = np.tile(np.array((0.0, 0.0, 4.0), np.float32), (4, 1))
    params = body_params(pose, np.zeros(20, np.float32), np.zeros((4, 52), np.float32), place)
    body = load_body()
    landmarks = true_landmarks(point_model(body), params, LENS, (512, 512))
    pixels = landmarks.body[..., :2].astype(np.float64)
    return landmarks.body_world.astype(np.float64), pixels, body_joints(body, params)


def test_a_standing_body_keeps_its_directions() -> None:
    world, pixels, joints = standing()
    sure = np.ones((4, NUM_BODY))
    features = lifter_features(world, pixels, sure, sure, np.arange(4) / 10)
    directions, sigma = load_lifter()(features, world)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-9)
    truth = unit(joints[:, 1:] - joints[:, list(PARENTS)])
    degrees = np.degrees(np.arccos(np.clip((directions * truth).sum(-1), -1, 1)))
    assert np.median(degrees) < 12
    assert sigma.min() > 0
    assert np.median(sigma) < 0.3


def test_features_look_before_and_after_by_time_not_by_frames() -> None:
    times = np.array([0.0, 0.15, 0.3, 0.9])
    world = times[:, None, None] * np.ones((4, NUM_BODY, 3))
    sure = np.ones((4, NUM_BODY))
    features = lifter_features(world, cloud(4, NUM_BODY, 2), sure, sure, times)
    before, after = features[:, 99:198], features[:, 198:297]
    np.testing.assert_allclose(before[1:3], -0.15)
    np.testing.assert_allclose(after[[0, 1, 2]], 0.15)
    # The ends have nothing beyond them.
    np.testing.assert_allclose(before[0], 0)
    np.testing.assert_allclose(after[3], 0)


def test_what_is_not_trusted_is_not_seen() -> None:
    world, pixels, _ = standing()
    trust = np.ones((4, NUM_BODY))
    trust[:, 31] = 0
    times = np.arange(4) / 10
    one = lifter_features(world, pixels, np.ones_like(trust), trust, times)
    pixels[:, 31] += 50
    other = lifter_features(world, pixels, np.ones_like(trust), trust, times)
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_similar_bodies_have_no_error_and_mirrored_ones_do() -> None:
    truth = cloud(3, 22, 3)
    turn = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    moved = 0.7 * truth @ turn.T + 5
    assert aligned_errors_mm(moved, truth).max() < 1e-9
    assert aligned_errors_mm(truth * (-1, 1, 1), truth).mean() > 100


def test_acceleration_of_a_parabola() -> None:
    times = np.arange(5) / 10
    points = 0.5 * 9.81 * times[:, None, None] ** 2 * np.array((0.0, 1.0, 0.0))
    np.testing.assert_allclose(acceleration(points, times), 9.81)


def test_joints_that_are_means_of_landmarks_are_found() -> None:
    points = cloud(40, 33, 3)
    wanted = np.zeros((2, 33))
    wanted[0, [23, 24]], wanted[1, 11] = 0.5, 1
    weights = joints_from_landmarks(points, np.einsum("jl,nlc->njc", wanted, points))
    np.testing.assert_allclose(weights, wanted, atol=1e-4)
    np.testing.assert_allclose(weights.sum(-1), 1)


def test_angles_between_rotations() -> None:
    pose = np.array([[0.0, 0, 0], [0, 0.5, 0]])
    assert turned_degrees(pose, np.array([0, 0.2, 0])) == pytest.approx(np.degrees([0.2, 0.3]))

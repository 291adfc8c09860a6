"""Fits of landmarks made from the body itself: what went in must come out."""

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.pipeline.fit import FitConfig, fit_track
from avatarmill.pipeline.fit_landmarks import (
    LEFT_HAND_ROWS,
    RIGHT_HAND_ROWS,
    landmark_map,
    point_model,
    with_joints,
)
from avatarmill.pipeline.fit_prior import pose_prior
from avatarmill.pipeline.fit_truth import (
    aligned_errors_mm,
    body_joints,
    params_of,
    true_landmarks,
    true_points,
)
from avatarmill.pipeline.types import Fit, Landmarks, Reason, Reject, Track

WIDTH, HEIGHT = 640, 480
LENS = np.array([[768.0, 0, WIDTH / 2], [0, 768, HEIGHT / 2], [0, 0, 1]])
EXACT = FitConfig(lifter=False)
"""For landmarks that do not err like MediaPipe's."""
FRAMES = 6

FloatArray = NDArray[np.float64]


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def actor(frames: int = FRAMES, *, yaw: float = 0.4, distance: float = 4.5) -> BodyParams:
    """A person who walks on the spot, waves the left arm and slowly turns."""
    time = torch.linspace(0, 1, frames)
    pose = pose_prior().mean.float().expand(frames, 55, 3).clone()
    pose[:, 1, 0], pose[:, 2, 0] = -0.4 - 0.3 * time, 0.2 * time
    pose[:, 4, 0], pose[:, 5, 0] = 0.3 + 0.6 * time, 0.2
    pose[:, 16, 2], pose[:, 18, 1] = -1.1 + 1.6 * time, -0.4 - 0.8 * time
    pose[:, 19, 1] = 1.2
    pose[:, 15, 1] = 0.3 * time
    turn = torch.tensor((0.0, yaw, 0.0)) + time[:, None] * torch.tensor((0.0, 0.3, 0.0))
    pose[:, 0] = _facing_camera(turn)
    translation = torch.tensor((0.1, -0.45, distance)).expand(frames, 3)
    params = BodyParams.rest(frames)
    return BodyParams(pose, params.shape, params.expression, translation)


def _facing_camera(turn: torch.Tensor) -> torch.Tensor:
    """Axis-angle [F, 3] of a yaw [F, 3] seen by an OpenCV camera: half a turn about x first."""
    half = torch.diag(torch.tensor((1.0, -1.0, -1.0)))
    return matrix_to_axis_angle(half @ axis_angle_to_matrix(turn))


def landmarks_of(body: Body, params: BodyParams) -> Landmarks:
    """Landmarks without error; all visible, wherever they are."""
    landmarks = true_landmarks(point_model(body), params, LENS, (WIDTH, HEIGHT))
    landmarks.body[..., 3] = 1
    return landmarks


def track_of(landmarks: Landmarks) -> Track:
    frames = len(landmarks.body)
    boxes = np.tile(np.array((0, 0, WIDTH, HEIGHT), np.float32), (frames, 1))
    return Track(0, np.arange(frames), boxes, landmarks)


def run(body: Body, landmarks: Landmarks, config: FitConfig | None = None) -> Fit | Reject:
    times = np.arange(len(landmarks.body)) / 10
    return fit_track(
        track_of(landmarks),
        pts_seconds=times,
        width=WIDTH,
        height=HEIGHT,
        body=body,
        config=config or EXACT,
    )


def fitted(body: Body, landmarks: Landmarks) -> Fit:
    fit = run(body, landmarks)
    assert isinstance(fit, Fit), fit
    return fit


def error_mm(body: Body, fit: Fit, params: BodyParams) -> float:
    """PA-MPJPE over the body joints."""
    found, truth = body_joints(body, params_of(fit)), body_joints(body, params)
    return float(aligned_errors_mm(found, truth).mean())


@pytest.mark.parametrize("yaw", [0.0, 0.4, 2.6])
def test_true_landmarks_give_back_the_pose(body: Body, yaw: float) -> None:
    params = actor(yaw=yaw)
    fit = fitted(body, landmarks_of(body, params))
    assert error_mm(body, fit, params) < 12
    assert float(np.median(fit.residual_px)) < 1.5


def test_exact_landmarks_and_lens_are_met_to_millimetres(body: Body) -> None:
    params = actor()
    fit = fit_track(
        track_of(landmarks_of(body, params)),
        pts_seconds=np.arange(FRAMES) / 10,
        width=WIDTH,
        height=HEIGHT,
        body=body,
        config=FitConfig(lifter=False, noise=0.05),
        intrinsics=LENS.astype(np.float32),
    )
    assert isinstance(fit, Fit)
    assert error_mm(body, fit, params) < 5
    assert fit.intrinsics[0, 0] == pytest.approx(LENS[0, 0], rel=0.01)


def test_an_upright_person_is_half_a_turn_about_x(body: Body) -> None:
    fit = fitted(body, landmarks_of(body, actor(yaw=0.0)))
    angle = float(np.linalg.norm(fit.pose[0, 0]))
    assert angle == pytest.approx(np.pi, abs=0.15)
    assert abs(fit.pose[0, 0, 0]) / angle > 0.97


def test_legs_outside_the_image_hang_relaxed(body: Body) -> None:
    landmarks = landmarks_of(body, actor())
    landmarks.body[:, 25:, 1] += 2 * HEIGHT  # knees and below leave through the bottom
    landmarks.body_world[:, 25:] = np.random.default_rng(0).normal(size=(FRAMES, 8, 3))
    fit = fitted(body, landmarks)
    prior = pose_prior()
    knees = fit.pose[:, [4, 5]] - prior.mean[[4, 5]].numpy()
    assert np.abs(knees).max() < np.radians(25)
    assert fit.confidence[:, [4, 5, 7, 8]].max() < 0.2
    assert fit.confidence[:, [16, 17]].min() > 0.7


def test_missing_hands_and_face_do_not_poison_the_rest(body: Body) -> None:
    params = actor()
    landmarks = landmarks_of(body, params)
    landmarks.left_hand[3:] = np.nan
    landmarks.right_hand[:] = np.nan
    landmarks.face[::2] = np.nan
    fit = fitted(body, landmarks)
    assert all(np.isfinite(value).all() for value in (fit.pose, fit.expression, fit.translation))
    assert error_mm(body, fit, params) < 15
    assert not fit.confidence[:, 40:].any()


def test_a_hand_far_from_its_wrist_is_not_believed(body: Body) -> None:
    landmarks = landmarks_of(body, actor())
    landmarks.left_hand[..., 0] += 200
    fit = fitted(body, landmarks)
    assert not fit.confidence[:, 25:40].any()


def test_scattered_landmarks_are_refused_with_the_residual(body: Body) -> None:
    landmarks = landmarks_of(body, actor())
    noise = np.random.default_rng(1).uniform(0, 400, size=landmarks.body[..., :2].shape)
    landmarks.body[..., :2] = noise.astype(np.float32)
    reject = run(body, landmarks)
    assert isinstance(reject, Reject)
    assert reject.reason is Reason.FIT_DIVERGED
    assert "median reprojection error" in reject.evidence


def test_the_same_track_fits_to_the_same_bytes(body: Body) -> None:
    landmarks = landmarks_of(body, actor(6))
    threads = torch.get_num_threads()
    first, second = fitted(body, landmarks), fitted(body, landmarks)
    assert first.pose.tobytes() == second.pose.tobytes()
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_tracks_fit(body: Body, frames: int) -> None:
    params = actor(frames)
    fit = fitted(body, landmarks_of(body, params))
    assert fit.pose.shape == (frames, 55, 3)


def test_landmark_map_is_mirrored() -> None:
    chart = landmark_map()
    left, right = chart.offset[LEFT_HAND_ROWS], chart.offset[RIGHT_HAND_ROWS]
    np.testing.assert_allclose(left, right * (-1, 1, 1), atol=2e-4)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"focal_ratio 9 is outside 0\.3\.\.5"):
        FitConfig(focal_ratio=9)
    with pytest.raises(ValueError, match="rounds 0 must be at least 1"):
        FitConfig(rounds=0)
    with pytest.raises(ValueError, match=r"noise 0 is outside 0\.01\.\.10"):
        FitConfig(noise=0)
    with pytest.raises(ValueError, match=r"max_residual -1 must be positive"):
        FitConfig(max_residual=-1)


def test_times_must_match_the_track(body: Body) -> None:
    track = track_of(landmarks_of(body, actor(3)))
    with pytest.raises(ValueError, match="2 times for 3 track frames"):
        fit_track(track, pts_seconds=np.zeros(2), width=WIDTH, height=HEIGHT, body=body)


def test_points_of_joints_are_the_joints(body: Body) -> None:
    params = actor(2)
    points = true_points(with_joints(point_model(body)), params)
    np.testing.assert_allclose(points[:, -22:], body_joints(body, params), atol=2e-6)


def test_threads_do_not_change_the_bytes(body: Body) -> None:
    landmarks = landmarks_of(body, actor(5))
    threads = numba.get_num_threads()
    first = fitted(body, landmarks)
    try:
        numba.set_num_threads(1)
        second = fitted(body, landmarks)
    finally:
        numba.set_num_threads(threads)
    assert first.pose.tobytes() == second.pose.tobytes()

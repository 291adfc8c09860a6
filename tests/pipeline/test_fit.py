"""Fits of landmarks made from the body itself: what went in must come out."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.pipeline.fit import FitConfig, fit_track
from avatarmill.pipeline.fit_kinematics import pose_points
from avatarmill.pipeline.fit_landmarks import (
    FACE,
    FACE_ROWS,
    LEFT_HAND_ROWS,
    NUM_BODY,
    RIGHT_HAND_ROWS,
    landmark_map,
    point_model,
)
from avatarmill.pipeline.fit_prior import pose_prior
from avatarmill.pipeline.fit_start import align
from avatarmill.pipeline.types import Fit, Landmarks, Reason, Reject, Track

WIDTH, HEIGHT, FOCAL = 640, 480, 768.0
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
    """Perfect landmarks: projected points, and world points as a camera on the person sees them."""
    model = point_model(body)
    blend = torch.cat((params.shape, params.expression), dim=-1).double()
    posed = pose_points(
        model,
        axis_angle_to_matrix(params.pose[:, 0].double()),
        params.pose.double(),
        blend,
        params.translation.double(),
    )
    points = posed.points
    pixels = points[..., :2] / points[..., 2:] * FOCAL + torch.tensor((WIDTH / 2, HEIGHT / 2))
    frames = len(points)
    middle = points[:, [23, 24]].mean(1, keepdim=True)
    offset = (pixels[:, :NUM_BODY].mean(1) - torch.tensor((WIDTH / 2, HEIGHT / 2))) / FOCAL
    ray = torch.cat((offset, torch.ones(frames, 1)), dim=-1).double()
    ray = ray / ray.norm(dim=-1, keepdim=True)
    forward = torch.tensor((0.0, 0.0, 1.0), dtype=torch.float64).expand_as(ray)
    world = (points[:, :NUM_BODY] - middle) @ align(forward, ray)
    flat = torch.cat((pixels, torch.zeros(frames, pixels.shape[1], 1)), dim=-1)
    flat_array = flat.numpy().astype(np.float32)
    face = np.full((frames, 478, 3), np.nan, np.float32)
    face[:, FACE] = flat_array[:, FACE_ROWS]
    visible = np.ones((frames, NUM_BODY, 1), np.float32)
    return Landmarks(
        body=np.concatenate([flat_array[:, :NUM_BODY], visible], axis=-1),
        body_world=world.numpy().astype(np.float32),
        left_hand=flat_array[:, LEFT_HAND_ROWS],
        right_hand=flat_array[:, RIGHT_HAND_ROWS],
        face=face,
    )


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
        config=config,
    )


def fitted(body: Body, landmarks: Landmarks) -> Fit:
    fit = run(body, landmarks)
    assert isinstance(fit, Fit), fit
    return fit


def joints_of(body: Body, fit: Fit) -> torch.Tensor:
    """[T, 55, 3] camera-space joints of a fit."""
    frames = len(fit.pose)
    params = BodyParams(
        torch.from_numpy(fit.pose),
        torch.from_numpy(fit.shape).expand(frames, -1),
        torch.from_numpy(fit.expression),
        torch.from_numpy(fit.translation),
    )
    return body.transforms(params)[0]


def aligned_error_mm(joints: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean error over the body joints after a similarity alignment of each frame (PA-MPJPE)."""
    found, wanted = joints[:, :22].double(), truth[:, :22].double()
    found, wanted = found - found.mean(1, keepdim=True), wanted - wanted.mean(1, keepdim=True)
    u, s, vt = torch.linalg.svd(found.mT @ wanted)
    scale = s.sum(-1) / found.square().sum((-1, -2))
    moved = scale[:, None, None] * found @ (u @ vt)
    return float(1000 * (moved - wanted).norm(dim=-1).mean())


@pytest.mark.parametrize("yaw", [0.0, 0.4, 2.6])
def test_true_landmarks_give_back_the_pose(body: Body, yaw: float) -> None:
    params = actor(yaw=yaw)
    fit = fitted(body, landmarks_of(body, params))
    truth, _ = body.transforms(params)
    assert aligned_error_mm(joints_of(body, fit), truth) < 12
    assert float(np.median(fit.residual_px)) < 1.5


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
    assert aligned_error_mm(joints_of(body, fit), body.transforms(params)[0]) < 15
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
    with pytest.raises(ValueError, match=r"max_residual -1 must be positive"):
        FitConfig(max_residual=-1)


def test_times_must_match_the_track(body: Body) -> None:
    track = track_of(landmarks_of(body, actor(3)))
    with pytest.raises(ValueError, match="2 times for 3 track frames"):
        fit_track(track, pts_seconds=np.zeros(2), width=WIDTH, height=HEIGHT, body=body)

"""SMPL-X fit of a whole track: landmarks in, body parameters in camera space out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.body import Body
from avatarmill.avatar.rotations import matrix_to_axis_angle
from avatarmill.pipeline.fit_confidence import joint_confidence
from avatarmill.pipeline.fit_evidence import (
    Observation,
    landmark_bones,
    lifted_bones,
    observe,
    weigh,
)
from avatarmill.pipeline.fit_kinematics import PointModel, pose_points
from avatarmill.pipeline.fit_landmarks import (
    BODY_ROWS,
    FACE_ROWS,
    JOINT_ROWS,
    LEFT_HAND_ROWS,
    NUM_BODY,
    NUM_LANDMARKS,
    RIGHT_HAND_ROWS,
    point_model,
    with_joints,
)
from avatarmill.pipeline.fit_lens import Lens, starting_lens
from avatarmill.pipeline.fit_objective import Objective, minimise
from avatarmill.pipeline.fit_prior import (
    BODY_JOINTS,
    JAW,
    LEFT_EYE,
    LEFT_HAND,
    RIGHT_EYE,
    RIGHT_HAND,
    pose_prior,
)
from avatarmill.pipeline.fit_start import (
    GUESSED_FOCAL,
    camera_turn,
    limb_pose,
    place,
    torso_rotation,
)
from avatarmill.pipeline.fit_terms import NUM_SHAPE, Evidence, State, Unknowns, Weights, reproject
from avatarmill.pipeline.types import Fit, Float, Reason, Reject, Track


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a track is fitted and when the result is refused."""

    focal_ratio: float = GUESSED_FOCAL
    """Focal length the search starts from, as a multiple of the longer image side."""
    body_iterations: int = 8
    detail_iterations: int = 4
    rounds: int = 2
    """Alternations between the body and its hands and face."""
    tolerance: float = 2e-3
    """A stage ends when a step lowers the cost by less than this fraction."""
    lifter: bool = True
    """Correct the directions of MediaPipe's bones; off for landmarks that do not err like its."""
    noise: float = 1.0
    """Multiplies the standard deviations of landmarks: 1 for a detector, 0.05 for points that are
    known exactly."""
    max_residual: float = 0.06
    """Largest median reprojection error of confident body landmarks, in metres at the person's
    depth: above it the track is refused."""

    def __post_init__(self) -> None:
        if not 0.3 <= self.focal_ratio <= 5:
            raise ValueError(
                f"focal_ratio {self.focal_ratio} is outside 0.3..5 image sides; 1.2 suits most"
            )
        for name in ("body_iterations", "detail_iterations", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.max_residual <= 0:
            raise ValueError(f"max_residual {self.max_residual} must be positive metres")
        if not 0.01 <= self.noise <= 10:
            raise ValueError(f"noise {self.noise} is outside 0.01..10; a detector has 1")


def fit_track(
    track: Track,
    *,
    pts_seconds: NDArray[np.float64],
    width: int,
    height: int,
    body: Body,
    config: FitConfig | None = None,
    focal_35mm: float = 0.0,
    intrinsics: Float | None = None,
) -> Fit | Reject:
    """Fit one shared shape and a pose a frame to the landmarks of a track.

    Unknowns are root orientation and translation, 54 joints, expression, shape and one focal
    length; the maximum a posteriori is found by Gauss-Newton on analytic Jacobians, body first,
    then hands and face, alternating.

    Args:
        track: T frames of one person.
        pts_seconds: [T] presentation times of the track's frames.
        width: of the decoded frame, pixels.
        height: of the decoded frame, pixels.
        body: the body model.
        config: defaults when None.
        focal_35mm: 35 mm equivalent focal length of the file's metadata, 0 where it says nothing.
        intrinsics: [3, 3] of the frame in pixels where they are known; None estimates the focal
            length and takes the middle of the frame.

    Returns:
        The fit, or a `FIT_DIVERGED` reject with the residual that broke the limit.
    """
    config = config or FitConfig()
    if len(pts_seconds) != len(track.frame_indices):
        raise ValueError(f"{len(pts_seconds)} times for {len(track.frame_indices)} track frames")
    with _one_thread():
        lens = starting_lens(
            width,
            height,
            ratio=config.focal_ratio,
            focal_35mm=focal_35mm,
            intrinsics=intrinsics,
        )
        return _fit(track, pts_seconds, (width, height), lens, body, config)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the matrices are small, and waiting for busy cores costs ten times
    what a second one wins. It also fixes the order of sums, hence the bytes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fit(
    track: Track,
    pts_seconds: NDArray[np.float64],
    size: tuple[int, int],
    lens: Lens,
    body: Body,
    config: FitConfig,
) -> Fit | Reject:
    model = with_joints(point_model(body))
    seen = observe(track.landmarks, width=size[0], height=size[1])
    times = torch.from_numpy(np.asarray(pts_seconds, np.float64))
    center, focal = torch.tensor(lens.center, dtype=torch.float64), lens.focal
    trust = seen.trust[:, :NUM_BODY] + 1e-6
    turn = camera_turn(seen.pixels[:, :NUM_BODY], trust, focal, center)
    bones = landmark_bones(seen, body=not config.lifter).turned(turn)
    if config.lifter:
        # The network was trained with the guessed camera.
        guessed = camera_turn(seen.pixels[:, :NUM_BODY], trust, GUESSED_FOCAL * max(size), center)
        bones = bones + lifted_bones(seen, np.asarray(pts_seconds, np.float64)).turned(guessed)
    state = _start(model, seen, seen.world @ turn.mT, focal, center)
    depth = state.translation[:, 2] + model.joints[0, 2]
    evidence = weigh(seen, bones, depth / focal, center, noise=config.noise)
    state = _descend(model, state, evidence, times, config, Weights(focal=lens.sigma))
    fit, metres = _result(model, state, seen, evidence, center)
    if metres > config.max_residual:
        return Reject(
            Reason.FIT_DIVERGED,
            f"median reprojection error {metres:.3f} m at the person > {config.max_residual} m",
            "fit",
            float(pts_seconds[0]),
            float(pts_seconds[-1]),
        )
    return fit


def _start(
    model: PointModel, seen: Observation, world: Tensor, focal: float, center: Tensor
) -> State:
    """The closed-form start, from world landmarks [T, 33, 3] in camera axes."""
    pixels, trust = seen.pixels[:, :NUM_BODY], seen.trust[:, :NUM_BODY] + 1e-6
    place_at = place(world, pixels, trust, focal, center)
    place_at[:, 2].clamp_min_(0.3)
    root = torso_rotation(model, world)
    hips = model.points[[23, 24]].mean(0) - model.joints[0]
    frames, blends = len(root), model.point_dirs.shape[-1]
    return State(
        root=root,
        pose=limb_pose(model, root, world, pose_prior()),
        translation=place_at - (root @ hips) - model.joints[0],
        expression=torch.zeros(frames, blends - NUM_SHAPE, dtype=torch.float64),
        shape=torch.zeros(NUM_SHAPE, dtype=torch.float64),
        log_focal=torch.tensor(float(np.log(focal)), dtype=torch.float64),
    )


def _descend(
    model: PointModel,
    state: State,
    evidence: Evidence,
    times: Tensor,
    config: FitConfig,
    weights: Weights,
) -> State:
    """Torso, body, then body and details in turns."""
    start_focal, prior = state.log_focal, pose_prior()

    def stage(unknowns: Unknowns, rows: Sequence[int], robust: float, iterations: int) -> None:
        nonlocal state
        objective = Objective(
            model.select(rows),
            evidence.select(rows, robust=robust),
            prior,
            weights,
            unknowns,
            times,
            start_focal,
        )
        state = minimise(objective, state, iterations=iterations, tolerance=config.tolerance)

    everything = range(FACE_ROWS.stop)
    coarse = (*range(NUM_BODY), *range(JOINT_ROWS.start, JOINT_ROWS.stop))
    stage(Unknowns((), body=True, shared=False), coarse, 8.0, 3)
    stage(Unknowns(BODY_JOINTS, body=True, shared=False), coarse, 8.0, config.body_iterations)
    for _ in range(config.rounds):
        stage(Unknowns(BODY_JOINTS, True, True), BODY_ROWS, 4.0, config.body_iterations)
        for hand, rows in ((LEFT_HAND, LEFT_HAND_ROWS), (RIGHT_HAND, RIGHT_HAND_ROWS)):
            stage(Unknowns(hand, False, False), everything[rows], 4.0, config.detail_iterations)
        face = Unknowns((JAW, LEFT_EYE, RIGHT_EYE), False, False, expression=True)
        stage(face, everything[FACE_ROWS], 4.0, config.detail_iterations)
    return state


def _result(
    model: PointModel, state: State, seen: Observation, evidence: Evidence, center: Tensor
) -> tuple[Fit, float]:
    """The fit as arrays, and its median error in metres at the person."""
    points = pose_points(model, state.root, state.pose, state.blend(), state.translation)
    projected = reproject(points[:, :NUM_LANDMARKS], state.log_focal, center)
    error = (projected - seen.pixels).norm(dim=-1)
    # Hands and faces that were not attached to the body are not evidence, so not confidence.
    trust = seen.trust * (evidence.precision > 0)
    depth = state.translation[:, 2] + model.joints[0, 2]
    metres = error * (depth / state.log_focal.exp())[:, None]
    believed = trust[:, :NUM_BODY] > 0.5
    residual = torch.where(believed, error[:, :NUM_BODY], torch.nan).nanmedian(dim=-1).values
    pose = state.pose.clone()
    pose[:, 0] = matrix_to_axis_angle(state.root)
    focal = float(state.log_focal.exp())
    intrinsics = np.array(
        [[focal, 0, float(center[0])], [0, focal, float(center[1])], [0, 0, 1]], np.float32
    )
    fit = Fit(
        pose=_numpy(pose),
        shape=_numpy(state.shape),
        expression=_numpy(state.expression.clamp(0, 1)),
        translation=_numpy(state.translation),
        intrinsics=intrinsics,
        confidence=_numpy(joint_confidence(trust, metres)),
        residual_px=_numpy(residual.nan_to_num(float(residual.nanmedian().nan_to_num(1e3)))),
    )
    return fit, float(metres[:, :NUM_BODY][believed].nanmedian().nan_to_num(1e3))


def _numpy(value: Tensor) -> Float:
    return value.numpy().astype(np.float32)

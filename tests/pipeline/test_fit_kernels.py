"""The normal equations of the kernels against autograd."""

from dataclasses import replace

import torch
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix
from avatarmill.pipeline.fit_kinematics import NUM_JOINTS, PointModel, pose_points
from avatarmill.pipeline.fit_objective import Objective
from avatarmill.pipeline.fit_prior import pose_prior
from avatarmill.pipeline.fit_terms import NUM_SHAPE, Evidence, State, Unknowns, Weights

PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15) + (
    *(20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38),
    *(21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53),
)
POINTS, FRAMES, EXPRESSIONS = 9, 3, 4
FREE = 1e9
"""A scale so wide that robust costs are squares and priors weigh nothing."""


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_model() -> PointModel:
    """A skeleton of random proportions with points skinned to three random joints each."""
    weights = normal(1, POINTS, 3).abs()
    blends = NUM_SHAPE + EXPRESSIONS
    return PointModel(
        parents=PARENTS,
        joints=0.3 * normal(2, NUM_JOINTS, 3),
        joint_dirs=0.1 * normal(3, NUM_JOINTS, 3, blends),
        points=0.3 * normal(4, POINTS, 3),
        point_dirs=0.1 * normal(5, POINTS, 3, blends),
        bones=torch.randint(0, NUM_JOINTS, (POINTS, 3), generator=torch.Generator().manual_seed(6)),
        weights=weights / weights.sum(-1, keepdim=True),
    )


def random_state() -> State:
    pose = 0.5 * normal(7, FRAMES, NUM_JOINTS, 3)
    pose[0] = 0  # the series near zero is its own branch
    return State(
        root=axis_angle_to_matrix(normal(8, FRAMES, 3)),
        pose=pose,
        translation=0.2 * normal(9, FRAMES, 3) + torch.tensor((0.0, 0.0, 6.0)),
        expression=0.5 * normal(10, FRAMES, EXPRESSIONS),
        shape=0.5 * normal(11, NUM_SHAPE),
        log_focal=torch.tensor(6.0, dtype=torch.float64),
    )


def random_evidence() -> Evidence:
    directions = normal(12, FRAMES, 2, 3)
    return Evidence(
        pixels=100 * normal(13, FRAMES, POINTS - 2, 2),
        precision=30 * normal(14, FRAMES, POINTS - 2).clamp_min(0),
        pixel_metres=torch.full((FRAMES,), 0.01, dtype=torch.float64),
        center=torch.tensor((10.0, -5.0), dtype=torch.float64),
        bone_pairs=torch.tensor([(0, 3), (7, 8)]),
        bone_directions=directions / directions.norm(dim=-1, keepdim=True),
        bone_precision=normal(15, FRAMES, 2).abs(),
        robust=FREE,
    )


def residuals(model: PointModel, evidence: Evidence, state: State) -> Tensor:
    """[T, R] what the kernels square."""
    points = pose_points(model, state.root, state.pose, state.blend(), state.translation)
    seen = points[:, : evidence.pixels.shape[1]]
    pixels = seen[..., :2] / seen[..., 2:] * state.log_focal.exp() + evidence.center
    scale = evidence.precision * evidence.pixel_metres[:, None]
    start, stop = evidence.bone_pairs.unbind(-1)
    bones = points[:, stop] - points[:, start]
    bones = bones / bones.norm(dim=-1, keepdim=True) - evidence.bone_directions
    parts = (
        (pixels - evidence.pixels) * scale[..., None],
        bones * evidence.bone_precision[..., None],
    )
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def shifted(state: State, unknowns: Unknowns, frame: Tensor, shared: Tensor) -> State:
    """The state moved by frame unknowns [T, P] and shared ones [S], differentiable."""
    free, start = list(unknowns.joints), unknowns.offset
    pose = state.pose.clone()
    stop = start + 3 * len(free)
    pose[:, free] = pose[:, free] + frame[:, start:stop].reshape(len(frame), -1, 3)
    moved = replace(state, pose=pose)
    if unknowns.body:
        root = axis_angle_to_matrix(frame[:, :3]) @ state.root
        moved = replace(moved, root=root, translation=state.translation + frame[:, 3:6])
    if unknowns.expression:
        moved = replace(moved, expression=state.expression + frame[:, stop:])
    if unknowns.shared:
        focal = state.log_focal + shared[NUM_SHAPE]
        moved = replace(moved, shape=state.shape + shared[:NUM_SHAPE], log_focal=focal)
    return moved


def check(unknowns: Unknowns) -> None:
    """Cost, gradients and Gauss-Newton blocks of the evidence alone."""
    model, state, evidence = random_model(), random_state(), random_evidence()
    still = Weights(
        *(1 / FREE, FREE, FREE, FREE, FREE), shape=FREE, focal=FREE, expression=FREE, upright=FREE
    )
    zero, wide = torch.zeros(NUM_JOINTS, 3, dtype=torch.float64), torch.full((55, 3), FREE)
    prior = replace(pose_prior(), low=-wide, high=wide, mean=zero, sigma=zero + 1)
    times = torch.arange(FRAMES, dtype=torch.float64)
    objective = Objective(model, evidence, prior, still, unknowns, times, state.log_focal)
    found, cost = objective.linearise(state)
    count = unknowns.offset + 3 * len(unknowns.joints) + EXPRESSIONS * unknowns.expression
    steps = (
        torch.zeros(FRAMES, count, dtype=torch.float64),
        torch.zeros(21 * unknowns.shared, dtype=torch.float64),
    )

    def moved(frame: Tensor, shared: Tensor) -> Tensor:
        return residuals(model, evidence, shifted(state, unknowns, frame, shared))

    by_frame, by_shared = torch.autograd.functional.jacobian(moved, steps)
    rest = residuals(model, evidence, state)
    assert cost >= 0.5 * float(rest.square().sum()) * (1 - 1e-9)
    for t in range(FRAMES):
        own, common = by_frame[t, :, t], by_shared[t]
        torch.testing.assert_close(found.gradient[t], own.T @ rest[t], rtol=1e-6, atol=1e-6)
        # Expressions beyond 0..1 and their prior have a cost of their own.
        if not unknowns.expression:
            torch.testing.assert_close(found.blocks[t], own.T @ own, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(found.border[t], own.T @ common, rtol=1e-6, atol=1e-6)
    if unknowns.shared:
        both = torch.einsum("trs,tru->su", by_shared, by_shared)
        torch.testing.assert_close(found.shared, both, rtol=1e-6, atol=1e-6)


def test_a_body_with_shape_and_focal_length() -> None:
    check(Unknowns((3, 16, 18, 40), body=True, shared=True))


def test_a_torso_alone() -> None:
    check(Unknowns((), body=True, shared=False))


def test_fingers_of_a_body_that_stays() -> None:
    check(Unknowns((40, 41, 42), body=False, shared=False))

"""The cost of a track fit and its Gauss-Newton equations, for any choice of what may move."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.pipeline.fit_kinematics import (
    PointModel,
    Posed,
    blend_jacobian,
    pose_jacobian,
    pose_points,
)
from avatarmill.pipeline.fit_prior import PosePrior
from avatarmill.pipeline.fit_solver import Normal, Smoothness, solve_step
from avatarmill.pipeline.fit_terms import (
    NUM_SHAPE,
    Evidence,
    State,
    Unknowns,
    Weights,
    bone_residual,
    pixel_residual,
    robust_cost,
    robust_weight,
)


class Objective:
    """The negative log posterior of a state.

    Args:
        model: points of the body, one a landmark.
        evidence: what was seen, one row a landmark of `model`.
        prior: of the pose.
        weights: of prior, smoothness, shape and focal length.
        unknowns: what this objective may move.
        times: [T] seconds.
        start_focal: scalar log focal length the focal prior is centred on.
    """

    def __init__(
        self,
        model: PointModel,
        evidence: Evidence,
        prior: PosePrior,
        weights: Weights,
        unknowns: Unknowns,
        times: Tensor,
        start_focal: Tensor,
    ) -> None:
        self.model, self.evidence, self.prior = model, evidence, prior
        self.weights, self.unknowns, self.start_focal = weights, unknowns, start_focal
        self.moving = torch.tensor(((0,) if unknowns.body else ()) + unknowns.joints)
        self.free = torch.tensor(unknowns.joints, dtype=torch.int64)
        self.smooth = self._smoothness(times)

    def pose(self, state: State) -> Posed:
        """Forward kinematics of the state."""
        return pose_points(self.model, state.root, state.pose, state.blend(), state.translation)

    def cost(self, state: State) -> float:
        """The negative log posterior, up to a constant."""
        posed, robust = self.pose(state), self.evidence.robust
        total = robust_cost(pixel_residual(self.evidence, posed, state.log_focal), robust)
        total = total + robust_cost(bone_residual(self.evidence, posed)[0], robust)
        total = total + 0.5 * self._lean(state)[0].square().sum()
        total = total + 0.5 * self._shared(state)[0].square().sum()
        for _, value, _ in self._diagonal(state):
            total = total + 0.5 * value.square().sum()
        return float(total) + self.smooth.cost(self._steps(state))

    def normal(self, state: State) -> Normal:
        """Gauss-Newton equations at the state."""
        posed = self.pose(state)
        points = self._point_rows(posed)
        rows = [self._pixel_rows(state, posed, points), self._bone_rows(posed, points)]
        jacobian, border, residual = (torch.cat(part, dim=1) for part in zip(*rows, strict=True))
        blocks = jacobian.mT @ jacobian
        gradient = (jacobian.mT @ residual[..., None])[..., 0]
        diagonal = blocks.diagonal(dim1=-2, dim2=-1)
        for columns, value, slope in self._diagonal(state):
            gradient[:, columns] += value * slope
            diagonal[:, columns] += slope**2
        if self.unknowns.body:
            lean, turn = self._lean(state)
            gradient[:, :3] += (turn.mT @ lean[..., None])[..., 0]
            blocks[:, :3, :3] += turn.mT @ turn
        value, slope = self._shared(state)
        return Normal(
            blocks,
            gradient,
            jacobian.mT @ border,
            torch.einsum("trs,tru->su", border, border) + torch.diag(slope**2),
            torch.einsum("trs,tr->s", border, residual) + value * slope,
        )

    def step(self, state: State, damping: float) -> State:
        """The state after one damped Gauss-Newton step."""
        frame, shared = solve_step(self.normal(state), self.smooth, self._steps(state), damping)
        return self._moved(state, frame, shared)

    def _steps(self, state: State) -> Tensor:
        """[T-1, P] differences of the frame unknowns over time."""
        parts = []
        if self.unknowns.body:
            parts.append(matrix_to_axis_angle(state.root[1:] @ state.root[:-1].mT))
            parts.append(state.translation.diff(dim=0))
        parts.append(state.pose[:, self.free].flatten(1).diff(dim=0))
        if self.unknowns.expression:
            parts.append(state.expression.diff(dim=0))
        return torch.cat(parts, dim=-1)

    def _moved(self, state: State, frame: Tensor, shared: Tensor) -> State:
        """The state with changes [T, P] and [S] applied; a turn is limited to half a radian."""
        joints = slice(self.unknowns.offset, self.unknowns.offset + 3 * len(self.free))
        pose = state.pose.clone()
        pose[:, self.free] += frame[:, joints].clamp(-0.5, 0.5).reshape(len(frame), -1, 3)
        moved = replace(state, pose=pose)
        if self.unknowns.body:
            root = axis_angle_to_matrix(frame[:, :3].clamp(-0.5, 0.5)) @ state.root
            moved = replace(moved, root=root, translation=state.translation + frame[:, 3:6])
        if self.unknowns.expression:
            expression = state.expression + frame[:, joints.stop :]
            moved = replace(moved, expression=expression)
        if self.unknowns.shared:
            focal = state.log_focal + shared[NUM_SHAPE]
            moved = replace(moved, shape=state.shape + shared[:NUM_SHAPE], log_focal=focal)
        return moved

    def _point_rows(self, posed: Posed) -> tuple[Tensor, Tensor]:
        """Jacobians of the points: [T, L, 3, P] and [T, L, 3, S]."""
        frames, points = posed.points.shape[:2]
        turns = pose_jacobian(self.model, posed, self.moving).flatten(3)
        parts = [turns]
        if self.unknowns.body:
            shift = torch.eye(3, dtype=turns.dtype).expand(frames, points, 3, 3)
            parts = [turns[..., :3], shift, turns[..., 3:]]
        if self.unknowns.expression:
            parts.append(blend_jacobian(self.model, posed, slice(NUM_SHAPE, None)))
        if not self.unknowns.shared:
            return torch.cat(parts, dim=-1), turns[..., :0]
        shape = blend_jacobian(self.model, posed, slice(0, NUM_SHAPE))
        focal = torch.zeros_like(shape[..., :1])
        return torch.cat(parts, dim=-1), torch.cat((shape, focal), dim=-1)

    def _pixel_rows(
        self, state: State, posed: Posed, points: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Jacobians [T, 2L, P], [T, 2L, S] and residuals [T, 2L] of the reprojection."""
        residual = pixel_residual(self.evidence, posed, state.log_focal)
        scale = self.evidence.precision * self.evidence.pixel_metres[:, None]
        scale = scale[..., None] * robust_weight(residual, self.evidence.robust)
        depth = posed.points[..., 2:].clamp_min(0.05)
        plane = posed.points[..., :2] / depth
        camera = torch.zeros(*plane.shape, 3, dtype=plane.dtype)
        camera[..., 0, 0] = camera[..., 1, 1] = 1.0
        camera[..., 2] = -plane
        camera = camera * (scale * state.log_focal.exp() / depth)[..., None]
        frame, shared = (camera @ jacobian for jacobian in points)
        if self.unknowns.shared:
            shared[..., NUM_SHAPE] = plane * scale * state.log_focal.exp()
        residual = residual * robust_weight(residual, self.evidence.robust)
        return frame.flatten(1, 2), shared.flatten(1, 2), residual.flatten(1)

    def _bone_rows(
        self, posed: Posed, points: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Jacobians and residuals [T, 3B] of the bone directions, lengths held fixed."""
        residual, length = bone_residual(self.evidence, posed)
        weight = robust_weight(residual, self.evidence.robust)
        scale = (self.evidence.bone_precision[..., None] / length * weight)[..., None]
        start, stop = self.evidence.bone_pairs.unbind(-1)
        frame, shared = ((jacobian[:, stop] - jacobian[:, start]) * scale for jacobian in points)
        return frame.flatten(1, 2), shared.flatten(1, 2), (residual * weight).flatten(1)

    def _diagonal(self, state: State) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Terms on single unknowns: their columns, residuals [T, n] and slopes [T, n]."""
        start = self.unknowns.offset
        columns = slice(start, start + 3 * len(self.free))
        pose, prior = state.pose[:, self.free], self.prior
        low, high = prior.low[self.free], prior.high[self.free]
        beyond = (pose - high).clamp_min(0) + (pose - low).clamp_max(0)
        wall = (beyond != 0) / prior.limit_sigma
        yield columns, (beyond / prior.limit_sigma).flatten(1), wall.flatten(1)
        pull = self.weights.prior / prior.sigma[self.free]
        drift = (pose - prior.mean[self.free]) * pull
        yield columns, drift.flatten(1), pull.expand_as(pose).flatten(1)
        if self.unknowns.expression:
            columns = slice(columns.stop, columns.stop + state.expression.shape[1])
            pull = torch.full_like(state.expression, 1 / self.weights.expression)
            yield columns, state.expression * pull, pull
            outside = (state.expression - 1).clamp_min(0) + state.expression.clamp_max(0)
            yield columns, outside / 0.05, (outside != 0) / 0.05

    def _lean(self, state: State) -> tuple[Tensor, Tensor]:
        """Horizontal part [T, 2] of the pelvis' up axis in sigmas, and its Jacobian [T, 2, 3]."""
        up = state.root[:, :, 1]
        zero = torch.zeros_like(up[:, 0])
        # d(up) = turn x up; rows x and z of -[up]x.
        jacobian = torch.stack(
            (
                torch.stack((zero, up[:, 2], -up[:, 1]), dim=-1),
                torch.stack((up[:, 1], -up[:, 0], zero), dim=-1),
            ),
            dim=1,
        )
        return up[:, (0, 2)] / self.weights.upright, jacobian / self.weights.upright

    def _shared(self, state: State) -> tuple[Tensor, Tensor]:
        """Residuals [S] and slopes [S] of shape and focal length against their priors."""
        if not self.unknowns.shared:
            return state.shape[:0], state.shape[:0]
        slope = torch.full((NUM_SHAPE + 1,), 1 / self.weights.shape, dtype=state.shape.dtype)
        slope[NUM_SHAPE] = 1 / self.weights.focal
        # Landmarks err the same way in every frame (clothes, the detector's idea of a hip), so
        # a long track is no more evidence of the shape than one frame: the prior grows with it.
        slope = slope * len(state.pose) ** 0.5
        offset = torch.cat((state.shape, (state.log_focal - self.start_focal).reshape(1)))
        return offset * slope, slope

    def _smoothness(self, times: Tensor) -> Smoothness:
        """Sigmas of velocities and accelerations turned into weights of differences."""
        weights, unknowns = self.weights, self.unknowns
        body = 1 if unknowns.body else 0
        turns = 3 * (body + len(unknowns.joints))
        speed = torch.full((turns + 3 * body,), 1 / weights.speed, dtype=times.dtype)
        jerk = torch.full_like(speed, 1 / weights.jerk)
        if body:
            speed[3:6], jerk[3:6] = 1 / weights.travel, 1 / weights.push
        if unknowns.expression:
            count = self.model.joints.new_zeros(self.model.point_dirs.shape[-1] - NUM_SHAPE)
            speed, jerk = torch.cat((speed, count + 0.2)), torch.cat((jerk, count + 0.02))
        gaps = times.diff()
        step = gaps.median() if len(gaps) else times.new_tensor(1.0)
        joined = (gaps < 1.5 * step).to(times)
        return Smoothness(speed / step, jerk / step**2, joined)


def minimise(objective: Objective, state: State, *, iterations: int, tolerance: float) -> State:
    """Levenberg-Marquardt until the cost falls by less than `tolerance` of itself."""
    cost, damping = objective.cost(state), 1e-3
    for _ in range(iterations):
        moved = objective.step(state, damping)
        reached = objective.cost(moved)
        if reached < cost:
            done = cost - reached < tolerance * cost
            state, cost, damping = moved, reached, max(damping / 5, 1e-6)
            if done:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return state

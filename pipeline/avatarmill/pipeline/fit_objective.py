"""The cost of a track fit and its Gauss-Newton equations, for any choice of what may move."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.pipeline.fit_kernels import accumulate, forward
from avatarmill.pipeline.fit_kinematics import NUM_JOINTS, PointModel
from avatarmill.pipeline.fit_prior import PosePrior
from avatarmill.pipeline.fit_solver import Normal, Smoothness, solve_step
from avatarmill.pipeline.fit_terms import NUM_SHAPE, Evidence, State, Unknowns, Weights

Array = NDArray[np.float64]


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
        self.free = torch.tensor(unknowns.joints, dtype=torch.int64)
        self.smooth = self._smoothness(times)
        self._prepare()

    def _prepare(self) -> None:
        """What stays the same over the iterations, as the kernels want it."""
        model, unknowns, evidence = self.model, self.unknowns, self.evidence
        joints = unknowns.offset + 3 * len(unknowns.joints)
        num_expression = model.point_dirs.shape[-1] - NUM_SHAPE if unknowns.expression else 0
        self._num_frame = joints + num_expression
        column = np.full(NUM_JOINTS, -1, np.int64)
        column[list(unknowns.joints)] = unknowns.offset + 3 * np.arange(len(unknowns.joints))
        if unknowns.body:
            column[0] = 0
        focal = self._num_frame + NUM_SHAPE if unknowns.shared else -1
        blend = self._num_frame if unknowns.shared else joints
        self._layout = (column, 3 if unknowns.body else -1, blend, focal)
        dims = slice(0, 0)
        if unknowns.shared:
            dims = slice(0, NUM_SHAPE)
        elif unknowns.expression:
            dims = slice(NUM_SHAPE, None)
        self._dirs = tuple(_array(part[..., dims]) for part in (model.joint_dirs, model.point_dirs))
        self._tree = (np.array(model.parents), model.bones.numpy().copy(), _array(model.weights))
        self._pixels = _array(evidence.pixels - evidence.center)
        self._known = (
            evidence.bone_pairs.numpy().copy(),
            _array(evidence.bone_directions),
            _array(evidence.bone_precision),
        )

    def linearise(self, state: State) -> tuple[Normal, float]:
        """Gauss-Newton equations at the state, and its negative log posterior."""
        totals, seen = self._evidence(state)
        last, count = totals.shape[1] - 1, self._num_frame
        blocks = totals[:, :count, :count]
        gradient = totals[:, :count, last].clone()
        diagonal = blocks.diagonal(dim1=-2, dim2=-1)
        cost = seen + self.smooth.cost(self._steps(state))
        for columns, value, slope in self._diagonal(state):
            gradient[:, columns] += value * slope
            diagonal[:, columns] += slope**2
            cost += 0.5 * float(value.square().sum())
        if self.unknowns.body:
            lean, turn = self._lean(state)
            gradient[:, :3] += (turn.mT @ lean[..., None])[..., 0]
            blocks[:, :3, :3] += turn.mT @ turn
            cost += 0.5 * float(lean.square().sum())
        value, slope = self._shared(state)
        cost += 0.5 * float(value.square().sum())
        shared = totals[:, count:last, count:last].sum(0)
        normal = Normal(
            # Only the upper triangles were filled.
            blocks.triu() + blocks.triu(1).mT,
            gradient,
            totals[:, :count, count:last].contiguous(),
            shared.triu() + shared.triu(1).mT + torch.diag(slope**2),
            totals[:, count:last, last].sum(0) + value * slope,
        )
        return normal, cost

    def _evidence(self, state: State) -> tuple[Tensor, float]:
        """Normal equations [T, C, C] of what was seen (see `accumulate`), and its cost."""
        model, evidence = self.model, self.evidence
        rest, points = model.rest(state.blend())
        shape = (len(rest), NUM_JOINTS, 3)
        posed = np.empty((*shape, 3)), np.empty(shape), np.empty((*shape, 3))
        start = (_array(value) for value in (state.root, state.pose, state.translation))
        forward(self._tree[0], _array(rest), *start, *posed)
        size = self._num_frame + len(self._shared(state)[0]) + 1
        totals, costs = np.zeros((len(rest), size, size)), np.empty(len(rest))
        scale = evidence.precision * evidence.pixel_metres[:, None]
        accumulate(
            self._tree,
            (_array(rest), _array(points), *self._dirs),
            posed,
            self._layout,
            (self._pixels, _array(scale)),
            self._known,
            (float(state.log_focal.exp()), evidence.robust),
            totals,
            costs,
        )
        return torch.from_numpy(totals), float(costs.sum())

    def step(self, normal: Normal, state: State, damping: float) -> State:
        """The state after one damped Gauss-Newton step."""
        frame, shared = solve_step(normal, self.smooth, self._steps(state), damping)
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


def _array(value: Tensor) -> Array:
    """A contiguous array: other memory layouts would make numba compile again."""
    return np.ascontiguousarray(value.numpy())


def minimise(objective: Objective, state: State, *, iterations: int, tolerance: float) -> State:
    """Levenberg-Marquardt until the cost falls by less than `tolerance` of itself."""
    (normal, cost), damping = objective.linearise(state), 1e-3
    for _ in range(iterations):
        moved = objective.step(normal, state, damping)
        there, reached = objective.linearise(moved)
        if reached < cost:
            done = cost - reached < tolerance * cost
            state, normal, cost, damping = moved, there, reached, max(damping / 5, 1e-6)
            if done:
                break
        else:
            damping *= 10
            if damping > 1e3:
                break
    return state

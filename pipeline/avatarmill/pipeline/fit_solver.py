"""Gauss-Newton over a whole track: dense blocks per frame, smoothness between frames, shared unknowns.

The normal equations are block-banded (two frames wide, from second differences) with a border of
shared unknowns (shape, focal length). The band is factorised exactly; the border is eliminated by
its Schur complement, so one step costs O(frames x unknowns^3) and needs no inner iterations.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal equations of T frames with P unknowns each and S shared ones."""

    blocks: Tensor
    """[T, P, P] J'J of the terms within a frame."""
    gradient: Tensor
    """[T, P] J'r."""
    border: Tensor
    """[T, P, S] coupling of frame and shared unknowns."""
    shared: Tensor
    """[S, S]."""
    shared_gradient: Tensor
    """[S]."""


@dataclass(frozen=True, slots=True)
class Smoothness:
    """Quadratic penalties on first and second differences over time, diagonal in the unknowns."""

    velocity: Tensor
    """[P] 1/sigma of a first difference (already divided by the time step)."""
    acceleration: Tensor
    """[P] 1/sigma of a second difference."""
    joined: Tensor
    """[T-1] 1 where two neighbouring frames are consecutive in time, else 0."""

    def residuals(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted first [T-1, P] and second [T-2, P] differences of steps [T-1, P]."""
        both = (self.joined[1:] * self.joined[:-1])[:, None]
        first = steps * self.joined[:, None] * self.velocity
        return first, (steps[1:] - steps[:-1]) * both * self.acceleration

    def cost(self, steps: Tensor) -> float:
        """Half the sum of squares."""
        first, second = self.residuals(steps)
        return 0.5 * float(first.square().sum() + second.square().sum())

    def bands(self, steps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient [T, P] and the diagonals that couple a frame to itself, the next, the one after."""
        first, second = self.residuals(steps)
        gradient = torch.zeros(len(steps) + 1, steps.shape[1], dtype=steps.dtype)
        own, near, far = (torch.zeros_like(gradient) for _ in range(3))
        speed = self.joined[:, None] * self.velocity
        gradient[:-1] -= first * speed
        gradient[1:] += first * speed
        own[:-1] += speed**2
        own[1:] += speed**2
        near[:-1] -= speed**2
        bend = (self.joined[1:] * self.joined[:-1])[:, None] * self.acceleration
        for offset, sign in enumerate((1.0, -2.0, 1.0)):
            rows = slice(offset, offset + len(second))
            gradient[rows] += sign * second * bend
            own[rows] += sign**2 * bend**2
        near[: len(second)] -= 2 * bend**2
        near[1 : 1 + len(second)] -= 2 * bend**2
        far[: len(second)] += bend**2
        return gradient, own, near, far


def solve_step(
    normal: Normal, smooth: Smoothness, steps: Tensor, damping: float
) -> tuple[Tensor, Tensor]:
    """The damped Gauss-Newton step: changes of the frame unknowns [T, P] and shared ones [S].

    Args:
        normal: equations of everything within frames and of the shared unknowns.
        smooth: coupling over time.
        steps: [T-1, P] differences of the unknowns between neighbouring frames.
        damping: fraction of the diagonal added to it (Levenberg-Marquardt).

    Raises:
        numpy.linalg.LinAlgError: the damped matrix is not positive definite.
    """
    gradient, own, near, far = smooth.bands(steps)
    frames, unknowns = gradient.shape
    diagonal = normal.blocks.diagonal(dim1=-2, dim2=-1) + own
    blocks = normal.blocks + torch.diag_embed(own + damping * diagonal + 1e-9)
    right = torch.cat((-(normal.gradient + gradient)[..., None], -normal.border), dim=-1)
    shared_count = normal.border.shape[-1]
    solved = solveh_banded(
        _upper_band(blocks.numpy(), near.numpy(), far.numpy()),
        right.reshape(frames * unknowns, 1 + shared_count).numpy(),
        overwrite_ab=True,
        overwrite_b=True,
        check_finite=False,
    )
    alone = torch.from_numpy(solved).reshape(frames, unknowns, 1 + shared_count)
    if shared_count == 0:
        return alone[..., 0], torch.zeros(0, dtype=alone.dtype)
    response = alone[..., 1:]
    schur = normal.shared + torch.einsum("tps,tpr->sr", normal.border, response)
    schur = schur + torch.diag(damping * normal.shared.diagonal() + 1e-9)
    force = -normal.shared_gradient - torch.einsum("tps,tp->s", normal.border, alone[..., 0])
    shared_step = torch.linalg.solve(schur, force)
    return alone[..., 0] + response @ shared_step, shared_step


def _upper_band(blocks: Array, near: Array, far: Array) -> Array:
    """LAPACK upper banded storage of the block matrix: entry (i, j) at [bandwidth + i - j, j]."""
    frames, unknowns, _ = blocks.shape
    width = 2 * unknowns
    band = np.zeros((width + 1, frames * unknowns))
    row, column = np.triu_indices(unknowns)
    starts = np.arange(frames)[:, None] * unknowns
    band[width + row - column, starts + column] = blocks[:, row, column]
    band[width - unknowns, unknowns:] = near[:-1].reshape(-1)
    if frames > 2:
        band[0, width:] = far[:-2].reshape(-1)
    return band

"""The Gauss-Newton step of a whole track: blocks per frame, smoothness, shared unknowns.

The normal equations are block-banded (two frames wide, from second differences) with a border of
shared unknowns (shape, focal length). The band is factorised exactly; the border is eliminated by
its Schur complement, so one step costs O(frames x unknowns^3) and needs no inner iterations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
        """Gradient [T, P] and, [T, P] each, the couplings to itself and one and two frames on."""
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
        torch.linalg.LinAlgError: the damped matrix is not positive definite.
    """
    gradient, own, near, far = smooth.bands(steps)
    diagonal = normal.blocks.diagonal(dim1=-2, dim2=-1) + own
    blocks = normal.blocks + torch.diag_embed(own + damping * diagonal + 1e-9)
    right = torch.cat((-(normal.gradient + gradient)[..., None], -normal.border), dim=-1)
    solved = solve_banded(blocks, near, far, right)
    alone, response = solved[..., 0], solved[..., 1:]
    if response.shape[-1] == 0:
        return alone, normal.shared_gradient
    schur = normal.shared + torch.einsum("tps,tpr->sr", normal.border, response)
    schur = schur + torch.diag(damping * normal.shared.diagonal() + 1e-9)
    force = -normal.shared_gradient - torch.einsum("tps,tp->s", normal.border, alone)
    shared_step = torch.linalg.solve(schur, force)
    return alone + response @ shared_step, shared_step


def solve_banded(blocks: Tensor, near: Tensor, far: Tensor, right: Tensor) -> Tensor:
    """Solve the symmetric block-pentadiagonal system of T frames with P unknowns each.

    Two frames make one block of a block-tridiagonal matrix, factorised by block Cholesky:
    dense kernels on 2P x 2P are far faster than LAPACK's band solver at this width.

    Args:
        blocks: [T, P, P] diagonal blocks.
        near: [T, P] diagonal of the coupling of frame t and t + 1; the last row is not read.
        far: [T, P] the same of t and t + 2; the last two rows are not read.
        right: [T, P, R] right-hand sides.

    Returns:
        [T, P, R].

    Raises:
        torch.linalg.LinAlgError: the matrix is not positive definite.
    """
    frames, unknowns, columns = right.shape
    own, coupling, values = _pairs(blocks, near, far, right)
    factors: list[Tensor] = []
    links: list[Tensor] = []
    forward: list[Tensor] = []
    for index, block in enumerate(own):
        value = values[index]
        if index:
            both = torch.cat((coupling[index - 1], forward[-1]), dim=-1)
            both[:, : 2 * unknowns] = torch.linalg.solve_triangular(
                factors[-1], coupling[index - 1], upper=False
            )
            links.append(both[:, : 2 * unknowns])
            carried = links[-1].mT @ both
            block = block - carried[:, : 2 * unknowns]
            value = value - carried[:, 2 * unknowns :]
        factors.append(torch.linalg.cholesky(block))
        forward.append(torch.linalg.solve_triangular(factors[-1], value, upper=False))
    solved = [torch.linalg.solve_triangular(factors[-1].mT, forward[-1], upper=True)]
    for index in range(len(own) - 2, -1, -1):
        value = forward[index] - links[index] @ solved[-1]
        solved.append(torch.linalg.solve_triangular(factors[index].mT, value, upper=True))
    return torch.cat(solved[::-1]).reshape(-1, unknowns, columns)[:frames]


def _pairs(
    blocks: Tensor, near: Tensor, far: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks [N, 2P, 2P], couplings [N-1, 2P, 2P] and right sides [N, 2P, R] of frame pairs."""
    frames, unknowns, columns = right.shape
    if frames % 2:
        # An extra frame that is tied to nothing completes the last pair.
        eye = torch.eye(unknowns, dtype=blocks.dtype)[None]
        blocks = torch.cat((blocks, eye))
        right = torch.cat((right, torch.zeros_like(right[:1])))
        nothing = torch.zeros_like(near[:1])
        near = torch.cat((near[:-1], nothing, nothing))
        far = torch.cat((far[:-2], nothing, nothing, nothing)[-(frames + 1) :])
    pairs = len(blocks) // 2
    first, second = slice(0, unknowns), slice(unknowns, 2 * unknowns)
    own = torch.zeros(pairs, 2 * unknowns, 2 * unknowns, dtype=blocks.dtype)
    own[:, first, first], own[:, second, second] = blocks[::2], blocks[1::2]
    within = torch.diag_embed(near[::2])
    own[:, first, second] = own[:, second, first] = within
    coupling = torch.zeros_like(own)
    coupling[:, first, first] = torch.diag_embed(far[::2])
    coupling[:, second, first] = torch.diag_embed(near[1::2])
    coupling[:, second, second] = torch.diag_embed(far[1::2])
    return own, coupling[:-1], right.reshape(pairs, 2 * unknowns, columns)

"""Patches: groups of neighbouring anchors that travel through the diffusion model as one token."""

import math

import torch
from torch import Tensor

# Front and back of a thin limb are neighbours in space but not on the surface: the normal,
# weighted in metres, keeps them in different patches.
_NORMAL_WEIGHT = 0.15


def patch_order(positions: Tensor, normals: Tensor, patch: int) -> Tensor:
    """[T] permutation in which every run of `patch` anchors is one compact piece of surface.

    Recursive bisection along the longest axis of (position, weighted normal), positions [T, 3] in
    metres, normals [T, 3] unit. Deterministic: ties are broken by the anchor's index.

    Raises:
        ValueError: the number of anchors is not a multiple of the patch size.
    """
    if len(positions) % patch:
        raise ValueError(f"{len(positions)} anchors do not divide into patches of {patch}")
    points = torch.cat([positions, _NORMAL_WEIGHT * normals], dim=-1).double()
    return torch.cat(_bisect(points, torch.arange(len(points)), patch))


def _bisect(points: Tensor, members: Tensor, patch: int) -> list[Tensor]:
    if len(members) <= patch:
        return [members]
    chosen = points[members]
    axis = int((chosen.amax(dim=0) - chosen.amin(dim=0)).argmax())
    ordered = members[torch.argsort(chosen[:, axis], stable=True)]
    half = len(members) // patch // 2 * patch or patch
    return _bisect(points, ordered[:half], patch) + _bisect(points, ordered[half:], patch)


def fourier_features(positions: Tensor, frequencies: int) -> Tensor:
    """[..., 3] metres -> [..., 3 + 6 * frequencies]: the coordinates, then sines and cosines of
    pi * 2^k times them (NeRF's encoding; the body lies within about +-1 m)."""
    scales = math.pi * 2.0 ** torch.arange(frequencies, dtype=positions.dtype)
    angles = (positions[..., None, :] * scales[:, None]).flatten(-2)
    return torch.cat([positions, torch.sin(angles), torch.cos(angles)], dim=-1)

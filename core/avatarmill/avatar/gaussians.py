"""Sets of 3D Gaussians, the form in which every avatar is stored, posed and rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

MAX_CHANNELS = 32
"""Most colour or feature channels that the rasterizers take."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """N anisotropic Gaussians in metres, y up; all tensors share dtype, device and N.

    Raises:
        ValueError: a tensor has another shape, dtype or device than the others ask for.
    """

    means: Tensor
    """[N, 3] centres in metres."""
    rotations: Tensor
    """[N, 4] quaternions wxyz, any non-zero length: the rasterizers normalise them."""
    scales: Tensor
    """[N, 3] standard deviations along the rotated axes, linear, metres."""
    opacities: Tensor
    """[N] peak opacity in 0..1."""
    colors: Tensor
    """[N, D] colours (sRGB, 0..1) or features, 1 <= D <= 32, already activated."""

    def __post_init__(self) -> None:
        if self.means.ndim != 2:
            raise ValueError(f"means must be [N, 3], got {list(self.means.shape)}")
        count = self.means.shape[0]
        expected = {"means": (count, 3), "rotations": (count, 4), "scales": (count, 3)}
        for name, shape in {**expected, "opacities": (count,)}.items():
            if getattr(self, name).shape != shape:
                got = list(getattr(self, name).shape)
                raise ValueError(f"{name} must be {list(shape)} to match means, got {got}")
        if self.colors.ndim != 2 or self.colors.shape[0] != count:
            raise ValueError(f"colors must be [{count}, D], got {list(self.colors.shape)}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ValueError(
                f"colors has {self.channels} channels, the limit is 1 to {MAX_CHANNELS}: "
                "render wider features in several calls"
            )
        self._check_uniform()

    def _check_uniform(self) -> None:
        dtype, device = self.means.dtype, self.means.device
        if not dtype.is_floating_point:
            raise ValueError(f"means must be floating point, got {dtype}")
        for field in fields(self):
            tensor: Tensor = getattr(self, field.name)
            if tensor.dtype != dtype or tensor.device != device:
                raise ValueError(
                    f"{field.name} is {tensor.dtype} on {tensor.device}, "
                    f"means is {dtype} on {device}: convert them to one"
                )

    def __len__(self) -> int:
        return self.means.shape[0]

    def __repr__(self) -> str:
        tensor = self.means
        return f"Gaussians(N={len(self)}, D={self.channels}, {tensor.dtype}, {tensor.device})"

    @property
    def channels(self) -> int:
        """Number D of colour or feature channels."""
        return self.colors.shape[1]

    def to(self, target: torch.device | torch.dtype | str) -> Gaussians:
        """The same Gaussians on another device or in another dtype, differentiably."""
        return self._map([tensor.to(target) for tensor in self.tensors()])

    def detach(self) -> Gaussians:
        """The same values cut off from the autograd graph."""
        return self._map([tensor.detach() for tensor in self.tensors()])

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(means, rotations, scales, opacities, colors), the order of the fields."""
        return self.means, self.rotations, self.scales, self.opacities, self.colors

    def select(self, index: Tensor) -> Gaussians:
        """The Gaussians at `index` (bool [N] or int64 [M]), in that order."""
        return self._map([tensor[index] for tensor in self.tensors()])

    @staticmethod
    def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
        """One set holding all `parts` one after the other; their D must agree.

        Raises:
            ValueError: `parts` is empty or has different channel counts.
        """
        channels = sorted({part.channels for part in parts})
        if len(channels) != 1:
            raise ValueError(f"need parts of one channel count, got channel counts {channels}")
        columns = zip(*(part.tensors() for part in parts), strict=True)
        return Gaussians(*(torch.cat(column) for column in columns))

    @staticmethod
    def _map(tensors: Sequence[Tensor]) -> Gaussians:
        return Gaussians(*tensors)

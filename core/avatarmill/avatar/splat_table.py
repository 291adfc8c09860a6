"""Gaussians as splat files hold them: logits of opacities, logarithms of scales, harmonics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.gaussians import Gaussians

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic 1 / (2 sqrt(pi)): color = 0.5 + SH_C0 * f_dc."""

MAX_DEGREE = 3
"""Highest degree of spherical harmonics that 3D Gaussian Splatting and its viewers know."""

# The nearest float32 to 0 and 1 that a logit can tell apart; a file cannot hold infinities.
OPACITY_RANGE = (2.0**-24, 1.0 - 2.0**-24)
MIN_SCALE = 1e-10

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class SplatTable:
    """N Gaussians with view-dependent colour, encoded; all arrays are float32.

    Raises:
        ValueError: shapes do not match, the degree is above 3, or a number is not finite.
    """

    means: Singles
    """[N, 3] centres in metres."""
    normals: Singles
    """[N, 3]; nobody uses them, but files have them."""
    harmonics: Singles
    """[N, (degree + 1)**2, 3] coefficients of red, green and blue; color = 0.5 + SH_C0 * first."""
    logits: Singles
    """[N] logit of the opacity."""
    log_scales: Singles
    """[N, 3] natural logarithm of the standard deviations in metres."""
    rotations: Singles
    """[N, 4] quaternions wxyz, not normalised."""

    def __post_init__(self) -> None:
        count = len(self.means)
        bands = self.harmonics.shape[1] if self.harmonics.ndim == 3 else 0
        if bands not in [(degree + 1) ** 2 for degree in range(MAX_DEGREE + 1)]:
            got = list(self.harmonics.shape)
            raise ValueError(f"harmonics must be [{count}, 1, 4, 9 or 16, 3], got {got}")
        expected = {
            **{"means": (count, 3), "normals": (count, 3), "harmonics": (count, bands, 3)},
            **{"logits": (count,), "log_scales": (count, 3), "rotations": (count, 4)},
        }
        bad = np.zeros(count, bool)
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ValueError(f"{name} must be {list(shape)}, got {list(array.shape)}")
            bad |= ~np.isfinite(array.reshape(count, -1)).all(axis=1)
        if bad.any():
            rows = np.flatnonzero(bad)
            raise ValueError(f"{len(rows)} Gaussians are not finite, the first is number {rows[0]}")

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"SplatTable(N={len(self)}, degree={self.degree})"

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return math.isqrt(self.harmonics.shape[1]) - 1

    @classmethod
    def encode(cls, gaussians: Gaussians) -> SplatTable:
        """Encode RGB Gaussians so that `encode(table.decode())` gives the same bits.

        Opacities are kept inside [2**-24, 1 - 2**-24] and scales above 1e-10 m.

        Raises:
            ValueError: the Gaussians do not have 3 channels, or hold a value that is not finite.
        """
        if gaussians.channels != 3:
            raise ValueError(
                f"a .ply holds RGB, these Gaussians have {gaussians.channels} channels: "
                "decode features to colours first"
            )
        arrays = [tensor.detach().cpu().double().numpy() for tensor in gaussians.tensors()]
        means, rotations, scales, opacities, colors = arrays
        return cls(
            means.astype(np.float32),
            np.zeros((len(gaussians), 3), np.float32),
            _settled(colors, _to_sh, _from_sh)[:, None],
            _settled(np.clip(opacities, *OPACITY_RANGE), _to_logit, _from_logit),
            _settled(np.maximum(scales, MIN_SCALE), np.log, np.exp),
            rotations.astype(np.float32),
        )

    def decode(self, *, drop_view_dependence: bool = False) -> Gaussians:
        """RGB Gaussians.

        Args:
            drop_view_dependence: use only the mean colour of harmonics above degree 0.

        Raises:
            ValueError: the degree is above 0 and `drop_view_dependence` is not given.
        """
        if self.degree > 0 and not drop_view_dependence:
            raise ValueError(
                f"view-dependent colours (f_rest_*, degree {self.degree}): pass "
                "drop_view_dependence=True to keep their mean"
            )
        arrays: tuple[Doubles | Singles, ...] = (
            self.means,
            self.rotations,
            np.exp(self.log_scales.astype(np.float64)),
            _from_logit(self.logits.astype(np.float64)),
            _from_sh(self.harmonics[:, 0].astype(np.float64)),
        )
        return Gaussians(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))


def _settled(
    values: Doubles, encode: Callable[[Doubles], Doubles], decode: Callable[[Doubles], Doubles]
) -> Singles:
    """Encoded float32 values that decoding to float32 and encoding again does not move.

    Where the encoded grid is the coarser one the first value already is such a fixed point; where
    it is the finer one, decoding once picks the representative.
    """
    encoded = encode(values).astype(np.float32)
    for _ in range(4):
        decoded = decode(encoded.astype(np.float64)).astype(np.float32)
        encoded, previous = encode(decoded.astype(np.float64)).astype(np.float32), encoded
        if np.array_equal(encoded, previous):
            break
    return encoded


def _to_sh(colors: Doubles) -> Doubles:
    return (colors - 0.5) / SH_C0


def _from_sh(coefficients: Doubles) -> Doubles:
    return 0.5 + SH_C0 * coefficients


def _to_logit(opacities: Doubles) -> Doubles:
    return np.asarray(np.log(opacities) - np.log1p(-opacities))


def _from_logit(logits: Doubles) -> Doubles:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))

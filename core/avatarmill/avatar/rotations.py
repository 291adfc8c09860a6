"""Conversions between axis-angle vectors, rotation matrices and quaternions.

Axis-angle is in radians, quaternions are wxyz, matrices act on column vectors. Every function
takes any leading dimensions, is differentiable, and has finite gradients at the identity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# Below this squared angle sin(x)/x and friends are replaced by their Taylor series: float32
# loses (1 - cos x) / x^2 to cancellation well before x reaches zero.
_SMALL_SQUARED = 1e-4


def _check(value: Tensor, shape: tuple[int, ...], name: str) -> None:
    if value.shape[-len(shape) :] != shape:
        raise ValueError(f"{name} must end in {list(shape)}, got {list(value.shape)}")


def _square(entries: tuple[Tensor, ...]) -> Tensor:
    # Nine tensors [...] in row order -> [..., 3, 3].
    return torch.stack(entries, dim=-1).reshape(*entries[0].shape, 3, 3)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of axis-angle vectors [..., 3], by Rodrigues' formula."""
    _check(axis_angle, (3,), "axis_angle")
    squared = (axis_angle * axis_angle).sum(-1)
    small = squared < _SMALL_SQUARED
    # The unused branch of torch.where still sends gradients back, so it must stay finite too.
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sin_over = torch.where(small, 1 - squared / 6 + squared**2 / 120, angle.sin() / angle)
    cos_over = torch.where(small, 0.5 - squared / 24 + squared**2 / 720, (1 - angle.cos()) / safe)
    x, y, z = axis_angle.unbind(-1)
    sx, sy, sz = sin_over * x, sin_over * y, sin_over * z
    cx, cy, cz = cos_over * x, cos_over * y, cos_over * z
    rows = (
        *(1 - cy * y - cz * z, cx * y - sz, cx * z + sy),
        *(cx * y + sz, 1 - cx * x - cz * z, cy * z - sx),
        *(cx * z - sy, cy * z + sx, 1 - cx * x - cy * y),
    )
    return _square(rows)


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:
    """Unit quaternions wxyz [..., 4] of axis-angle vectors [..., 3]."""
    _check(axis_angle, (3,), "axis_angle")
    squared = (axis_angle * axis_angle).sum(-1, keepdim=True)
    small = squared < _SMALL_SQUARED
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    real = torch.where(small, 1 - squared / 8 + squared**2 / 384, (angle / 2).cos())
    scale = torch.where(small, 0.5 - squared / 48 + squared**2 / 3840, (angle / 2).sin() / angle)
    return torch.cat((real, scale * axis_angle), dim=-1)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Axis-angle vectors [..., 3] with angle in [0, pi] of quaternions wxyz [..., 4]."""
    _check(quaternion, (4,), "quaternion")
    unit = F.normalize(quaternion, dim=-1)
    unit = torch.where(unit[..., :1] < 0, -unit, unit)
    real, imaginary = unit[..., :1], unit[..., 1:]
    squared = (imaginary * imaginary).sum(-1, keepdim=True)
    small = squared < _SMALL_SQUARED / 4
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # angle / sin(angle / 2) = 2 asin(s) / s = 2 + s^2 / 3 + 3 s^4 / 20 + ...
    series = 2 + squared / 3 + 3 * squared**2 / 20
    scale = torch.where(small, series, 2 * torch.atan2(sine, real) / sine)
    return scale * imaginary


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions wxyz [..., 4], which are normalised first."""
    _check(quaternion, (4,), "quaternion")
    w, x, y, z = F.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return _square(rows)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions wxyz [..., 4] with w >= 0 of rotation matrices [..., 3, 3].

    Of the four algebraically equal formulas the best conditioned one is used (Shepperd 1978),
    so the result and its gradient stay finite at half turns.
    """
    _check(matrix, (3, 3), "matrix")
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    # Row i is 4 q_i * (w, x, y, z): any row, normalised, is the quaternion up to sign.
    candidates = torch.stack(
        (
            *(1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01),
            *(m21 - m12, 1 + m00 - m11 - m22, m01 + m10, m02 + m20),
            *(m02 - m20, m01 + m10, 1 - m00 + m11 - m22, m12 + m21),
            *(m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22),
        ),
        dim=-1,
    ).unflatten(-1, (4, 4))
    best = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = best[..., None, None].expand(*best.shape, 1, 4)
    unit = F.normalize(candidates.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors [..., 3] with angle in [0, pi] of rotation matrices [..., 3, 3]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def quaternion_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product [..., 4] of quaternions wxyz: rotate by `right`, then by `left`."""
    _check(left, (4,), "left")
    _check(right, (4,), "right")
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    product = (
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
    )
    return torch.stack(product, dim=-1)

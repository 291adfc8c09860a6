"""Decoders: from geometry tokens to Gaussians, once a person and once a pose."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avatarmill.avatar.body import BodyParams
from avatarmill.avatar.rotations import axis_angle_to_matrix, axis_angle_to_quaternion
from avatarmill.tokenize.local import LocalGaussians, PoseOffsets

OFFSET_LIMIT = 0.30
"""Metres a Gaussian may leave its site: long hair and wide skirts are within it."""
_OFFSET_STEP = 0.02
POSE_OFFSET_LIMIT = 0.05
"""Metres a pose may move a Gaussian."""
_POSE_COLOR_LIMIT = 0.25
_LOG_SCALE_LIMIT = 1.8
_FLATNESS = 0.4
# sigmoid(2.5): nearly solid, yet with a gradient left.
_OPACITY_LOGIT = 2.5
_COLOR_STEP = 2.0
_POSED_JOINTS = slice(1, 55)
POSE_FEATURES = 54 * 6 + 52


def mlp(before: int, hidden: int, after: int, layers: int) -> nn.Sequential:
    """A GELU network with `layers` hidden layers whose last layer starts small."""
    parts: list[nn.Module] = []
    width = before
    for _ in range(layers):
        parts += [nn.Linear(width, hidden), nn.GELU()]
        width = hidden
    last = nn.Linear(width, after)
    nn.init.normal_(last.weight, std=0.02 / hidden**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


class CanonicalDecoder(nn.Module):
    """LCA's eq. 8: colour, position, opacity, rotation, scale of K Gaussians from one token.

    All outputs are residuals: around a flat disk on the surface, and around the colours that
    the first 3 K channels of a token stand for. An untrained decoder already renders a body.
    """

    spacing: Tensor

    def __init__(self, width: int, per_token: int, spacing: Tensor) -> None:
        super().__init__()
        self.per_token = per_token
        self.norm = nn.LayerNorm(width)
        self.network = mlp(width, 2 * width, per_token * 14, layers=2)
        self.register_buffer("spacing", spacing, persistent=False)

    def forward(self, tokens_btd: Tensor) -> LocalGaussians:
        """Decode tokens [B, T, D] to Gaussians [B, T * K]."""
        raw = self.network(self.norm(tokens_btd)).float()
        raw = raw.unflatten(-1, (self.per_token, 14)).flatten(1, 2)
        base = tokens_btd[..., : 3 * self.per_token].float().unflatten(-1, (self.per_token, 3))
        color, offset, opacity, rotation, scale = raw.split((3, 3, 1, 4, 3), dim=-1)
        flat = raw.new_tensor([1.0, 1.0, _FLATNESS]).log()
        start = self.spacing.log()[:, None] + flat
        upright = raw.new_tensor([1.0, 0.0, 0.0, 0.0])
        return LocalGaussians(
            colors=(_COLOR_STEP * (base.flatten(1, 2) + color)).sigmoid(),
            offsets=soft_limit(_OFFSET_STEP * offset, OFFSET_LIMIT),
            opacities=(opacity[..., 0] + _OPACITY_LOGIT).sigmoid(),
            rotations=F.normalize(rotation + upright, dim=-1),
            log_scales=start + soft_limit(scale, _LOG_SCALE_LIMIT),
        )


class PoseDecoder(nn.Module):
    """LCA's eq. 9: offsets of colour, position, rotation, scale from token and driving signals."""

    def __init__(self, width: int, per_token: int, pose_channels: int) -> None:
        super().__init__()
        self.per_token = per_token
        self.pose_code = nn.Sequential(
            nn.Linear(POSE_FEATURES, width), nn.GELU(), nn.Linear(width, pose_channels)
        )
        self.norm = nn.LayerNorm(width)
        self.network = mlp(width + pose_channels, width, per_token * 12, layers=2)

    def forward(self, tokens_btd: Tensor, params: BodyParams) -> PoseOffsets:
        """Offsets [B, T * K] of tokens [B, T, D] under B poses.

        Gaze needs no input of its own: it is the rotation of the eye joints.
        """
        code = self.pose_code(pose_features(params))
        code = code[:, None].expand(-1, tokens_btd.shape[1], -1)
        raw = self.network(torch.cat([self.norm(tokens_btd), code], dim=-1)).float()
        raw = raw.unflatten(-1, (self.per_token, 12)).flatten(1, 2)
        color, offset, turn, scale = raw.split(3, dim=-1)
        return PoseOffsets(
            colors=soft_limit(0.25 * color, _POSE_COLOR_LIMIT),
            offsets=soft_limit(0.5 * _OFFSET_STEP * offset, POSE_OFFSET_LIMIT),
            rotations=axis_angle_to_quaternion(0.5 * turn),
            log_scales=soft_limit(0.5 * scale, 0.5),
        )


def color_channels(colors: Tensor) -> Tensor:
    """Token channels that decode to these colours (0..1), before any correction."""
    return torch.logit(colors, eps=0.02) / _COLOR_STEP


def pose_features(params: BodyParams) -> Tensor:
    """Driving signals [B, 376]: 6D rotations of all joints but the root, then the expression.

    Without the root: an avatar must not change when the camera walks around it.
    """
    matrices = axis_angle_to_matrix(params.pose[:, _POSED_JOINTS])
    bend = matrices - torch.eye(3, device=matrices.device)
    return torch.cat([bend[..., :2].flatten(1), params.expression], dim=-1)


def soft_limit(value: Tensor, limit: float) -> Tensor:
    """Identity near zero, never beyond the limit."""
    return limit * (value / limit).tanh()

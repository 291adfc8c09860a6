"""Visibility: how well the references see each anchor, by two rules.

The geometric rule asks the fit: is the anchor inside the image, inside the eroded mask, in
front of the body's z-buffer, and does it face the camera? The contribution rule asks the
rendered avatar: how much of the pixels of the person do an anchor's Gaussians make up?
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.anchors import Anchors
from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import contributions
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.tokenize.frames import ReferenceFrames

EROSION = 0.008
"""Fraction of the crop's side that the mask is eroded by: about 2 pixels of 256."""
DEPTH_TOLERANCE = 0.02
"""Metres an anchor may lie behind the z-buffer: less than a wrist, more than a wrong fit."""
_LEAST_COSINE = 0.1
RULE = (
    f"geometric-1: inside the image and the mask eroded by {EROSION:g} of its side, at most "
    f"{DEPTH_TOLERANCE:g} m behind the body's z-buffer, cosine above {_LEAST_COSINE:g}; "
    "score 1 - prod(1 - cosine * confidence) over the references"
)
"""What a stored score counts, written with every token sample."""


def frame_visibility(frames: ReferenceFrames, body: Body, anchors: Anchors) -> Tensor:
    """Geometric rule, a frame at a time: [N, T] float in 0..1.

    A score is the cosine between surface and view times the landmark confidence of the
    anchor's joints where all four conditions hold, and 0 elsewhere.
    """
    with torch.no_grad():
        vertices = body(frames.params).vertices
    points, normals = anchors.points(vertices), anchors.normals(vertices)
    cosine = -(F.normalize(points, dim=-1) * normals).sum(-1)
    confidence = frames.confidence @ anchors.weights.T
    inside = _inside_mask(frames, points)
    front = _in_front(frames, body, vertices, points)
    score = cosine.clamp(0.0, 1.0) * confidence.clamp(0.0, 1.0)
    return torch.where(inside & front & (cosine > _LEAST_COSINE), score, 0.0)


def accumulate(frame_scores: Tensor) -> Tensor:
    """Join frame scores [N, T] into one uint8 score [T].

    Frames add up like independent witnesses, 1 - prod(1 - score): one good look is enough,
    several glancing ones help.
    """
    unseen = (1.0 - frame_scores.clamp(0.0, 1.0)).prod(dim=0)
    return ((1.0 - unseen) * 255.0).round().to(torch.uint8)


def visibility_scores(
    body: Body,
    anchors: Anchors,
    params: BodyParams,
    intrinsics: Tensor,
    masks: Tensor,
    confidence: Tensor,
) -> Tensor:
    """Geometric rule from its parts: [N, T] for N poses, cameras [N, 3, 3], masks [N, S, S]."""
    count, _, size = masks.shape
    frames = ReferenceFrames(
        images=torch.zeros(count, 3, size, size),
        masks=masks,
        intrinsics=intrinsics,
        params=params,
        confidence=confidence,
        face_boxes=torch.zeros(count, 4),
    )
    return frame_visibility(frames, body, anchors)


def contribution_visibility(gaussians: Gaussians, cameras: Cameras, masks: Tensor) -> Tensor:
    """Contribution rule for avatars posed in one frame: [N] per Gaussian, 0..1.

    The share of the person's pixels that a Gaussian makes up, relative to the pixels it would
    cover if each had an equal share; N is the number of Gaussians.

    Args:
        masks: [C, H, W], only used for the number of pixels of the person.
    """
    weights = contributions(gaussians, cameras)
    fair = masks.sum(dim=(1, 2)).clamp(min=1.0) / len(gaussians.means)
    return (weights / fair[:, None]).clamp(0.0, 1.0).amax(dim=0)


def per_token(scores: Tensor, gaussians_per_token: int) -> Tensor:
    """Best score among the Gaussians of each token: [T * K] to [T]."""
    grouped: Tensor = scores.unflatten(0, (-1, gaussians_per_token))
    return grouped.amax(dim=1)


def _inside_mask(frames: ReferenceFrames, points: Tensor) -> Tensor:
    """Whether anchors [N, T, 3] project into the eroded masks: bool [N, T]."""
    size = frames.masks.shape[-1]
    reach = max(1, round(EROSION * size))
    # Eroding is dilating the complement; outside the image counts as background.
    outside = F.pad(1.0 - frames.masks[:, None], [reach] * 4, value=1.0)
    eroded = 1.0 - F.max_pool2d(outside, 2 * reach + 1, stride=1)
    homogeneous = points @ frames.intrinsics.transpose(-1, -2)
    pixels = homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=1e-3)
    where = (pixels * (2.0 / size) - 1.0).clamp(-4.0, 4.0)[:, :, None]
    sampled = F.grid_sample(eroded, where, mode="nearest", align_corners=False)
    return (sampled[:, 0, :, 0] > 0.5) & (points[..., 2] > 1e-3)


def _in_front(frames: ReferenceFrames, body: Body, vertices: Tensor, points: Tensor) -> Tensor:
    """Whether nothing of the body hides anchors [N, T, 3]: bool [N, T]."""
    size = frames.masks.shape[-1]
    faces = body.faces.cpu().numpy()
    homogeneous = points @ frames.intrinsics.transpose(-1, -2)
    pixels = homogeneous[..., :2] / homogeneous[..., 2:].clamp(min=1e-3)
    cell = pixels.floor().long().clamp(0, size - 1)
    hidden = []
    for row in range(len(frames)):
        corners = vertices[row].detach().cpu().numpy().astype(np.float32)
        camera = frames.intrinsics[row].cpu().numpy().astype(np.float32)
        depth = torch.from_numpy(mesh_zbuffer(corners, faces, camera, size, size).depth)
        nearest = depth[cell[row, :, 1], cell[row, :, 0]]
        hidden.append(points[row, :, 2] > nearest + DEPTH_TOLERANCE)
    return ~torch.stack(hidden)

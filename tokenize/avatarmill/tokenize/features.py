"""Pixel-aligned features: what the references show at each site, by projecting it with the fit.

Shape letters: B identities, N images, T anchors, K sites an anchor, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.anchors import Anchors
from avatarmill.avatar.body import Body
from avatarmill.avatar.skinning import skin_points
from avatarmill.tokenize.frames import ReferenceFrames, crop_faces, has_face, resize
from avatarmill.tokenize.sites import Sites
from avatarmill.tokenize.visibility import frame_visibility

RGB_CHANNELS = 3
# Frames are weighed by a power of their visibility: the best view speaks loudest.
_SHARPNESS = 2.0


@dataclass(frozen=True, slots=True)
class ReconstructorInput:
    """References of B identities, with N images each, as the network takes them."""

    images: Tensor
    """[B, N, 4, S, S]: RGB in 0..1 with background 0, then the mask."""
    faces: Tensor
    """[B, N, 4, s, s]: face crops of the same; zeros where no face was found."""
    face_valid: Tensor
    """[B, N] float 0 or 1."""
    site_pixels: Tensor
    """[B, N, T, K, 2] in pixels of the crop."""
    visibility: Tensor
    """[B, N, T] float in 0..1, how well each frame sees each anchor."""

    def first(self, count: int) -> "ReconstructorInput":
        """Keep only the first images of each identity."""
        return self.select(torch.arange(count))

    def select(self, images: Tensor) -> "ReconstructorInput":
        """Keep the images with these indices."""
        return ReconstructorInput(
            self.images[:, images],
            self.faces[:, images],
            self.face_valid[:, images],
            self.site_pixels[:, images],
            self.visibility[:, images],
        )


def prepare(
    frames: ReferenceFrames,
    body: Body,
    anchors: Anchors,
    sites: Sites,
    *,
    image_size: int,
    face_size: int,
) -> ReconstructorInput:
    """Turn the reference frames of one identity into network input, a batch of one.

    Runs the body's fit through the cameras: site projections and per-frame visibility.
    """
    boxes = frames.face_boxes
    # The background goes before anything is resized, so that none of it bleeds over the border;
    # faces are cut before shrinking, as they are where the resolution is needed.
    masked = masked_images(frames.images, frames.masks)
    faces = crop_faces(masked, boxes, face_size)
    frames = frames.resized(image_size)
    per_anchor = len(sites.weights) // len(anchors.face)
    pixels = site_pixels(frames, body, sites)
    return ReconstructorInput(
        images=resize(masked, image_size).clamp(0.0, 1.0)[None],
        faces=faces[None],
        face_valid=has_face(boxes)[None],
        site_pixels=pixels.unflatten(1, (-1, per_anchor))[None],
        visibility=frame_visibility(frames, body, anchors)[None],
    )


def masked_images(images: Tensor, masks: Tensor) -> Tensor:
    """Stack RGB without background and the mask: [N, 4, S, S]."""
    return torch.cat([images * masks[:, None], masks[:, None]], dim=1)


def site_pixels(frames: ReferenceFrames, body: Body, sites: Sites) -> Tensor:
    """Project every site into every frame: [N, P, 2] pixels."""
    vertices, _ = body.rest(frames.params.shape, frames.params.expression)
    _, transforms = body.transforms(frames.params)
    return project(
        skin_points(sites.points(vertices), sites.weights, transforms), frames.intrinsics
    )


def project(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels [N, P, 2] of camera-space points [N, P, 3]; behind the camera lands far outside."""
    homogeneous = points @ intrinsics.transpose(-1, -2)
    depth = homogeneous[..., 2:]
    pixels = homogeneous[..., :2] / depth.clamp(min=1e-3)
    return torch.where(depth > 1e-3, pixels, torch.full_like(pixels, -1e4))


def sample_maps(maps: Tensor, pixels: Tensor, image_size: int) -> Tensor:
    """Sample maps [M, C, h, w] bilinearly at pixels [M, T, K, 2] of the image: [M, T, K, C]."""
    where = pixels * (2.0 / image_size) - 1.0
    sampled = F.grid_sample(maps, where.clamp(-4.0, 4.0), mode="bilinear", align_corners=False)
    return sampled.permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class SiteColors:
    """What the pixels say about colours before any learning."""

    features: Tensor
    """[B, T, 4 K + 10]; see `site_colors`."""
    guess: Tensor
    """[B, T, K, 3] in 0..1: the best colour at hand for each site, seen or not."""


def site_colors(inputs: ReconstructorInput, mirror: Tensor) -> SiteColors:
    """Look up the colour of every site in every frame and join the frames.

    Features of an anchor: its K sites' colours, weighted over frames by visibility; how visible
    each site was; the colour behind which the anchor hides when nothing sees it (its front or
    back: often the same garment) and how often that was found; colour and visibility of its
    mirror image; its own visibility, the best and the mean.

    The guess is what is seen, then the mirror image, then what is in front, then grey.
    """
    batch, images, _, size, _ = inputs.images.shape
    sampled = sample_maps(inputs.images.flatten(0, 1), inputs.site_pixels.flatten(0, 1), size)
    sampled = sampled.unflatten(0, (batch, images))
    mask = sampled[..., RGB_CHANNELS:]
    # Images carry premultiplied colour, so dividing by the mask undoes soft edges.
    rgb = (sampled[..., :RGB_CHANNELS] / mask.clamp(min=0.2)).clamp(0.0, 1.0)
    seen = inputs.visibility[..., None, None] * mask
    colors = _mean_over_frames(rgb, seen**_SHARPNESS)
    site_seen = seen.amax(dim=1)
    through = _mean_over_frames(rgb.mean(3), mask.mean(3))
    found = mask.mean(3).amax(dim=1)
    token_color = _mean_over_frames(rgb.mean(3), inputs.visibility[..., None] ** _SHARPNESS)
    token_seen = inputs.visibility.amax(dim=1)[..., None]
    mirrored, mirror_seen = token_color[:, mirror], token_seen[:, mirror]
    features = torch.cat(
        [
            *(colors.flatten(-2), site_seen.flatten(-2), through, found),
            *(mirrored, mirror_seen, token_seen, inputs.visibility.mean(dim=1)[..., None]),
        ],
        dim=-1,
    )
    sources = [
        (colors, site_seen),
        (mirrored[:, :, None], 0.1 * mirror_seen[:, :, None]),
        (through[:, :, None], 0.01 * found[:, :, None]),
    ]
    total, weight = torch.full_like(colors, 0.5 * 1e-4), torch.full_like(site_seen, 1e-4)
    for color, trust in sources:
        total, weight = total + color * trust, weight + trust
    return SiteColors(features, total / weight)


def aligned_features(detail: Tensor, inputs: ReconstructorInput) -> Tensor:
    """Encoder features at each anchor, averaged over frames: [B, T, C].

    Frames that do not see an anchor count a little: their silhouette still tells of it.
    """
    batch, images, _, size, _ = inputs.images.shape
    centre = inputs.site_pixels.mean(3, keepdim=True).flatten(0, 1)
    sampled = sample_maps(detail, centre, size)[:, :, 0].unflatten(0, (batch, images))
    return _mean_over_frames(sampled, inputs.visibility[..., None] ** _SHARPNESS + 0.02)


def _mean_over_frames(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over axis 1, zero where no weight is."""
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1e-4)

"""Pictures of one clip for the report: frame, mask, body, reconstruction, visibility."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.pipeline.overlay import draw_overlay
from avatarmill.records.clip import Clip
from avatarmill.records.token import TokenSample
from avatarmill.tokenize.tokenizer import Tokenizer

Image = NDArray[np.uint8]

PAPER = 1.0
"""Background of renders: white, as the page."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of the contact sheet and its title."""

    title: str
    image: Image


def clip_tiles(clip: Clip, sample: TokenSample, tokenizer: Tokenizer, body: Body) -> list[Tile]:
    """The row of one clip: what was seen, what was understood, what the tokens hold.

    The reconstruction is decoded from the stored latent, posed like the first reference and
    like the first held-out target, and seen by their cameras.
    """
    avatar = tokenizer.decode(torch.from_numpy(sample.latent), torch.from_numpy(sample.shape))
    tiles = [
        Tile("frame", clip.images[0]),
        Tile("mask", masked(clip.images[0], clip.masks[0])),
        Tile("fitted body", overlay(clip, 0, body)),
    ]
    with torch.no_grad():
        posed = avatar.pose(clip_params(clip, 0))
        tiles.append(Tile("reconstruction", render(posed, clip, 0)))
        tiles.append(Tile("visibility", render(paint(posed, sample.visibility), clip, 0)))
        if clip.num_references < clip.num_frames:
            row = clip.num_references
            tiles.append(Tile("held-out frame", clip.images[row]))
            tiles.append(
                Tile("driven to it", render(avatar.pose(clip_params(clip, row)), clip, row))
            )
    return tiles


def clip_params(clip: Clip, row: int) -> BodyParams:
    """Body parameters of one frame, unbatched, in camera space."""
    return BodyParams(
        pose=torch.from_numpy(clip.pose[row]),
        shape=torch.from_numpy(clip.shape),
        expression=torch.from_numpy(clip.expression[row]),
        translation=torch.from_numpy(clip.translation[row]),
    )


def overlay(clip: Clip, row: int, body: Body) -> Image:
    """The fitted body over one frame of the clip."""
    with torch.no_grad():
        vertices = body(clip_params(clip, row)).vertices.numpy()
    return draw_overlay(clip.images[row], vertices, body, clip.intrinsics[row])


def masked(image: Image, mask: Image) -> Image:
    """The person alone, on white: [H, W, 3] and an alpha [H, W] of 0..255."""
    alpha = mask[..., None].astype(np.float32) / 255
    return np.asarray(image * alpha + 255 * PAPER * (1 - alpha), dtype=np.uint8)


def render(gaussians: Gaussians, clip: Clip, row: int) -> Image:
    """Gaussians in the camera of one frame of the clip, on white."""
    side = clip.images.shape[1]
    camera = Cameras.identity(torch.from_numpy(clip.intrinsics[row]), side, side)
    color = rasterize(gaussians, camera, background=torch.full((3,), PAPER)).color[0]
    return np.asarray((color.clamp(0, 1) * 255).round().byte().numpy())


def paint(gaussians: Gaussians, visibility: NDArray[np.uint8]) -> Gaussians:
    """The same Gaussians coloured by the score of their token: red unseen, green well seen."""
    score = torch.from_numpy(visibility.astype(np.float32) / 255)
    score = score.repeat_interleave(len(gaussians.means) // len(score))
    return replace(
        gaussians, colors=torch.stack([1 - score, score, torch.full_like(score, 0.2)], -1)
    )

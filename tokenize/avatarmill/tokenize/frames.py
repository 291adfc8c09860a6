"""Reference frames: what the tokenizer sees of one person."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.body import BodyParams
from avatarmill.records.clip import Clip


@dataclass(frozen=True, slots=True)
class ReferenceFrames:
    """N square crops of one person with the fit that explains them."""

    images: Tensor
    """[N, 3, S, S] float32 sRGB in 0..1."""
    masks: Tensor
    """[N, S, S] float32 in 0..1, 1 on the person."""
    intrinsics: Tensor
    """[N, 3, 3] float32 in pixels of the crop, pixel centres at +0.5."""
    params: BodyParams
    """Batch of N, in camera space; the shape is the same in every row."""
    confidence: Tensor
    """[N, 55] float32 in 0..1: how well each joint was seen by the landmark detector."""
    face_boxes: Tensor
    """[N, 4] float32 x0, y0, x1, y1 in pixels of the crop; zeros where no face was found."""

    def __post_init__(self) -> None:
        count, _, height, width = self.images.shape
        if height != width or self.masks.shape != (count, height, width):
            raise ValueError(
                f"images {tuple(self.images.shape)} and masks {tuple(self.masks.shape)} must be "
                "square crops [N, 3, S, S] and [N, S, S] of one size; crop around the person first"
            )
        lengths = {
            "intrinsics": len(self.intrinsics),
            "pose": len(self.params.pose),
            "confidence": len(self.confidence),
            "face_boxes": len(self.face_boxes),
        }
        for name, length in lengths.items():
            if length != count:
                raise ValueError(f"{name} has {length} rows for {count} images; give one a frame")

    @classmethod
    def from_clip(cls, clip: Clip) -> Self:
        """Take the reference frames of a clip, leaving its held-out targets alone."""
        return cls.from_arrays(clip, slice(0, clip.num_references))

    @classmethod
    def from_arrays(cls, clip: Clip, rows: slice) -> Self:
        """Take some frames of a clip, for example its targets for a comparison."""
        pose = torch.from_numpy(clip.pose[rows])
        shape = torch.from_numpy(clip.shape).expand(len(pose), -1)
        return cls(
            images=torch.from_numpy(clip.images[rows]).permute(0, 3, 1, 2).float() / 255.0,
            masks=torch.from_numpy(clip.masks[rows]).float() / 255.0,
            intrinsics=torch.from_numpy(clip.intrinsics[rows]),
            params=BodyParams(
                pose=pose,
                shape=shape,
                expression=torch.from_numpy(clip.expression[rows]),
                translation=torch.from_numpy(clip.translation[rows]),
            ),
            confidence=torch.from_numpy(clip.confidence[rows]),
            face_boxes=torch.from_numpy(clip.face_boxes[rows]),
        )

    def __len__(self) -> int:
        return len(self.images)

    def resized(self, size: int) -> Self:
        """The same frames at another side length, with intrinsics and boxes to match."""
        old = self.images.shape[-1]
        if size == old:
            return self
        factor = size / old
        scale = torch.tensor([[factor], [factor], [1.0]])
        return type(self)(
            images=resize(self.images, size).clamp(0.0, 1.0),
            masks=resize(self.masks[:, None], size)[:, 0].clamp(0.0, 1.0),
            intrinsics=self.intrinsics * scale,
            params=self.params,
            confidence=self.confidence,
            face_boxes=self.face_boxes * factor,
        )


def resize(images: Tensor, size: int) -> Tensor:
    """Resize [N, C, H, W] to squares of `size` pixels, low-pass filtered when shrinking."""
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def crop_faces(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut the face boxes [N, 4] out of images [N, C, S, S], resized to [N, C, size, size].

    A frame without a face (a box of zeros) gives zeros.
    """
    side = images.shape[-1]
    low, high = boxes[:, :2], boxes[:, 2:]
    centre = (low + high) / side - 1.0
    half = (high - low) / side
    step = (torch.arange(size) + 0.5) / size * 2.0 - 1.0
    row, column = torch.meshgrid(step, step, indexing="ij")
    grid = torch.stack([column, row], dim=-1)[None]
    where = centre[:, None, None] + half[:, None, None] * grid
    crops = F.grid_sample(images, where, mode="bilinear", align_corners=False)
    return crops * has_face(boxes)[:, None, None, None]


def has_face(boxes: Tensor) -> Tensor:
    """Which of the boxes [N, 4] hold a face: float [N] of 0 and 1."""
    return ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).float()


def face_thumbnail(clip: Clip, size: int = 128) -> np.ndarray | None:
    """The largest face among a clip's references as uint8 [size, size, 3], or None."""
    boxes = torch.from_numpy(clip.face_boxes[: clip.num_references])
    area = (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)
    if len(area) == 0 or area.max() <= 0:
        return None
    best = int(area.argmax())
    image = torch.from_numpy(clip.images[best]).permute(2, 0, 1)[None].float()
    crop = crop_faces(image, boxes[best : best + 1], size)[0]
    return crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()

"""Training actors on disk: plain uncompressed arrays, memory-mapped, ready for the network.

Shape letters: A actors, F frames each, S pixels of a crop's side, T anchors, P sites.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatarmill.avatar.body import BodyParams
from avatarmill.tokenize.features import ReconstructorInput, masked_images

ARRAYS = (
    "images",
    "faces",
    "face_valid",
    "site_pixels",
    "visibility",
    "intrinsics",
    "pose",
    "shape",
    "expression",
    "translation",
    "face_boxes",
    "windows",
)
_DONE = "set.json"


@dataclass(frozen=True, slots=True)
class TargetViews:
    """M frames that renders are compared with, and the true pose of each."""

    images: Tensor
    """[M, S, S, 3] in 0..1, premultiplied by the mask: black outside the person."""
    masks: Tensor
    """[M, S, S] in 0..1."""
    known: Tensor
    """[M, S, S], 1 inside the picture the crop was cut from, 0 beyond its border."""
    intrinsics: Tensor
    """[M, 3, 3]."""
    params: BodyParams
    """Batch of M, camera space."""
    face_boxes: Tensor
    """[M, 4] pixels; zeros where the face is turned away or outside."""


@dataclass(frozen=True, slots=True)
class ActorSet:
    """A actors with F frames each; any frame can serve as reference or as target."""

    arrays: Mapping[str, NDArray[np.generic]]
    """By the names in ARRAYS, each [A, F, ...]; images are RGB, true mask, mask of the fit."""
    image_size: int
    per_anchor: int
    """Sites an anchor."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map a finished set. Raises ValueError for a folder that is not one."""
        if not is_finished(folder):
            raise ValueError(f"{folder} holds no finished actor set; build_actor_set writes one")
        facts = json.loads((folder / _DONE).read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
        return cls(arrays, facts["image_size"], facts["per_anchor"])

    def __len__(self) -> int:
        return len(self.arrays["pose"])

    @property
    def num_frames(self) -> int:
        """F."""
        return int(self.arrays["pose"].shape[1])

    def inputs(self, actor: int, frames: NDArray[np.int64]) -> ReconstructorInput:
        """Some frames of one actor as references, a batch of one."""
        pixels = self._tensor("site_pixels", actor, frames)
        layers = self._tensor("images", actor, frames) / 255.0
        return ReconstructorInput(
            images=masked_images(layers[:, :3], layers[:, 4])[None],
            faces=self._tensor("faces", actor, frames)[None] / 255.0,
            face_valid=self._tensor("face_valid", actor, frames)[None],
            site_pixels=pixels.unflatten(1, (-1, self.per_anchor))[None],
            visibility=self._tensor("visibility", actor, frames)[None] / 255.0,
        )

    def targets(self, actor: int, frames: NDArray[np.int64]) -> TargetViews:
        """Some frames of one actor as ground truth."""
        layers = self._tensor("images", actor, frames) / 255.0
        rgba = masked_images(layers[:, :3], layers[:, 3])
        return TargetViews(
            images=rgba[:, :3].permute(0, 2, 3, 1),
            masks=rgba[:, 3],
            known=_inside(self._tensor("windows", actor, frames), self.image_size),
            intrinsics=self._tensor("intrinsics", actor, frames),
            params=BodyParams(
                pose=self._tensor("pose", actor, frames),
                shape=self._tensor("shape", actor, frames),
                expression=self._tensor("expression", actor, frames),
                translation=self._tensor("translation", actor, frames),
            ),
            face_boxes=self._tensor("face_boxes", actor, frames),
        )

    def _tensor(self, name: str, actor: int, frames: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.arrays[name][actor, frames])).float()


def _inside(windows: Tensor, size: int) -> Tensor:
    """1 at the pixels [M, size, size] whose centres lie in windows x0, y0, x1, y1 [M, 4]."""
    centre = torch.arange(size) + 0.5
    low, high = windows[:, :2, None], windows[:, 2:, None]
    columns, rows = ((centre > low) & (centre < high)).float().unbind(1)
    return rows[:, :, None] * columns[:, None]


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a complete set."""
    return (folder / _DONE).is_file()


def create_arrays(folder: Path, actors: int, example: Mapping[str, NDArray[np.generic]]) -> None:
    """Lay out empty arrays for `actors` actors shaped like one example [F, ...]."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARRAYS:
        row = example[name]
        shape, path = (actors, *row.shape), folder / f"{name}.npy"
        np.lib.format.open_memmap(path, mode="w+", dtype=row.dtype, shape=shape).flush()


def write_actor(folder: Path, actor: int, rows: Mapping[str, NDArray[np.generic]]) -> None:
    """Fill in one actor; safe from several processes at once, as rows do not overlap."""
    for name in ARRAYS:
        array = np.load(folder / f"{name}.npy", mmap_mode="r+")
        array[actor] = rows[name]
        array.flush()


def finish(folder: Path, image_size: int, per_anchor: int, facts: Mapping[str, object]) -> None:
    """Declare a set complete; until then `is_finished` is false."""
    content = {"image_size": image_size, "per_anchor": per_anchor, **facts}
    (folder / _DONE).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

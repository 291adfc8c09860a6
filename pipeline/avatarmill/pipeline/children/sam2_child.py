"""The child that holds the `sam2` video predictor: masks of one track per request.

The predictor's state dictionary stays in here. Frames reach it as a folder of JPEG files, the form
its public interface reads besides video containers.
"""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor

from avatarmill.pipeline.children.protocol import Message, serve

_STRIDE = 16
"""Pixels a feature of the image encoder stands for."""


def segment(request: Message) -> Message:
    """Masks of the prompted object over a window of frames.

    `images` [T, H, W, 3]; prompts at `rows` [P] int64: `boxes` [P, 4] float32, `points` [P, K, 2]
    float32 in pixels and `labels` [P, K] int32 (1 on the object, 0 beside it, -1 unused). Row 0
    must be prompted. Replies with `masks` [T, H, W] uint8, the object's probability as 0..255.
    """
    images = request.arrays["images"]
    predictor = _predictor(
        str(request.values["model"]),
        str(request.values["checkpoint"]),
        int(request.values["image_size"]),
        str(request.values["device"]),
    )
    masks = np.zeros(images.shape[:3], np.uint8)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        _write_frames(Path(folder), images)
        state = predictor.init_state(folder, offload_video_to_cpu=True)
        _prompt(predictor, state, request.arrays)
        for row, _, logits in predictor.propagate_in_video(state):
            masks[row] = torch.sigmoid(logits[0, 0].float()).mul(255).round().byte().cpu().numpy()
    return Message({}, {"masks": masks})


def _prompt(predictor: Any, state: Any, arrays: dict[str, NDArray[Any]]) -> None:
    for prompt, row in enumerate(arrays["rows"]):
        used = arrays["labels"][prompt] >= 0
        predictor.add_new_points_or_box(
            state,
            frame_idx=int(row),
            obj_id=1,
            points=arrays["points"][prompt][used],
            labels=arrays["labels"][prompt][used],
            box=arrays["boxes"][prompt],
        )


@cache
def _predictor(model: str, checkpoint: str, image_size: int, device: str) -> Any:
    side = image_size // _STRIDE
    overrides = [f"++model.image_size={image_size}"]
    # The rotary tables of the memory attention are laid out for the feature map's size.
    for attention in ("self_attention", "cross_attention"):
        overrides.append(f"++model.memory_attention.layer.{attention}.feat_sizes=[{side},{side}]")
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    # Post-processing needs a compiled CUDA operator.
    return build_sam2_video_predictor(
        model,
        checkpoint,
        device=device,
        hydra_overrides_extra=overrides,
        apply_postprocessing=False,
    )


def _write_frames(folder: Path, images: NDArray[np.uint8]) -> None:
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{row:05d}.jpg", quality=95, subsampling=0)


if __name__ == "__main__":
    serve({"segment": segment})

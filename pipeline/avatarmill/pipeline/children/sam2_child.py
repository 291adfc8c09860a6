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
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from numpy.typing import NDArray
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor

from avatarmill.pipeline.children.protocol import Message, serve
from avatarmill.pipeline.sam2_follow import Prompts, follow

_STRIDE = 16
"""Pixels a feature of the image encoder stands for."""


def segment(request: Message) -> Message:
    """Masks of one person over a window of frames.

    `images` [T, H, W, 3]; for every frame `boxes` [T, 4] float32, `points` [T, K, 2] float32 in
    pixels and `labels` [T, K] int32 (1 on the person, -1 unused); `known` [N, H, W] uint8 masks of
    the first N frames. Replies with `masks` [T, H, W] uint8, the person's probability as 0..255,
    and with `shown`, the rows at which box and points were needed; see `sam2_follow.follow`.
    """
    arrays, values = request.arrays, request.values
    predictor = build(
        str(values["model"]),
        str(values["checkpoint"]),
        int(values["image_size"]),
        str(values["device"]),
    )
    prompts = Prompts(arrays["boxes"], arrays["points"], arrays["labels"], arrays["known"])
    height, width = arrays["images"].shape[1:3]
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        _write_frames(Path(folder), arrays["images"])
        state = predictor.init_state(folder, offload_video_to_cpu=True)
        masks, shown = follow(
            predictor,
            state,
            prompts,
            shape=(height, width),
            max_prompts=int(values["max_prompts"]),
        )
    return Message({"shown": shown}, {"masks": masks})


@cache
def build(model: str, checkpoint: str | None, image_size: int, device: str) -> Any:
    """The video predictor of a network with its weights, at an image size; kept once built.

    Args:
        model: a configuration of the package by its name, or the path of a .yaml file.
        checkpoint: path of weights; None for random ones.
        image_size: side of the square the network sees, a multiple of 64.
        device: "cpu", "cuda", ...
    """
    side = image_size // _STRIDE
    overrides = [f"++model.image_size={image_size}"]
    # The rotary tables of the memory attention are laid out for the feature map's size.
    for attention in ("self_attention", "cross_attention"):
        overrides.append(f"++model.memory_attention.layer.{attention}.feat_sizes=[{side},{side}]")
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    if Path(model).is_file():
        # The package looks for names in its own folder only.
        GlobalHydra.instance().clear()
        initialize_config_dir(str(Path(model).resolve().parent), version_base="1.2")
        model = Path(model).name
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

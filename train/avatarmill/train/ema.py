"""Exponential moving average of the weights, kept where the weights are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Ema:
    """The average of every trained parameter in float32.

    Under ZeRO-3 each rank averages the partition it holds (the average is elementwise), so the
    memory is shared out as the weights are; below, every rank holds the same whole copy.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay is {decay}, expected 0 <= decay < 1")
        self.decay = decay
        self._model = model
        self._values = {name: held.detach().clone().float() for name, held in self._held()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after `step` optimizer steps; faster while young."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        for name, held in self._held():
            self._values[name].lerp_(held.float(), 1.0 - decay)

    def whole(self) -> dict[str, Tensor]:
        """Every parameter's average in its own shape; all ranks must call this together."""
        return {
            name: _gather(parameter, self._values[name])
            for name, parameter in self._model.named_parameters()
        }

    def save(self, folder: Path, rank: int) -> None:
        """Write this rank's part."""
        save_file(self._values, str(self._path(folder, rank)))

    def load(self, folder: Path, rank: int) -> None:
        """Read this rank's part."""
        for name, value in load_file(str(self._path(folder, rank))).items():
            self._values[name].copy_(value)

    def _held(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._model.named_parameters():
            yield name, getattr(parameter, "ds_tensor", parameter)

    @staticmethod
    def _path(folder: Path, rank: int) -> Path:
        return folder / f"ema_rank_{rank:05d}.safetensors"


def _gather(parameter: Any, value: Tensor) -> Tensor:
    if not hasattr(parameter, "ds_tensor"):
        return value.clone()
    parts = [torch.empty_like(value) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, value)
    # DeepSpeed flattens, pads to a multiple of the ranks and cuts into equal partitions.
    whole = torch.cat([part.flatten() for part in parts])[: parameter.ds_numel]
    return whole.reshape(parameter.ds_shape)

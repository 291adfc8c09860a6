"""One process group and one DeepSpeed import for a training run, launched or not."""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch._C._distributed_c10d import HashStore

ZeroStage = Literal[0, 1, 2, 3]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Group:
    """This process's place among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this rank writes logs and exports."""
        return self.rank == 0


@contextmanager
def process_group() -> Iterator[Group]:
    """Join the group that `torchrun` or `deepspeed` announced, or make one of a single rank.

    gloo on CPU, NCCL where CUDA is present. The group is destroyed on the way out, so that one
    Python process may train more than once.
    """
    device = _device()
    if device.type == "cpu":
        # DeepSpeed picks its accelerator at import and would look for CUDA tools.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed's, which still calls collectives by their former names.
    warnings.filterwarnings("ignore", message=".*torch.distributed.* is deprecated")
    # An all-reduce for inference that DeepSpeed would compile at start: 2 minutes and a C++
    # compiler for a kernel that training does not call.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with _launched_or_alone(device):
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
        try:
            rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
            yield Group(rank, size, device)
        finally:
            deepspeed.comm.destroy_process_group()


@contextmanager
def _launched_or_alone(device: torch.device) -> Iterator[None]:
    backend = "gloo" if device.type == "cpu" else "nccl"
    if launched():
        torch.distributed.init_process_group(backend)
        yield
        return
    # Alone we need no address and no port; DeepSpeed insists on a local rank.
    torch.distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    former = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "0"
    try:
        yield
    finally:
        if former is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = former


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def launched() -> bool:
    """Whether `torchrun` or `deepspeed` started this process as one of several ranks."""
    return "RANK" in os.environ


def launch(module: str, options: Sequence[str], *, ranks: int) -> int:
    """Run `python -m module options` as `ranks` processes on this machine; exit status."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, "-m", *torchrun, "-m", module, *options]
    # One thread a rank unless told otherwise: torchrun would set it too, and warn.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.run(command, check=False, env=environment).returncode


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a small tensor over all ranks; no gradient."""
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total


def engine_config(
    *,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    gradient_clipping: float,
    zero_stage: ZeroStage,
    precision: Precision,
) -> dict[str, object]:
    """DeepSpeed's configuration; batch_size is that of one rank.

    bf16 is autocast over float32 master weights: the prior's buffers and the flow stay float32.
    """
    optimizer = {
        "lr": learning_rate,
        "betas": [0.9, 0.98],
        "weight_decay": weight_decay,
        # The fused CPU kernel would be compiled at run time, with a compiler a user may not have.
        "torch_adam": True,
    }
    config: dict[str, object] = {
        "train_micro_batch_size_per_gpu": batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": gradient_clipping,
        "optimizer": {"type": "AdamW", "params": optimizer},
        "zero_optimization": {"stage": zero_stage},
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
    }
    if precision == "bf16":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def parameters_with_decay(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Optimizer groups: matrices decay; biases, norms, tables and placeholders do not."""
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            is_matrix = isinstance(module, torch.nn.Linear) and parameter is module.weight
            (decayed if is_matrix else kept).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]

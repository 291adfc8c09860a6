"""Checkpoints of a training run: DeepSpeed's folder, our averages, and where the run stood."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avatarmill.records.canonical import json_bytes
from avatarmill.train.distributed import Group
from avatarmill.train.ema import Ema

KEEP = 2
"""Checkpoints left in place; older ones go once a newer one is complete."""

_STATE_FILE = "run.json"


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stood. Its random numbers are functions of seed, step and rank: no state."""

    step: int
    """Optimizer steps done."""
    position: int
    """Samples each rank has taken from its loader."""
    seconds: float
    """Training time over all runs so far."""
    world_size: int
    recipe: str
    """Fingerprint of the configuration; another one must not continue."""


def save_checkpoint(folder: Path, engine: Any, ema: Ema, state: RunState, group: Group) -> None:
    """Write FOLDER/step-NNNNNNN on all ranks, then point FOLDER/latest at it."""
    tag = f"step-{state.step:07d}"
    (folder / tag).mkdir(parents=True, exist_ok=True)
    # DeepSpeed moves `latest` at its very end: until then a crash leaves the former one in force.
    ema.save(folder / tag, group.rank)
    if group.leads:
        (folder / tag / _STATE_FILE).write_bytes(json_bytes(asdict(state)))
    torch.distributed.barrier()
    engine.save_checkpoint(str(folder), tag=tag)
    if group.leads:
        for old in sorted(folder.glob("step-*"))[:-KEEP]:
            shutil.rmtree(old)


def load_checkpoint(
    folder: Path, engine: Any, ema: Ema, *, recipe: str, group: Group
) -> RunState | None:
    """Continue from FOLDER/latest; None where there is none.

    Raises:
        ValueError: the checkpoint belongs to another configuration or number of ranks.
    """
    latest = folder / "latest"
    if not latest.is_file():
        return None
    tag = latest.read_text().strip()
    state = RunState(**json.loads((folder / tag / _STATE_FILE).read_bytes()))
    if state.recipe != recipe:
        raise ValueError(
            f"{folder} holds a run with other settings (fingerprint {state.recipe[:12]}, "
            f"now {recipe[:12]}): choose another --out, or delete that folder to start over"
        )
    if state.world_size != group.world_size:
        raise ValueError(
            f"{folder} was written by {state.world_size} ranks, now {group.world_size}: "
            f"launch with --nproc_per_node {state.world_size}"
        )
    engine.load_checkpoint(str(folder), tag=tag)
    ema.load(folder / tag, group.rank)
    return state

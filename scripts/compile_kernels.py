"""Compile the numba kernels once, so that no first job and no test waits for them.

Renders an actor in a dress for a moment and takes the film through curation to its clip, then
draws a few Gaussians with their gradients. The machine code is cached beside the modules (or in
NUMBA_CACHE_DIR), for this CPU; a module that is edited is compiled again when it is used.
"""

import tempfile
from pathlib import Path

import torch

from avatarmill.avatar.camera import Cameras
from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.rasterize import rasterize
from avatarmill.pipeline.executor import run_here
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.stages import curation_stages
from avatarmill.pipeline.work import Scanned, Work, shot_parts
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth


def curate_an_actor(folder: Path) -> None:
    """Kernels of rendering, masks, fit and scores."""
    synth(SynthConfig("wild", count=1, seed=14, out=folder, seconds=0.8))
    (source,) = list_sources(folder / "videos")
    config = CurateConfig(folder / "videos", folder / "run").stages()
    for work in run_here([Work(source)], scan_stages(config)):
        assert isinstance(work.content, Scanned), work.content
        list(run_here(shot_parts(source, work.content.scan), curation_stages(config)))


def draw_gaussians() -> None:
    """Kernels of the rasterizer, forward and backward."""
    count = 64
    rotations = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    leaves = [torch.rand(count, 3) - 0.5, rotations, torch.full((count, 3), 0.05)]
    leaves += [torch.full((count,), 0.5), torch.rand(count, 3)]
    gaussians = Gaussians(*(leaf.requires_grad_() for leaf in leaves))
    intrinsics = torch.tensor([[[64.0, 0.0, 32.0], [0.0, 64.0, 32.0], [0.0, 0.0, 1.0]]])
    away = torch.eye(4)[None].clone()
    away[:, 2, 3] = 2.0
    drawn = rasterize(gaussians, Cameras(intrinsics, away, 64, 64))
    (drawn.color.sum() + drawn.alpha.sum() + drawn.depth.sum()).backward()


if __name__ == "__main__":
    draw_gaussians()
    with tempfile.TemporaryDirectory() as name:
        curate_an_actor(Path(name))

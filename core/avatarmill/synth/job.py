"""The synth job: a seed in, H.264 files of rendered actors with their exact truth out."""

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tqdm import tqdm

from avatarmill.synth.frames import (
    StudioConfig,
    SynthFrames,
    WildConfig,
    synth_studio,
    synth_wild,
)
from avatarmill.synth.video import write_video

log = logging.getLogger(__name__)

# Width, height and rate of wild clips, as they come from the web.
_SHAPES = ((512, 512, 24.0), (512, 704, 25.0), (704, 512, 25.0), (640, 640, 24.0), (512, 640, 30.0))
_STUDIO = StudioConfig(num_views=6, num_instants=36, fps=12.0, size=320)


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """Render actors to OUT/videos/*.mp4 with truth in OUT/truth/*.npz and *.json."""

    kind: Annotated[Literal["wild", "studio"], tyro.conf.Positional] = "wild"
    """wild: one moving camera each; studio: several calibrated cameras around each."""
    count: int = 4
    """Actors."""
    seed: int = 0
    """Actor i is made from seed + i; the same seed gives the same files."""
    out: Path = Path("out/synth")
    seconds: float | None = None
    """Length of wild clips; 3 to 5 seconds by seed when not given."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count {self.count} must be >= 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be >= 0")
        if self.seconds is not None and not 0.1 <= self.seconds <= 600:
            raise ValueError(f"seconds {self.seconds} must be 0.1..600")


def run(config: SynthConfig) -> int:
    """Render what is missing of the configured clips; returns the exit status 0."""
    videos, truth = config.out / "videos", config.out / "truth"
    for folder in (videos, truth):
        folder.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(config), "out": str(config.out)}
    _write_json(config.out / "synth.config.json", settings)
    seeds = range(config.seed, config.seed + config.count)
    for seed in tqdm(seeds, desc="synth", unit="actor"):
        for name, frames, fps in _clips(config, seed):
            write_video(videos / f"{name}.mp4", frames.images, fps=fps)
            write_truth(truth / f"{name}.npz", frames, seed=seed, kind=config.kind, fps=fps)
            log.info("%s: %d frames, %s", name, len(frames), frames.captions["short"])
    return 0


def wild_clip_config(seed: int, seconds: float | None = None) -> WildConfig:
    """The format of a wild clip, by its seed: size, frame rate and length."""
    rng = np.random.default_rng([seed, 3])
    width, height, fps = _SHAPES[int(rng.integers(len(_SHAPES)))]
    length = float(rng.uniform(3, 5)) if seconds is None else seconds
    return WildConfig(num_frames=max(1, round(length * fps)), fps=fps, width=width, height=height)


def _clips(config: SynthConfig, seed: int) -> list[tuple[str, SynthFrames, float]]:
    """Name, frames and rate of every file of one actor; finished ones are left out."""
    name = f"{config.kind}_{seed:06d}"
    if config.kind == "wild":
        if _finished(config.out, name):
            return []
        shot = wild_clip_config(seed, config.seconds)
        return [(name, synth_wild(seed, shot), shot.fps)]
    names = [f"{name}_cam{camera:02d}" for camera in range(_STUDIO.num_views)]
    if all(_finished(config.out, camera) for camera in names):
        return []
    frames = synth_studio(seed, _STUDIO)
    return [
        (camera, take_frames(frames, slice(index, None, _STUDIO.num_views)), _STUDIO.fps)
        for index, camera in enumerate(names)
    ]


def _finished(out: Path, name: str) -> bool:
    # The JSON is written last.
    return (out / "truth" / f"{name}.json").exists() and (out / "videos" / f"{name}.mp4").exists()


def take_frames(frames: SynthFrames, which: slice) -> SynthFrames:
    """A selection of frames."""
    return replace(
        frames,
        images=frames.images[which],
        masks=frames.masks[which],
        intrinsics=frames.intrinsics[which],
        world_to_camera=frames.world_to_camera[which],
        pose=frames.pose[which],
        expression=frames.expression[which],
        translation=frames.translation[which],
        pts_seconds=frames.pts_seconds[which],
    )


def write_truth(path: Path, frames: SynthFrames, *, seed: int, kind: str, fps: float) -> None:
    """Write PATH (npz: parameters, cameras, masks packed to bits) and, last, its .json."""
    np.savez_compressed(
        path,
        pose=frames.pose,
        shape=frames.shape,
        expression=frames.expression,
        translation=frames.translation,
        intrinsics=frames.intrinsics,
        world_to_camera=frames.world_to_camera,
        pts_seconds=np.array(frames.pts_seconds),
        masks=np.packbits(frames.masks > 0, axis=-1),
    )
    count, height, width = frames.masks.shape
    document = {
        "kind": kind,
        "seed": seed,
        "frames": count,
        "width": width,
        "height": height,
        "fps": fps,
        "attributes": frames.attributes,
        "captions": frames.captions,
    }
    _write_json(path.with_suffix(".json"), document)


def read_masks(path: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Masks [F, H, W] 0 or 255 of a truth file written by `write_truth`."""
    width = json.loads(path.with_suffix(".json").read_text())["width"]
    with np.load(path, allow_pickle=False) as arrays:
        bits = np.unpackbits(arrays["masks"], axis=-1, count=width)
    return bits * np.uint8(255)


def _write_json(path: Path, document: dict[str, object]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    partial.replace(path)

"""Retrains every weight in the repository, in order; a rerun goes on where it stopped."""

import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avatarmill.cli.actor_clips import ActorClipsConfig, render_clips
from avatarmill.cli.console import say, table
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes, json_object
from avatarmill.records.fingerprint import fingerprint, sha256_file
from avatarmill.records.runs import write_config
from avatarmill.tokenize.tokenizer import NANO_WEIGHTS
from avatarmill.train.diffusion import WEIGHTS_NAME
from avatarmill.train.export import PACKAGED_WEIGHTS
from avatarmill.train.synth_data import ActorSetConfig, build_actor_set, set_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WeightsConfig:
    """The whole recipe of the nano models; the defaults take under an hour on two cores."""

    out: Path = Path("out/weights")
    """Actor sets, shards, checkpoints and one mark for each finished step."""
    wild: ActorSetConfig = field(
        default_factory=lambda: ActorSetConfig(kind="wild", actors=200, frames=7, seed=1)
    )
    studio: ActorSetConfig = field(
        default_factory=lambda: ActorSetConfig(kind="studio", actors=120, frames=8, seed=2)
    )
    clips: ActorClipsConfig = field(default_factory=ActorClipsConfig)
    wild_minutes: float = 17.0
    studio_minutes: float = 8.0
    compressor_minutes: float = 4.0
    diffusion_steps: int = 1600
    workers: int = 2
    """Processes that render actors, and ranks of the diffusion training: as many as cores."""
    install: bool = True
    """Copy the results into the packages; without it they stay in `out`."""

    def __post_init__(self) -> None:
        for name in ("wild_minutes", "studio_minutes", "compressor_minutes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        if self.diffusion_steps < 1 or self.workers < 1:
            raise ValueError(
                f"diffusion_steps {self.diffusion_steps} and workers {self.workers} must be >= 1"
            )


@dataclass(frozen=True, slots=True)
class WeightStep:
    """One step: a job of the executable, or a function of ours."""

    name: str
    run: Sequence[str] | Callable[[], object]
    result: Path
    """File that is there, whole, once the step has ended well."""

    def folder(self, out: Path) -> Path:
        """What the step writes: its folder, or the result itself where that lies in `out`."""
        return self.result if self.result.parent == out else self.result.parent


@dataclass(frozen=True, slots=True)
class StepMark:
    """A small file that says with which settings a step was started, and whether it ended."""

    path: Path

    def is_done(self, wanted: str) -> bool:
        """Whether the step has ended with these settings."""
        return self._read() == {"fingerprint": wanted, "done": True}

    def start(self, wanted: str, folder: Path) -> None:
        """Note the start; what the step left under other settings is deleted, else kept."""
        if self._read().get("fingerprint", wanted) != wanted and folder.exists():
            say(f"{folder} was made with other settings: made anew")
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        write_bytes(self.path, json_bytes({"fingerprint": wanted, "done": False}))

    def finish(self, wanted: str) -> None:
        """Note the end."""
        write_bytes(self.path, json_bytes({"fingerprint": wanted, "done": True}))

    def _read(self) -> dict[str, object]:
        return json_object(self.path.read_bytes()) if self.path.exists() else {}


def plan_steps(config: WeightsConfig) -> list[WeightStep]:
    """The steps in order; each reads what the ones before it wrote."""
    out, sets = config.out, config.out / "actors"
    wild, studio = set_folder(sets, config.wild), set_folder(sets, config.studio)
    first, second = out / "wild", out / "studio"
    tokenizer, clips, tokens = out / "nano.safetensors", out / "clips", out / "tokens"
    trained = out / "diffusion" / WEIGHTS_NAME
    reconstructor = ("train", "reconstructor")
    return [
        WeightStep("render wild", lambda: _render(config, config.wild), wild / "set.json"),
        WeightStep("render studio", lambda: _render(config, config.studio), studio / "set.json"),
        WeightStep(
            "reconstructor wild",
            (*reconstructor, "--actors", f"{wild}", "--out", f"{first}")
            + ("--minutes", f"{config.wild_minutes}"),
            first / "tokenizer.safetensors",
        ),
        WeightStep(
            "reconstructor studio",
            (*reconstructor, "--phase", "studio", "--actors", f"{studio}", "--out", f"{second}")
            + ("--start", f"{first / 'tokenizer.safetensors'}", "--learning-rate", "5e-4")
            + ("--minutes", f"{config.studio_minutes}"),
            second / "tokenizer.safetensors",
        ),
        WeightStep(
            "compressor",
            ("train", "compressor", "--actors", f"{wild}", f"{studio}", "--out", f"{tokenizer}")
            + ("--start", f"{second / 'tokenizer.safetensors'}")
            + ("--minutes", f"{config.compressor_minutes}", "--draws", "1"),
            tokenizer,
        ),
        WeightStep(
            "render clips",
            lambda: render_clips(clips, config.clips, workers=config.workers),
            clips / "index.parquet",
        ),
        WeightStep(
            "tokenize",
            ("tokenize", "--clips", f"{clips}", "--out", f"{tokens}", "--weights", f"{tokenizer}"),
            tokens / "index.parquet",
        ),
        WeightStep(
            "diffusion",
            ("train", "diffusion", "--tokens", f"{tokens}", "--out", f"{trained.parent}")
            + ("--steps", f"{config.diffusion_steps}", "--ranks", f"{config.workers}"),
            trained,
        ),
    ]


def _render(config: WeightsConfig, actors: ActorSetConfig) -> None:
    build_actor_set(config.out / "actors", actors, config.workers)


def run(config: WeightsConfig) -> int:
    """Run the steps that are not done, then install the results; status of the first failure."""
    write_config(config.out, "weights", config)
    seconds: list[tuple[str, str]] = []
    upstream = ""
    for step in plan_steps(config):
        started = time.perf_counter()
        mark = StepMark(config.out / f"{step.name.replace(' ', '-')}.step.json")
        # A step is stale when its own settings or anything before it changed.
        wanted = fingerprint([step.name, _settings(config, step), upstream])
        if not (mark.is_done(wanted) and step.result.exists()):
            mark.start(wanted, step.folder(config.out))
            if status := _run_step(step):
                say(f"{step.name} ended with status {status}; the same command goes on from here")
                return status
            mark.finish(wanted)
        upstream = fingerprint([wanted, sha256_file(step.result)])
        seconds.append((step.name, f"{time.perf_counter() - started:.0f}"))
    table(("step", "seconds"), seconds)
    if config.install:
        install({config.out / "nano.safetensors": NANO_WEIGHTS})
        install({config.out / "diffusion" / PACKAGED_WEIGHTS.name: PACKAGED_WEIGHTS})
    return 0


def _settings(config: WeightsConfig, step: WeightStep) -> object:
    if not callable(step.run):
        return list(step.run)
    return config.clips if step.name == "render clips" else step.result.parent.name


def _run_step(step: WeightStep) -> int:
    if callable(step.run):
        say(f"\n{step.name}")
        step.run()
        return 0
    say(f"\n$ avatarmill {shlex.join(step.run)}")
    command = [sys.executable, "-m", "avatarmill.cli.main", *step.run]
    return subprocess.run(command, check=False).returncode


def install(files: dict[Path, Path]) -> None:
    """Copy weights into the packages."""
    for source, target in files.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        say(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")

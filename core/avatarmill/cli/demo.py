"""The main job end to end, small: videos -> clips -> tokens -> checkpoint -> avatars -> report."""

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatarmill.cli.console import say, table
from avatarmill.records.runs import write_config

DEFAULT_PROMPT = "A person with short brown hair, in a red t-shirt and blue trousers"


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What the demo runs on, and where its output goes."""

    out: Path = Path("out/demo")
    """Folder of the run. Rerunning with the same folder resumes the curate and tokenize jobs."""
    videos: Path | None = None
    """Folder of videos; without it, actors are rendered."""
    actors: int = 6
    """Rendered actors where no videos are given."""
    seed: int = 0
    train_steps: int = 24
    """Steps the diffusion model is trained on from the packaged weights."""
    prompt: str = DEFAULT_PROMPT

    def __post_init__(self) -> None:
        if self.videos is not None and not self.videos.is_dir():
            raise ValueError(f"videos: {self.videos} is not a folder")
        if self.actors < 1:
            raise ValueError(f"actors: {self.actors} must be at least 1")
        if self.train_steps < 1:
            raise ValueError(f"train_steps: {self.train_steps} must be at least 1")


@dataclass(frozen=True, slots=True)
class Step:
    """One job of the demo: an `avatarmill` command line."""

    name: str
    arguments: tuple[str, ...]


def plan_steps(config: DemoConfig) -> list[Step]:
    """The jobs in order, exactly as a user would type them."""
    out = str(config.out)
    videos = str(config.videos or config.out / "videos")
    seed = str(config.seed)
    steps = [
        Step("curate", ("curate", "--videos", videos, "--out", out)),
        Step("tokenize", ("tokenize", "--clips", f"{out}/clips", "--out", f"{out}/tokens")),
        Step(
            "train",
            ("train", "diffusion", "--tokens", f"{out}/tokens", "--out", f"{out}/train")
            + ("--steps", str(config.train_steps), "--seed", seed, "--start-from", "packaged")
            # Few and gentle: enough to see the trainer work, too little to forget.
            + ("--batch-size", "4", "--learning-rate", "5e-5", "--warmup", "4"),
        ),
        Step(
            "generate",
            ("generate", "--prompt", config.prompt, "--seed", seed, "--out", out)
            + ("--weights", f"{out}/train/diffusion.safetensors"),
        ),
        Step("report", ("report", "--out", out)),
    ]
    if config.videos is None:
        count = str(config.actors)
        steps.insert(
            0, Step("synth", ("synth", "wild", "--count", count, "--seed", seed, "--out", out))
        )
    return steps


def run(config: DemoConfig) -> int:
    """Runs every job as a process of its own and prints its command and time.

    Returns:
        0 when all jobs ended well, else the exit status of the job that did not; the jobs after
        it are not started. The summary is written either way.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    write_config(config.out, "demo", config)
    seconds: dict[str, float] = {}
    status = 0
    for step in plan_steps(config):
        say(f"\n$ avatarmill {shlex.join(step.arguments)}")
        started = time.perf_counter()
        command = [sys.executable, "-m", "avatarmill.cli.main", *step.arguments]
        status = subprocess.run(command, check=False).returncode
        seconds[step.name] = round(time.perf_counter() - started, 1)
        if status:
            say(f"\n{step.name} ended with status {status}; what was finished is in {config.out}")
            break
        if step.name == "curate" and not _read_summary(config, "clips").get("clips"):
            say("\nno clip was kept, so there is nothing to go on with; the reasons:")
            status = 1
            break
    _summarise(config, seconds)
    return status


def _read_summary(config: DemoConfig, folder: str) -> dict[str, Any]:
    path = config.out / folder / "summary.json"
    summary: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return summary


def _summarise(config: DemoConfig, seconds: dict[str, float]) -> None:
    """Writes summary.json from the summaries of the jobs and prints it."""
    clips, tokens = _read_summary(config, "clips"), _read_summary(config, "tokens")
    total = {**seconds, "total": round(sum(seconds.values()), 1)}
    summary = {"seconds": total, "curate": clips, "tokenize": tokens}
    (config.out / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    _say_seconds("job", total)
    _say_seconds("stage of curate", clips.get("stage_seconds", {}))
    for title, counts in (("inputs", clips.get("states")), ("rejects", clips.get("rejects"))):
        if counts:
            say(f"{title}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    say(f"clips: {clips.get('clips', 0)}, token samples: {tokens.get('samples', 0)}")
    for path in sorted((config.out / "avatars").glob("*")):
        say(f"  {path}")
    if (config.out / "report.html").exists():
        say(f"report: {config.out / 'report.html'}")


def _say_seconds(what: str, seconds: dict[str, float]) -> None:
    say()
    table([what, "seconds"], [[name, f"{value:.1f}"] for name, value in seconds.items()])
    say()

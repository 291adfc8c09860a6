"""The systems that `bench-peers` compares, each behind the same few functions."""

import csv
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
SAMPLES_PER_SHARD = 2
"""Of both sides: few, so that both processes have work until the end."""

Films = dict[str, tuple[int, float, str]]
"""By path: frames that arrived, their mean, the error or reason that was reported."""


def python_of(peer: str) -> Path:
    """The interpreter of a peer's own environment."""
    python = ROOT / f".venv-peer-{peer}" / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python} is missing: run `make bench-peers`")
    return python


class FrameSystem:
    """A worker script that is asked for the frames of films, again and again."""

    def __init__(self, script: str, python: Path, log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [python, "-P", "-c", _RUN_SCRIPT, FOLDER / script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | ONE_THREAD,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def frames(self, paths: Sequence[Path], **options: object) -> tuple[float, Films]:
        """Seconds of one pass, and what came of each film."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"call": "frames", "paths": [str(path) for path in paths], **options}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            last = Path(self._log.name).read_text(errors="replace").splitlines()[-5:]
            raise RuntimeError("the worker died: " + " | ".join(last))
        reply = json.loads(line)
        return reply["seconds"], {path: tuple(found) for path, found in reply["value"].items()}


# The folder of the benchmarks is on the path, the current one is not.
_RUN_SCRIPT = (
    "import runpy, sys; from pathlib import Path; script = sys.argv[1]; "
    "sys.path.insert(0, str(Path(script).parent)); runpy.run_path(script, run_name='__main__')"
)


@dataclass(frozen=True, slots=True)
class Clips:
    """What a cut of a list of films left."""

    wall_seconds: float
    """Of the whole command."""
    busy_seconds: float
    """Of the work itself as the system counts it, over all workers or shards."""
    videos: dict[str, list[bytes]]
    """By file name of the film: its clips in order."""

    @property
    def num_clips(self) -> int:
        """Clips of all films."""
        return sum(map(len, self.videos.values()))

    @property
    def num_bytes(self) -> int:
        """Bytes of all clips."""
        return sum(len(clip) for clips in self.videos.values() for clip in clips)

    def frames(self) -> dict[str, int]:
        """By file name of the film: frames in its clips."""
        return {name: len(list(pictures(clips))) for name, clips in self.videos.items()}


def cut_ours(films: Path, out: Path, *options: str) -> Clips:
    """`avatarmill cut` of a folder."""
    command = [sys.executable, "-P", "-m", "avatarmill.cli.main", "cut"]
    command += ["--videos", str(films), "--out", str(out), "--workers.cpu", "2", *options]
    command += ["--group-size", str(SAMPLES_PER_SHARD)]
    wall = _timed(command, out.with_suffix(".log"), os.environ | ONE_THREAD)
    videos: dict[str, list[bytes]] = {}
    for members in _samples(sorted((out / "shots").glob("*.tar"))):
        name = Path(json.loads(members["json"])["source_uri"]).name
        videos.setdefault(name, []).append(members["mp4"])
    summary = json.loads((out / "shots" / "summary.json").read_bytes())
    return Clips(wall, sum(summary["stage_seconds"].values()), videos)


def cut_video2dataset(films: Path, out: Path) -> Clips:
    """video2dataset's cut detection and exact clips of a folder."""
    tools = out.parent / "tools"
    if not tools.exists():
        tools.mkdir()
        (tools / "ffmpeg").symlink_to(_ffmpeg_of("video2dataset"))
    listing = out.with_suffix(".csv")
    with listing.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["url"], *([str(path)] for path in sorted(films.iterdir()))])
    script = FOLDER / "peers_video2dataset.py"
    command = [str(python_of("video2dataset")), str(script), str(listing), str(out)]
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    wall = _timed(
        [*command, str(SAMPLES_PER_SHARD)],
        out.with_suffix(".log"),
        os.environ | ONE_THREAD | {"PATH": path},
    )
    videos: dict[str, list[bytes]] = {}
    # Clips of a film carry its key and their number.
    for members in sorted(_samples(sorted(out.glob("*.tar"))), key=lambda m: m["key"]):
        if "mp4" in members:
            name = Path(json.loads(members["json"])["url"]).name
            videos.setdefault(name, []).append(members["mp4"])
    stats = [json.loads(path.read_bytes()) for path in out.glob("*_stats.json")]
    return Clips(wall, sum(shard["duration"] for shard in stats), videos)


def _ffmpeg_of(peer: str) -> str:
    """The ffmpeg that a peer's environment carries."""
    code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
    command = [str(python_of(peer)), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _timed(command: Sequence[str], log: Path, env: dict[str, str]) -> float:
    started = time.perf_counter()
    with log.open("wb") as file:
        subprocess.run(command, env=env, stdout=file, stderr=file, check=True)
    return time.perf_counter() - started


def _samples(shards: Sequence[Path]) -> list[dict[str, Any]]:
    """Members of every sample of some tars, and its key."""
    samples: dict[str, dict[str, Any]] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, name = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                samples.setdefault(key, {"key": key.encode()})[name] = file.read()
    return list(samples.values())


def pictures(clips: Sequence[bytes | Path]) -> Any:
    """Luma [H, W] of every frame of some clips, one after the other."""
    for clip in clips:
        with av.open(BytesIO(clip) if isinstance(clip, bytes) else str(clip)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="gray")


def psnr(film: Path, clips: Sequence[bytes]) -> float:
    """Luma PSNR in dB of clips that are all of a film, in order."""
    pairs = zip(pictures([film]), pictures(clips), strict=True)
    errors = [np.square(a.astype(np.float32) - b).mean() for a, b in pairs]
    return float(10 * np.log10(255**2 / np.mean(errors)))

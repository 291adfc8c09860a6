"""What decoding and shot detection cost: a table of two lines and, last, one JSON object."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from avatarmill.cli.console import say
from avatarmill.pipeline.children.strip import Strip
from avatarmill.pipeline.children.transitions import TransitionDetector
from avatarmill.pipeline.decode import DecodeConfig, decode, decode_command
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import ShotConfig, find_shots
from avatarmill.pipeline.types import Reject, Shot
from avatarmill.synth.video import write_video

_ROUNDS = 5
_LOG = "showinfo@bench"


def speed() -> dict[str, float]:
    """Frames a second through `decode` over those of bare ffmpeg with the same command line.

    Both decode 1280x720 to 960x540, in turns; bare ffmpeg writes to a pipe that `cat` empties.
    Medians, so that a moment's load on the machine does not count.
    """
    shot, config, size = Shot(0.0, 4.0), DecodeConfig(fps=100), (960, 540)
    with tempfile.TemporaryDirectory() as name, video_child(ProbeConfig()) as child:
        path = Path(name) / "film.mp4"
        _noisy_film(path)
        (source,) = list_sources(path)
        facts = probe(child, source, ProbeConfig())
        assert not isinstance(facts, Reject), facts
        scanned = time.perf_counter()
        found = find_shots(child, source, facts, ShotConfig(), ProbeConfig())
        scan_seconds = time.perf_counter() - scanned
        assert not isinstance(found, Reject), found
        bare, ours, frames = [], [], 0
        for _ in range(_ROUNDS):
            bare.append(
                _bare_seconds(path, decode_command(facts, shot, config, size, showinfo=_LOG))
            )
            started = time.perf_counter()
            decoded = decode(str(path), facts, shot, config)
            ours.append(time.perf_counter() - started)
            assert not isinstance(decoded, Reject), decoded
            frames = len(decoded.images)
            del decoded  # as in the job, where a shot is gone before the next is decoded
    detector_ms, strip_ms = _detector_milliseconds()
    say(f"bare {np.round(sorted(bare), 2)} s, ours {np.round(sorted(ours), 2)} s, {frames} frames")
    scan_ms = 1000 * scan_seconds / facts.num_frames
    return {
        "decode_ratio": round(float(np.median(bare) / np.median(ours)), 3),
        "decode_fps": round(float(frames / np.median(ours)), 1),
        "scan_ms_per_frame": round(scan_ms, 2),
        "shots_cpu_ms_per_frame": round(detector_ms, 3),
        "strip_cpu_ms_per_frame": round(strip_ms, 3),
        "shots_share_of_scan": round(detector_ms / scan_ms, 3),
    }


def _noisy_film(path: Path) -> None:
    """Four seconds of 720p with camera noise."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 24, (8, 720, 1280, 3), np.uint8)
    board = np.kron(rng.integers(0, 200, (18, 40, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    frames = (board[:, 2 * k : 2 * k + 1280] + noise[k % 8] for k in range(120))
    write_video(path, frames, fps=30.0, crf=23)


def _bare_seconds(path: Path, command: list[str]) -> float:
    started = time.perf_counter()
    with path.open("rb") as source, tempfile.TemporaryFile() as log:
        producer = subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE, stderr=log)
        subprocess.run(["cat"], stdin=producer.stdout, stdout=subprocess.DEVNULL, check=True)
        assert producer.stdout is not None
        producer.stdout.close()
        assert producer.wait() == 0
    return time.perf_counter() - started


def _detector_milliseconds() -> tuple[float, float]:
    """CPU of the shot detector and of the strip, a frame of 160x90."""
    rng = np.random.default_rng(1)
    board = np.kron(rng.integers(0, 255, (10, 50, 3)), np.ones((9, 9, 1))).astype(np.uint8)
    frames = [np.ascontiguousarray(board[:, k : k + 160]) for k in range(250)]
    detector, strip = TransitionDetector(25.0, strength=0.46, shortest_seconds=0.2), Strip()
    times = [time.process_time()]
    for frame in frames:
        detector.push(frame)
    times.append(time.process_time())
    for row, frame in enumerate(frames):
        strip.push(frame, row / 25)
    times.append(time.process_time())
    return 1000 * (times[1] - times[0]) / 250, 1000 * (times[2] - times[1]) / 250


if __name__ == "__main__":
    say(json.dumps(speed()))

"""Films of the benchmark of peers: rendered takes joined in every order, and the broken kinds."""

import random
import subprocess
from itertools import permutations
from pathlib import Path

import imageio_ffmpeg

from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

TAKES, TAKE_SECONDS, SHOTS = 4, 3.0, 3
WIDTH, HEIGHT, FPS = 640, 360, 30
BROKEN_KINDS = ("truncated", "moov_lost", "flipped", "empty", "html", "audio_only")
"""Those of a study of what curation tools do with broken files."""
_FLIPS = 400


def ffmpeg(*arguments: str | Path) -> None:
    """ffmpeg with the given arguments, quiet, overwriting."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def render_takes(folder: Path) -> list[Path]:
    """A few rendered people, one a file; all of one size and rate, without sound."""
    synth(SynthConfig("wild", TAKES, seed=11, out=folder / "synth", seconds=TAKE_SECONDS))
    return [
        _uniform(path, folder / f"take-{number}.mp4")
        for number, path in enumerate(sorted((folder / "synth" / "videos").glob("*.mp4")))
    ]


def given_takes(videos: Path, folder: Path) -> list[Path]:
    """The beginnings of the films of a folder, as `render_takes`."""
    found = sorted(videos.glob("*.mp4"))[: 2 * TAKES]
    return [_uniform(path, folder / f"take-{n}.mp4") for n, path in enumerate(found)]


def _uniform(film: Path, target: Path) -> Path:
    cover = f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase,crop={WIDTH}:{HEIGHT}"
    ffmpeg(
        *("-i", film, "-t", TAKE_SECONDS, "-an", "-vf", f"{cover},setsar=1,fps={FPS}"),
        *("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-g", "60"),
        *("-pix_fmt", "yuv420p", target),
    )
    return target


def join_films(takes: list[Path], folder: Path, count: int) -> list[Path]:
    """`count` films of three shots each, different orders of the takes, joined without a loss."""
    folder.mkdir()
    orders = list(permutations(range(len(takes)), SHOTS))
    films = []
    for number in range(count):
        names = folder / "order.txt"
        order = orders[number * 7 % len(orders)]
        names.write_text("".join(f"file '{takes[take]}'\n" for take in order))
        film = folder / f"film-{number:03d}.mp4"
        # Its number in its metadata: no two files have the same bytes.
        comment = ("-metadata", f"comment={number}", "-movflags", "+faststart")
        ffmpeg("-f", "concat", "-safe", "0", "-i", names, "-c", "copy", *comment, film)
        names.unlink()
        films.append(film)
    return films


def break_film(film: Path, kind: str, target: Path, seed: int) -> Path:
    """A broken file of one of `BROKEN_KINDS`, made of a good film whose index comes first."""
    data = film.read_bytes()
    if kind == "truncated":
        target.write_bytes(data[: len(data) * 6 // 10])
    elif kind == "moov_lost":
        last = target.with_suffix(".last.mp4")
        ffmpeg("-i", film, "-c", "copy", last)
        target.write_bytes(last.read_bytes()[: len(data) * 8 // 10])
        last.unlink()
    elif kind == "flipped":
        numbers, flipped = random.Random(seed), bytearray(data)
        for _ in range(_FLIPS):
            flipped[numbers.randrange(len(data) // 3, len(data))] = numbers.randrange(256)
        target.write_bytes(flipped)
    elif kind == "empty":
        target.touch()
    elif kind == "html":
        target.write_text("<html>403 Forbidden</html>" * (100 + seed))
    elif kind == "audio_only":
        ffmpeg("-f", "lavfi", "-i", f"sine=f={440 + seed}:d=5", "-c:a", "aac", target)
    else:
        raise ValueError(f"kind is {kind!r}, one of {', '.join(BROKEN_KINDS)}")
    return target

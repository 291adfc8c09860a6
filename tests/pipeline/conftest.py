"""Videos made for the tests: two scenes, and the broken files of the hostile kind."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest

RunFfmpeg = Callable[..., None]


def _ffmpeg(*arguments: str | Path) -> None:
    """ffmpeg with the given arguments, quiet, overwriting."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin"]
    subprocess.run([*command, *map(str, arguments)], check=True, timeout=60)


@pytest.fixture(scope="session")
def run_ffmpeg() -> RunFfmpeg:
    """Runs ffmpeg: `run_ffmpeg("-i", source, target)`."""
    return _ffmpeg


@pytest.fixture(scope="session")
def good_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s, 320x180, 25 fps, a hard cut after 2 s; the index lies before the data."""
    path = tmp_path_factory.mktemp("videos") / "good.mp4"
    _ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"),
        *("-f", "lavfi", "-i", "mandelbrot=s=320x180:r=25:start_scale=0.5"),
        *("-filter_complex", "[1]trim=duration=1,setsar=1[b];[0][b]concat=n=2:v=1"),
        *("-c:v", "libx264", "-preset", "veryfast", "-g", "20", "-pix_fmt", "yuv420p"),
        *("-movflags", "+faststart", path),
    )
    return path


@pytest.fixture(scope="session")
def broken_videos(good_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that must each be rejected; the name says what is wrong."""
    folder = tmp_path_factory.mktemp("broken")
    data = good_video.read_bytes()
    start = data.index(b"mdat") + 8
    kept = start + (len(data) - start) * 7 // 10
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 50)
    (folder / "ffconcat.mp4").write_text(f"ffconcat version 1.0\nfile '{good_video}'\n")
    (folder / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:10,\nfile://{good_video}\n")
    (folder / "cut.mp4").write_bytes(data[:kept])
    (folder / "zeroed.mp4").write_bytes(data[:kept] + bytes(len(data) - kept))
    index_last = folder / "index_last.mp4"
    _ffmpeg("-i", good_video, "-c", "copy", index_last)
    (folder / "index_lost.mp4").write_bytes(index_last.read_bytes()[:kept])
    index_last.unlink()
    flipped = bytearray(data)
    numbers = random.Random(1)
    for _ in range(40):
        flipped[numbers.randrange(start, len(data))] ^= 1 << numbers.randrange(8)
    (folder / "flipped.mp4").write_bytes(flipped)
    _ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", folder / "audio.mp4")
    _ffmpeg("-f", "lavfi", "-i", "testsrc2=d=1", "-frames:v", "1", folder / "image.png")
    (folder / "image.png").rename(folder / "image.mp4")
    whole = folder / "whole.mkv"
    _ffmpeg("-i", good_video, "-c", "copy", whole)
    (folder / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    whole.unlink()
    return folder

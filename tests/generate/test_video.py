"""Videos decode to what was written."""

from pathlib import Path

import av
import numpy as np
import pytest

from avatarmill.generate.video import write_video


def colours(num: int = 6, size: int = 64) -> list[np.ndarray]:
    return [np.full((size, size, 3), (40 * k, 255 - 40 * k, 90), np.uint8) for k in range(num)]


def test_frames_come_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.mp4"
    assert write_video(path, iter(colours()), fps=12.5) == 6
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264" and float(stream.average_rate) == 12.5
        found = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(found) == 6
    for have, want in zip(found, colours(), strict=True):
        assert np.abs(have.astype(int) - want).max() <= 12
    assert list(path.parent.iterdir()) == [path], "no temporary file is left"


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, colours(), fps=24)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_bad_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no frames for x\.mp4"):
        write_video(tmp_path / "x.mp4", [], fps=24)
    with pytest.raises(ValueError, match="even sides, got 63x63"):
        write_video(tmp_path / "x.mp4", colours(size=63), fps=24)
    with pytest.raises(ValueError, match=r"frame 6 is \(32, 32, 3\)"):
        write_video(tmp_path / "x.mp4", colours() + colours(size=32), fps=24)
    assert not (tmp_path / "x.mp4").exists()

"""Encoded files say when frames are shown, how they are turned and how their fields lie."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avatarmill.synth.video import Encoding, Timing, write_video


def moving_box(count: int = 24) -> list[np.ndarray]:
    frames = [np.full((48, 64, 3), 20, np.uint8) for _ in range(count)]
    for index, frame in enumerate(frames):
        frame[10:30, index : index + 16] = (200, 50, 60)
    return frames


def read(path: Path) -> tuple[list[int], Fraction, int, int, np.ndarray]:
    """Ticks, time base, rotation, field order and stored pixels."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        order = int(stream.codec_context.field_order)
        pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
        ticks = [int(frame.pts or 0) for frame in frames]
        assert stream.time_base is not None
        return ticks, stream.time_base, int(frames[0].rotation) % 360, order, pixels


@pytest.mark.parametrize("fps", [24, 25, 30, 12.5, 15, 24000 / 1001, 30000 / 1001])
def test_regular_times_are_exact(tmp_path: Path, fps: float) -> None:
    write_video(tmp_path / "a.mp4", moving_box(), fps=fps)
    ticks, base, rotation, order, _ = read(tmp_path / "a.mp4")
    timing = Timing.regular(24, fps)
    assert base == Fraction(1, timing.scale) and ticks == timing.ticks.tolist()
    np.testing.assert_allclose(timing.seconds, np.arange(24) / fps, atol=1e-9)
    assert (rotation, order) == (0, 1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_uneven_times_and_rotation_are_exact(tmp_path: Path, rotation: int) -> None:
    rng = np.random.default_rng(rotation)
    ticks = np.concatenate([[0], np.cumsum(rng.integers(1500, 9000, 23))])
    encoding = Encoding(rotation=rotation, timing=Timing(ticks, 90_000, 24, uneven=True))
    frames = moving_box()
    files = []
    for name in ("a.mp4", "b.mp4"):
        assert write_video(tmp_path / name, frames, fps=24, encoding=encoding) == 24
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    found, base, turned, _, pixels = read(tmp_path / "a.mp4")
    assert found == ticks.tolist() and base == Fraction(1, 90_000) and turned == rotation
    upright = np.rot90(pixels, rotation // 90, axes=(1, 2))
    assert np.abs(upright.astype(int) - np.stack(frames)).mean() < 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(("order", "code"), [("tff", 2), ("bff", 3)])
def test_fields_are_flagged_and_kept_apart(tmp_path: Path, order: str, code: int) -> None:
    frames = moving_box()
    woven = frames[0].copy()
    woven[1::2] = frames[12][1::2]
    write_video(tmp_path / "a.mp4", [woven] * 6, fps=25, encoding=Encoding(12, field_order=order))  # type: ignore[arg-type]
    *_, found, pixels = read(tmp_path / "a.mp4")
    assert found == code
    # Even rows show one instant and odd rows the other, colours too.
    assert np.abs(pixels[3][::2].astype(int) - frames[0][::2]).mean() < 6
    assert np.abs(pixels[3][1::2].astype(int) - frames[12][1::2]).mean() < 6


def test_a_lower_rate_factor_is_a_smaller_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), np.uint8)
    sizes = []
    for crf in (19, 40):
        write_video(tmp_path / "a.mp4", noise, fps=24, encoding=Encoding(crf))
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[1] < 0.5 * sizes[0]


def test_bad_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rotation 45 is not one of"):
        Encoding(rotation=45)
    with pytest.raises(ValueError, match=r"crf 60 must be 0\.\.51"):
        Encoding(60)
    with pytest.raises(ValueError, match="leave out rotation or fields"):
        Encoding(rotation=90, field_order="tff")
    with pytest.raises(ValueError, match="no two frames at one time"):
        Timing(np.array([0, 5, 5]), 100, 20)
    uneven = Encoding(timing=Timing(np.array([0, 500, 1700]), 1000, 2, uneven=True))
    with pytest.raises(ValueError, match="24 frames do not fit 3 presentation times"):
        write_video(tmp_path / "a.mp4", moving_box(), fps=24, encoding=uneven)
    assert not list(tmp_path.iterdir())

"""The synth job writes playable videos and truth that matches them."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from avatarmill.synth.frames import WildConfig, synth_wild
from avatarmill.synth.job import SynthConfig, read_masks, run, wild_clip_config
from avatarmill.synth.video import write_video


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth")
    assert run(SynthConfig(kind="wild", count=1, seed=2, out=out, seconds=0.2)) == 0
    return out


def test_video_and_truth_agree(written: Path) -> None:
    shot = wild_clip_config(2, 0.2)
    frames = synth_wild(2, shot)
    video = decode(written / "videos" / "wild_000002.mp4")
    assert video.shape == frames.images.shape == (shot.num_frames, shot.height, shot.width, 3)
    assert np.abs(video.astype(int) - frames.images).mean() < 6
    path = written / "truth" / "wild_000002.npz"
    with np.load(path, allow_pickle=False) as truth:
        np.testing.assert_array_equal(truth["pose"], frames.pose)
        np.testing.assert_array_equal(truth["intrinsics"], frames.intrinsics)
        assert len(truth["pts_seconds"]) == shot.num_frames
    np.testing.assert_array_equal(read_masks(path), frames.masks)
    document = json.loads(path.with_suffix(".json").read_text())
    assert document["attributes"] == frames.attributes
    assert document["captions"] == frames.captions


def test_a_second_run_does_nothing_again(written: Path) -> None:
    video = written / "videos" / "wild_000002.mp4"
    before = video.stat().st_mtime_ns
    run(SynthConfig(kind="wild", count=1, seed=2, out=written, seconds=0.2))
    assert video.stat().st_mtime_ns == before


def test_files_are_the_same_bytes(written: Path, tmp_path: Path) -> None:
    shot = wild_clip_config(2, 0.2)
    again = tmp_path / "again.mp4"
    write_video(again, synth_wild(2, shot).images, fps=shot.fps)
    assert again.read_bytes() == (written / "videos" / "wild_000002.mp4").read_bytes()


def test_odd_sizes_and_empty_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs an even size, got 33x32"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 32, 33, 3), np.uint8), fps=10)
    with pytest.raises(ValueError, match="needs at least one frame"):
        write_video(tmp_path / "a.mp4", [], fps=10)
    frames = [np.zeros((32, 32, 3), np.uint8), np.zeros((32, 34, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 1 is \(32, 34, 3\)"):
        write_video(tmp_path / "a.mp4", frames, fps=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("count", 0, "count 0 must be >= 1"), ("seed", -1, "seed -1"), ("seconds", 0.0, "seconds")],
)
def test_bad_configurations_name_the_field(field: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SynthConfig(**{field: value})  # type: ignore[arg-type]


def test_clip_formats_vary_and_are_encodable() -> None:
    shapes = {(c.width, c.height, c.fps) for c in map(wild_clip_config, range(30))}
    assert len(shapes) == 5
    assert all(width % 2 == height % 2 == 0 for width, height, _ in shapes)
    assert WildConfig().framing == "mixed"

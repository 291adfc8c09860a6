"""The synth job writes playable videos and truth that matches them."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from avatarmill.synth import job
from avatarmill.synth.frames import StudioConfig, WildConfig, synth_studio, synth_wild
from avatarmill.synth.job import SynthConfig, film_config, run, wild_clip_config
from avatarmill.synth.truth import read_truth
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
    assert run(SynthConfig(kind="wild", count=1, seed=2, out=out, seconds=0.2, anchors=64)) == 0
    return out


def test_video_and_truth_agree(written: Path) -> None:
    shot = wild_clip_config(2, 0.2)
    frames = synth_wild(2, shot)
    video = decode(written / "videos" / "wild_000002.mp4")
    assert video.shape == frames.images.shape == (shot.num_frames, shot.height, shot.width, 3)
    assert np.abs(video.astype(int) - frames.images).mean() < 6
    path = written / "truth" / "wild_000002.npz"
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["pose"], frames.pose)
        np.testing.assert_array_equal(arrays["intrinsics"], frames.intrinsics)
        assert len(arrays["pts_seconds"]) == shot.num_frames
    truth = read_truth(path)
    np.testing.assert_array_equal(truth.people[0].masks, frames.masks)
    assert truth.people[0].visibility.shape == (shot.num_frames, 64)
    assert len(truth) == shot.num_frames and not truth.defects
    document = json.loads(path.with_suffix(".json").read_text())
    (person,) = document["people"]
    assert person == {"attributes": frames.attributes, "captions": frames.captions}


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


def test_defects_are_named_or_drawn() -> None:
    named = film_config(SynthConfig(defects=("rotation", "captions")), 4)
    assert named.defects == ("captions", "rotation")
    drawn = [film_config(SynthConfig(defects=("all",)), seed).defects for seed in range(20)]
    assert len(set(drawn)) > 5
    assert film_config(SynthConfig(), 4).defects == ()
    with pytest.raises(ValueError, match="not a mixture"):
        SynthConfig(defects=("all", "cut"))
    with pytest.raises(ValueError, match="defects cut are for wild clips"):
        SynthConfig(kind="studio", defects=("cut",))


def test_studio_cameras_have_a_file_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_STUDIO", StudioConfig(num_views=2, num_instants=3, size=64))
    run(SynthConfig(kind="studio", count=1, seed=1, out=tmp_path, anchors=32))
    clips = [read_truth(tmp_path / "truth" / f"studio_000001_cam0{i}.json") for i in (0, 1)]
    frames = synth_studio(1, StudioConfig(num_views=2, num_instants=3, size=64))
    for camera, clip in enumerate(clips):
        assert clip.kind == "studio" and len(clip) == 3
        np.testing.assert_array_equal(clip.people[0].masks, frames.masks[camera::2])
        np.testing.assert_array_equal(clip.people[0].pose, frames.pose[camera::2])
        assert clip.people[0].visibility.any()
    video = decode(tmp_path / "videos" / "studio_000001_cam01.mp4")
    assert np.abs(video.astype(int) - frames.images[1::2]).mean() < 6


def test_clip_formats_vary_and_are_encodable() -> None:
    shapes = {(c.width, c.height, c.fps) for c in map(wild_clip_config, range(30))}
    assert len(shapes) == 5
    assert all(width % 2 == height % 2 == 0 for width, height, _ in shapes)
    assert WildConfig().framing == "mixed"

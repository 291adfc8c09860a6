"""Every frame of many films: the same pixels as PyAV's, verdicts at the end, no film in the way."""

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.frames import FilmEnd, FrameBatch, FrameReader, FramesConfig, read_frames
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Frames, Probe, Reason, Shot
from avatarmill.synth.video import Encoding, write_video

RunFfmpeg = Callable[..., None]
REASONS = {
    "empty.mp4": Reason.EMPTY_FILE,
    "text.mp4": Reason.FORBIDDEN_FORMAT,
    "ffconcat.mp4": Reason.FORBIDDEN_FORMAT,
    "playlist.mp4": Reason.FORBIDDEN_FORMAT,
    "image.mp4": Reason.FORBIDDEN_FORMAT,
    "audio.mp4": Reason.NO_VIDEO_STREAM,
    "cut.mp4": Reason.TRUNCATED,
    "index_lost.mp4": Reason.TRUNCATED,
    "zeroed.mp4": Reason.TRUNCATED,
    "flipped.mp4": Reason.TRUNCATED,
    "cut.mkv": Reason.TRUNCATED,
}
SMALL = FramesConfig(batch_bytes=10 * 320 * 180 * 3, decoders=2)


Timed = list[tuple[float, NDArray[np.uint8]]]


def films(path: Path, config: FramesConfig = SMALL) -> tuple[dict[str, FilmEnd], dict[str, Timed]]:
    """By name: the ends of films, and copies of their frames with their times."""
    ends: dict[str, FilmEnd] = {}
    frames: dict[str, Timed] = defaultdict(list)
    for item in read_frames(path, config):
        name = Path(item.source.uri).name
        assert name not in ends, "nothing comes after the end"
        if isinstance(item, FilmEnd):
            ends[name] = item
        else:
            pairs = zip(item.frames.pts_seconds, item.frames.images.copy(), strict=True)
            frames[name] += pairs
    return ends, frames


def by_pyav(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.time, frame.to_ndarray(format="rgb24")


def test_frames_are_those_of_pyav(good_video: Path) -> None:
    ends, frames = films(good_video)
    expected = list(by_pyav(good_video))
    assert ends["good.mp4"].num_frames == len(frames["good.mp4"]) == len(expected) == 75
    assert ends["good.mp4"].reject is None and len(ends["good.mp4"].source.sha256) == 64
    for (time, image), (true_time, true_image) in zip(frames["good.mp4"], expected, strict=True):
        assert time == true_time
        np.testing.assert_array_equal(image, true_image)


def test_each_broken_film_ends_with_its_reason_and_good_ones_are_whole(
    good_video: Path, broken_videos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for path in (good_video, *broken_videos.iterdir()):
        (folder / path.name).symlink_to(path)
    ends, frames = films(folder)
    reasons = {name: end.reject.reason for name, end in ends.items() if end.reject is not None}
    assert reasons == REASONS
    assert {name for name, end in ends.items() if end.reject is None} == {"good.mp4"}
    assert len(frames["good.mp4"]) == 75
    assert all(end.num_frames == len(frames[name]) for name, end in ends.items())


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_turned_films_come_upright_and_small(rotation: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    board = np.kron(rng.integers(0, 255, (6, 10, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    path = tmp_path / "turned.mp4"
    write_video(path, iter([board] * 8), fps=25.0, encoding=Encoding(rotation=rotation))
    _, frames = films(path)
    assert frames["turned.mp4"][0][1].shape == board.shape
    assert np.abs(frames["turned.mp4"][0][1].astype(int) - board).mean() < 8
    _, small = films(path, FramesConfig(max_side=80))
    assert small["turned.mp4"][0][1].shape == (48, 80, 3)
    reduced = board.reshape(48, 2, 80, 2, 3).mean((1, 3))
    assert np.abs(small["turned.mp4"][0][1] - reduced).mean() < 8


def test_frames_agree_with_those_of_shots(good_video: Path) -> None:
    with video_child(ProbeConfig()) as child:
        facts = probe(child, list_sources(good_video)[0], ProbeConfig())
    assert isinstance(facts, Probe)
    whole = decode(str(good_video), facts, Shot(0.0, 3.0), DecodeConfig(fps=100))
    assert isinstance(whole, Frames)
    _, frames = films(good_video)
    images = np.stack([image for _, image in frames["good.mp4"]]).astype(int)
    np.testing.assert_allclose(whole.pts_seconds, [t for t, _ in frames["good.mp4"]], atol=1e-9)
    # Chroma is widened in another way, which shows at its edges and nowhere else.
    assert np.abs(images - whole.images).mean() < 4
    assert abs(images.mean() - whole.images.mean()) < 2


def test_a_decoder_that_is_killed_costs_one_film(good_video: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(good_video.read_bytes())
    config = FramesConfig(batch_bytes=SMALL.batch_bytes, decoders=1)
    ends: list[FilmEnd] = []
    for item in read_frames(tmp_path, config):
        if isinstance(item, FilmEnd):
            ends.append(item)
        elif not ends:
            for child in psutil.Process().children(recursive=True):
                if "frames_child" in " ".join(child.cmdline()):
                    os.kill(child.pid, signal.SIGKILL)
    reasons = [end.reject.reason if end.reject else "" for end in ends]
    assert sorted(reasons) == ["", "", Reason.CRASHED]
    assert max(end.num_frames for end in ends) == 75


def test_whoever_stops_early_leaves_no_child(good_video: Path) -> None:
    items = read_frames([good_video], FramesConfig(batch_bytes=SMALL.batch_bytes))
    assert isinstance(next(items), FrameBatch)
    items.close()  # type: ignore[attr-defined]
    names = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert not [name for name in names if "frames_child" in name]


def test_a_reader_keeps_its_decoders(good_video: Path) -> None:
    pids = []
    with FrameReader(SMALL) as reader:
        for _ in range(2):
            *_, end = reader.read([good_video])
            assert isinstance(end, FilmEnd) and (end.num_frames, end.reject) == (75, None)
            children = psutil.Process().children(recursive=True)
            pids += [c.pid for c in children if "frames_child" in " ".join(c.cmdline())]
        started = reader.read([good_video])
        next(started)
        started.close()  # type: ignore[attr-defined]
        *_, end = reader.read([good_video])
        assert isinstance(end, FilmEnd) and end.num_frames == 75, "stopped ones are replaced"
    assert len(pids) == 2 and pids[0] == pids[1] and not psutil.pid_exists(pids[0])


def test_frames_that_no_batch_can_hold_are_refused(good_video: Path) -> None:
    ends, frames = films(good_video, FramesConfig(batch_bytes=100_000))
    reject = ends["good.mp4"].reject
    assert reject is not None and reject.reason == Reason.TOO_LARGE
    assert "320x180, FramesConfig.batch_bytes is 100000" in reject.evidence and not frames


def test_an_empty_folder_has_no_frames(tmp_path: Path) -> None:
    assert list(read_frames(tmp_path)) == []


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="max_side -1 must not be negative"):
        FramesConfig(max_side=-1)
    with pytest.raises(ValueError, match="batch_bytes 10 must be at least"):
        FramesConfig(batch_bytes=10)

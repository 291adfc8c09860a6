"""Shots as files: cut to the frame, the same bytes again, and a job that keeps its promises."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from avatarmill.pipeline.cut import CutConfig, run
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.encode import EncodeConfig, EncodedShot, encode
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Probe, Reason, Reject, Shot
from avatarmill.records.commit import list_commits, verify
from avatarmill.records.index import entry_of, read_rows
from avatarmill.records.ledger import read_ledger
from avatarmill.records.tarshard import ShardReader
from avatarmill.synth.video import Encoding, write_video

EVERY = DecodeConfig(fps=1000.0, max_side=16384)


def facts(path: Path) -> Probe:
    with video_child(ProbeConfig()) as child:
        found = probe(child, list_sources(path)[0], ProbeConfig())
    assert isinstance(found, Probe)
    return found


def encoded(path: Path, shot: Shot, config: EncodeConfig | None = None) -> EncodedShot:
    made = encode(str(path), facts(path), shot, EVERY, config or EncodeConfig())
    assert isinstance(made, EncodedShot), made
    return made


def pictures(video: Path | BytesIO) -> list[tuple[float, np.ndarray]]:
    with av.open(video) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def test_a_shot_has_its_frames_and_no_other(good_video: Path) -> None:
    made, all_frames = encoded(good_video, Shot(2.0, 3.0)), pictures(good_video)
    found = pictures(BytesIO(made.data))
    np.testing.assert_allclose(made.pts_seconds, [time for time, _ in all_frames[50:]], atol=1e-9)
    np.testing.assert_allclose([t for t, _ in found], made.pts_seconds - 2.0, atol=1e-4)
    assert (made.width, made.height) == (320, 180)
    for (_, image), (_, original) in zip(found, all_frames[50:], strict=True):
        assert np.abs(image.astype(int) - original).mean() < 6


def test_the_same_shot_has_the_same_bytes(good_video: Path) -> None:
    shot = Shot(0.0, 2.0)
    assert encoded(good_video, shot).data == encoded(good_video, shot).data
    smaller = encoded(good_video, shot, EncodeConfig(crf=35)).data
    assert len(smaller) < len(encoded(good_video, shot).data)


def test_turned_and_odd_films_become_upright_and_even(tmp_path: Path) -> None:
    board = np.zeros((64, 96, 3), np.uint8)
    board[:32] = 200
    path = tmp_path / "turned.mp4"
    write_video(path, iter([board] * 8), fps=25.0, encoding=Encoding(rotation=90))
    small = replace(EVERY, max_side=67)
    made = encode(str(path), facts(path), Shot(0.0, 1.0), small, EncodeConfig())
    assert isinstance(made, EncodedShot) and (made.width, made.height) == (66, 44)
    _, image = pictures(BytesIO(made.data))[0]
    assert image[:20].mean() > 180 and image[24:].mean() < 20


@pytest.mark.parametrize(
    ("frames", "config", "reason"),
    [
        (replace(EVERY, min_frames=99), EncodeConfig(), Reason.TOO_SHORT),
        (EVERY, EncodeConfig(max_bytes=2000), Reason.TOO_LARGE),
        (EVERY, EncodeConfig(deadline_base_seconds=0, deadline_per_second=0), Reason.TIMED_OUT),
    ],
)
def test_limits_are_rejects_of_the_shot(
    good_video: Path, frames: DecodeConfig, config: EncodeConfig, reason: Reason
) -> None:
    found = encode(str(good_video), facts(good_video), Shot(0.0, 2.0), frames, config)
    assert isinstance(found, Reject)
    assert (found.reason, found.level, found.stop_seconds) == (reason, "shot", 2.0)


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crf is 60, must be 0..51"):
        EncodeConfig(crf=60)
    with pytest.raises(ValueError, match="group_size: 0 must be at least 1"):
        CutConfig(tmp_path, tmp_path, group_size=0)


def test_the_job_cuts_what_is_sound_and_says_why_not(
    good_video: Path, broken_videos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for path in (good_video, *broken_videos.iterdir()):
        (folder / path.name).symlink_to(path)
    (folder / "again.mp4").symlink_to(good_video)
    config = CutConfig(folder, tmp_path / "out", group_size=5, workers=Workers(cpu=2))
    assert run(config) == 0
    shots = tmp_path / "out" / "shots"
    states = {Path(s.uri).name: (s.state, s.samples) for s in read_ledger(shots / "ledger.parquet")}
    kept = {name for name, (state, _) in states.items() if state == "kept"}
    assert kept == {"again.mp4"} and states["again.mp4"] == ("kept", 2)
    assert states["good.mp4"][0] == "duplicate"
    assert sum(state == "rejected" for state, _ in states.values()) == 11
    assert verify(shots) == []
    rows = read_rows(shots / "index.parquet")
    assert [(row["start_seconds"], row["num_frames"]) for row in rows] == [(0.0, 50), (2.0, 25)]
    (shard,) = shots.glob("*.tar")
    with ShardReader(shard) as reader:
        samples = [reader.read(entry_of(row), verify=True) for row in rows]
    assert len(pictures(BytesIO(samples[1]["mp4"]))) == 25
    assert json.loads(samples[1]["json"])["pts_seconds"][0] == 2.0
    # The same command again does nothing, another configuration is refused.
    before = [commit.shard_sha256 for commit in list_commits(shots)]
    assert run(config) == 0
    assert [commit.shard_sha256 for commit in list_commits(shots)] == before
    with pytest.raises(ValueError, match="holds shots of other settings"):
        run(replace(config, encode=EncodeConfig(crf=30)))

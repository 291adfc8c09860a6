"""The curation job as a user runs it: good and broken files, a kill -9, a second start."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import pytest

from avatarmill.pipeline.types import Reason
from avatarmill.records.commit import list_commits, verify
from avatarmill.records.ledger import InputState
from avatarmill.records.reader import clips_in
from avatarmill.records.rejects import read_rejects
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

BROKEN = {
    "cut.mp4": Reason.TRUNCATED,
    "text.mp4": Reason.FORBIDDEN_FORMAT,
    "concat.mp4": Reason.FORBIDDEN_FORMAT,
    "sound.mp4": Reason.NO_VIDEO_STREAM,
    "empty.mp4": Reason.EMPTY_FILE,
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rendered actors, a copy of one, and the broken kinds."""
    root = tmp_path_factory.mktemp("job")
    synth(SynthConfig("wild", count=2, seed=3, out=root, seconds=1.6))
    folder = root / "videos"
    first, second = sorted(folder.iterdir())
    shutil.copy(second, folder / "twin.mp4")
    (folder / "cut.mp4").write_bytes(first.read_bytes()[: first.stat().st_size * 2 // 3])
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {first.name}\n")
    (folder / "empty.mp4").touch()
    sound = ["-f", "lavfi", "-i", "sine=duration=1", str(folder / "sound.mp4")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *sound], check=True)
    return folder


def curate(videos: Path, out: Path) -> subprocess.Popen[bytes]:
    # One source a group: a kill finds some groups committed and others not.
    options = ["--videos", str(videos), "--out", str(out), "--group-size", "1"]
    command = [sys.executable, "-m", "avatarmill.cli.main", "curate", *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run."""
    out = tmp_path_factory.mktemp("run")
    assert curate(videos, out).wait() == 0
    return out / "clips"


def states(folder: Path) -> dict[str, InputState]:
    return {Path(s.uri).name: s for commit in list_commits(folder) for s in commit.inputs}


def test_people_are_kept_with_words_and_truth_to_check(run: Path) -> None:
    clips = list(clips_in(run))
    assert len(clips) >= 2
    assert {clip.meta.source_uri.split("/")[-1] for clip in clips} == {
        name for name, state in states(run).items() if state.state == "kept"
    }
    for clip in clips:
        assert clip.num_references == 4
        assert clip.meta.captions["short"]
        assert (clip.masks > 127).mean() > 0.05
    assert verify(run) == []


@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_a_broken_file_costs_one_row(run: Path, name: str, reason: Reason) -> None:
    assert (states(run)[name].state, states(run)[name].reason) == ("rejected", reason)
    rows = [row for row in read_rejects(run / "rejects.parquet") if row.uri.endswith(f"/{name}")]
    assert [(row.level, row.reason) for row in rows] == [("source", reason)]
    assert rows[0].evidence


def test_the_ledger_adds_up(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_bytes())
    assert summary["inputs"] == 8 == sum(summary["states"].values())
    assert summary["states"] == {"kept": 2, "rejected": 5, "duplicate": 1, "failed": 0}


def test_a_killed_job_ends_with_the_same_bytes(videos: Path, run: Path, tmp_path: Path) -> None:
    process = curate(videos, tmp_path)
    clips = tmp_path / "clips"
    deadline = time.monotonic() + 200
    while not list_commits(clips) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = {
        commit.group: (clips / "commits" / f"{commit.group}.json").stat().st_mtime_ns
        for commit in list_commits(clips)
    }
    assert 0 < len(done) < len(list_commits(run))

    assert curate(videos, tmp_path).wait() == 0
    again = {group: (clips / "commits" / f"{group}.json").stat().st_mtime_ns for group in done}
    assert again == done, "finished groups were done again"
    names = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    names.remove(Path("summary.json"))  # holds the seconds of the last start
    for name in names:
        assert (clips / name).read_bytes() == (run / name).read_bytes(), name


def test_other_settings_do_not_mix_with_finished_clips(videos: Path, run: Path) -> None:
    options = ["--videos", str(videos), "--out", str(run.parent), "--decode.fps", "5"]
    command = [sys.executable, "-m", "avatarmill.cli.main", "curate", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose another --out" in done.stderr

"""The curation job as a user runs it: good and broken files, other settings, a second start."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest

from avatarmill.cli.forget import ForgetConfig
from avatarmill.cli.forget import run as forget
from avatarmill.pipeline.executor import run_here
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.scans import SOURCE_TABLE, finish_scans, keep_scans, load_scans
from avatarmill.pipeline.types import Reason
from avatarmill.pipeline.work import Work
from avatarmill.records.clip import Clip
from avatarmill.records.commit import list_commits, verify
from avatarmill.records.forget import prove
from avatarmill.records.index import read_rows, write_table
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
    """Two rendered actors, an exact and a near copy of one, and the broken kinds."""
    root = tmp_path_factory.mktemp("job")
    synth(SynthConfig("wild", count=2, seed=3, out=root, seconds=1.6))
    folder = root / "videos"
    first, second = sorted(folder.iterdir())
    shutil.copy(second, folder / "twin.mp4")
    # Another encoding, size, crop, speed and frame rate.
    near = ["-vf", "crop=iw*0.95:ih*0.95,scale=320:-2,setpts=PTS/1.05,fps=20", "-crf", "30"]
    ffmpeg("-i", str(second), *near, str(folder / "wild_near.mp4"))
    (folder / "cut.mp4").write_bytes(first.read_bytes()[: first.stat().st_size * 2 // 3])
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "concat.mp4").write_text(f"ffconcat version 1.0\nfile {first.name}\n")
    (folder / "empty.mp4").touch()
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", str(folder / "sound.mp4"))
    return folder


def ffmpeg(*arguments: str) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments], check=True)


def curate(
    videos: Path, out: Path, *options: str, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    # One source a group: each is a row of its own in what is made again.
    own = ["--videos", str(videos), "--out", str(out), "--group-size", "1"]
    own += ["--analysis.gigabytes", "1", "--workers.cpu", "1"]
    command = [sys.executable, "-m", "avatarmill.cli.main", "curate", *own, *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})})


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an undisturbed run, of two workers; those of the tests have one."""
    out = tmp_path_factory.mktemp("run")
    assert curate(videos, out, "--workers.cpu", "2").wait() == 0
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
    assert summary["inputs"] == 9 == sum(summary["states"].values())
    assert summary["states"] == {"kept": 2, "rejected": 5, "duplicate": 2, "failed": 0}


def test_a_near_copy_is_a_duplicate_with_evidence(run: Path) -> None:
    rows = {Path(str(row["uri"])).name: row for row in read_rows(run / "ledger.parquet")}
    assert rows["wild_near.mp4"]["state"] == "duplicate"
    assert str(rows["twin.mp4"]["reason"]).startswith("same bytes as ") or (
        str(rows["wild_000004.mp4"]["reason"]).startswith("same bytes as ")
    )
    assert re.search(
        r"near copy of \S+/(twin|wild_000004).mp4: likeness 0\.\d+ over \d+ % of it, limits 0.66 "
        r"and 60 %, at \d\.\d\d times its speed",
        str(rows["wild_near.mp4"]["reason"]),
    )
    assert not (run / "scans").exists()
    assert len(read_rows(run / "sources.parquet")) == 9, "one row for each listed file"


def test_a_pass_killed_half_way_goes_on_where_it_was(
    videos: Path, run: Path, tmp_path: Path
) -> None:
    """Without the machinery of a job: rows of a part are read, and the table ends the same."""
    rows = read_rows(run / "sources.parquet")
    (tmp_path / "scans").mkdir()
    write_table(tmp_path / "scans/000003.parquet", rows[:5], SOURCE_TABLE)
    made_by = str(rows[0]["fingerprint"])
    scans = load_scans(tmp_path, made_by)
    listed = list_sources(videos)
    left = [source for source in listed if source.sha256 not in scans.found]
    read = {row["sha256"] for row in rows[:5]}
    assert left == [source for source in listed if source.sha256 not in read] != []
    done = run_here(
        [Work(source) for source in left], scan_stages(CurateConfig(videos, tmp_path).stages())
    )
    keep_scans(tmp_path, done, scans, made_by)
    assert sorted(path.stem for path in (tmp_path / "scans").iterdir()) == ["000003", "000004"]
    assert load_scans(tmp_path, "other settings").found == {}
    finish_scans(tmp_path, listed, scans, made_by)
    assert not (tmp_path / "scans").exists()
    assert (tmp_path / "sources.parquet").read_bytes() == (run / "sources.parquet").read_bytes()


def commit_times(clips: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (clips / "commits").glob("*.json")}


def test_a_forgotten_source_stays_away_and_another_choice_of_frames_detects_nothing(
    videos: Path, run: Path, tmp_path: Path
) -> None:
    """It stays away from the same command, and from one that reads every file and makes every group
    again. That one chooses other frames: with an ffmpeg and a MediaPipe that cannot run, scores
    and pictures are those kept."""
    shutil.copytree(run.parent, tmp_path, dirs_exist_ok=True)
    clips, source = tmp_path / "clips", videos / "wild_000003.mp4"
    (sha256,) = {clip.meta.source_sha256 for clip in clips_in(clips) if of(clip, source)}
    gone = {commit.group for commit in list_commits(clips) if sha256 in str(commit.inputs)}
    before = {path.name: path.read_bytes() for path in clips.glob("*.tar")}
    assert forget(ForgetConfig((tmp_path,), str(source))) == 0
    left = {name: data for name, data in before.items() if Path(name).stem not in gone}
    assert {path.name: path.read_bytes() for path in clips.glob("*.tar")} == left != before

    done = commit_times(clips)
    assert curate(videos, tmp_path).wait() == 0
    assert commit_times(clips) == done, "nothing was made again"
    assert {path.name: path.read_bytes() for path in clips.glob("*.tar")} == left
    assert ends(clips, source) == ("rejected", Reason.FORGOTTEN)

    for name in ("sources.parquet", "sources.known.parquet", "copies.parquet"):
        (clips / name).unlink(missing_ok=True)
    blocked = {"IMAGEIO_FFMPEG_EXE": "/bin/false", "AVATARMILL_MEDIAPIPE_PYTHON": "/bin/false"}
    options = ["--regenerate", "--select.num-targets", "1"]
    assert curate(videos, tmp_path, *options, env=blocked).wait() == 0
    made = {clip.key: clip for clip in clips_in(clips)}
    kept = {clip.key: clip for clip in clips_in(run) if not of(clip, source)}
    assert made.keys() == kept.keys() != set()
    for key, clip in made.items():
        assert len(clip.images) == len(kept[key].images) - 1 == 5
        assert (clip.images == kept[key].images[:-1]).all()
        prints = clip.meta.fingerprints, kept[key].meta.fingerprints
        assert {step for step in prints[0] if prints[0][step] != prints[1][step]} == {"clips"}
    assert ends(clips, source) == ("rejected", Reason.FORGOTTEN)
    rows = [row for row in read_rejects(clips / "rejects.parquet") if row.uri == str(source)]
    assert [(row.level, row.reason) for row in rows] == [("source", Reason.FORGOTTEN)]
    assert prove(clips, sha256).problems == () and verify(clips) == []
    assert not list((tmp_path / "analysis").glob(f"{sha256[:12]}-*"))


def of(clip: Clip, source: Path) -> bool:
    return clip.meta.source_uri == str(source)


def ends(clips: Path, source: Path) -> tuple[object, object]:
    """State and reason of a source in the ledger."""
    (row,) = [r for r in read_rows(clips / "ledger.parquet") if r["uri"] == str(source)]
    return row["state"], row["reason"]


def test_other_settings_do_not_mix_with_finished_clips(videos: Path, run: Path) -> None:
    options = ["--videos", str(videos), "--out", str(run.parent), "--decode.fps", "5"]
    command = [sys.executable, "-m", "avatarmill.cli.main", "curate", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose another --out" in done.stderr

"""`avatarmill plan`: what is finished, new and stale is said before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from avatarmill.cli.main import main
from avatarmill.pipeline.foreseen import Estimate, Pilot, compare, read_pilot, write_pilot
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.recipe import recipe_fingerprint, write_recipe
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import write_group
from avatarmill.records.ledger import InputState


@pytest.fixture()
def run(tmp_path: Path) -> Path:
    """A run of two sources, one finished with the present settings and one with others."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (videos / name).write_text(name)
    now = CurateConfig(videos, tmp_path).stages()
    before = replace(now, select=replace(now.select, num_targets=3))
    for name, config in (("a", now), ("b", before)):
        write_recipe(tmp_path / "clips", config)
        inputs = [InputState(str(videos / f"{name}.mp4"), name, "rejected", "no_person")]
        write_group(
            tmp_path / "clips",
            f"clips-{name}",
            [],
            schema=CLIP_INDEX,
            fingerprint=recipe_fingerprint(config),
            inputs=inputs,
        )
    return tmp_path


def test_the_plan_names_what_is_stale_and_why(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--videos", str(run / "videos"), "--out", str(run)]) == 0
    text = capsys.readouterr().out
    assert "3 sources listed: 1 finished with these settings, 2 to do" in text
    assert "SelectConfig.num_targets 3 -> 2" in text
    assert "clips" in text.split("because")[1]
    assert not (run / "pilot.json").exists()


def test_a_wrong_pilot_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--videos", str(run / "videos"), "--out", str(run), "--pilot", "-1"]
    assert main(["plan", *options]) == 2
    assert "pilot: -1 must be 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("clips", [0.0, 3.0])
def test_a_pilot_without_clips_is_said_to_know_nothing_of_them(
    run: Path, clips: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("worker_seconds", "gpu_seconds", "bytes", "yield")
    estimates = {
        **dict.fromkeys(names, Estimate(1.0, 0.5, 2.0)),
        "clips": Estimate(clips, 0.0, 9.0),
    }
    monkeypatch.setattr("avatarmill.cli.plan.run_pilot", lambda *_: Pilot("f", 2, 2, estimates))
    options = ["--videos", str(run / "videos"), "--out", str(run), "--pilot", "2"]
    assert main(["plan", *options]) == 0
    text = capsys.readouterr().out
    assert "worker hours" in text
    assert ("nothing is known yet" in text) == (clips == 0)


def test_a_run_is_held_against_its_pilot(tmp_path: Path) -> None:
    assert read_pilot(tmp_path) is None
    estimates = {"clips": Estimate(10.0, 8.0, 12.0), "yield": Estimate(0.5, 0.4, 0.6)}
    write_pilot(tmp_path, Pilot("f", 20, 5, estimates))
    pilot = read_pilot(tmp_path)
    assert pilot == Pilot("f", 20, 5, estimates)
    found = compare(pilot, {"clips": 11.0, "yield": 0.7, "unknown": 1.0})
    assert {name: figures["inside"] for name, figures in found.items()} == {
        "clips": True,
        "yield": False,
    }

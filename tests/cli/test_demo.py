"""The demo is a list of commands that the executable understands."""

import importlib
import json
from pathlib import Path

import pytest

from avatarmill.cli.demo import DemoConfig, Step, plan_steps, run
from avatarmill.cli.main import COMMANDS, parse_config, split_command


@pytest.mark.parametrize("videos", [None, "tests"])
def test_every_step_parses(tmp_path: Path, videos: str | None) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "clips").mkdir()
    config = DemoConfig(out=tmp_path, videos=Path(videos) if videos else None)
    steps = plan_steps(config)
    names = [step.name for step in steps]
    assert names == ["synth"] * (videos is None) + [
        "curate",
        "tokenize",
        "train",
        "generate",
        "report",
    ]
    for step in steps:
        assert not isinstance(parsed(step), int), f"{step} was refused"


def parsed(step: Step) -> object:
    name, options = split_command(step.arguments)
    command = COMMANDS[name]
    config = getattr(importlib.import_module(command.module), command.config)
    return parse_config(config, options, prog=name)


def test_bad_settings_name_the_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="videos: .*missing is not a folder"):
        DemoConfig(videos=tmp_path / "missing")
    with pytest.raises(ValueError, match="actors: 0 must be at least 1"):
        DemoConfig(actors=0)


@pytest.mark.slow
def test_a_folder_without_people_ends_early_with_its_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "empty.mp4").touch()
    (videos / "text.mp4").write_text("no video")
    assert run(DemoConfig(out=tmp_path / "out", videos=videos)) == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["curate"]["states"]["rejected"] == 2
    assert "rejects: 1 empty_file, 1 forbidden_format" in capsys.readouterr().out

"""The recipe of the shipped weights: its order, its resumption, and the clips it renders."""

from pathlib import Path

import numpy as np
import pytest

from avatarmill.cli.actor_clips import ActorClipsConfig, actor_record
from avatarmill.cli.main import COMMANDS, split_command
from avatarmill.cli.weights import StepMark, WeightsConfig, plan_steps
from avatarmill.records.clip import clip_from_members
from avatarmill.tokenize.frames import ReferenceFrames


def test_every_step_reads_only_what_came_before(tmp_path: Path) -> None:
    steps = plan_steps(WeightsConfig(out=tmp_path))
    made: set[str] = set()
    for step in steps:
        if not callable(step.run):
            name, options = split_command(step.run)
            assert name in COMMANDS
            own = {str(step.result), str(step.result.parent)}
            paths = {word for word in options if word.startswith(str(tmp_path))} - own
            assert paths <= made, step.name
        made |= {str(step.result), str(step.result.parent)}
    assert len({step.name for step in steps}) == len(steps)


def test_the_recipe_fits_into_an_hour() -> None:
    config = WeightsConfig()
    assert config.wild_minutes + config.studio_minutes + config.compressor_minutes <= 32
    with pytest.raises(ValueError, match="studio_minutes is 0, expected more than 0"):
        WeightsConfig(studio_minutes=0)


def test_a_step_resumes_with_the_same_settings_and_starts_anew_with_others(tmp_path: Path) -> None:
    mark, folder = StepMark(tmp_path / "train.step.json"), tmp_path / "train"
    folder.mkdir()
    (folder / "checkpoint").write_text("half")
    mark.start("a", folder)
    assert not mark.is_done("a")
    # Killed and started again: the checkpoint is still there.
    mark.start("a", folder)
    assert (folder / "checkpoint").exists()
    mark.finish("a")
    assert mark.is_done("a") and not mark.is_done("b")
    mark.start("b", folder)
    assert not folder.exists() and not mark.is_done("b")


def test_rendered_clip_is_a_clip_like_any_other() -> None:
    config = ActorClipsConfig(actors=1, references=2, size=96)
    record = actor_record(config, 0)
    clip = clip_from_members(record.key, record.members)
    assert clip.images.shape == (2, 96, 96, 3) and clip.num_references == 2
    assert set(clip.meta.captions) == {"short", "medium", "long"}
    assert 0.02 < np.mean(clip.masks > 127) < 0.9
    assert actor_record(config, 0) == record
    frames = ReferenceFrames.from_clip(clip)
    assert frames.images.shape == (2, 3, 96, 96)


def test_bad_numbers_of_actors_are_named() -> None:
    with pytest.raises(ValueError, match="actors 0, references 4 and group 40"):
        ActorClipsConfig(actors=0)

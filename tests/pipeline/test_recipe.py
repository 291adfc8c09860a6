"""Recipes: what changed, from which step on, and that nothing before it is called stale."""

from dataclasses import replace
from pathlib import Path

import pytest

from avatarmill.pipeline import stages
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.recipe import (
    differences,
    first_change,
    read_recipe,
    recipe,
    recipe_fingerprint,
    refuse_other_recipe,
    stale_groups,
    write_recipe,
)
from avatarmill.pipeline.stages import STEP_VERSIONS, StageConfig
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import write_group
from avatarmill.records.ledger import InputState


@pytest.fixture()
def config(tmp_path: Path) -> StageConfig:
    return CurateConfig(tmp_path, tmp_path).stages()


def test_a_recipe_survives_its_file(config: StageConfig, tmp_path: Path) -> None:
    write_recipe(tmp_path, config)
    back = read_recipe(tmp_path, recipe_fingerprint(config))
    assert back is not None and list(back) == list(STEP_VERSIONS)
    assert {step: about["settings"] for step, about in back.items()} == {
        step: about["settings"] for step, about in recipe(config).items()
    }
    assert read_recipe(tmp_path, "0" * 64) is None


def test_a_selection_threshold_leaves_everything_before_it(config: StageConfig) -> None:
    other = replace(config, select=replace(config.select, num_targets=3))
    before, after = recipe(config), recipe(other)
    assert first_change(before, after) == ("clips", ("SelectConfig.num_targets 2 -> 3",))
    same = [step for step in after if before[step]["fingerprint"] == after[step]["fingerprint"]]
    assert same == ["shots", "people", "masks", "fit", "scores"]


def test_an_early_setting_makes_all_after_it_stale(config: StageConfig) -> None:
    other = replace(config, decode=replace(config.decode, fps=5.0))
    before, after = recipe(config), recipe(other)
    assert first_change(before, after) == ("people", ("DecodeConfig.fps 10.0 -> 5.0",))
    assert before["shots"] == after["shots"]
    assert before["clips"]["fingerprint"] != after["clips"]["fingerprint"]


def test_a_new_code_version_is_named(config: StageConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe(config)
    version = STEP_VERSIONS["fit"]
    monkeypatch.setitem(stages.STEP_VERSIONS, "fit", version + 1)
    assert first_change(before, recipe(config)) == (
        "fit",
        (f"code version {version} -> {version + 1}",),
    )


def test_stale_groups_are_counted_and_others_are_not(config: StageConfig, tmp_path: Path) -> None:
    write_recipe(tmp_path, config)
    for number, made_by in enumerate([recipe_fingerprint(config)] * 2 + ["unknown"]):
        inputs = [InputState(f"{number}", f"{number}", "rejected", "no_person")]
        write_group(
            tmp_path, f"g{number}", [], schema=CLIP_INDEX, fingerprint=made_by, inputs=inputs
        )
    (left,) = stale_groups(tmp_path, config)
    assert (left.groups, left.step) == (1, "shots")
    assert left.why == ("how they were made is not recorded",)
    other = replace(config, masks=replace(config.masks, sam2_image_size=512))
    known = [stale for stale in stale_groups(tmp_path, other) if stale.step == "masks"]
    assert [(stale.groups, stale.sources) for stale in known] == [(2, 2)]


def test_another_recipe_is_refused_with_the_way_out(config: StageConfig, tmp_path: Path) -> None:
    write_recipe(tmp_path, config)
    made_by = recipe_fingerprint(config)
    refuse_other_recipe(tmp_path, made_by, config)
    refuse_other_recipe(tmp_path, "", config)
    other = replace(config, decode=replace(config.decode, fps=5.0))
    with pytest.raises(
        ValueError, match=r"differs is people: DecodeConfig.fps 10.0 -> 5.0.*choose another --out"
    ):
        refuse_other_recipe(tmp_path, made_by, other)


def test_settings_that_came_or_went_are_named() -> None:
    before = {"type": "A", "kept": 1, "gone": {"type": "B", "x": [1, 2]}}
    assert differences(before, {"type": "A", "kept": 1, "new": None}) == [
        "A.new unset -> None",
        "B.x[0] 1 -> unset",
        "B.x[1] 2 -> unset",
    ]

"""What made the clips of a folder, step by step, and what another configuration would change.

FOLDER/recipes/FINGERPRINT.json   one file for each configuration that a job ran with: for every
                                  step its version, its settings and its fingerprint

A commit carries the fingerprint of its recipe, so that of each group it is known which steps made
it. A step is stale when its own version or settings changed, or when a step before it is stale.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatarmill.pipeline.stages import STEP_VERSIONS, StageConfig, step_fingerprints, step_settings
from avatarmill.records.atomic import read_bytes, write_bytes
from avatarmill.records.canonical import json_bytes, json_object
from avatarmill.records.commit import list_commits
from avatarmill.records.fingerprint import describe, fingerprint

RECIPES = "recipes"

Recipe = dict[str, Any]
"""Step name to version, settings and fingerprint; in order of the steps."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Groups that one other recipe made, and what would change if they were made again."""

    groups: int
    sources: int
    clips: int
    step: str
    """The first step that is stale; all after it are, and none before it."""
    why: tuple[str, ...]
    """What changed in it, a line each."""


def recipe(config: StageConfig) -> Recipe:
    """The recipe of a configuration and of the code as it is."""
    prints, settings = step_fingerprints(config), step_settings(config)
    return {
        step: {
            "version": STEP_VERSIONS[step],
            # Through the bytes of the file, so that both sides of a comparison are rounded alike.
            "settings": json.loads(json_bytes(describe(settings[step]))),
            "fingerprint": prints[step],
        }
        for step in STEP_VERSIONS
    }


def recipe_fingerprint(config: StageConfig) -> str:
    """What commits, plan and recipe file of a configuration carry."""
    return fingerprint(step_fingerprints(config))


def write_recipe(folder: Path, config: StageConfig) -> None:
    """Writes the recipe beside the clips it is going to make."""
    # As a list, because canonical JSON sorts the keys of an object and steps have an order.
    steps = [{"step": step, **about} for step, about in recipe(config).items()]
    name = f"{recipe_fingerprint(config)}.json"
    write_bytes(folder / RECIPES / name, json_bytes({"steps": steps}) + b"\n")


def read_recipe(folder: Path, made_by: str) -> Recipe | None:
    """The recipe with that fingerprint; None where its file is missing."""
    try:
        document = json_object(read_bytes(folder / RECIPES / f"{made_by}.json"))
    except FileNotFoundError:
        return None
    steps: Any = document["steps"]
    return {about["step"]: about for about in steps}


def stale_groups(folder: Path, config: StageConfig) -> list[Stale]:
    """Committed groups that the configuration would make otherwise, by the recipe they have."""
    now = recipe_fingerprint(config)
    commits = [commit for commit in list_commits(folder) if commit.fingerprint != now]
    found = []
    for made_by in sorted({commit.fingerprint for commit in commits}):
        own = [commit for commit in commits if commit.fingerprint == made_by]
        step, why = first_change(read_recipe(folder, made_by), recipe(config))
        sources = sum(len(commit.inputs) for commit in own)
        found.append(Stale(len(own), sources, sum(len(c.keys) for c in own), step, why))
    return found


def refuse_other_recipe(folder: Path, made_by: str, config: StageConfig) -> None:
    """Raises ValueError where the folder was planned with a recipe that is not this one."""
    if made_by in ("", recipe_fingerprint(config)):
        return
    step, why = first_change(read_recipe(folder, made_by), recipe(config))
    raise ValueError(
        f"out: {folder} holds clips of another configuration or code version; the first step that "
        f"differs is {step}: {'; '.join(why)}. `avatarmill plan` with the same options says what "
        "is stale; --regenerate makes that again, or choose another --out"
    )


def first_change(earlier: Recipe | None, now: Recipe) -> tuple[str, tuple[str, ...]]:
    """The first step in which two recipes differ, and how."""
    first = next(iter(now))
    if earlier is None:
        return first, ("how they were made is not recorded",)
    for step, about in now.items():
        if step not in earlier:
            return step, ("the step is new",)
        before = earlier[step]
        if before["fingerprint"] == about["fingerprint"]:
            continue
        why = []
        if before["version"] != about["version"]:
            why.append(f"code version {before['version']} -> {about['version']}")
        why += differences(before["settings"], about["settings"])
        return step, tuple(why) or ("an input of the step changed",)
    return first, ("steps have left the recipe",)


def differences(earlier: object, now: object) -> list[str]:
    """Settings that differ, one line each: `DecodeConfig.fps 10.0 -> 5.0`."""
    before, after = dict(_flat(earlier, "")), dict(_flat(now, ""))
    return [
        f"{name} {before.get(name, 'unset')} -> {after.get(name, 'unset')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, "unset") != after.get(name, "unset")
    ]


def _flat(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Path and value of every leaf; a dataclass goes by the name of its type."""
    if isinstance(value, Mapping):
        kind = str(value.get("type", path))
        for name, inner in value.items():
            if name != "type":
                yield from _flat(inner, f"{kind}.{name}" if kind else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            own = "type" in inner if isinstance(inner, Mapping) else False
            yield from _flat(inner, path if own else f"{path}[{number}]")
    else:
        yield path, value

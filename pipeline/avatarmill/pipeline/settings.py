"""Reads the settings of a finished run back from the configuration it wrote beside its output."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.plain import from_plain
from avatarmill.pipeline.stages import StageConfig

CONFIG_NAME = "curate.config.json"

T = TypeVar("T")


def stage_settings(run: Path) -> StageConfig | None:
    """The settings of all stages in the run folder `run`; None where it has no configuration.

    Raises:
        ValueError: the file is of a code version with other fields, or no configuration at all.
    """
    names = [field.name for field in dataclasses.fields(StageConfig)]
    return _read(
        run, lambda document: from_plain(StageConfig, {name: document[name] for name in names})
    )


def decode_settings(run: Path) -> DecodeConfig | None:
    """The settings of decoding alone, as `stage_settings`; other stages may have changed."""
    return _read(run, lambda document: from_plain(DecodeConfig, document["decode"]))


def _read(run: Path, build: Callable[[Any], T]) -> T | None:
    path = run / CONFIG_NAME
    if not path.is_file():
        return None
    try:
        return build(json.loads(path.read_bytes())["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is of another version of the code: {error}") from error

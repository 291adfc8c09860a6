"""The whole resolved configuration of a run, written beside its output before it starts."""

from pathlib import Path

from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.fingerprint import describe, fingerprint


def write_config(out: Path, name: str, config: object) -> Path:
    """Write `config` (a dataclass, nested) to OUT/NAME.config.json and return that path.

    The file holds every field, defaults included, and the fingerprint of the configuration.
    Raises ValueError for a field that JSON cannot hold.
    """
    path = out / f"{name}.config.json"
    document = {"config": describe(config), "fingerprint": fingerprint(config)}
    write_bytes(path, json_bytes(document) + b"\n")
    return path

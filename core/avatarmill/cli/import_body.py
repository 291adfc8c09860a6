"""`avatarmill import-body FILE`: a licensed SMPL-X file, made safe to load."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from avatarmill.avatar.import_body import import_body
from avatarmill.cli.console import table


@dataclass(frozen=True, slots=True)
class ImportBodyConfig:
    """Which file to read and where the clean one goes."""

    file: Positional[Path]
    """A licensed SMPLX_MALE, SMPLX_FEMALE or SMPLX_NEUTRAL .npz (or .pkl, see trust-pickle)."""
    out: Path | None = None
    """Folder of the clean npz and its anchors; `clean` beside the file without it."""
    gender: Literal["male", "female", "neutral"] | None = None
    """Of the body; from the file's name without it."""
    trust_pickle: bool = False
    """Read a .pkl, which runs whatever code it holds."""


def run(config: ImportBodyConfig) -> int:
    """Imports the body and prints what it is."""
    body = import_body(
        config.file, config.out, gender=config.gender, trust_pickle=config.trust_pickle
    )
    rows = [
        ("gender", body.gender),
        ("vertices", body.num_vertices),
        ("shape components", body.num_shape),
        ("expression components", body.num_expression),
        ("fingerprint", body.fingerprint),
        ("body", body.path),
        ("anchors", body.anchors),
    ]
    table(("", "read"), rows)
    return 0

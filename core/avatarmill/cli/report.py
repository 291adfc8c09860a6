"""report.html: what a run kept, what it rejected and why, and what its tokens look like."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from avatarmill.avatar.body import load_body
from avatarmill.cli.pages import contact_sheet, data_url, jpeg, template
from avatarmill.cli.report_tiles import Tile, clip_tiles
from avatarmill.records.atomic import write_bytes
from avatarmill.records.clip import Clip
from avatarmill.records.reader import clips_in, tokens_in
from avatarmill.records.rejects import read_rejects
from avatarmill.tokenize.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """Which run to report on."""

    out: Path
    """Folder of the run: OUT/clips, OUT/tokens, OUT/avatars."""
    clips: int = 24
    """Clips shown at most."""
    tokenizer: Path | None = None
    """Weights the tokens were made with; the packaged ones without it."""

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"clips: {self.clips} must be at least 1")
        if not (self.out / "clips").is_dir():
            raise ValueError(f"out: {self.out} has no clips; run `avatarmill curate` first")


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One clip on the page."""

    clip: Clip
    visible_fraction: float
    tiles: list[Tile]


def run(config: ReportConfig) -> int:
    """Writes OUT/report.html, which needs no other file, and OUT/report.jpg, its contact sheet.

    The last row of the sheet is the generated avatars.
    """
    rows = list(_rows(config))
    avatars = sorted((config.out / "avatars").glob("*.png"))
    page = template("report.html.j2").render(
        summary=json.loads((config.out / "clips" / "summary.json").read_bytes()),
        rejects=read_rejects(config.out / "clips" / "rejects.parquet"),
        rows=rows,
        avatars=[
            (path.stem, data_url(path.read_bytes(), "png"), _prompt(path)) for path in avatars
        ],
    )
    write_bytes(config.out / "report.html", page.encode())
    if rows:
        pictures = [[tile.image for tile in row.tiles] for row in rows]
        pictures.append([np.asarray(Image.open(path).convert("RGB")) for path in avatars])
        sheet = contact_sheet(pictures, [tile.title for tile in rows[0].tiles])
        write_bytes(config.out / "report.jpg", jpeg(sheet))
    return 0


def _rows(config: ReportConfig) -> Iterator[ClipRow]:
    tokenizer = Tokenizer.load(config.tokenizer)
    body = load_body()
    samples = {sample.key: sample for sample in tokens_in(config.out / "tokens")}
    shown = (clip for clip in clips_in(config.out / "clips") if clip.key in samples)
    for _, clip in zip(range(config.clips), shown, strict=False):
        sample = samples[clip.key]
        tiles = clip_tiles(clip, sample, tokenizer, body)
        yield ClipRow(clip, sample.visible_fraction, tiles)


def _prompt(picture: Path) -> str:
    described = picture.with_suffix(".json")
    return str(json.loads(described.read_bytes()).get("prompt", "")) if described.exists() else ""

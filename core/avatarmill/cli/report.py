"""report.html: what a run kept, what it rejected and why, and what its tokens look like."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from PIL import Image, ImageDraw

from avatarmill.avatar.body import load_body
from avatarmill.cli.report_tiles import Tile, clip_tiles
from avatarmill.records.atomic import write_bytes
from avatarmill.records.clip import Clip
from avatarmill.records.reader import clips_in, tokens_in
from avatarmill.records.rejects import read_rejects
from avatarmill.tokenize.tokenizer import Tokenizer

SHEET_SIDE, HEAD = 192, 20
"""Pixels of a tile and of the line of titles in the contact sheet."""


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
    page = _template().render(
        summary=json.loads((config.out / "clips" / "summary.json").read_bytes()),
        rejects=read_rejects(config.out / "clips" / "rejects.parquet"),
        rows=rows,
        avatars=[
            (path.stem, _data_url(path.read_bytes(), "png"), _prompt(path)) for path in avatars
        ],
    )
    write_bytes(config.out / "report.html", page.encode())
    if rows:
        pictures = [[tile.image for tile in row.tiles] for row in rows]
        pictures.append([np.asarray(Image.open(path).convert("RGB")) for path in avatars])
        sheet = contact_sheet(pictures, [tile.title for tile in rows[0].tiles])
        write_bytes(config.out / "report.jpg", _jpeg(sheet))
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


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], side: int = SHEET_SIDE
) -> np.ndarray:
    """Pictures in rows under column titles, each fitted into a white square: uint8 [H, W, 3]."""
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * side, HEAD + len(rows) * side), "white")
    pen = ImageDraw.Draw(sheet)
    for x, title in enumerate(titles):
        pen.text((x * side + 4, 4), title, fill="black")
    for y, row in enumerate(rows):
        for x, pixels in enumerate(row):
            picture = Image.fromarray(pixels)
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x * side, HEAD + y * side))
    return np.asarray(sheet)


def _template() -> Template:
    # Every value on the page is escaped: names and captions come from strangers' files.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["jpeg"] = lambda pixels: _data_url(_jpeg(pixels), "jpeg")
    source = files("avatarmill.cli").joinpath("report.html.j2").read_text()
    return environment.from_string(source)


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _prompt(picture: Path) -> str:
    described = picture.with_suffix(".json")
    return str(json.loads(described.read_bytes()).get("prompt", "")) if described.exists() else ""

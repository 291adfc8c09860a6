"""What HTML pages and picture sheets are made of: escaped templates, data URLs, contact sheets."""

import base64
import io
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from PIL import Image, ImageDraw

SHEET_SIDE, HEAD = 192, 20
"""Pixels of a tile and of the line of titles in a contact sheet."""


def template(name: str) -> Template:
    """A template of this folder. Every value on the page is escaped.

    Names and captions come from strangers' files; the page also forbids scripts and any address
    but data URLs of pictures.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(lambda other: files("avatarmill.cli").joinpath(other).read_text()),
    )
    environment.filters["jpeg"] = lambda pixels: data_url(jpeg(pixels), "jpeg")
    return environment.get_template(name)


def jpeg(pixels: np.ndarray) -> bytes:
    """A picture for a page."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """A picture for a file of its own, without losses."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, kind: str) -> str:
    """An address that holds the picture itself."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    side: int = SHEET_SIDE,
    labels: Sequence[str] = (),
) -> np.ndarray:
    """Pictures in rows under column titles, each fitted into a white square: uint8 [H, W, 3].

    Labels, one a row, are written over the lower edge of its first picture.
    """
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
    for y, label in enumerate(labels):
        corner = (4, HEAD + (y + 1) * side - 16)
        pen.rectangle(pen.textbbox(corner, label), fill="white")
        pen.text(corner, label, fill="black")
    return np.asarray(sheet)

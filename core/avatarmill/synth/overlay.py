"""What an editor lays over a picture: bars around it and text on it."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Bytes = NDArray[np.uint8]
TextStyle = Literal["subtitle", "title", "watermark"]
_LINES = {
    "subtitle": (
        "So today we are going to try this on",
        "wait for it",
        "and that is how you do it at home",
        "I did not expect this at all",
        "part 2 of 7: the turn",
        "step by step, nice and slow",
    ),
    "title": ("DAY 12", "HOW TO WALK", "THE NEW COAT", "5 EASY MOVES", "BEFORE / AFTER", "NEW!"),
    "watermark": ("@daily.moves", "clip no. 4417", "www.example.com", "channel 9 LIVE"),
}
_VIVID = ((255, 230, 60), (255, 70, 90), (60, 240, 255), (255, 160, 240))
# Letter height as a share of the picture's shorter side.
_HEIGHTS = {"subtitle": (0.045, 0.065), "title": (0.09, 0.14), "watermark": (0.035, 0.05)}


# Where a style stands, as shares of the width and height there is: its choices across, and from
# where to where down. Titles go over the person, who is in the middle.
_SPOTS: dict[str, tuple[tuple[float, ...], tuple[float, float]]] = {
    "subtitle": ((0.5,), (0.84, 0.95)),
    "title": ((0.5,), (0.25, 0.7)),
    "watermark": ((0.02, 0.98), (0.01, 0.99)),
}


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text burnt into some frames."""

    text: str
    style: TextStyle
    first: int
    last: int
    """Frames that show it, both included."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom pixels, the latter exclusive."""
    size: float
    """Of the font, pixels."""
    color: tuple[int, int, int]
    plate: tuple[int, int, int] | None
    """Colour of a box behind the letters; without one they have a dark outline."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Bars around the picture; the box says what they leave."""

    left: int
    top: int
    right: int
    bottom: int
    color: tuple[int, int, int]

    def around(self, picture: Bytes, width: int, height: int) -> Bytes:
        """The picture [h, w, 3] between its bars, [height, width, 3]."""
        framed = np.empty((height, width, 3), np.uint8)
        framed[:] = np.array(self.color, np.uint8)
        framed[self.top : self.bottom, self.left : self.right] = picture
        return framed

    def mask_around(self, mask: Bytes, width: int, height: int) -> Bytes:
        """A mask [h, w] of the picture, where it lies in the whole, [height, width]."""
        framed = np.zeros((height, width), np.uint8)
        framed[self.top : self.bottom, self.left : self.right] = mask
        return framed


def sample_letterbox(rng: np.random.Generator, width: int, height: int) -> Letterbox:
    """Bars above and below or on both sides, black or nearly; the picture keeps an even size."""
    share = rng.uniform(0.10, 0.22)
    shade = (0, 0, 0) if rng.random() < 0.8 else (16, 16, 18)
    # Sideways bars come with wide formats, as when a phone clip is shown on a television.
    if width > height or (width == height and rng.random() < 0.5):
        bar = round(share * width)
        bar += (width - 2 * bar) % 2
        return Letterbox(bar, 0, width - bar, height, shade)
    bar = round(share * height)
    bar += (height - 2 * bar) % 2
    return Letterbox(0, bar, width, height - bar, shade)


def sample_texts(
    rng: np.random.Generator, num_frames: int, width: int, height: int
) -> tuple[Text, ...]:
    """One to three lines of different styles: subtitles below, titles over people, watermarks.

    Args:
        rng: consumed.
        num_frames: of the clip; titles and watermarks stay for all of it.
        width, height: of the upright picture, bars included.
    """
    styles = list(rng.permutation(np.array(get_args(TextStyle), object)))
    texts = []
    for style in styles[: int(rng.integers(1, 4))]:
        low, high = _HEIGHTS[style]
        size = float(round(rng.uniform(low, high) * min(width, height)))
        color = (255, 255, 255)
        if style == "title" and rng.random() < 0.6:
            color = _VIVID[int(rng.integers(len(_VIVID)))]
        plate = (10, 10, 10) if style == "subtitle" and rng.random() < 0.4 else None
        spans = _spans(rng, num_frames) if style == "subtitle" else [(0, num_frames - 1)]
        across, down = _SPOTS[style]
        spot = (float(rng.choice(across)), float(rng.uniform(*down)))
        for first, last in spans:
            line = str(rng.choice(_LINES[style]))
            box, fitted = _place(line, spot, size, width, height)
            texts.append(Text(line, style, first, last, box, fitted, color, plate))
    return tuple(texts)


def _spans(rng: np.random.Generator, num_frames: int) -> list[tuple[int, int]]:
    """Subtitles change: consecutive spans of frames."""
    count = min(int(rng.integers(1, 4)), num_frames)
    edges = np.linspace(0, num_frames, count + 1).round().astype(int)
    return [(int(a), int(b) - 1) for a, b in zip(edges, edges[1:], strict=False)]


def _margin(size: float) -> int:
    return max(2, round(0.25 * size))


def _place(
    line: str, spot: tuple[float, float], size: float, width: int, height: int
) -> tuple[tuple[int, int, int, int], float]:
    """Box of a line around a spot (shares of the room there is) and the size at which it fits."""
    long = ImageFont.load_default(size).getlength(line) + 2 * _margin(size)
    size = float(max(8, int(size * min(1.0, 0.94 * width / long))))
    letters = ImageFont.load_default(size).getlength(line)
    wide = min(width, int(np.ceil(letters)) + 2 * _margin(size))
    tall = min(height, round(1.25 * size) + 2 * _margin(size))
    left, top = round(spot[0] * (width - wide)), round(spot[1] * (height - tall))
    return (left, top, left + wide, top + tall), size


def draw_text(picture: Bytes, text: Text) -> None:
    """Burn a line into `picture` [H, W, 3], with the font that Pillow carries."""
    left, top, right, bottom = text.box
    region = Image.fromarray(picture[top:bottom, left:right].copy())
    if text.plate is not None:
        # Opaque, as broadcasters set it: what is behind is lost, not dimmed.
        region.paste(text.plate, (0, 0, right - left, bottom - top))
    margin = _margin(text.size)
    ImageDraw.Draw(region).text(
        (margin, margin),
        text.text,
        fill=text.color,
        font=ImageFont.load_default(text.size),
        stroke_width=0 if text.plate else max(1, round(text.size / 14)),
        stroke_fill=(0, 0, 0),
    )
    picture[top:bottom, left:right] = np.asarray(region)

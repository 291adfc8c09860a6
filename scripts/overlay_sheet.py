"""Show what curation sees in videos: mask, landmarks, fitted body, face and hands, as one sheet.

python scripts/overlay_sheet.py VIDEO... OUT.png|jpg [FRAMES]

A row is one person at one moment: the mask's contour with the landmarks; the body; face and both
hands close up. A line is printed for what was rejected.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatarmill.avatar.body import load_body
from avatarmill.cli.console import say
from avatarmill.pipeline.analyse import AnalyseConfig, AnalysedShot, analyse
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.fit import fit_track
from avatarmill.pipeline.overlay import draw_overlay, fit_vertices
from avatarmill.pipeline.types import Bytes, Float, Reject

TALL, WIDE, CLOSE = 320, 320, 160
_BODY, _HANDS, _FACE, _MASK = (255, 220, 0), (0, 255, 90), (0, 220, 255), (255, 0, 140)


def rows_of(path: Path, frames: int) -> Iterator[Bytes]:
    """The rows [TALL, *, 3] of one video; prints its rejects."""
    body = load_body()
    for shot in analyse(path, AnalyseConfig(decode=DecodeConfig(fps=10, max_side=960))):
        if isinstance(shot, Reject):
            say(f"{path.name}: {shot.stage} {shot.reason}: {shot.evidence}")
            continue
        for reject in shot.rejects:
            say(f"{path.name}: {reject.stage} {reject.reason}: {reject.evidence}")
        for place, track in enumerate(shot.tracks):
            height, width = shot.frames.images.shape[1:3]
            times = shot.frames.pts_seconds[track.frame_indices]
            fit = fit_track(track, pts_seconds=times, width=width, height=height, body=body)
            if isinstance(fit, Reject):
                say(f"{path.name}: {fit.stage} {fit.reason}: {fit.evidence}")
                continue
            marks = np.linspace(0, len(times) - 1, frames + 2)[1:-1].round().astype(int).tolist()
            vertices = fit_vertices(body, fit, marks)
            for mark, points in zip(marks, vertices, strict=True):
                drawn = draw_overlay(
                    shot.frames.images[track.frame_indices[mark]], points, body, fit.intrinsics
                )
                title = f"{path.stem} {times[mark]:.1f} s, {fit.residual_px[mark]:.1f} px"
                yield row(shot, place, mark, drawn, title)


def row(shot: AnalysedShot, place: int, mark: int, drawn: Bytes, title: str) -> Bytes:
    """One person at one moment."""
    track = shot.tracks[place]
    image = shot.frames.images[track.frame_indices[mark]]
    noted = annotated(image, shot.masks[place][mark])
    parts = track.landmarks
    points(noted, parts.body[mark], _BODY, 3)
    box = grown(track.boxes[mark], 0.15)
    hands = (parts.left_hand[mark], parts.right_hand[mark])
    for hand in hands:
        points(noted, hand, _HANDS, 1)
    points(noted, parts.face[mark], _FACE, 1)
    close = [
        np.vstack([cut(picture, around(part), CLOSE, CLOSE) for picture in (noted, drawn)])
        for part in (parts.face[mark], *hands)
    ]
    tiles = [cut(picture, box, WIDE, TALL) for picture in (image, noted, drawn)]
    sheet = Image.fromarray(np.hstack([*tiles, *close]))
    ImageDraw.Draw(sheet).text((4, 4), title, (255, 255, 255), stroke_width=2, stroke_fill=(0,) * 3)
    return np.asarray(sheet)


def annotated(image: Bytes, mask: Bytes) -> Bytes:
    """The frame darkened outside the mask, with the mask's contour."""
    shown = (image * (0.35 + 0.65 * (mask[..., None] / 255))).astype(np.uint8)
    outlines, _ = cv2.findContours(
        (mask > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(shown, outlines, -1, _MASK, 1)
    return shown


def points(image: Bytes, places: Float, color: tuple[int, int, int], radius: int) -> None:
    """Dots at [n, 2+] pixels; NaN is not drawn."""
    for x, y in places[np.isfinite(places[:, 0]), :2]:
        cv2.circle(image, (round(float(x)), round(float(y))), radius, color, -1, cv2.LINE_AA)


def around(part: Float) -> NDArray[np.float64]:
    """A box around a part's points, empty where it was not found."""
    found = part[np.isfinite(part[:, 0]), :2]
    if not len(found):
        return np.zeros(4)
    return grown(np.concatenate([found.min(0), found.max(0)]), 0.4)


def grown(box: NDArray[np.floating], share: float) -> NDArray[np.float64]:
    """A box x0, y0, x1, y1, larger by a share of its sides at each end."""
    size = np.array([box[2] - box[0], box[3] - box[1]]) * share
    return np.concatenate([box[:2] - size, box[2:] + size]).astype(np.float64)


def cut(image: Bytes, box: NDArray[np.float64], width: int, height: int) -> Bytes:
    """What a box shows, fitted into width x height on black."""
    tile = np.zeros((height, width, 3), np.uint8)
    scale = min(width / max(box[2] - box[0], 1), height / max(box[3] - box[1], 1))
    if not box.any():
        return tile
    middle = (box[:2] + box[2:]) / 2
    shift = np.array([width, height]) / 2 - scale * middle
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), dst=tile, flags=flags))


def main(videos: list[Path], out: Path, frames: int) -> int:
    """Write the sheet of all rows."""
    rows = [found for video in videos for found in rows_of(video, frames)]
    if not rows:
        say("nobody was found")
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(out, quality=85)
    return 0


if __name__ == "__main__":
    *names, last = sys.argv[1:]
    count = int(last) if last.isdigit() else 3
    target = names.pop() if last.isdigit() else last
    raise SystemExit(main([Path(name) for name in names], Path(target), count))

"""What was measured of shots, kept so that another choice of frames decodes and detects nothing.

FOLDER/SOURCE-KEY.shot   one file a shot; SOURCE is the beginning of the sha256 of the bytes, KEY is
                         of that, the span, and the fingerprint of the steps up to the scores

Pictures are kept without loss, but only inside the squares that clips are cut from: the rest of a
frame is black and costs nothing. A track takes about ten times the bytes of its clip, so the memory
is off unless it is given room, and stops taking in when that is full.
"""

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatarmill.avatar.body import Body
from avatarmill.pipeline.children.protocol import Message, ReadExactly, decode, encode
from avatarmill.pipeline.crops import MARGIN, person_square, project
from avatarmill.pipeline.frame_scores import FrameScores
from avatarmill.pipeline.measure import measure
from avatarmill.pipeline.overlay import fit_vertices
from avatarmill.pipeline.plain import from_plain
from avatarmill.pipeline.select import candidate_rows
from avatarmill.pipeline.shared_body import shared_body
from avatarmill.pipeline.types import Bytes, Fit, Frames, Landmarks, Reason, Reject, Source, Track
from avatarmill.pipeline.work import MeasuredTrack, ShotMeasured, ShotSpan
from avatarmill.records.atomic import atomic_writer
from avatarmill.records.fingerprint import describe, fingerprint

logger = logging.getLogger(__name__)

SUFFIX = ".shot"
_SHARED = frozenset({"shape", "intrinsics"})
"""Fields of a fit that are not a row a frame."""
_OF_CHANCE = frozenset({Reason.TIMED_OUT, Reason.CRASHED, Reason.OUT_OF_MEMORY})
"""A child's failure may have been the machine's: it is not kept, so a new run tries again."""


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Where measured shots are kept, and how much of them."""

    gigabytes: float = 0.0
    """Room for measured shots; 0 keeps none."""
    folder: Path | None = None
    """A folder that all workers see; OUT/analysis when not given."""

    def __post_init__(self) -> None:
        if self.gigabytes < 0:
            raise ValueError(f"analysis.gigabytes: {self.gigabytes} must be 0 or more")


def measured_track(
    frames: Frames, track: Track, masks: Bytes, fit: Fit, body: Body, candidates: int
) -> MeasuredTrack:
    """Measures the frames of a track that may be chosen, and leaves the others behind.

    Args:
        frames: of the shot.
        track: T rows.
        masks: [T, H, W] 0..255.
        fit: of the track.
        body: whose silhouette masks are held against.
        candidates: frames looked at, at most.
    """
    rows = candidate_rows(len(track.frame_indices), candidates)
    scores = measure(frames, track, masks, fit, body, rows)
    pictures = track.frame_indices[rows]
    landmarks = Landmarks(
        **{f.name: getattr(track.landmarks, f.name)[rows] for f in fields(track.landmarks)}
    )
    own = replace(
        track, frame_indices=np.arange(len(rows)), boxes=track.boxes[rows], landmarks=landmarks
    )
    by_frame = {f.name: getattr(fit, f.name) for f in fields(fit) if f.name not in _SHARED}
    return MeasuredTrack(
        Frames(frames.images[pictures], frames.pts_seconds[pictures]),
        own,
        masks[rows],
        replace(fit, **{name: values[rows] for name, values in by_frame.items()}),
        scores,
    )


class Memory:
    """Measured shots on disk. With no room or no folder it forgets everything."""

    def __init__(self, config: MemoryConfig, scores: str) -> None:
        """Takes the fingerprint of the steps up to the scores."""
        self._folder = config.folder if config.gigabytes else None
        self._scores = scores
        self._room = 0.0
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            taken = sum(path.stat().st_size for path in self._folder.glob(f"*{SUFFIX}"))
            self._room = config.gigabytes * 1e9 - taken

    def recall(self, source: Source, span: ShotSpan) -> ShotMeasured | None:
        """What was kept of a shot; None where nothing was."""
        path = self._path(source, span)
        if path is None or not path.exists():
            return None
        with path.open("rb") as file:
            message = decode(_reader(file))
        rejects = tuple(_reject(values) for values in message.values["rejects"])
        tracks = tuple(_track(message, number) for number in range(message.values["tracks"]))
        return ShotMeasured(span, tracks, rejects)

    def keep(self, source: Source, shot: ShotMeasured) -> None:
        """Keeps a shot unless there is no room, or a failure of a child is part of it."""
        path = self._path(source, shot.span)
        chance = any(reject.reason in _OF_CHANCE for reject in shot.rejects)
        if path is None or chance or self._room <= 0:
            return
        body = shared_body()
        arrays: dict[str, NDArray[np.generic]] = {}
        about = []
        for number, track in enumerate(shot.tracks):
            about.append({"index": track.track.index, "scores": track.track.scores})
            arrays |= {f"{number}.{name}": array for name, array in _arrays(track, body)}
        values = {
            "tracks": len(shot.tracks),
            "about": about,
            "rejects": [describe(reject) for reject in shot.rejects],
        }
        with atomic_writer(path) as file:
            for buffer in encode(Message(values, arrays)):
                self._room -= len(buffer)
                file.write(buffer)

    def _path(self, source: Source, span: ShotSpan) -> Path | None:
        if self._folder is None:
            return None
        times = [span.shot.start_seconds, span.shot.stop_seconds]
        key = fingerprint([source.sha256, times, self._scores])
        # The source comes first, so that its shots are found when it is to be forgotten.
        return self._folder / f"{source.sha256[:12]}-{key}{SUFFIX}"


def _arrays(one: MeasuredTrack, body: Body) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """A track as named arrays of the protocol's kinds."""
    yield "pts_seconds", one.frames.pts_seconds
    yield "size", np.array(one.frames.images.shape[1:3], np.int64)
    yield "boxes", one.track.boxes
    for group in (one.track.landmarks, one.fit, one.scores):
        for field in fields(group):
            yield f"{type(group).__name__}.{field.name}", getattr(group, field.name)
    vertices = fit_vertices(body, one.fit, list(range(len(one.masks))))
    for row, (image, mask) in enumerate(zip(one.frames.images, one.masks, strict=True)):
        yield f"mask.{row}", _png(mask)
        yield f"image.{row}", _png(_inside(image, mask, project(vertices[row], one.fit.intrinsics)))


def _inside(image: Bytes, mask: Bytes, projected: NDArray[np.float32]) -> Bytes:
    """The picture, black outside the square that a crop of the person would take."""
    kept = np.zeros_like(image)
    try:
        square = person_square(mask, projected, MARGIN)
    except ValueError:
        # Nobody is in the picture: it is never chosen.
        return kept
    rows = slice(max(0, square.y0), max(0, square.y0 + square.side))
    columns = slice(max(0, square.x0), max(0, square.x0 + square.side))
    kept[rows, columns] = image[rows, columns]
    return kept


def _track(message: Message, number: int) -> MeasuredTrack:
    def array(name: str) -> NDArray[np.generic]:
        return message.arrays[f"{number}.{name}"]

    def group(kind: type) -> dict[str, NDArray[np.generic]]:
        return {field.name: array(f"{kind.__name__}.{field.name}") for field in fields(kind)}

    times, about = array("pts_seconds"), message.values["about"][number]
    rows = range(len(times))
    height, width = (int(side) for side in array("size"))
    images = np.stack([_picture(array(f"image.{row}")) for row in rows])
    masks = np.stack([_picture(array(f"mask.{row}")) for row in rows])
    assert images.shape == (len(times), height, width, 3)
    landmarks = Landmarks(**group(Landmarks))  # type: ignore[arg-type]
    track = Track(
        about["index"],
        np.arange(len(times)),
        array("boxes"),  # type: ignore[arg-type]
        landmarks,
        about["scores"],
    )
    fit, scores = Fit(**group(Fit)), FrameScores(**group(FrameScores))  # type: ignore[arg-type]
    return MeasuredTrack(Frames(images, times), track, masks, fit, scores)  # type: ignore[arg-type]


def _reject(values: object) -> Reject:
    reject = from_plain(Reject, values)
    return replace(reject, reason=Reason(reject.reason))


def _png(picture: Bytes) -> Bytes:
    buffer = io.BytesIO()
    # Fast: what is black costs nothing at any level.
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _picture(png: NDArray[np.generic]) -> Bytes:
    with Image.open(io.BytesIO(png.tobytes()), formats=["PNG"]) as image:
        return np.array(image, np.uint8)


def _reader(file: io.BufferedReader) -> ReadExactly:
    def read_exactly(view: memoryview) -> None:
        if file.readinto(view) != len(view):
            raise ValueError(f"{file.name} ends early; remove it")

    return read_exactly

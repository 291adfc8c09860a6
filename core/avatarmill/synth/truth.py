"""What is true about a rendered clip: shots, times, and every person in every frame."""

import json
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.defects import DefectKind
from avatarmill.synth.overlay import Letterbox, Text
from avatarmill.synth.timeline import Boundary

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
VERSION = 2
"""Of the JSON; raised when a field changes its meaning."""
_ARRAYS = (
    "frames",
    "pose",
    "shape",
    "expression",
    "translation",
    "intrinsics",
    "world_to_camera",
    "opacity",
    "in_image",
)


@dataclass(frozen=True, slots=True)
class PersonTruth:
    """One person in the K frames of the shots that show this person; camera space, metres."""

    frames: NDArray[np.int64]
    """[K] frame numbers in the clip, ascending. In a dissolve a frame counts to the shot with the
    larger share."""
    pose: Float
    """[K, 55, 3] axis-angle; joint 0 turns the body into camera space."""
    shape: Float
    """[20]"""
    expression: Float
    """[K, 52]"""
    translation: Float
    """[K, 3]"""
    intrinsics: Float
    """[K, 3, 3] in pixels of the upright picture, bars included."""
    world_to_camera: Float
    """[K, 4, 4]"""
    opacity: Float
    """[K] share of this shot in the picture: below 1 in fades and dissolves."""
    in_image: Float
    """[K] share of the bare body's surface that lies inside the picture, hidden or not."""
    packed_masks: Bytes
    """[K, H, W / 8] bits of where the person is seen; see `masks`."""
    packed_visibility: Bytes
    """[K, T / 8] bits of which anchors are seen; see `visibility`."""
    width: int
    """Of the picture."""
    num_anchors: int
    """T: the first so many of the packaged anchors; 0 when they were not asked for."""
    attributes: dict[str, str]
    captions: dict[str, str]
    """"short", "medium", "long"."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def masks(self) -> Bytes:
        """[K, H, W] 255 where the person is seen, in front of everything else in the place.

        Burnt-in text and fades do not count; of an interlaced frame, it is the first field's
        instant, which a deinterlacer shows.
        """
        return np.unpackbits(self.packed_masks, axis=-1, count=self.width) * np.uint8(255)

    def mask(self, row: int) -> Bytes:
        """[H, W] the same for one row."""
        return np.unpackbits(self.packed_masks[row], axis=-1, count=self.width) * np.uint8(255)

    @property
    def visibility(self) -> NDArray[np.bool_]:
        """[K, T] which anchors are seen, by the rule of `synth.visibility`."""
        bits = np.unpackbits(self.packed_visibility, axis=-1, count=self.num_anchors)
        return bits.astype(np.bool_)


@dataclass(frozen=True, slots=True)
class ShotTruth:
    """One shot and who is in it."""

    first: int
    last: int
    """Frames that belong to it, both included."""
    people: tuple[int, ...]
    """Numbers of the persons: the same number after a cut is the same person."""
    occluder: str | None
    """Kind of the thing that stands or passes in front."""


@dataclass(frozen=True, slots=True)
class ClipTruth:
    """One video file."""

    kind: str
    """wild or studio."""
    seed: int
    defects: tuple[DefectKind, ...]
    width: int
    height: int
    """Of the upright picture, bars included."""
    fps: float
    """Nominal rate."""
    ticks: NDArray[np.int64]
    """[F] presentation time of every frame, in units of 1 / scale seconds, as in the file."""
    scale: int
    shots: tuple[ShotTruth, ...]
    boundaries: tuple[Boundary, ...]
    """Between consecutive shots."""
    letterbox: Letterbox | None
    texts: tuple[Text, ...]
    crf: int
    rotation: int
    """Degrees by which a player turns the stored picture counter-clockwise."""
    field_order: str
    people: tuple[PersonTruth, ...]

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def time_base(self) -> Fraction:
        """Seconds a tick."""
        return Fraction(1, self.scale)

    @property
    def pts_seconds(self) -> NDArray[np.float64]:
        """[F] presentation times."""
        return np.asarray(self.ticks / self.scale, np.float64)


def person_file(path: Path, person: int) -> Path:
    """The npz of one person beside the clip's JSON: NAME.npz, then NAME.person1.npz, ..."""
    return path.with_suffix(".npz" if person == 0 else f".person{person}.npz")


def write_truth(path: Path, clip: ClipTruth) -> None:
    """Write one npz a person and then PATH, the clip's .json: who finds it finds all.

    Every file is complete when it appears. The same truth gives the same bytes.
    """
    pts = clip.pts_seconds
    for number, person in enumerate(clip.people):
        target = person_file(path, number)
        # numpy appends .npz to any other ending.
        partial = target.with_name(f".{target.stem}.partial.npz")
        np.savez_compressed(
            partial,
            **{name: getattr(person, name) for name in _ARRAYS},
            pts_seconds=pts[person.frames],
            masks=person.packed_masks,
            visibility=person.packed_visibility,
        )
        partial.replace(target)
    write_json(path, _document(clip))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file that appears only when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    partial.replace(path)


def _document(clip: ClipTruth) -> dict[str, Any]:
    return {
        "version": VERSION,
        "kind": clip.kind,
        "seed": clip.seed,
        "defects": list(clip.defects),
        "frames": len(clip),
        "width": clip.width,
        "height": clip.height,
        "fps": clip.fps,
        "ticks": clip.ticks.tolist(),
        "scale": clip.scale,
        "shots": [asdict(shot) for shot in clip.shots],
        "boundaries": [asdict(boundary) for boundary in clip.boundaries],
        "letterbox": None if clip.letterbox is None else asdict(clip.letterbox),
        "texts": [asdict(text) for text in clip.texts],
        "crf": clip.crf,
        "rotation": clip.rotation,
        "field_order": clip.field_order,
        "anchors": clip.people[0].num_anchors,
        "people": [
            {"attributes": person.attributes, "captions": person.captions} for person in clip.people
        ],
    }


def read_truth(path: Path) -> ClipTruth:
    """The truth of one clip.

    Args:
        path: truth/NAME.json as `write_truth` wrote it, or any path with that stem and place.

    Raises:
        ValueError: the file is of another version.
        FileNotFoundError: there is no such clip.
    """
    path = path.with_suffix(".json")
    document = json.loads(path.read_text())
    if document.get("version") != VERSION:
        raise ValueError(
            f"{path.name} has version {document.get('version')}, this reads {VERSION}:"
            " render it again with `avatarmill synth`"
        )
    return ClipTruth(
        **{
            name: document[name]
            for name in ("kind", "seed", "width", "height", "fps", "scale")
            + ("crf", "rotation", "field_order")
        },
        defects=tuple(document["defects"]),
        ticks=np.array(document["ticks"], np.int64),
        shots=tuple(ShotTruth(**_tuples(row)) for row in document["shots"]),
        boundaries=tuple(Boundary(**_tuples(row)) for row in document["boundaries"]),
        letterbox=document["letterbox"] and Letterbox(**_tuples(document["letterbox"])),
        texts=tuple(Text(**_tuples(row)) for row in document["texts"]),
        people=tuple(
            _read_person(person_file(path, number), row, document)
            for number, row in enumerate(document["people"])
        ),
    )


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where the dataclasses have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def _read_person(path: Path, row: dict[str, Any], document: dict[str, Any]) -> PersonTruth:
    with np.load(path, allow_pickle=False) as arrays:
        return PersonTruth(
            **{name: arrays[name] for name in _ARRAYS},
            packed_masks=arrays["masks"],
            packed_visibility=arrays["visibility"],
            width=document["width"],
            num_anchors=document["anchors"],
            attributes=row["attributes"],
            captions=row["captions"],
        )

"""The clip record: one person in one shot, as reference and target frames with body parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avatarmill.records.canonical import (
    jpeg_array,
    jpeg_bytes,
    npy_bytes,
    png_array,
    png_bytes,
    rounded,
)
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.index import LOCATION_FIELDS, SCORES, Record, sorted_items
from avatarmill.records.jsonfields import (
    integer,
    mapping_of,
    number,
    read_fields,
    sequence_of,
    text,
    to_json,
)
from avatarmill.records.members import array_member, check_array, check_members
from avatarmill.records.tarshard import Members, ShardError, check_key

FORMAT = "avatarmill-clip-1"
META_VERSION = 3
"""Of the JSON member: 2 added what it takes to find the pixels of a crop in its source again, 3
the other columns of the input list."""
NUM_JOINTS = 55
NUM_SHAPE = 20
NUM_EXPRESSION = 52

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]

ARRAYS: dict[str, tuple[int | None, ...]] = {
    "intrinsics": (None, 3, 3),
    "pose": (None, NUM_JOINTS, 3),
    "shape": (NUM_SHAPE,),
    "expression": (None, NUM_EXPRESSION),
    "translation": (None, 3),
    "confidence": (None, NUM_JOINTS),
    "face_boxes": (None, 4),
    "hand_boxes": (None, 2, 4),
}
"""The float32 members and their shapes; None is the number of frames."""

DECIMALS = {"intrinsics": 3, "face_boxes": 2, "hand_boxes": 2, "confidence": 4}
"""Rounding before writing: pixels to a thousandth; 6 places for metres and radians."""

REFERENCE = re.compile(r"ref_\d\d\.jpg")
TARGET = re.compile(r"target_\d\d\.jpg")

CLIP_SCORES = (
    *("extent", "sharpness", "brightness", "clipped", "inside", "agreement", "spill"),
    *("occluded", "landmarks", "residual", "confidence", "face", "lettering", "motion"),
    *("view_spread", "usable"),
)
"""Scores of the selection that have a column of their own, `score_NAME`, empty where a clip has
no such score; `scores` holds all of them."""

CLIP_INDEX = pa.schema(
    [
        *LOCATION_FIELDS,
        pa.field("source_uri", pa.string()),
        pa.field("source_sha256", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("consent", pa.string()),
        pa.field("start_seconds", pa.float64()),
        pa.field("stop_seconds", pa.float64()),
        pa.field("track", pa.int32()),
        pa.field("num_references", pa.int32()),
        pa.field("num_targets", pa.int32()),
        pa.field("caption", pa.string()),
        pa.field("scores", SCORES),
        *(pa.field(f"score_{name}", pa.float64()) for name in CLIP_SCORES),
        pa.field("fingerprint", pa.string()),
        pa.field("listed", pa.map_(pa.string(), pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class ClipMeta:
    """Provenance, words and scores of one clip."""

    source_uri: str
    source_sha256: str
    licence: str
    consent: str
    pts_seconds: tuple[float, ...]
    """Presentation time in the source of every frame, references first."""
    start_seconds: float
    """The shot is [start, stop)."""
    stop_seconds: float
    track: int
    captions: dict[str, str] = field(default_factory=dict)
    """By length: short, medium, long."""
    attributes: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    """By step: what made this clip, so that a change can be found."""
    version: int = 1
    """`META_VERSION` of the writer; what follows is empty in version 1."""
    stream: int = 0
    """Index of the video stream in its container."""
    frame_size: tuple[int, ...] = ()
    """Width and height of the decoded, upright frames that the crops were cut from."""
    crops: tuple[tuple[int, ...], ...] = ()
    """x0, y0, side of each frame's crop in pixels of the decoded frame; may reach beyond it."""
    residuals_px: tuple[float, ...] = ()
    """Median reprojection error of the fit in each frame, pixels of the decoded frame."""
    listed: dict[str, str] = field(default_factory=dict)
    """Columns of the input list besides licence and consent, such as the language."""

    def __post_init__(self) -> None:
        if not 1 <= self.version <= META_VERSION:
            raise ValueError(
                f"clip json is of version {self.version}, this code reads 1 to {META_VERSION}; "
                "update avatarmill"
            )
        if self.version == 1:
            return
        count = len(self.pts_seconds)
        if len(self.crops) != count or any(len(crop) != 3 for crop in self.crops):
            raise ValueError(f"{len(self.crops)} crops of x0, y0, side for {count} frames")
        if len(self.residuals_px) != count or len(self.frame_size) != 2:
            raise ValueError(f"{len(self.residuals_px)} residuals_px for {count} frames")


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """N reference and M target frames: square crops, masks, cameras and SMPL-X parameters.

    Parameters are in camera space (OpenCV: x right, y down, z forward), metres, axis-angle.
    """

    key: str
    images: Bytes
    """[F, S, S, 3] sRGB, references first."""
    masks: Bytes
    """[F, S, S] alpha, 0..255."""
    intrinsics: Float
    """[F, 3, 3] of the crop, pixels, pixel centres at +0.5."""
    pose: Float
    """[F, 55, 3] axis-angle; joint 0 is the global orientation in camera space."""
    shape: Float
    """[20], shared by the frames."""
    expression: Float
    """[F, 52]."""
    translation: Float
    """[F, 3] metres."""
    confidence: Float
    """[F, 55] 0..1."""
    face_boxes: Float
    """[F, 4] x0, y0, x1, y1 in pixels of the crop; zeros where there is none."""
    hand_boxes: Float
    """[F, 2, 4] left and right, like `face_boxes`."""
    num_references: int
    """The first frames are references, the rest held-out targets."""
    meta: ClipMeta

    def __post_init__(self) -> None:
        check_key(self.key)
        count, side = self.masks.shape[0], self.masks.shape[-1]
        check_array("images", self.images, np.uint8, (count, side, side, 3))
        check_array("masks", self.masks, np.uint8, (count, side, side))
        for name, shape in ARRAYS.items():
            wanted = tuple(count if n is None else n for n in shape)
            check_array(name, getattr(self, name), np.float32, wanted)
        if not 1 <= self.num_references <= count:
            raise ValueError(f"num_references is {self.num_references}, limit 1 to {count} frames")
        if len(self.meta.pts_seconds) != count:
            raise ValueError(f"{len(self.meta.pts_seconds)} pts_seconds for {count} frames")

    def __repr__(self) -> str:
        frames, side = self.masks.shape[:2]
        return f"Clip({self.key}, {self.num_references} of {frames} references, {side} px)"

    @property
    def num_frames(self) -> int:
        """References and targets together."""
        return len(self.images)


def clip_key(video_sha256: str, start_ms: int, track: int) -> str:
    """Return the key of a clip.

    >>> clip_key("0123456789abcdef", 1500, 2)
    '0123456789ab-000001500-02'
    """
    if start_ms < 0 or track < 0:
        raise ValueError(f"start_ms {start_ms} and track {track} must not be negative")
    return f"{video_sha256[:12]}-{start_ms:09d}-{track:02d}"


def frame_names(num_frames: int, num_references: int) -> list[str]:
    """Return the member stems of the frames, references first: ref_00, ..., target_00, ..."""
    targets = num_frames - num_references
    return [f"ref_{i:02d}" for i in range(num_references)] + [
        f"target_{i:02d}" for i in range(targets)
    ]


def clip_to_members(clip: Clip) -> Members:
    """Encode a clip; floats are rounded first, so that writing what was read changes nothing."""
    members = {"json": to_json(clip.meta)}
    names = frame_names(clip.num_frames, clip.num_references)
    for name, image, mask in zip(names, clip.images, clip.masks, strict=True):
        members[f"{name}.jpg"] = jpeg_bytes(image)
        members[f"{name}_mask.png"] = png_bytes(mask)
    for name in ARRAYS:
        members[f"{name}.npy"] = npy_bytes(rounded(getattr(clip, name), DECIMALS.get(name, 6)))
    return members


def clip_from_members(key: str, members: Mapping[str, bytes]) -> Clip:
    """Decode a clip. Raises ShardError for unknown, missing or malformed members."""
    jpegs = sorted(name for name in members if name.endswith(".jpg"))
    references = sum(name.startswith("ref_") for name in jpegs)
    names = frame_names(len(jpegs), references)
    known = {"json", *(f"{name}.npy" for name in ARRAYS)}
    known |= {f"{n}.jpg" for n in names} | {f"{n}_mask.png" for n in names}
    check_members(key, members, frozenset(known))
    try:
        return Clip(
            key=key,
            images=np.stack([jpeg_array(members[f"{name}.jpg"]) for name in names]),
            masks=np.stack([png_array(members[f"{name}_mask.png"]) for name in names]),
            num_references=references,
            meta=clip_meta(members["json"]),
            **{name: array_member(members, f"{name}.npy", np.float32) for name in ARRAYS},
        )
    except ValueError as error:
        raise ShardError(f"clip {key}: {error}") from error


def clip_meta(data: bytes) -> ClipMeta:
    """Decode the JSON member of a clip. Raises ShardError for unknown or mistyped fields."""
    fields = read_fields(
        data,
        "clip json",
        {
            "source_uri": text,
            "source_sha256": text,
            "licence": text,
            "consent": text,
            "pts_seconds": sequence_of(number),
            "start_seconds": number,
            "stop_seconds": number,
            "track": integer,
            "captions": mapping_of(text),
            "attributes": mapping_of(text),
            "scores": mapping_of(number),
            "fingerprints": mapping_of(text),
        },
        later={
            "version": integer,
            "stream": integer,
            "frame_size": sequence_of(integer),
            "crops": sequence_of(sequence_of(integer)),
            "residuals_px": sequence_of(number),
            "listed": mapping_of(text),
        },
    )
    return ClipMeta(**fields)


def clip_record(clip: Clip) -> Record:
    """Return the members and the index row of a clip, ready for a group."""
    members = clip_to_members(clip)
    return Record(clip.key, members, clip_row(members))


def clip_row(members: Mapping[str, bytes]) -> dict[str, object]:
    """Return the index columns of an encoded clip, less its location."""
    meta = clip_meta(members["json"])
    return {
        "source_uri": meta.source_uri,
        "source_sha256": meta.source_sha256,
        "licence": meta.licence,
        "consent": meta.consent,
        "start_seconds": meta.start_seconds,
        "stop_seconds": meta.stop_seconds,
        "track": meta.track,
        "num_references": sum(bool(REFERENCE.fullmatch(name)) for name in members),
        "num_targets": sum(bool(TARGET.fullmatch(name)) for name in members),
        "caption": meta.captions.get("short", ""),
        "scores": sorted_items(meta.scores),
        **{f"score_{name}": meta.scores.get(name) for name in CLIP_SCORES},
        "fingerprint": fingerprint(meta.fingerprints),
        "listed": sorted(meta.listed.items()),
    }

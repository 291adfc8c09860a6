"""The shot record: one span without a cut as a video file, with where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from avatarmill.records.index import LOCATION_FIELDS, Record
from avatarmill.records.jsonfields import (
    Readers,
    integer,
    mapping_of,
    number,
    read_fields,
    sequence_of,
    text,
    to_json,
)
from avatarmill.records.tarshard import ShardError

FORMAT = "avatarmill-shot-1"

SHOT_INDEX = pa.schema(
    [
        *LOCATION_FIELDS,
        pa.field("source_uri", pa.string()),
        pa.field("source_sha256", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("consent", pa.string()),
        pa.field("start_seconds", pa.float64()),
        pa.field("stop_seconds", pa.float64()),
        pa.field("num_frames", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("num_bytes", pa.int64()),
        pa.field("fingerprint", pa.string()),
        pa.field("listed", pa.map_(pa.string(), pa.string())),
    ]
)
"""Members of a sample are KEY.mp4 and KEY.json; the JSON has what the index has, and the times."""


@dataclass(frozen=True, slots=True)
class ShotMeta:
    """Provenance of one shot."""

    source_uri: str
    source_sha256: str
    licence: str
    consent: str
    start_seconds: float
    """The shot is [start, stop) of the source."""
    stop_seconds: float
    width: int
    height: int
    pts_seconds: tuple[float, ...]
    """Presentation time in the source of every frame."""
    fingerprint: str
    """Of the settings and code that made it."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """Other columns of the input list."""
    format: str = FORMAT


_META_READERS: Readers = {
    "source_uri": text,
    "source_sha256": text,
    "licence": text,
    "consent": text,
    "start_seconds": number,
    "stop_seconds": number,
    "width": integer,
    "height": integer,
    "pts_seconds": sequence_of(number),
    "fingerprint": text,
    "listed": mapping_of(text),
    "format": text,
}


def shot_key(video_sha256: str, start_ms: int) -> str:
    """Return the key of a shot.

    >>> shot_key("0123456789abcdef", 1500)
    '0123456789ab-000001500'
    """
    if start_ms < 0:
        raise ValueError(f"start_ms {start_ms} must not be negative")
    return f"{video_sha256[:12]}-{start_ms:09d}"


def shot_record(meta: ShotMeta, video: bytes) -> Record:
    """Return the members and the index row of a shot, ready for a group."""
    key = shot_key(meta.source_sha256, round(1000 * max(0.0, meta.start_seconds)))
    members = {"json": to_json(meta), "mp4": video}
    return Record(key, members, shot_row(members))


def shot_meta(data: bytes) -> ShotMeta:
    """Return the metadata of a shot from its JSON member.

    Raises ShardError for fields that are unknown, missing or mistyped, and for another format.
    """
    meta = ShotMeta(**read_fields(data, "shot metadata", _META_READERS))
    if meta.format != FORMAT:
        raise ShardError(f"shot metadata: format {meta.format!r}, expected {FORMAT!r}")
    return meta


def shot_row(members: Mapping[str, bytes]) -> dict[str, object]:
    """Return the index columns of an encoded shot, less its location."""
    meta = shot_meta(members["json"])
    own = {name: getattr(meta, name) for name in SHOT_INDEX.names if name in _META_READERS}
    counts = {"num_frames": len(meta.pts_seconds), "num_bytes": len(members["mp4"])}
    return {**own, **counts, "listed": sorted(meta.listed.items())}

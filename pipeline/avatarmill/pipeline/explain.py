"""From the key of a sample back to where it came from: its row, its bytes, its source frames.

A clip keeps what it takes to cut its pictures out of the source again: stream, time of every frame,
size of the decoded frames and the square of every crop. `decode_again` does so and measures how
well the stored pictures agree.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avatarmill.pipeline.crops import Square, cut_square
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Bytes, Probe, Reject, Shot, Source
from avatarmill.records.clip import Clip, frame_names
from avatarmill.records.commit import PARTS, list_commits
from avatarmill.records.fingerprint import sha256_file
from avatarmill.records.index import Row, entry_of, read_rows
from avatarmill.records.tarshard import Members, ShardReader
from avatarmill.records.tombstones import TOMBSTONES, buried

SAME_PSNR_DB = 30.0
"""A JPEG of quality 92 is within 36 to 50 dB of the picture it was made from; the same frame of
another encoding of the film is not, once anything in it has moved by a pixel."""
_TIME_TOLERANCE = 1e-3
"""Seconds between a frame's stored time, of nine digits, and the time the decoder reports."""
_AROUND = 2.5
"""Frames decoded to both sides of the wanted one: filters such as deinterlacing look around."""


@dataclass(frozen=True, slots=True)
class Located:
    """One sample in its shard, its bytes checked against the index."""

    shard: Path
    row: Row
    """Of the index."""
    members: Members


@dataclass(frozen=True, slots=True, eq=False)
class FrameCheck:
    """A stored crop beside the same crop decoded from the source again."""

    name: str
    pts_seconds: float
    stored: Bytes
    """[S, S, 3]."""
    decoded: Bytes
    """[S, S, 3]."""
    psnr_db: float
    """Infinite where both are equal."""


def locate(folder: Path, key: str) -> Located | None:
    """The committed sample `key` of a folder of shards; None where no commit names it.

    Raises:
        ValueError: the source of the sample was forgotten.
        ShardError: its bytes are not the ones that the index describes.
    """
    group = next((c for c in list_commits(folder) if key in c.keys), None)
    if group is None:
        _refuse_forgotten(folder, key)
        return None
    part = folder / PARTS / f"{Path(group.shard).stem}.parquet"
    row = next(row for row in read_rows(part) if row["key"] == key)
    if str(row["source_sha256"]) in buried(folder):
        _refuse_forgotten(folder, key)
    shard = folder / str(row["shard"])
    with ShardReader(shard) as reader:
        return Located(shard, row, reader.read(entry_of(row), verify=True))


def _refuse_forgotten(folder: Path, key: str) -> None:
    """Raises ValueError when the key begins like a buried source, even after its shard is gone."""
    for sha256 in sorted(buried(folder)):
        if key.startswith(sha256[:12] + "-"):
            stone = folder / TOMBSTONES / f"{sha256}.json"
            raise ValueError(
                f"{key} is of the source with sha256 {sha256}, which was forgotten; "
                f"{stone} says why"
            )


def known_keys(folder: Path) -> list[str]:
    """Keys of all committed samples of a folder, those of forgotten sources left out."""
    hidden = tuple(f"{sha256[:12]}-" for sha256 in buried(folder))
    keys = (key for commit in list_commits(folder) for key in commit.keys)
    return sorted(key for key in keys if not key.startswith(hidden))


def decode_again(clip: Clip, path: Path, settings: DecodeConfig | None = None) -> list[FrameCheck]:
    """Cut every frame of a clip out of its source once more and compare it with the stored one.

    Args:
        clip: with metadata of version 2.
        path: the source. Its sha256 is checked before anything else reads it.
        settings: of the run, for how frames are decoded; their rate and limits do not matter.

    Raises:
        ValueError: the clip does not say where its crops were, the source is missing, has other
            bytes or cannot be decoded, or has no frame at a stored time.
    """
    meta = clip.meta
    if not meta.crops:
        raise ValueError(f"{clip.key} was written before crops were recorded; curate it again")
    source = _checked_source(clip, path)
    facts = replace(_probed(source), stream=meta.stream)
    config = replace(
        settings or DecodeConfig(), fps=1000.0, max_side=max(meta.frame_size), min_frames=1
    )
    names = frame_names(clip.num_frames, clip.num_references)
    checks = []
    for name, pts, crop, stored in zip(
        names, meta.pts_seconds, meta.crops, clip.images, strict=True
    ):
        image = _frame_at(source.path, facts, pts, config)
        size = (image.shape[1], image.shape[0])
        if size != tuple(meta.frame_size):
            raise ValueError(
                f"{path} decodes to {size[0]}x{size[1]} pixels, {clip.key} was cut from "
                f"{meta.frame_size[0]}x{meta.frame_size[1]}; another version of the decoder?"
            )
        cut = cut_square(image, Square(*crop), stored.shape[0])
        checks.append(FrameCheck(name, pts, stored, cut, psnr(stored, cut)))
    return checks


def psnr(one: Bytes, other: Bytes) -> float:
    """Peak signal to noise ratio of two pictures of one shape, dB.

    >>> round(psnr(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)), 1)
    0.0
    """
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _checked_source(clip: Clip, path: Path) -> Source:
    if not path.is_file():
        raise ValueError(
            f"source {str(path)!r} of {clip.key} is not there; say where it is with --source FILE"
        )
    sha256 = sha256_file(path)
    if sha256 != clip.meta.source_sha256:
        raise ValueError(
            f"source {str(path)!r} has sha256 {sha256}, the clip was made from "
            f"{clip.meta.source_sha256}; the file has changed, --source FILE names another one"
        )
    return Source(clip.meta.source_uri, str(path.resolve()), sha256, path.stat().st_size)


def _probed(source: Source) -> Probe:
    config = ProbeConfig()
    with video_child(config) as child:
        facts = probe(child, source, config)
    if isinstance(facts, Reject):
        raise ValueError(f"source {source.path!r}: {facts.reason}, {facts.evidence}")
    return facts


def _frame_at(path: str, facts: Probe, pts: float, config: DecodeConfig) -> Bytes:
    """[H, W, 3] the upright frame shown at `pts` seconds."""
    around = _AROUND / (facts.fps or 25)
    frames = decode(path, facts, Shot(pts - around, pts + around), config)
    if isinstance(frames, Reject):
        raise ValueError(f"source {path!r} at {pts:.3f} s: {frames.reason}, {frames.evidence}")
    nearest = int(np.abs(frames.pts_seconds - pts).argmin())
    found = float(frames.pts_seconds[nearest])
    if abs(found - pts) > _TIME_TOLERANCE:
        raise ValueError(f"source {path!r} has no frame at {pts:.6f} s, the next is at {found:.6f}")
    image: Bytes = frames.images[nearest]
    return image

"""Pictures of shots that are kept as video files, decoded in children as any stranger's file is."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatarmill.records.tarshard import ShardError

_RATE = 4.0
"""Frames a second that are decoded to choose from."""
_SIDE = 256


def shot_pictures(key: str, video: bytes) -> list[tuple[float, NDArray[np.uint8]]]:
    """First, middle and last frame [H, W, 3] of a shot with their seconds in it.

    Raises:
        ShardError: the video does not decode.
    """
    from avatarmill.pipeline.decode import DecodeConfig, decode
    from avatarmill.pipeline.ingest import list_sources
    from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
    from avatarmill.pipeline.types import Frames, Reject, Shot

    def decoded(path: Path) -> Frames | Reject:
        (source,) = list_sources(path)
        with video_child(ProbeConfig()) as child:
            facts = probe(child, source, ProbeConfig())
        if isinstance(facts, Reject):
            return facts
        # The end as well, whatever the container says of its length.
        whole = Shot(0.0, facts.duration_seconds + 1.0)
        return decode(source.path, facts, whole, DecodeConfig(_RATE, _SIDE, min_frames=1))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shot.mp4")
        path.write_bytes(video)
        found = decoded(path)
    if isinstance(found, Reject):
        raise ShardError(f"sample {key}: {found.reason}, {found.evidence}")
    last = len(found.images) - 1
    rows = sorted({0, last // 2, last})
    return [(float(found.pts_seconds[row]), found.images[row]) for row in rows]

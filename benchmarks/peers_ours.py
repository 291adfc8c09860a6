"""Our own frames in `bench-peers`: a `FrameReader` with a decoder a core, means in this process."""

from collections import defaultdict

from peers_line import serve

from avatarmill.pipeline.frames import FilmEnd, FrameReader

READER = FrameReader()


def frames(paths: list[str]) -> dict[str, tuple[int, float, str]]:
    """Frames, mean and reason of rejection by path."""
    totals: defaultdict[str, float] = defaultdict(float)
    found: dict[str, tuple[int, float, str]] = {}
    for item in READER.read(paths):
        uri = item.source.uri
        if isinstance(item, FilmEnd):
            reason = f"{item.reject.reason}: {item.reject.evidence}" if item.reject else ""
            found[uri] = (item.num_frames, totals.pop(uri, 0.0) / max(item.num_frames, 1), reason)
        else:
            for image in item.frames.images:
                totals[uri] += float(image.mean())
    return found


if __name__ == "__main__":
    serve({"frames": frames})
    READER.close()

"""Small runs made by hand: a real film, clips cut from it as the pipeline cuts them, tokens."""

import dataclasses
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from avatarmill.pipeline.crops import Square, cut_square
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Frames, Probe, Shot
from avatarmill.records.clip import (
    ARRAYS,
    CLIP_INDEX,
    META_VERSION,
    Clip,
    ClipMeta,
    clip_key,
    clip_record,
)
from avatarmill.records.commit import merge, write_group
from avatarmill.records.ledger import InputState, write_ledger
from avatarmill.records.rejects import RejectRow
from avatarmill.records.token import TOKEN_INDEX, TokenMeta, TokenSample, token_record

PLAIN = ("-f", "lavfi", "-i", "testsrc2=s=192x144:r=25:d=2", "-pix_fmt", "yuv420p")


@dataclass(frozen=True, slots=True)
class HandMadeRun:
    """A run folder with one clip and its token sample."""

    folder: Path
    film: Path
    clip: Clip

    @property
    def key(self) -> str:
        return self.clip.key


MakeRun = Callable[..., HandMadeRun]


@pytest.fixture(scope="session")
def make_film(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs ffmpeg with the given options into a new file of the given name."""

    def make(name: str, *options: str) -> Path:
        path = tmp_path_factory.mktemp("film") / name
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin", *options]
        subprocess.run([*command, str(path)], check=True, timeout=60)
        return path

    return make


@pytest.fixture(scope="session")
def film(make_film: Callable[..., Path]) -> Path:
    """Two seconds of a moving test picture."""
    return make_film("film.mp4", *PLAIN)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run around a film; keywords replace fields of the clip's metadata."""

    def make(film: Path, **meta: object) -> HandMadeRun:
        clip = cut_clip(film)
        clip = dataclasses.replace(clip, meta=dataclasses.replace(clip.meta, **meta))  # type: ignore[arg-type]
        write_run(tmp_path / "run", film, clip)
        return HandMadeRun(tmp_path / "run", film, clip)

    return make


def cut_clip(film: Path) -> Clip:
    """Three frames of a film, cut by the pipeline's own decoder; one square reaches outside."""
    (source,) = list_sources(film)
    with video_child(ProbeConfig()) as child:
        facts = probe(child, source, ProbeConfig())
    assert isinstance(facts, Probe)
    start = facts.start_seconds
    config = DecodeConfig(fps=5, max_side=160)
    frames = decode(source.path, facts, Shot(start, start + 2), config)
    assert isinstance(frames, Frames)
    height, width = frames.images.shape[1:3]
    squares = (Square(10, 5, 90), Square(-20, 30, 120), Square(40, 40, 64))
    rows = (0, 4, len(frames.images) - 1)
    rng = np.random.default_rng(3)
    arrays = {
        name: rng.normal(size=[n or len(rows) for n in shape]).astype(np.float32)
        for name, shape in ARRAYS.items()
    }
    arrays["confidence"] = np.full_like(arrays["confidence"], 0.5)
    meta = ClipMeta(
        source_uri=str(film),
        source_sha256=source.sha256,
        licence="CC0-1.0",
        consent="given",
        pts_seconds=tuple(float(frames.pts_seconds[row]) for row in rows),
        start_seconds=start,
        stop_seconds=start + 2,
        track=0,
        captions={"short": "a test picture", "medium": "a moving test picture"},
        attributes={"top_color": "red"},
        scores={"sharpness": 0.25},
        fingerprints={"shots": "0" * 64},
        version=META_VERSION,
        stream=facts.stream,
        frame_size=(width, height),
        crops=tuple((s.x0, s.y0, s.side) for s in squares),
        residuals_px=(1.0, 2.0, 3.0),
    )
    images = [
        cut_square(frames.images[row], square, 96)
        for row, square in zip(rows, squares, strict=True)
    ]
    return Clip(
        key=clip_key(source.sha256, round(1000 * start), 0),
        images=np.stack(images),
        masks=np.full((len(rows), 96, 96), 200, np.uint8),
        num_references=2,
        meta=meta,
        **arrays,
    )


def write_run(folder: Path, film: Path, clip: Clip) -> None:
    """Commits the clip, a token sample of it, one reject and the ledger."""
    clips, tokens = folder / "clips", folder / "tokens"
    uri, sha256 = clip.meta.source_uri, clip.meta.source_sha256
    reject = RejectRow(uri, sha256, "track", "blurred", "select", "sharpness 0.1, limit 0.2")
    states = [InputState(uri, sha256, "kept", samples=1)]
    write_group(
        clips,
        "clips-000000",
        [clip_record(clip)],
        schema=CLIP_INDEX,
        fingerprint="f",
        inputs=states,
        rejects=[reject],
    )
    merge(clips, CLIP_INDEX)
    write_ledger(clips / "ledger.parquet", states)
    record = token_record(token_sample(clip))
    write_group(tokens, "clips-000000", [record], schema=TOKEN_INDEX, fingerprint="f")
    merge(tokens, TOKEN_INDEX)


def token_sample(clip: Clip) -> TokenSample:
    """Tokens that a clip might have."""
    meta = clip.meta
    return TokenSample(
        key=clip.key,
        latent=np.zeros((1024, 8), np.float16),
        visibility=np.linspace(0, 255, 1024).astype(np.uint8),
        shape=np.zeros(20, np.float32),
        meta=TokenMeta(
            clip_key=clip.key,
            source_sha256=meta.source_sha256,
            licence=meta.licence,
            tokenizer="e" * 64,
            captions=meta.captions,
            attributes=meta.attributes,
            scores=meta.scores,
            visibility_rule="a rule",
        ),
    )

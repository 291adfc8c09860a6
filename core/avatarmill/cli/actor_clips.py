"""Rendered actors as clip shards whose fit is the truth: what the diffusion model is trained on."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.cli.console import progress
from avatarmill.records.clip import CLIP_INDEX, Clip, ClipMeta, clip_key, clip_record
from avatarmill.records.commit import merge, read_commit, sweep, write_group
from avatarmill.records.fingerprint import fingerprint, sha256_bytes
from avatarmill.records.index import Record
from avatarmill.records.ledger import InputState
from avatarmill.synth.frames import SynthFrames, WildConfig, synth_camera_crops, synth_wild
from avatarmill.train.synth_data import face_boxes

logger = logging.getLogger(__name__)

VERSION = "actor-clips-1"
"""Raised when synth or this file changes what is rendered."""

UNSEEN_CONFIDENCE = 0.1


@dataclass(frozen=True, slots=True)
class ActorClipsConfig:
    """How many actors, and how each is filmed."""

    actors: int = 800
    references: int = 4
    fps: float = 1.5
    """Of the frames kept: slow, so that an actor is seen from several sides."""
    size: int = 320
    """Side of the crops in pixels."""
    group: int = 40
    """Actors in a shard."""
    seed: int = 7

    def __post_init__(self) -> None:
        if self.actors < 1 or self.references < 1 or self.group < 1:
            raise ValueError(
                f"actors {self.actors}, references {self.references} and group {self.group}: "
                "each must be at least 1"
            )


def render_clips(folder: Path, config: ActorClipsConfig, *, workers: int = 2) -> int:
    """Render what is not committed yet and return the number of clips in `folder`."""
    starts = range(0, config.actors, config.group)
    mark = fingerprint([VERSION, config])
    # Threads of numba and torch do not survive a fork, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        for start in progress(starts, label="actor clips"):
            name = f"actors-{start:06d}"
            done = read_commit(folder, name)
            if done is not None and done.fingerprint == mark:
                continue
            actors = range(start, min(start + config.group, config.actors))
            records = list(pool.map(partial(actor_record, config), actors))
            inputs = [_input(record) for record in records]
            write_group(folder, name, records, schema=CLIP_INDEX, fingerprint=mark, inputs=inputs)
    sweep(folder)
    return merge(folder, CLIP_INDEX)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _input(record: Record) -> InputState:
    uri, sha256 = str(record.row["source_uri"]), str(record.row["source_sha256"])
    return InputState(uri, sha256, "kept", samples=1)


@cache
def _body() -> Body:
    return load_body()


def actor_record(config: ActorClipsConfig, actor: int) -> Record:
    """Render actor number `actor` as one encoded clip."""
    seed = int(np.random.default_rng([config.seed, actor]).integers(2**31))
    shot = WildConfig(
        num_frames=config.references, fps=config.fps, width=config.size, height=config.size
    )
    crops = synth_camera_crops(synth_wild(seed, shot), config.size)
    return clip_record(actor_clip(crops, f"synth:wild/{seed}"))


def actor_clip(crops: SynthFrames, uri: str) -> Clip:
    """Return square crops of an actor and their truth as a clip; every frame is a reference."""
    params = BodyParams(
        pose=torch.from_numpy(crops.pose),
        shape=torch.from_numpy(crops.shape).expand(len(crops), -1),
        expression=torch.from_numpy(crops.expression),
        translation=torch.from_numpy(crops.translation),
    )
    side = crops.masks.shape[-1]
    intrinsics = torch.from_numpy(crops.intrinsics)
    sha256 = sha256_bytes(uri.encode())
    return Clip(
        key=clip_key(sha256, 0, 0),
        images=crops.images,
        masks=crops.masks,
        intrinsics=crops.intrinsics,
        pose=crops.pose,
        shape=crops.shape,
        expression=crops.expression,
        translation=crops.translation,
        confidence=joint_confidence(_body(), params, crops.intrinsics, side),
        face_boxes=face_boxes(_body(), params, intrinsics, side).numpy(),
        hand_boxes=np.zeros((len(crops), 2, 4), np.float32),
        num_references=len(crops),
        meta=ClipMeta(
            source_uri=uri,
            source_sha256=sha256,
            licence="CC0-1.0",
            consent="synthetic",
            pts_seconds=crops.pts_seconds,
            start_seconds=0.0,
            stop_seconds=max(crops.pts_seconds),
            track=0,
            captions=crops.captions,
            attributes=crops.attributes,
            fingerprints={"synth": VERSION},
        ),
    )


def joint_confidence(
    body: Body, params: BodyParams, intrinsics: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Return [F, 55]: 1 where the joint falls inside the square picture, else 0.1."""
    joints = body.transforms(params)[0].numpy()
    projected = np.einsum("fij,fkj->fki", intrinsics, joints)
    pixels = projected[..., :2] / projected[..., 2:]
    inside = ((pixels >= 0) & (pixels < side)).all(-1) & (projected[..., 2] > 0)
    return np.where(inside, 1.0, UNSEEN_CONFIDENCE).astype(np.float32)

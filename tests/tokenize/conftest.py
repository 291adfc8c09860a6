"""One rendered actor and an untrained tiny tokenizer, shared by the tests of this folder."""

import numpy as np
import pytest
import torch

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import Body, load_body
from avatarmill.records.clip import Clip, ClipMeta
from avatarmill.synth.frames import SynthFrames, WildConfig, synth_camera_crops, synth_wild
from avatarmill.tokenize.config import TINY
from avatarmill.tokenize.frames import ReferenceFrames
from avatarmill.tokenize.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="session")
def actor() -> SynthFrames:
    config = WildConfig(num_frames=3, fps=2.0, width=128, height=128, framing="full")
    return synth_camera_crops(synth_wild(5, config), 128)


@pytest.fixture(scope="session")
def clip(actor: SynthFrames) -> Clip:
    count = len(actor)
    boxes = np.zeros((count, 4), np.float32)
    boxes[0] = (48.0, 8.0, 80.0, 40.0)
    return Clip(
        key="0123456789ab-000000000-00",
        images=actor.images,
        masks=actor.masks,
        intrinsics=actor.intrinsics,
        pose=actor.pose.astype(np.float32),
        shape=actor.shape.astype(np.float32),
        expression=actor.expression.astype(np.float32),
        translation=actor.translation,
        confidence=np.ones((count, 55), np.float32),
        face_boxes=boxes,
        hand_boxes=np.zeros((count, 2, 4), np.float32),
        num_references=2,
        meta=ClipMeta(
            source_uri="file:actor.mp4",
            source_sha256="0123456789ab" + "0" * 52,
            licence="CC0-1.0",
            consent="synthetic",
            pts_seconds=tuple(range(count)),
            start_seconds=0.0,
            stop_seconds=2.0,
            track=0,
            captions={"short": "a person"},
            attributes={"top": "t-shirt"},
        ),
    )


@pytest.fixture(scope="session")
def frames(clip: Clip) -> ReferenceFrames:
    return ReferenceFrames.from_clip(clip)


@pytest.fixture(scope="session")
def tokenizer(body: Body) -> Tokenizer:
    torch.manual_seed(0)
    return Tokenizer(TINY, body, load_anchors(body, count=TINY.reconstructor.num_tokens))

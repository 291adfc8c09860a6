"""Clips survive the way through a shard, and bad clips are named."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.records.canonical import json_bytes
from avatarmill.records.clip import (
    ARRAYS,
    Clip,
    ClipMeta,
    clip_from_members,
    clip_key,
    clip_record,
    clip_to_members,
)
from avatarmill.records.tarshard import ShardError


def make_clip(seed: int = 0, references: int = 2, targets: int = 1, side: int = 32) -> Clip:
    rng = np.random.default_rng(seed)
    count = references + targets
    # Smooth images: JPEG keeps them to a few grey levels, so that the test can be strict.
    ramp = np.linspace(0, 255, side)[None, :, None, None] * np.ones((count, 1, side, 3))
    arrays = {
        name: rng.normal(size=[n or count for n in shape]).astype(np.float32) * 100
        for name, shape in ARRAYS.items()
    }
    meta = ClipMeta(
        source_uri="file:actor.mp4",
        source_sha256="ab" * 32,
        licence="CC0-1.0",
        consent="synthetic",
        pts_seconds=tuple(i / 29.97 for i in range(count)),
        start_seconds=0.5,
        stop_seconds=3.25,
        track=1,
        captions={"short": "a person in a red t-shirt"},
        attributes={"top_color": "red"},
        scores={"sharpness": float(rng.uniform()), "mask": 0.9},
        fingerprints={"fit": "00" * 32},
    )
    return Clip(
        key=clip_key(meta.source_sha256, 500, seed),
        images=ramp.astype(np.uint8),
        masks=rng.integers(0, 256, (count, side, side), dtype=np.uint8),
        num_references=references,
        meta=meta,
        **arrays,
    )


@given(st.integers(0, 99), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=15)
def test_round_trip(seed: int, references: int, targets: int) -> None:
    clip = make_clip(seed, references, targets)
    back = clip_from_members(clip.key, clip_to_members(clip))
    assert back.num_references == references
    assert np.array_equal(back.masks, clip.masks)
    assert np.abs(back.images.astype(int) - clip.images).max() <= 4
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(back, name), getattr(clip, name), atol=0.006)
    assert dataclasses.replace(back.meta, pts_seconds=()) == dataclasses.replace(
        clip.meta, pts_seconds=(), scores=back.meta.scores
    )
    np.testing.assert_allclose(back.meta.pts_seconds, clip.meta.pts_seconds, atol=1e-8)


def test_writing_what_was_read_changes_no_parameter() -> None:
    members = clip_to_members(make_clip())
    again = clip_to_members(clip_from_members("k", members))
    changed = [name for name in members if members[name] != again[name]]
    # A JPEG of a decoded JPEG may differ; nothing else may.
    assert all(name.endswith(".jpg") for name in changed)


def test_key_has_no_dots_and_fixed_width() -> None:
    assert clip_key("0123456789abcdef" * 4, 61_500, 3) == "0123456789ab-000061500-03"
    with pytest.raises(ValueError, match="start_ms -1"):
        clip_key("00" * 32, -1, 0)


def test_unknown_member_is_refused_by_name() -> None:
    members = clip_to_members(make_clip()) | {"depth.npy": b""}
    with pytest.raises(ShardError, match=r"unknown members depth\.npy"):
        clip_from_members("k", members)


def test_missing_member_is_named() -> None:
    members = clip_to_members(make_clip())
    del members["pose.npy"]
    with pytest.raises(ShardError, match=r"missing members pose\.npy"):
        clip_from_members("k", members)


def test_unknown_json_field_is_named() -> None:
    members = clip_to_members(make_clip())
    members["json"] = members["json"].replace(b'"consent"', b'"consents"')
    with pytest.raises(ShardError, match="consent, consents"):
        clip_from_members("k", members)


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_arrays_are_checked(name: str) -> None:
    clip = make_clip()
    with pytest.raises(ValueError, match=f"{name} must be float32"):
        dataclasses.replace(clip, **{name: getattr(clip, name).astype(np.float64)})
    poisoned = getattr(clip, name).copy()
    poisoned.flat[0] = np.nan
    with pytest.raises(ValueError, match=f"{name} holds 1 non-finite"):
        dataclasses.replace(clip, **{name: poisoned})


def test_reference_count_is_checked() -> None:
    with pytest.raises(ValueError, match="num_references is 9, limit 1 to 3"):
        dataclasses.replace(make_clip(), num_references=9)


TRACED: dict[str, Any] = {
    "version": 3,
    "stream": 1,
    "frame_size": (640, 360),
    "crops": ((-4, 10, 200), (0, 10, 201), (5, 9, 199)),
    "residuals_px": (1.5, 2.25, 3.0),
    "listed": {"language": "de"},
}


def test_what_traces_a_frame_survives_the_shard() -> None:
    clip = make_clip()
    traced = dataclasses.replace(clip, meta=dataclasses.replace(clip.meta, **TRACED))
    back = clip_from_members("k", clip_to_members(traced)).meta
    assert {name: getattr(back, name) for name in TRACED} == TRACED


def test_clips_written_before_that_can_be_read() -> None:
    members = clip_to_members(make_clip())
    fields = json.loads(members["json"])
    members["json"] = json_bytes({k: v for k, v in fields.items() if k not in TRACED})
    assert clip_from_members("k", members).meta.version == 1
    second = {**fields, **TRACED, "version": 2}
    del second["listed"]
    meta = clip_from_members("k", {**members, "json": json_bytes(second)}).meta
    assert (meta.version, meta.stream, meta.listed) == (2, 1, {})
    newer = json_bytes({**fields, "version": 4})
    with pytest.raises(ShardError, match="version 4, this code reads 1 to 3; update avatarmill"):
        clip_from_members("k", {**members, "json": newer})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("crops", ((0, 0, 1),), "1 crops of x0, y0, side for 3 frames"),
        ("crops", ((0, 0),) * 3, "3 crops of x0, y0, side for 3 frames"),
        ("residuals_px", (1.0,), "1 residuals_px for 3 frames"),
    ],
)
def test_what_traces_a_frame_is_checked(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_clip().meta, **(TRACED | {field: value}))


def test_a_png_in_place_of_a_jpeg_is_refused() -> None:
    members = clip_to_members(make_clip())
    members["ref_00.jpg"] = members["ref_00_mask.png"]
    with pytest.raises(ShardError, match="not a readable JPEG"):
        clip_from_members("k", members)


def test_record_row_does_not_depend_on_the_order_of_scores() -> None:
    clip = make_clip()
    turned = dict(reversed(clip.meta.scores.items()))
    other = dataclasses.replace(clip, meta=dataclasses.replace(clip.meta, scores=turned))
    assert clip_record(clip) == clip_record(other)

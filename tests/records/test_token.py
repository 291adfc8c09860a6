"""Token samples survive the way through a shard, and bad ones are named."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avatarmill.records.canonical import npy_bytes
from avatarmill.records.tarshard import ShardError
from avatarmill.records.token import (
    TokenMeta,
    TokenSample,
    token_from_members,
    token_record,
    token_to_members,
)

META = TokenMeta("k-1", "ab" * 32, "CC0-1.0", "f" * 64, {"short": "a man"}, {"hair": "brown"}, {})
LATENTS = st.integers(1, 40).flatmap(
    lambda count: hnp.arrays(np.float16, (count, 8), elements=st.floats(-9, 9, width=16))
)


def make_sample(latent: np.ndarray, *, face: bool = False) -> TokenSample:
    count = len(latent)
    return TokenSample(
        key="k-1",
        latent=latent,
        visibility=np.linspace(0, 255, count).astype(np.uint8),
        shape=np.linspace(-2, 2, 20).astype(np.float32),
        meta=META,
        face_crop=np.full((128, 128, 3), 128, np.uint8) if face else None,
    )


@given(LATENTS, st.booleans())
@settings(max_examples=25)
def test_round_trip(latent: np.ndarray, face: bool) -> None:
    sample = make_sample(latent, face=face)
    members = token_to_members(sample)
    assert {"latent.npy", "visibility.npy", "json"} <= members.keys()
    back = token_from_members("k-1", members)
    np.testing.assert_array_equal(back.latent, latent)
    np.testing.assert_array_equal(back.visibility, sample.visibility)
    assert back.meta == META and (back.face_crop is not None) == face
    assert token_to_members(dataclasses.replace(back, face_crop=None)) == token_to_members(
        dataclasses.replace(sample, face_crop=None)
    )


def test_visible_fraction_counts_scores_from_128() -> None:
    sample = make_sample(np.zeros((256, 8), np.float16))
    assert sample.visible_fraction == 0.5
    assert token_record(sample).row["visible_fraction"] == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent": np.zeros((4, 7), np.float16)}, r"latent must be float16 \[\?, 8\]"),
        ({"latent": np.zeros((4, 8), np.float32)}, "got float32"),
        ({"latent": np.full((4, 8), np.inf, np.float16)}, "32 non-finite"),
        ({"visibility": np.zeros(3, np.uint8)}, r"visibility must be uint8 \[4\]"),
        ({"shape": np.zeros(10, np.float32)}, r"shape must be float32 \[20\]"),
        ({"face_crop": np.zeros((64, 64, 3), np.uint8)}, r"face_crop must be uint8 \[128"),
        ({"key": "k.1"}, "no dots"),
    ],
)
def test_bad_samples_are_refused(change: dict[str, object], message: str) -> None:
    good = make_sample(np.zeros((4, 8), np.float16))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **change)  # type: ignore[arg-type]


def test_members_of_another_dtype_and_unknown_members_are_named() -> None:
    members = token_to_members(make_sample(np.zeros((4, 8), np.float16)))
    with pytest.raises(ShardError, match=r"latent\.npy has dtype float32, expected float16"):
        token_from_members("k-1", members | {"latent.npy": npy_bytes(np.zeros((4, 8), "f4"))})
    with pytest.raises(ShardError, match=r"unknown members notes\.json"):
        token_from_members("k-1", members | {"notes.json": b"{}"})
    with pytest.raises(ShardError, match="expected a string, got 5"):
        token_from_members("k-1", members | {"json": members["json"].replace(b'"k-1"', b"5")})

"""The shot record: what is written is read again, and nothing else is taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.records.canonical import json_bytes, json_object
from avatarmill.records.jsonfields import to_json
from avatarmill.records.shot import SHOT_INDEX, ShotMeta, shot_meta, shot_record, shot_row
from avatarmill.records.tarshard import ShardError

SECONDS = st.integers(0, 10**8).map(lambda milliseconds: milliseconds / 1000)
METAS = st.builds(
    ShotMeta,
    source_uri=st.text(),
    source_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    licence=st.text(),
    consent=st.text(),
    start_seconds=SECONDS,
    stop_seconds=SECONDS,
    width=st.integers(2, 8192),
    height=st.integers(2, 8192),
    pts_seconds=st.lists(SECONDS, max_size=5).map(tuple),
    fingerprint=st.text(),
    listed=st.dictionaries(st.text(), st.text(), max_size=3),
)


@given(METAS, st.binary(max_size=20))
def test_a_shot_comes_back(meta: ShotMeta, video: bytes) -> None:
    record = shot_record(meta, video)
    assert shot_meta(record.members["json"]) == meta
    assert record.row == shot_row(record.members)
    assert record.row.keys() | {"key", "shard", "offset", "length", "sha256"} == set(
        SHOT_INDEX.names
    )
    assert record.row["num_bytes"] == len(video)


@given(METAS)
def test_another_format_is_refused(meta: ShotMeta) -> None:
    fields = json_object(to_json(meta))
    with pytest.raises(ShardError, match="format 'other', expected 'avatarmill-shot-1'"):
        shot_meta(json_bytes({**fields, "format": "other"}))
    del fields["licence"]
    with pytest.raises(ShardError, match="unknown or missing fields licence"):
        shot_meta(json_bytes(fields))

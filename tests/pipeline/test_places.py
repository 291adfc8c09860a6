"""Places of rows by sha256: what a dictionary would hold."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.places import Places, digests

SHAS = [hashlib.sha256(b"%d" % k).hexdigest() for k in range(30)] + ["ab" * 31 + "00", "00" * 32]


@given(st.lists(st.lists(st.tuples(st.sampled_from(SHAS), st.integers(0, 9999)), max_size=9)))
def test_it_holds_what_a_dictionary_would(batches: list[list[tuple[str, int]]]) -> None:
    places, expected = Places(), dict[str, int]()
    for batch in batches:
        keys = digests(pa.array([sha for sha, _ in batch], pa.string()))
        places.add(keys, np.array([number for _, number in batch], np.int64))
        expected |= dict(batch)
    found = places.find(digests(pa.array(SHAS)))
    assert found.tolist() == [expected.get(sha, -1) for sha in SHAS]
    assert len(places) == len(expected)
    assert sorted(places) == sorted(expected)


def test_small_batches_do_not_pile_up() -> None:
    places = Places()
    for k in range(2000):
        keys = digests(pa.array([hashlib.sha256(b"%d" % (32 * k + j)).hexdigest() for j in (0, 1)]))
        places.add(keys, np.array([2 * k, 2 * k + 1]))
    assert len(places) == 4000
    assert len(places._segments) <= 12


def test_a_short_sha256_is_refused() -> None:
    with pytest.raises(ValueError, match="sha256 'abcd' has 4 letters, 64 are needed"):
        digests(pa.array([SHAS[0], "abcd"]))

"""One value, one byte string; what could run code or hide a NaN is refused."""

import io
import json
import math
from enum import StrEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from avatarmill.records.canonical import (
    jpeg_array,
    jpeg_bytes,
    json_bytes,
    json_object,
    npy_array,
    npy_bytes,
    png_array,
    png_bytes,
    rounded,
)

DTYPES = st.sampled_from(["uint8", "float16", "float32", "float64", "int64", "bool", ">f4", ">i2"])
ARRAYS = DTYPES.flatmap(lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(ARRAYS)
def test_npy_round_trip(array: np.ndarray) -> None:
    back = npy_array(npy_bytes(array))
    assert back.shape == array.shape and back.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(back, array)
    # numpy itself agrees, without pickle.
    np.testing.assert_array_equal(np.load(io.BytesIO(npy_bytes(array))), array)


def test_npy_bytes_do_not_depend_on_memory_layout() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for other in (np.asfortranarray(array), array[::-1][::-1], array.astype(">f4")):
        assert npy_bytes(other) == npy_bytes(array)


@pytest.mark.parametrize(
    "array",
    [np.array([{}], dtype=object), np.array(["a"]), np.zeros(2, "f4,f4"), np.zeros(1, "c8")],
)
def test_npy_of_objects_and_records_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is refused"):
        npy_bytes(array)


def test_pickled_npy_is_refused_on_reading() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="npy of dtype object"):
        npy_array(buffer.getvalue())


def test_npy_cut_short_and_other_versions_are_refused() -> None:
    data = npy_bytes(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"holds 396 bytes, expected 400"):
        npy_array(data[:-4])
    with pytest.raises(ValueError, match="not npy version 1.0"):
        npy_array(data[:6] + b"\x02" + data[7:])


@given(JSON)
def test_json_is_idempotent(value: object) -> None:
    once = json_bytes(value)
    assert json_bytes(json.loads(once)) == once


@given(st.floats(min_value=-1e9, max_value=1e9))
def test_json_keeps_nine_digits(value: float) -> None:
    assert math.isclose(json.loads(json_bytes(value)), value, rel_tol=1e-8)


def test_json_layout() -> None:
    class Reason(StrEnum):
        EMPTY = "empty"

    value = {"b": (1, 2.0, -0.0), "a": Reason.EMPTY, "é": np.float32(0.5)}
    assert json_bytes(value) == '{"a":"empty","b":[1,2.0,0.0],"é":0.5}'.encode()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": [math.nan]}, r"\$\.x\[0\] is nan"),
        ({"x": math.inf}, r"\$\.x is inf"),
        ({"x": object()}, r"\$\.x is a object"),
        ({1: 2}, "has the key 1"),
    ],
)
def test_json_refuses(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        json_bytes(value)


def test_json_document_must_be_an_object() -> None:
    with pytest.raises(ValueError, match="got a list"):
        json_object(b"[1]")


@given(hnp.arrays(np.float32, 8, elements=st.floats(-100, 100, width=32)), st.integers(2, 6))
def test_rounding_is_idempotent_without_negative_zero(array: np.ndarray, decimals: int) -> None:
    once = rounded(array, decimals)
    assert once.dtype == np.float32
    assert npy_bytes(rounded(once, decimals)) == npy_bytes(once)
    assert not np.signbit(once[once == 0]).any()
    np.testing.assert_allclose(once, array, atol=0.51 * 10.0**-decimals + 1e-5)


def test_images_round_trip() -> None:
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 256, (33, 17), dtype=np.uint8)
    np.testing.assert_array_equal(png_array(png_bytes(mask)), mask)
    image = np.full((16, 24, 3), (200, 30, 90), np.uint8)
    assert np.abs(jpeg_array(jpeg_bytes(image)).astype(int) - image).max() <= 2
    assert jpeg_bytes(image) == jpeg_bytes(image.copy())


def test_images_of_other_kinds_are_refused() -> None:
    grey = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\], got uint8 \(4, 4\)"):
        jpeg_bytes(grey)
    with pytest.raises(ValueError, match="got float32"):
        png_bytes(grey.astype(np.float32))
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG")
    with pytest.raises(ValueError, match="mode L is refused; expected RGB"):
        jpeg_array(buffer.getvalue())
    with pytest.raises(ValueError, match="not a readable PNG"):
        png_array(buffer.getvalue())
    with pytest.raises(ValueError, match="not a readable JPEG"):
        jpeg_array(jpeg_bytes(np.zeros((64, 64, 3), np.uint8))[:300])


def test_huge_image_is_refused_before_it_is_decoded() -> None:
    bomb = png_bytes(np.zeros((5000, 5000), np.uint8))
    with pytest.raises(ValueError, match="5000x5000 exceeds"):
        png_array(bomb)

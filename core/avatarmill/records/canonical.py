"""One byte representation for each value we write: JSON, npy, JPEG and PNG."""

import functools
import io
import json
import math
from collections.abc import Mapping
from typing import cast

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from PIL import Image

JSON_DIGITS = 9
"""Significant decimal digits of a float in JSON: microseconds in a video of an hour."""

JPEG_QUALITY = 92
NPY_MAGIC = b"\x93NUMPY\x01\x00"
MAX_IMAGE_PIXELS = 4096 * 4096

Bytes = NDArray[np.uint8]


def json_bytes(value: object) -> bytes:
    """Encode `value` as canonical JSON: sorted keys, no spaces, UTF-8, rounded finite floats.

    Accepts None, bool, int, float, str, numpy scalars, lists, tuples and mappings with str keys.
    Raises ValueError for NaN, infinities and other types, with the path to the value.
    """
    plain = _plain(value, "$")
    text = json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _plain(value: object, path: str) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        # A StrEnum is a str: the plain string goes into the file.
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return _rounded(value, path)
    if isinstance(value, Mapping):
        return {_key(k, path): _plain(v, f"{path}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise ValueError(f"{path} is a {type(value).__name__}, which canonical JSON cannot hold")


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path} has the key {key!r}; JSON keys are strings")
    return str(key)


def _rounded(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{path} is {value}; only finite numbers are written")
    return float(f"{value:.{JSON_DIGITS}g}") + 0.0  # adding 0.0 turns -0.0 into 0.0


def rounded(array: NDArray[np.floating], decimals: int) -> NDArray[np.float32]:
    """Round to `decimals` places and return float32, without negative zeros; idempotent."""
    return (np.round(array.astype(np.float64), decimals) + 0.0).astype(np.float32)


def npy_bytes(array: NDArray[np.generic]) -> bytes:
    """Encode as npy version 1.0, C order, little endian. Raises ValueError for other dtypes.

    >>> npy_bytes(np.zeros(2, np.float32))[:8]
    b'\\x93NUMPY\\x01\\x00'
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"dtype {array.dtype} is refused; only bool, int and float are written")
    # ascontiguousarray would turn a scalar into a vector.
    plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    buffer = io.BytesIO()
    npy_format.write_array(buffer, plain, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes | memoryview) -> NDArray[np.generic]:
    """Decode what `npy_bytes` wrote; never unpickles. Raises ValueError for anything else."""
    if bytes(data[:8]) != NPY_MAGIC:
        raise ValueError(f"not npy version 1.0: it starts with {bytes(data[:8])!r}")
    end = 10 + int.from_bytes(data[8:10], "little")
    shape, dtype = _npy_header(bytes(data[:end]))
    expected = math.prod(shape) * dtype.itemsize
    if len(data) - end != expected:
        raise ValueError(f"npy of shape {shape} holds {len(data) - end} bytes, expected {expected}")
    return np.frombuffer(data, dtype, offset=end).reshape(shape).copy()


@functools.lru_cache(maxsize=256)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    # Parsing costs 40 microseconds and a shard repeats a handful of headers.
    buffer = io.BytesIO(header)
    npy_format.read_magic(buffer)
    shape, fortran, dtype = npy_format.read_array_header_1_0(buffer)
    if fortran or dtype.kind not in "biuf":
        raise ValueError(f"npy of dtype {dtype}, fortran_order={fortran} is refused")
    return shape, dtype


def json_object(data: bytes | memoryview) -> dict[str, object]:
    """Decode a JSON object. Raises ValueError when the document is not an object."""
    value = json.loads(bytes(data))
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got a {type(value).__name__}")
    return value


def jpeg_bytes(image: Bytes) -> bytes:
    """Encode uint8 [H, W, 3] sRGB as baseline JPEG, quality 92, full chroma."""
    _check_image(image, channels=3)
    buffer = io.BytesIO()
    # 4:4:4, because garment edges are chroma edges; no optimisation pass, whose tables vary.
    Image.fromarray(image).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=False, progressive=False
    )
    return buffer.getvalue()


def png_bytes(mask: Bytes) -> bytes:
    """Encode uint8 [H, W] as greyscale PNG."""
    _check_image(mask, channels=0)
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", optimize=False, compress_level=6)
    return buffer.getvalue()


def jpeg_array(data: bytes | memoryview) -> Bytes:
    """Decode a JPEG to uint8 [H, W, 3]. Raises ValueError for other formats and huge images."""
    return _decoded(data, "JPEG", "RGB")


def png_array(data: bytes | memoryview) -> Bytes:
    """Decode a greyscale PNG to uint8 [H, W]. Raises ValueError as `jpeg_array` does."""
    return _decoded(data, "PNG", "L")


def _decoded(data: bytes | memoryview, kind: str, mode: str) -> Bytes:
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width}x{image.height} exceeds {MAX_IMAGE_PIXELS} pixels")
            if image.mode != mode:
                raise ValueError(f"{kind} of mode {image.mode} is refused; expected {mode}")
            return cast(Bytes, np.array(image, dtype=np.uint8))
    except OSError as error:
        raise ValueError(f"not a readable {kind}: {error}") from error


def _check_image(image: Bytes, channels: int) -> None:
    wanted = "[H, W, 3]" if channels else "[H, W]"
    good = image.ndim == (3 if channels else 2) and (not channels or image.shape[-1] == channels)
    if not good or image.dtype != np.uint8:
        raise ValueError(f"expected uint8 {wanted}, got {image.dtype} {image.shape}")

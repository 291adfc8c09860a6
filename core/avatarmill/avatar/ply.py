"""Gaussians as `.ply` files in the layout of 3D Gaussian Splatting, which common viewers open.

Properties, all float32 little endian: position, unused normals, SH coefficients of degree 0 (f_dc),
logit opacity, log scales, quaternion wxyz (3DGS reference code, `save_ply`).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.gaussians import Gaussians

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic 1 / (2 sqrt(pi)): color = 0.5 + SH_C0 * f_dc."""

COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
MAX_HEADER_BYTES = 64 * 1024

# The nearest float32 to 0 and 1 that a logit can tell apart; a file cannot hold infinities.
OPACITY_RANGE = (2.0**-24, 1.0 - 2.0**-24)
MIN_SCALE = 1e-10

SCALAR_TYPES = {
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
}  # fmt: skip

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write RGB Gaussians; `write_ply(p, read_ply(p))` gives the same bytes again.

    Opacities are kept inside [2**-24, 1 - 2**-24] and scales above 1e-10 m, because the file holds
    their logit and logarithm.

    Raises:
        ValueError: the Gaussians do not have 3 channels, or hold a value that is not finite.
    """
    if gaussians.channels != 3:
        raise ValueError(
            f"a .ply holds RGB, these Gaussians have {gaussians.channels} channels: "
            "decode features to colours first"
        )
    table = np.zeros((len(gaussians), len(COLUMNS)), dtype="<f4")
    arrays = [tensor.detach().cpu().double().numpy() for tensor in gaussians.tensors()]
    means, rotations, scales, opacities, colors = arrays
    table[:, 0:3] = means
    table[:, 6:9] = _settled(colors, _to_sh, _from_sh)
    table[:, 9] = _settled(np.clip(opacities, *OPACITY_RANGE), _to_logit, _from_logit)
    table[:, 10:13] = _settled(np.maximum(scales, MIN_SCALE), _to_log, _from_log)
    table[:, 13:17] = rotations
    if not np.isfinite(table).all():
        rows = np.flatnonzero(~np.isfinite(table).all(axis=1))
        raise ValueError(f"{len(rows)} Gaussians are not finite, the first is number {rows[0]}")
    properties = "".join(f"property float {name}\n" for name in COLUMNS)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(table)}\n"
    path.write_bytes(f"{header}{properties}end_header\n".encode() + table.tobytes())


def read_ply(path: Path, *, drop_view_dependence: bool = False) -> Gaussians:
    """Read Gaussians written by us or by other tools (binary little endian, any property order).

    Args:
        drop_view_dependence: accept spherical harmonics above degree 0 and use only their mean.

    Raises:
        ValueError: not a 3DGS file, truncated, or view dependent without `drop_view_dependence`.
    """
    data = path.read_bytes()
    dtype, count, start = _parse_header(path, data)
    names = dtype.names or ()
    missing = [name for name in COLUMNS if name not in names and not name.startswith("n")]
    if missing:
        raise ValueError(f"{path} is not a Gaussian splat file: it has no {', '.join(missing)}")
    if not drop_view_dependence and any(name.startswith("f_rest_") for name in names):
        raise ValueError(
            f"{path} has view-dependent colours (f_rest_*): pass drop_view_dependence=True "
            "to keep their mean"
        )
    if len(data) - start < count * dtype.itemsize:
        raise ValueError(
            f"{path} is truncated: {count} Gaussians need {count * dtype.itemsize} bytes "
            f"after the header, it has {len(data) - start}"
        )
    table = np.frombuffer(data, dtype=dtype, count=count, offset=start)

    def pick(*columns: str) -> Doubles:
        return np.stack([table[name].astype(np.float64) for name in columns], axis=-1)

    arrays = (
        pick("x", "y", "z"),
        pick("rot_0", "rot_1", "rot_2", "rot_3"),
        _from_log(pick("scale_0", "scale_1", "scale_2")),
        _from_logit(pick("opacity")[:, 0]),
        _from_sh(pick("f_dc_0", "f_dc_1", "f_dc_2")),
    )
    return Gaussians(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))


def _parse_header(path: Path, data: bytes) -> tuple[np.dtype[np.void], int, int]:
    """(row dtype, row count, offset of the first row) of a file whose only element is `vertex`."""
    end = data.find(b"end_header\n", 0, MAX_HEADER_BYTES)
    if not data.startswith(b"ply\n") or end < 0:
        raise ValueError(f"{path} is not a .ply file")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()[1:]]
    lines = [line for line in lines if line and line[0] not in ("comment", "obj_info")]
    if lines[:1] != [["format", "binary_little_endian", "1.0"]]:
        raise ValueError(f"{path} must be binary_little_endian 1.0, got {lines[:1]}")
    elements = [line for line in lines if line[0] == "element"]
    if len(elements) != 1 or elements[0][1:2] != ["vertex"] or not elements[0][-1].isdigit():
        raise ValueError(f"{path} must have one element, vertex, got {elements}")
    properties = [line[1:] for line in lines if line[0] == "property"]
    unknown = [p for p in properties if len(p) != 2 or p[0] not in SCALAR_TYPES]
    if unknown:
        raise ValueError(f"{path} has properties that are not plain numbers: {unknown[:3]}")
    dtype = np.dtype([(name, SCALAR_TYPES[kind]) for kind, name in properties])
    return dtype, int(elements[0][2]), end + len(b"end_header\n")


def _settled(
    values: Doubles, encode: Callable[[Doubles], Doubles], decode: Callable[[Doubles], Doubles]
) -> Singles:
    """Encoded float32 values that decoding to float32 and encoding again does not move.

    Where the encoded grid is the coarser one the first value already is such a fixed point; where
    it is the finer one, decoding once picks the representative.
    """
    encoded = encode(values).astype(np.float32)
    for _ in range(4):
        decoded = decode(encoded.astype(np.float64)).astype(np.float32)
        encoded, previous = encode(decoded.astype(np.float64)).astype(np.float32), encoded
        if np.array_equal(encoded, previous):
            break
    return encoded


def _to_sh(colors: Doubles) -> Doubles:
    return (colors - 0.5) / SH_C0


def _from_sh(coefficients: Doubles) -> Doubles:
    return 0.5 + SH_C0 * coefficients


def _to_logit(opacities: Doubles) -> Doubles:
    return np.asarray(np.log(opacities) - np.log1p(-opacities))


def _from_logit(logits: Doubles) -> Doubles:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def _to_log(scales: Doubles) -> Doubles:
    return np.asarray(np.log(scales))


def _from_log(logs: Doubles) -> Doubles:
    return np.asarray(np.exp(logs))

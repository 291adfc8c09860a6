"""Gaussians as `.ply` files in the layout of 3D Gaussian Splatting, which common viewers open.

Properties, all float32 little endian: position, unused normals, SH coefficients of degree 0 (f_dc)
and above (f_rest, all of red, then green, then blue), logit opacity, log scales, quaternion wxyz
(3DGS reference code, `save_ply`).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.gaussians import Gaussians
from avatarmill.avatar.splat_table import MAX_DEGREE, SplatTable

BEFORE_REST = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
AFTER_REST = (*("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),)
COLUMNS = BEFORE_REST + AFTER_REST
"""Properties of a file of degree 0, in their order."""

MAX_HEADER_BYTES = 64 * 1024

SCALAR_TYPES = {
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
}  # fmt: skip


def write_ply(path: Path, gaussians: Gaussians | SplatTable) -> None:
    """Write RGB Gaussians, or a table with view-dependent colours.

    `write_ply(p, read_ply(p))` gives the same bytes again for what we wrote, and
    `write_ply(p, read_splats(p))` for every file of the standard layout.

    Raises:
        ValueError: the Gaussians do not have 3 channels, or hold a value that is not finite.
    """
    table = gaussians if isinstance(gaussians, SplatTable) else SplatTable.encode(gaussians)
    count = len(table)
    # [N, K - 1, 3] to channel-major: all of red, then green, then blue.
    rest = table.harmonics[:, 1:].transpose(0, 2, 1).reshape(count, -1)
    parts = [table.means, table.normals, table.harmonics[:, 0], rest, table.logits[:, None]]
    rows = np.hstack([*parts, table.log_scales, table.rotations]).astype("<f4")
    names = (*BEFORE_REST, *(f"f_rest_{i}" for i in range(rest.shape[1])), *AFTER_REST)
    properties = "".join(f"property float {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n"
    path.write_bytes(f"{header}{properties}end_header\n".encode() + rows.tobytes())


def read_ply(path: Path, *, drop_view_dependence: bool = False) -> Gaussians:
    """Read RGB Gaussians written by us or by other tools (binary little endian).

    Args:
        drop_view_dependence: accept spherical harmonics above degree 0 and use only their mean.

    Raises:
        ValueError: not a 3DGS file, truncated, or view dependent without `drop_view_dependence`.
    """
    table = read_splats(path)
    try:
        return table.decode(drop_view_dependence=drop_view_dependence)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_splats(path: Path) -> SplatTable:
    """Read a file with its spherical harmonics, any property order and number types.

    Raises:
        ValueError: not a 3DGS file, truncated or longer than its header says, or not finite.
    """
    data = path.read_bytes()
    dtype, count, start = _parse_header(path, data)
    names = dtype.names or ()
    missing = [name for name in COLUMNS if name not in names and not name.startswith("n")]
    if missing:
        raise ValueError(f"{path} is not a Gaussian splat file: it has no {', '.join(missing)}")
    rest = _rest_columns(path, names)
    need, have = count * dtype.itemsize, len(data) - start
    if have != need:
        state = "truncated" if have < need else "longer than its header says"
        raise ValueError(
            f"{path} is {state}: {count} Gaussians need {need} bytes "
            f"after the header, it has {have}"
        )
    table = np.frombuffer(data, dtype=dtype, count=count, offset=start)

    def pick(*columns: str) -> NDArray[np.float32]:
        picked = np.zeros((count, len(columns)), np.float32)
        for k, name in enumerate(columns):
            if name in names:  # normals may be missing
                picked[:, k] = table[name]
        return picked

    bands = pick(*rest).reshape(count, 3, -1).transpose(0, 2, 1)
    harmonics = np.concatenate([pick("f_dc_0", "f_dc_1", "f_dc_2")[:, None], bands], axis=1)
    try:
        return SplatTable(
            *(pick("x", "y", "z"), pick("nx", "ny", "nz"), harmonics, pick("opacity")[:, 0]),
            *(pick("scale_0", "scale_1", "scale_2"), pick("rot_0", "rot_1", "rot_2", "rot_3")),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _rest_columns(path: Path, names: tuple[str, ...]) -> list[str]:
    """f_rest_0, f_rest_1, ... of a file, whose number must fit a degree."""
    rest = [name for name in names if name.startswith("f_rest_")]
    columns = [f"f_rest_{i}" for i in range(len(rest))]
    counts = [3 * ((degree + 1) ** 2 - 1) for degree in range(MAX_DEGREE + 1)]
    if set(columns) != set(rest) or len(rest) not in counts:
        raise ValueError(
            f"{path} has {len(rest)} properties f_rest_*; spherical harmonics of degree 0 to "
            f"{MAX_DEGREE} have {counts}, numbered from 0"
        )
    return columns


def _parse_header(path: Path, data: bytes) -> tuple[np.dtype[np.void], int, int]:
    """(row dtype, row count, offset of the first row) of a file whose only element is `vertex`."""
    if not data.startswith(b"ply\n"):
        raise ValueError(f"{path} is not a .ply file: it does not start with 'ply' and a newline")
    end = data.find(b"end_header\n", 0, MAX_HEADER_BYTES)
    if end < 0:
        raise ValueError(f"{path} is not a .ply file or truncated: its header has no end_header")
    lines = [line.split() for line in data[:end].decode("ascii", "replace").splitlines()[1:]]
    lines = [line for line in lines if line and line[0] not in ("comment", "obj_info")]
    if lines[:1] != [["format", "binary_little_endian", "1.0"]]:
        form = " ".join(lines[0]) if lines else "nothing"
        raise ValueError(
            f"{path} must be binary_little_endian 1.0, its header says '{form}': "
            "save it as binary with the tool that wrote it"
        )
    elements = [line for line in lines if line[0] == "element"]
    if len(elements) != 1 or elements[0][1:2] != ["vertex"] or not elements[0][-1].isdigit():
        raise ValueError(f"{path} must have one element, vertex, got {elements}")
    properties = [line[1:] for line in lines if line[0] == "property"]
    unknown = [p for p in properties if len(p) != 2 or p[0] not in SCALAR_TYPES]
    if unknown:
        raise ValueError(f"{path} has properties that are not plain numbers: {unknown[:3]}")
    names = [name for _, name in properties]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} names properties twice: {twice[:3]}")
    dtype = np.dtype([(name, SCALAR_TYPES[kind]) for kind, name in properties])
    return dtype, int(elements[0][-1]), end + len(b"end_header\n")

"""Reads a licensed SMPL-X file without running anything in it, and writes a clean npz.

The files that are handed out hold pickled objects beside the arrays, and unpickling runs code.
Only the numeric arrays that a body needs are opened here, each by name.
"""

import os
import pickle
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from avatarmill.avatar.anchors import MAX_ANCHORS, derive_anchors, stored_anchors_path
from avatarmill.avatar.body import EXPRESSION_START, NUM_EXPRESSION, NUM_JOINTS
from avatarmill.avatar.licensed import load_surface

Arrays = dict[str, NDArray[np.generic]]

# V vertices, F faces, U texture coordinates, C shape columns; numbers are exact.
NEEDED: dict[str, tuple[int | str, ...]] = {
    "v_template": ("V", 3),
    "f": ("F", 3),
    "weights": ("V", NUM_JOINTS),
    "shapedirs": ("V", 3, "C"),
    "posedirs": ("V", 3, 9 * (NUM_JOINTS - 1)),
    "J_regressor": (NUM_JOINTS, "V"),
    "kintree_table": (2, NUM_JOINTS),
    "hands_componentsl": (45, 45),
    "hands_componentsr": (45, 45),
    "hands_meanl": (45,),
    "hands_meanr": (45,),
    "lmk_faces_idx": (51,),
    "lmk_bary_coords": (51, 3),
    "dynamic_lmk_faces_idx": (79, 17),
    "dynamic_lmk_bary_coords": (79, 17, 3),
}
OPTIONAL: dict[str, tuple[int | str, ...]] = {
    "vt": ("U", 2),
    "ft": ("F", 3),
    "vertex_part": ("V",),
    "vertex_inner": ("V",),
}
INDICES = ("f", "kintree_table", "lmk_faces_idx", "dynamic_lmk_faces_idx", "ft")
LABELS = ("vertex_part", "vertex_inner")
MIN_COLUMNS = EXPRESSION_START + NUM_EXPRESSION
# Larger than any release of SMPL-X; what claims to be more is refused before it is unpacked.
MAX_MEMBER_BYTES = 400_000_000
AGAIN = "download SMPL-X's npz (400 shape columns) again from its own site"


@dataclass(frozen=True, slots=True)
class ImportedBody:
    """What was read and where it went."""

    path: Path
    anchors: Path
    gender: str
    num_vertices: int
    num_shape: int
    num_expression: int
    fingerprint: str


def import_body(
    source: Path, out: Path | None = None, *, gender: str | None = None, trust_pickle: bool = False
) -> ImportedBody:
    """Write `SMPLX_GENDER.npz`, clean, and its anchors into folder `out`.

    Args:
        source: a licensed `SMPLX_*.npz`; a `.pkl` only with `trust_pickle`.
        out: folder; `clean/` beside the source without it.
        gender: male, female or neutral; from the file's name without it.
        trust_pickle: unpickle a `.pkl`, which runs whatever code is in it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a body of SMPL-X, truncated, or of unknown gender; the message names the
            file and what to do.
    """
    if not source.is_file():
        raise FileNotFoundError(f"no body at {source}; give the path of a SMPLX_*.npz")
    gender = gender or _gender_of(source)
    arrays = _read_pickle(source, trust_pickle) if source.suffix == ".pkl" else _read_npz(source)
    clean = _checked(arrays, source)
    folder = out if out is not None else source.parent / "clean"
    target = folder / f"SMPLX_{gender.upper()}.npz"
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target} would be overwritten by itself; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _write(target, clean)
    surface = load_surface(target)
    face, barycentric = derive_anchors(surface, MAX_ANCHORS)
    anchors = stored_anchors_path(target)
    _write(
        anchors,
        {
            "face": face,
            "barycentric": barycentric,
            "fingerprint": np.array(surface.fingerprint),
        },
    )
    columns = clean["shapedirs"].shape[-1]
    return ImportedBody(
        path=target,
        anchors=anchors,
        gender=gender,
        num_vertices=len(clean["v_template"]),
        num_shape=EXPRESSION_START,
        num_expression=columns - EXPRESSION_START,
        fingerprint=surface.fingerprint,
    )


def _gender_of(source: Path) -> str:
    found = re.findall(r"(?<![A-Z])(FEMALE|MALE|NEUTRAL)(?![A-Z])", source.stem.upper())
    if len(set(found)) != 1:
        raise ValueError(
            f"the name of {source} does not say its gender; "
            "call it SMPLX_MALE, SMPLX_FEMALE or SMPLX_NEUTRAL, or give --gender"
        )
    return str(found[0]).lower()


def _read_npz(source: Path) -> Arrays:
    if not is_zipfile(source):
        raise ValueError(f"{source} is not an npz archive, or it is truncated; {AGAIN}")
    try:
        with ZipFile(source) as archive:
            members = {info.filename: info for info in archive.infolist()}
            arrays: Arrays = {}
            for name in (*NEEDED, *OPTIONAL):
                if (info := members.get(f"{name}.npy")) is None:
                    continue
                if info.file_size > MAX_MEMBER_BYTES:
                    raise ValueError(
                        f"{source}: array {name!r} takes {info.file_size} bytes, more than "
                        f"{MAX_MEMBER_BYTES}; {AGAIN}"
                    )
                with archive.open(info) as member:
                    arrays[name] = _read_array(member, name, source)
    except (BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise ValueError(f"{source} is truncated or damaged ({error}); {AGAIN}") from error
    return arrays


def _read_array(member: IO[bytes], name: str, source: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = npy.read_array(member, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{source}: array {name!r} is pickled and could run code when loaded; {AGAIN}"
            ) from error
        raise ValueError(f"{source}: array {name!r} cannot be read ({error}); {AGAIN}") from error
    return array


def _read_pickle(source: Path, trusted: bool) -> Arrays:
    if not trusted:
        raise ValueError(
            f"{source} is a pickle, which runs the code it holds when it is read; take the .npz "
            "of the same release, or give --trust-pickle if you know where the file comes from"
        )
    try:
        with source.open("rb") as stream:
            content = pickle.load(stream, encoding="latin1")
    except (pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{source} is truncated or no pickle ({error}); {AGAIN}") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{source} needs the package {error.name} to be read; take the .npz of the release"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds no body but a {type(content).__name__}; {AGAIN}")
    return {name: _dense(content[name]) for name in (*NEEDED, *OPTIONAL) if name in content}


def _dense(value: object) -> NDArray[np.generic]:
    # The joint regressor is a scipy matrix in some releases.
    todense: Callable[[], NDArray[np.generic]] | None = getattr(value, "toarray", None)
    return np.asarray(value if todense is None else todense())


def _checked(arrays: Arrays, source: Path) -> Arrays:
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}: not a body of SMPL-X; {AGAIN}")
    sizes: dict[str, int] = {}
    clean = {}
    for name, expected in (NEEDED | OPTIONAL).items():
        if name in arrays:
            _check_shape(arrays[name], name, expected, sizes, source)
            clean[name] = _numeric(arrays[name], name, source)
    if sizes["C"] < MIN_COLUMNS:
        raise ValueError(
            f"{source} has {sizes['C']} shape columns; the release with 400 (300 shape, "
            "100 expression) is needed"
        )
    _check_indices(clean, sizes, source)
    return clean


def _check_shape(
    array: NDArray[np.generic],
    name: str,
    expected: tuple[int | str, ...],
    sizes: dict[str, int],
    source: Path,
) -> None:
    # A letter takes the size it first meets; every later array must agree.
    wanted = [sizes.get(size, size) if isinstance(size, str) else size for size in expected]
    fits = array.ndim == len(wanted) and all(
        isinstance(size, str) or size == actual
        for size, actual in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        words = ", ".join(map(str, wanted))
        hint = " (SMPL and SMPL+H have fewer joints)" if name == "weights" else ""
        raise ValueError(
            f"{source}: {name} has shape {list(array.shape)}, SMPL-X needs [{words}]{hint}; {AGAIN}"
        )
    for size, actual in zip(expected, array.shape, strict=True):
        if isinstance(size, str):
            sizes[size] = actual


def _numeric(array: NDArray[np.generic], name: str, source: Path) -> NDArray[np.generic]:
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{source}: {name} holds {array.dtype}, not numbers; {AGAIN}")
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: {name} holds values that are not finite; {AGAIN}")
    if name in LABELS:
        return array.astype(np.uint8)
    return array.astype(np.int64 if name in INDICES else np.float32)


def _check_indices(clean: Arrays, sizes: dict[str, int], source: Path) -> None:
    limits = {"f": "V", "lmk_faces_idx": "F", "dynamic_lmk_faces_idx": "F", "ft": "U"}
    for name, letter in limits.items():
        if name in clean and letter in sizes:
            low, high = int(clean[name].min()), int(clean[name].max())
            if low < 0 or high >= sizes[letter]:
                raise ValueError(
                    f"{source}: {name} points to {low}..{high} of {sizes[letter]}; {AGAIN}"
                )
    parents = clean["kintree_table"][0, 1:].astype(np.int64)
    if not ((parents >= 0) & (parents < np.arange(1, NUM_JOINTS))).all():
        raise ValueError(f"{source}: kintree_table is no tree with parents first; {AGAIN}")


def _write(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    partial = path.with_name(f"{path.stem}.part.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    os.replace(partial, path)  # a reader sees the old file or the whole new one

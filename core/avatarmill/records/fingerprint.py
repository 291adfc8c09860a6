"""sha256 fingerprints of files, bytes and whole configurations."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from avatarmill.records.canonical import json_bytes, npy_bytes
from avatarmill.records.store import open_file

CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes | memoryview) -> str:
    """Return the sha256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, local or a URL, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(value: object) -> str:
    """Return 64 hex digits that change when anything in `value` changes.

    Takes dataclasses, mappings, sequences, sets, paths, numbers, strings and arrays, nested.
    A dataclass counts by its class name and fields; an array by dtype, shape and bytes.
    Raises ValueError for other types.
    """
    return sha256_bytes(json_bytes(describe(value)))


def describe(value: object) -> object:
    """Return `value` as JSON data: a dataclass is a dict with `type`, a path a POSIX string."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, np.ndarray):
        return {"type": "ndarray", "sha256": sha256_bytes(npy_bytes(value))}
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [describe(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return value

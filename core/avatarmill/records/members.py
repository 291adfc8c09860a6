"""Access to the members of one sample that refuses the unknown, the missing and the misshapen."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avatarmill.records.canonical import npy_array
from avatarmill.records.tarshard import ShardError

Scalar = TypeVar("Scalar", bound=np.generic)


def check_members(key: str, members: Mapping[str, bytes], known: frozenset[str]) -> None:
    """Raise ShardError naming every member that is not known and every one that is missing."""
    if extra := sorted(members.keys() - known):
        raise ShardError(f"sample {key}: unknown members {', '.join(extra)}")
    if missing := sorted(known - members.keys()):
        raise ShardError(f"sample {key}: missing members {', '.join(missing)}")


def array_member(members: Mapping[str, bytes], name: str, dtype: type[Scalar]) -> NDArray[Scalar]:
    """Decode the npy member `name`. Raises ShardError when its dtype is not `dtype`."""
    try:
        array = npy_array(members[name])
    except ValueError as error:
        raise ShardError(f"{name}: {error}") from error
    if array.dtype != dtype:
        raise ShardError(f"{name} has dtype {array.dtype}, expected {np.dtype(dtype)}")
    return array.astype(dtype, copy=False)


def check_array(
    name: str, array: NDArray[np.generic], dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Raise ValueError unless `array` has this dtype and shape; None fits any length.

    Floating-point arrays must be finite: a NaN in a shard poisons every batch it joins.
    """
    fits = len(array.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != dtype:
        wanted = "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} {wanted}, got {array.dtype} {list(array.shape)}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(array))} non-finite values")

"""Typed reading of JSON objects into dataclasses, without trusting the file."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from avatarmill.records.canonical import json_bytes, json_object
from avatarmill.records.tarshard import ShardError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")


def text(value: object) -> str:
    """Return a str. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(f"expected a string, got {value!r}")
    return value


def integer(value: object) -> int:
    """Return an int. Raises TypeError for anything else, bools included."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an integer, got {value!r}")
    return value


def number(value: object) -> float:
    """Return a float; JSON writes 2.0 as 2.0, but readers of other tools may write 2."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def sequence_of(item: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Return a reader of JSON arrays into tuples of `item`."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r}")
        return tuple(item(element) for element in value)

    return read


def mapping_of(item: Callable[[object], T]) -> Callable[[object], dict[str, T]]:
    """Return a reader of JSON objects into dicts of `item`."""

    def read(value: object) -> dict[str, T]:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {value!r}")
        return {text(key): item(element) for key, element in value.items()}

    return read


def to_json(record: "DataclassInstance") -> bytes:
    """Encode a flat or nested dataclass as canonical JSON."""
    return json_bytes(dataclasses.asdict(record))


Readers = Mapping[str, Callable[[object], object]]


def read_fields(
    data: bytes, name: str, readers: Readers, later: Readers | None = None
) -> dict[str, Any]:
    """Decode the JSON object `data` field by field with `readers`.

    Args:
        data: the document.
        name: for messages.
        readers: of the fields that must be there.
        later: of fields that newer versions write; left out of the result where they are missing.

    Raises ShardError naming `name` and the field for unknown, missing or mistyped fields.
    """
    try:
        fields = json_object(data)
    except ValueError as error:
        raise ShardError(f"{name}: {error}") from error
    known = {**readers, **{key: read for key, read in (later or {}).items() if key in fields}}
    if fields.keys() != known.keys():
        odd = sorted(fields.keys() ^ known.keys())
        raise ShardError(f"{name}: unknown or missing fields {', '.join(odd)}")
    try:
        return {field: read(fields[field]) for field, read in known.items()}
    except TypeError as error:
        raise ShardError(f"{name}: {error}") from error

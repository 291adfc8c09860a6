"""Configurations back from the JSON data that `records.fingerprint.describe` makes of them."""

import types
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_plain(kind: type[T], data: Any) -> T:
    """The value of type `kind` that `describe` turned into `data`.

    Raises TypeError for unknown fields, and what the dataclass's own checks raise.
    """
    value: T = _restore(kind, data)
    return value


def _restore(kind: Any, data: Any) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        values = {name: value for name, value in data.items() if name != "type"}
        return kind(**{name: _restore(hints.get(name), value) for name, value in values.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        # `X | None` is the one union a configuration of ours has.
        (inner,) = (item for item in arguments if item is not type(None))
        return None if data is None else _restore(inner, data)
    if origin is tuple:
        kinds = arguments[:1] * len(data) if arguments[1:] == (...,) else arguments
        return tuple(_restore(item, value) for item, value in zip(kinds, data, strict=True))
    return Path(data) if kind is Path else data

"""How a parent and its supervised child talk: length-prefixed JSON headers and raw array buffers.

On the wire a message is an 8-byte big-endian header length, the UTF-8 JSON header
`{"values": {...}, "arrays": [{"name", "dtype", "shape"}, ...]}`, then the arrays' bytes in order.
Standard library and numpy only: the same file runs in the MediaPipe environment (numpy 1.26).
Nothing is ever unpickled, and sizes are checked before memory is reserved, because the child may
have been taken over by the bytes it decodes.
"""

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 64 << 20
MAX_ARRAY_BYTES = 8 << 30
OUT_OF_MEMORY_EXIT = 77
"""Exit status of a child that met its own memory limit."""
GPU_OUT_OF_MEMORY_EXIT = 78
"""Exit status of a child whose GPU has no room for the item."""

_LENGTH = struct.Struct(">Q")
_DTYPES = frozenset({"uint8", "int32", "int64", "float16", "float32", "float64", "bool"})


class ProtocolError(RuntimeError):
    """The other side sent something that is not a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """Values that JSON can hold, and arrays."""

    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


Handler = Callable[[Message], Message]
ReadExactly = Callable[[memoryview], None]
"""Fills the whole buffer or raises."""


def encode(message: Message) -> Iterator[memoryview]:
    """The buffers of a message in wire order; arrays are not copied when contiguous.

    Raises ValueError for a dtype outside the closed list.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    specs = []
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"array {name!r} has dtype {array.dtype}, allowed: {sorted(_DTYPES)}")
        specs.append({"name": name, "dtype": array.dtype.name, "shape": list(array.shape)})
    header = json.dumps({"values": message.values, "arrays": specs}).encode()
    yield memoryview(_LENGTH.pack(len(header)) + header)
    for array in arrays.values():
        if array.size:
            yield array.reshape(-1).view(np.uint8).data


def decode(read_exactly: ReadExactly) -> Message:
    """Reads one message.

    Raises ProtocolError when the header is malformed or asks for more than the limits.
    """
    prefix = bytearray(_LENGTH.size)
    read_exactly(memoryview(prefix))
    (length,) = _LENGTH.unpack(prefix)
    if length > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {length} bytes, at most {MAX_HEADER_BYTES}")
    raw = bytearray(length)
    read_exactly(memoryview(raw))
    try:
        header = json.loads(raw)
        values, specs = dict(header["values"]), list(header["arrays"])
        layouts = [
            (str(s["name"]), str(s["dtype"]), tuple(int(n) for n in s["shape"])) for s in specs
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"malformed header: {error}") from error
    return Message(values, dict(_read_arrays(layouts, read_exactly)))


def _read_arrays(
    layouts: list[tuple[str, str, tuple[int, ...]]], read_exactly: ReadExactly
) -> Iterator[tuple[str, NDArray[Any]]]:
    left = MAX_ARRAY_BYTES
    for name, dtype, shape in layouts:
        if dtype not in _DTYPES or any(n < 0 for n in shape):
            raise ProtocolError(f"array {name!r}: dtype {dtype!r}, shape {shape}")
        num_bytes = np.dtype(dtype).itemsize
        for n in shape:
            num_bytes *= n
        left -= num_bytes
        if left < 0:
            raise ProtocolError(f"arrays larger than {MAX_ARRAY_BYTES} bytes in one message")
        array = np.empty(shape, dtype)
        if num_bytes:
            read_exactly(array.reshape(-1).view(np.uint8).data)
        yield name, array


def serve(handlers: Mapping[str, Handler]) -> NoReturn:
    """Answers requests on standard input until it closes; the main function of every child.

    The first message out is a greeting that ends the parent's wait. A request names its handler
    in `values["call"]`. An exception of a handler ends the process with its traceback on standard
    error: the parent reports it and starts a fresh child, so no state survives a failure.
    """
    requests = sys.stdin.buffer
    # Native libraries print to file descriptor 1; keep the protocol on a private copy of it.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    _send(replies, Message({"ready": True}))
    try:
        while True:
            request = decode(_reader(requests))
            _send(replies, handlers[str(request.values["call"])](request))
    except EOFError:
        sys.exit(0)
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)
    except RuntimeError as error:
        # torch's error, by name: most children never import torch.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        os._exit(GPU_OUT_OF_MEMORY_EXIT)


def _exit_with_parent(parent: int) -> None:
    """Ends this process when the parent is gone, even in the middle of an item."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _reader(stream: BinaryIO) -> ReadExactly:
    def read_exactly(view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = stream.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count

    return read_exactly


def _send(stream: Any, message: Message) -> None:
    for buffer in encode(message):
        done = 0
        while done < len(buffer):
            done += stream.write(buffer[done:])

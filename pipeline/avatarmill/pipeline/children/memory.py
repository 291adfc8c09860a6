"""Memory for the frames of one shot after another, without giving it back in between.

A fresh page costs a fault, and on a virtual machine one on its host as well: filling 373 MB took
1.0 s in new memory and 0.1 s in memory that was used before. So the block of the last shot waits
for the next one.
"""

import mmap
import weakref

import numpy as np
from numpy.typing import NDArray

_MOST_KEPT_BYTES = 512 << 20
"""Of address space: shots use about half of what is reserved for them."""

_kept: list[mmap.mmap] = []


def take_memory(size: int) -> NDArray[np.uint8]:
    """At least `size` bytes, not cleared, private to the caller.

    They are kept for the next call once the last array that looks at them is gone. What nobody
    writes to takes no memory of the machine.
    """
    # No lock: single calls of a list are atomic, and arrays may die while one is held.
    block = _kept.pop() if _kept else None
    if block is None or len(block) < size:
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = np.frombuffer(block, np.uint8)
    weakref.finalize(memory, _keep, block).atexit = False
    return memory


def _keep(block: mmap.mmap) -> None:
    """Keeps the block of the latest shot; an earlier one goes back to the machine."""
    _kept[:] = [block] if len(block) <= _MOST_KEPT_BYTES else []

"""Makes one kind of child process fail for real while a file exists: Python imports this by name.

FAULT_PLACE  module of the child
FAULT_KIND   hang, crash or swell
FAULT_ARMED  the file
"""

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from typing import Any


def fail(kind: str) -> None:
    """Never returns."""
    if kind == "hang":
        while True:
            time.sleep(1)
    if kind == "crash":
        ctypes.string_at(0)
    held = []
    while True:
        # Random bytes: pages of zeros are not resident.
        held.append(os.urandom(1 << 20) * 64)


def _inject() -> None:
    from avatarmill.pipeline.children import protocol

    serve = protocol.serve

    def faulty(handlers: Mapping[str, protocol.Handler]) -> Any:
        def wrapped(handler: protocol.Handler) -> protocol.Handler:
            def answer(request: protocol.Message) -> protocol.Message:
                if os.path.exists(os.environ["FAULT_ARMED"]):
                    fail(os.environ["FAULT_KIND"])
                return handler(request)

            return answer

        serve({name: wrapped(handler) for name, handler in handlers.items()})

    protocol.serve = faulty


if os.environ.get("FAULT_PLACE") in sys.orig_argv:
    _inject()

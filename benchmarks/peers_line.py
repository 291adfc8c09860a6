"""A worker of the benchmark of peers: JSON requests on its standard input, JSON replies out.

Standard library only, because it also runs in the environments of the peers.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(handlers: dict[str, Callable[..., Any]]) -> None:
    """Calls `handlers[request["call"]]` with the other values of each line, until input ends.

    A reply has what the handler returned and the seconds it took.
    """
    # What libraries print goes to standard error.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        handler = handlers[request.pop("call")]
        started = time.perf_counter()
        value = handler(**request)
        reply = {"value": value, "seconds": time.perf_counter() - started}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

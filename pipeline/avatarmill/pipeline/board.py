"""What every worker of a job is doing right now: workers report, the driver reads.

Lines lie in the store of keys and values that every Ray cluster keeps: no process of ours waits for
them, and clusters whose nodes share no folder have it too. Workers write one every two seconds,
however fast parts go by. What cannot be written or read in time is left: a look at a job never ends
it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

REPORT_SECONDS = 2.0
SILENT_SECONDS = 15.0
"""A worker that has not reported for so long is gone."""
LEAVE_SECONDS = 10.0
"""Workers without work get so long to put away what they hold."""
ANSWER_SECONDS = 5.0
"""The store gets so long to answer."""
_LINE, _ITEM = b"line ", b"item "


@dataclass(frozen=True, slots=True)
class Report:
    """One line of one worker."""

    node: str
    pid: int
    stage: str
    """Empty while the worker waits for work."""
    uri: str
    seconds: float
    """It has been at this stage of this source for so long."""
    done: int
    """Parts the worker has finished."""


class Board:
    """Handle on the board of one run, to be sent to workers. Ray must be initialised to use it."""

    def __init__(self) -> None:
        self._namespace = f"avatarmill-{uuid4().hex}".encode()
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        """Lines with the moment when this process first saw them."""

    def begin(self, item: str) -> int:
        """How many workers began the item and died; 0 when the store does not answer."""
        key = _ITEM + item.encode()
        deaths = int(self._ask("get", key) or b"0")
        self._ask("put", key, b"%d" % (deaths + 1), True)
        return deaths

    def end(self, item: str) -> None:
        """The item has left its worker."""
        self._ask("del", _ITEM + item.encode(), False)

    def put(self, report: Report) -> None:
        """Writes a worker's line in place of its last one."""
        line = json.dumps(asdict(report)).encode()
        self._ask("put", _line_of(report.node, report.pid), line, True)

    def leave(self, node: str, pid: int) -> None:
        """The worker has put away what it held; returns when the board knows."""
        self._ask("del", _line_of(node, pid), False)

    def wait_until_left(self) -> None:
        """Returns when all workers have left, and wipes the board.

        Those that died are not waited for much longer.
        """
        end = time.monotonic() + LEAVE_SECONDS
        while self.reports() and time.monotonic() < end:
            time.sleep(0.1)
        self._ask("del", b"", True)

    def reports(self) -> list[Report]:
        """The latest line of every worker that still reports; none when the store is silent."""
        lines = self._ask("multi_get", self._ask("keys", _LINE) or []) or {}
        now = time.monotonic()
        # Lines of the living differ in their seconds. A time in them would trust clocks of nodes.
        self._seen = {
            key: seen if (seen := self._seen.get(key)) and seen[0] == line else (line, now)
            for key, line in lines.items()
        }
        return [
            Report(**json.loads(line))
            for line, since in self._seen.values()
            if now - since < SILENT_SECONDS
        ]

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What the store says to one of its methods; None when it does not answer in time."""
        from ray.exceptions import RayError
        from ray.experimental.internal_kv import internal_kv_get_gcs_client

        store = internal_kv_get_gcs_client()
        if store is None:
            return None
        call = getattr(store, f"internal_kv_{method}")
        try:
            return call(*arguments, namespace=self._namespace, timeout=ANSWER_SECONDS)
        except (RayError, TimeoutError):
            return None


def _line_of(node: str, pid: int) -> bytes:
    return _LINE + f"{node} {pid}".encode()


class Desk:
    """A worker's place at the board: says every two seconds what the worker is at."""

    def __init__(self, board: Board | None) -> None:
        self._board = board
        self._stage, self._uri, self._since, self._done = "", "", time.monotonic(), 0
        self._left = threading.Event()
        self._reporter = threading.Thread(target=self._report, daemon=True)
        if board is not None:
            self._reporter.start()

    @contextmanager
    def item(self, name: str) -> Iterator[int]:
        """An item in hand while the block runs; gives the number of workers it has killed."""
        yield self._board.begin(name) if self._board is not None else 0
        self.at("", "")
        self._done += 1
        if self._board is not None:
            self._board.end(name)

    def at(self, stage: str, uri: str) -> None:
        """The worker is at `stage` of `uri` from now on."""
        self._stage, self._uri, self._since = stage, uri, time.monotonic()

    def close(self) -> None:
        """No more lines; the worker is off the board."""
        self._left.set()
        if self._board is not None:
            self._reporter.join()  # Or its last line would come after the leave.
            self._board.leave(socket.gethostname(), os.getpid())

    def _report(self) -> None:
        assert self._board is not None
        node, pid = socket.gethostname(), os.getpid()
        while not self._left.is_set():
            waited = time.monotonic() - self._since
            self._board.put(Report(node, pid, self._stage, self._uri, waited, self._done))
            self._left.wait(REPORT_SECONDS)

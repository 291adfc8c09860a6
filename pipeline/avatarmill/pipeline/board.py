"""What every worker of a job is doing right now: workers report, the driver reads.

A board is a small Ray actor. Workers send a line every two seconds and wait for no answer, so it
costs the same however fast parts go by, and works on clusters whose nodes share no folder.
"""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

REPORT_SECONDS = 2.0
SILENT_SECONDS = 15.0
"""A worker that has not reported for so long is gone."""
LEAVE_SECONDS = 10.0
"""Workers without work get so long to put away what they hold."""


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


class _Lines:
    """The board itself: the last line of each worker."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], tuple[float, dict[str, Any]]] = {}
        self._begun: Counter[str] = Counter()

    def begin(self, item: str) -> int:
        """How often the item was begun before, and never ended."""
        self._begun[item] += 1
        return self._begun[item] - 1

    def end(self, item: str) -> None:
        self._begun.pop(item, None)

    def put(self, line: dict[str, Any]) -> None:
        self._lines[line["node"], line["pid"]] = time.monotonic(), line

    def leave(self, node: str, pid: int) -> None:
        self._lines.pop((node, pid), None)

    def lines(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        self._lines = {k: v for k, v in self._lines.items() if now - v[0] < SILENT_SECONDS}
        return [line for _, line in self._lines.values()]


class Board:
    """Handle on the board of one run, to be sent to workers."""

    def __init__(self) -> None:
        """Starts the board's actor on the node of the driver. Ray must be initialised."""
        import ray

        self._actor: Any = ray.remote(_Lines).options(num_cpus=0, max_restarts=-1).remote()

    def begin(self, item: str) -> int:
        """How many workers began the item and died; 0 when the board does not answer."""
        import ray

        try:
            deaths: int = ray.get(self._actor.begin.remote(item), timeout=5.0)
        except (ray.exceptions.RayError, TimeoutError):
            return 0
        return deaths

    def end(self, item: str) -> None:
        """The item has left its worker."""
        self._actor.end.remote(item)

    def put(self, report: Report) -> None:
        """Sends a line; nobody waits for it to arrive."""
        self._actor.put.remote(asdict(report))

    def leave(self, node: str, pid: int) -> None:
        """The worker has put away what it held; returns when the board knows."""
        import ray

        with suppress(ray.exceptions.RayError, TimeoutError):
            ray.get(self._actor.leave.remote(node, pid), timeout=5.0)

    def wait_until_left(self) -> None:
        """Returns when all workers have left; those that died are not waited for much longer."""
        end = time.monotonic() + LEAVE_SECONDS
        while self.reports() and time.monotonic() < end:
            time.sleep(0.1)

    def reports(self, timeout_seconds: float = 1.0) -> list[Report]:
        """The latest line of every worker that still reports; none when the board is silent."""
        import ray

        try:
            lines = ray.get(self._actor.lines.remote(), timeout=timeout_seconds)
        except (ray.exceptions.RayError, TimeoutError):
            # A look at the job must never end it.
            return []
        return [Report(**line) for line in lines]


class Desk:
    """A worker's place at the board: says every two seconds what the worker is at."""

    def __init__(self, board: Board | None) -> None:
        self._board = board
        self._stage, self._uri, self._since, self._done = "", "", time.monotonic(), 0
        self._left = threading.Event()
        if board is not None:
            threading.Thread(target=self._report, daemon=True).start()

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
            self._board.leave(socket.gethostname(), os.getpid())

    def _report(self) -> None:
        assert self._board is not None
        node, pid = socket.gethostname(), os.getpid()
        while not self._left.is_set():
            waited = time.monotonic() - self._since
            self._board.put(Report(node, pid, self._stage, self._uri, waited, self._done))
            self._left.wait(REPORT_SECONDS)

"""The structured log of a run: one JSON object a line, in parts of at most a megabyte.

OUT/log/START-PART.jsonl   START is when the run began; every start of a job has files of its own

An object store cannot append, so a part is written anew whenever there is something to add; a kill
loses what came in the last two seconds. Lines have `time` (UTC), `event` and what it is about.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from avatarmill.records.atomic import write_bytes

FOLDER = "log"
_PART_BYTES = 1 << 20


class RunLog(logging.Handler):
    """Collects events, and the warnings and errors of our loggers, until they are flushed."""

    def __init__(self, out: Path) -> None:
        super().__init__(logging.WARNING)
        self._folder = out / FOLDER
        self._started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        self._part = 0
        self._lines: list[bytes] = []
        self._new = False
        self._guard = Lock()

    def event(self, name: str, **about: object) -> None:
        """Adds a line. `about` must be JSON data."""
        line = {"time": datetime.now(UTC).isoformat(), "event": name, **about}
        with self._guard:
            self._lines.append(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._new = True

    def emit(self, record: logging.LogRecord) -> None:
        """A line for a record of Python's logging."""
        about = {"level": record.levelname, "logger": record.name}
        self.event("log", **about, message=record.getMessage())

    def flush(self) -> None:
        """Writes what is new."""
        with self._guard:
            if not self._new:
                return
            data = b"".join(self._lines)
            path = self._folder / f"{self._started}-{self._part:04d}.jsonl"
            self._new = False
            if len(data) > _PART_BYTES:
                self._part += 1
                self._lines = []
        write_bytes(path, data)


def read_log(out: Path) -> Iterator[dict[str, object]]:
    """The events of all starts of a run on a local disk, in order of time."""
    for path in sorted((out / FOLDER).glob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)

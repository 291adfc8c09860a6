"""OUT/status.json: where a job stands, written every two seconds by the job, read by anybody."""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avatarmill.pipeline.board import Report
from avatarmill.records.atomic import read_bytes, write_bytes

NAME = "status.json"
STALE_SECONDS = 20.0
"""Without a sign of life for so long, a running job counts as stopped."""

State = Literal["running", "finished", "failed"]


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage of the phase under way."""

    done: int = 0
    """Parts that have left it."""
    seconds: float = 0.0
    """Wall seconds of all workers together."""
    per_minute: float = 0.0
    """Parts a minute, over the last minutes."""
    busy: int = 0
    """Workers at it now."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a job stands. Counts are of this start of the job."""

    state: State = "running"
    phase: str = ""
    message: str = ""
    """Why it failed."""
    host: str = ""
    pid: int = 0
    started: float = 0.0
    """Unix seconds."""
    time: float = 0.0
    """Unix seconds of the last sign of life."""
    inputs: int = 0
    total: int = 0
    """Parts of the phase."""
    done: int = 0
    queue: int = 0
    """Parts that no worker has begun."""
    fraction: float = 0.0
    """Of the phase's work that is done: by bytes in the scan, by seconds of video after it."""
    eta_seconds: float | None = None
    """Until the end of the phase; None while nothing is done."""
    groups_total: int = 0
    groups_done: int = 0
    clips: int = 0
    states: Mapping[str, int] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, StageStatus] = field(default_factory=dict)
    workers: tuple[Report, ...] = ()


def write_status(out: Path, status: Status) -> None:
    """Writes OUT/status.json whole."""
    write_bytes(out / NAME, json.dumps(asdict(status)).encode() + b"\n")


def read_status(out: Path) -> Status | None:
    """The status a job wrote last; None where none did."""
    try:
        document: dict[str, Any] = json.loads(read_bytes(out / NAME))
    except FileNotFoundError:
        return None
    document["stages"] = {name: StageStatus(**s) for name, s in document["stages"].items()}
    document["workers"] = tuple(Report(**report) for report in document["workers"])
    return Status(**document)


def alive(status: Status, now: float | None = None) -> bool:
    """Whether the job still runs: it says so, said so lately, and its process is there."""
    if status.state != "running":
        return False
    if status.host == socket.gethostname() and not Path(f"/proc/{status.pid}").exists():
        return False
    return (time.time() if now is None else now) - status.time < STALE_SECONDS


def beginning() -> Status:
    """The status of a job that starts now in this process."""
    now = time.time()
    return Status(host=socket.gethostname(), pid=os.getpid(), started=now, time=now)

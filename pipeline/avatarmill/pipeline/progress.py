"""Counts what a job has done, phase by phase, and says how long the rest will take."""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock

from avatarmill.pipeline.board import Report
from avatarmill.pipeline.gather import FinishedGroup
from avatarmill.pipeline.status import StageStatus, Status, beginning
from avatarmill.pipeline.work import Work

WINDOW_SECONDS = 300.0
"""Rates are of the last five minutes: a run slows down and speeds up with its videos."""


class Progress:
    """Told by the job, read by another thread."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._status = beginning()
        self._rejects: Counter[str] = Counter()
        self._states: Counter[str] = Counter()
        self.phase("plan")

    def inputs(self, count: int) -> None:
        """Sources of the list."""
        with self._guard:
            self._status = replace(self._status, inputs=count)

    def phase(self, name: str, total: int = 0, weights: Mapping[str, float] | None = None) -> None:
        """A phase of `total` parts begins; `weights` says how much work each source is, by URI."""
        with self._guard:
            self._weights = dict(weights or {})
            self._all = sum(self._weights.values())
            self._weight, self._done = 0.0, 0
            self._counts: Counter[str] = Counter()
            self._seconds: Counter[str] = Counter()
            self._begun = time.monotonic()
            self._history = deque([(self._begun, 0.0, Counter[str]())])
            self._status = replace(self._status, phase=name, total=total)

    def part(self, work: Work) -> None:
        """A part has left the last stage."""
        with self._guard:
            self._done += 1
            self._weight += float(work.share) * self._weights.get(work.source.uri, 0.0)
            self._counts.update(work.seconds.keys())
            self._seconds.update(work.seconds)

    def groups(self, total: int) -> None:
        """Groups this start of the job has to make."""
        with self._guard:
            self._status = replace(self._status, groups_total=total)

    def group(self, group: FinishedGroup) -> None:
        """A group is committed."""
        with self._guard:
            self._rejects.update(row.reason for row in group.rejects)
            self._states.update(state.state for state in group.inputs)
            status = self._status
            clips = status.clips + len(group.records)
            self._status = replace(status, groups_done=status.groups_done + 1, clips=clips)

    def status(self, reports: Sequence[Report] = ()) -> Status:
        """Where the job stands, with what its workers say."""
        with self._guard:
            return self._snapshot(reports)

    def _snapshot(self, reports: Sequence[Report]) -> Status:
        now = time.monotonic()
        while len(self._history) > 1 and now - self._history[0][0] > WINDOW_SECONDS:
            self._history.popleft()
        then, weight, counts = self._history[0]
        self._history.append((now, self._weight, self._counts.copy()))
        minutes = max(now - then, 1e-3) / 60
        busy = Counter(report.stage for report in reports if report.stage)
        stages = {
            name: StageStatus(
                done=self._counts[name],
                seconds=round(self._seconds[name], 2),
                per_minute=round((self._counts[name] - counts[name]) / minutes, 3),
                busy=busy[name],
            )
            for name in sorted({*self._counts, *busy})
        }
        left = self._all - self._weight
        gained = self._weight - weight
        waiting = self._status.total - self._done - sum(busy.values())
        return replace(
            self._status,
            time=time.time(),
            done=self._done,
            queue=max(0, waiting),
            fraction=round(self._weight / self._all, 4) if self._all else 0.0,
            eta_seconds=round(60 * minutes * left / gained, 1) if gained else None,
            states=dict(self._states),
            rejects=dict(self._rejects),
            stages=stages,
            workers=tuple(reports),
        )

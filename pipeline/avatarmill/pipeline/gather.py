"""Collects outcomes until a group is complete, then says what the group holds."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from avatarmill.pipeline.types import Reason, Reject, Source
from avatarmill.pipeline.work import Outcome, Work
from avatarmill.records.index import Record
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import RejectRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedGroup:
    """Everything a group's commit needs."""

    number: int
    records: list[Record]
    inputs: list[InputState]
    rejects: list[RejectRow]


@dataclass(slots=True)
class _Progress:
    """Outcomes of one source so far."""

    share: Fraction = Fraction(0)
    outcomes: list[Outcome] = field(default_factory=list)


class Gather:
    """Sorts finished parts into their groups; memory is bounded by the groups under way."""

    def __init__(self, groups: Sequence[tuple[int, tuple[Source, ...]]] = ()) -> None:
        """Takes the groups to begin with."""
        self._groups: dict[int, tuple[Source, ...]] = {}
        self._group_of: dict[str, int] = {}
        self._missing: dict[int, int] = {}
        self.begin(groups)
        self._progress: defaultdict[str, _Progress] = defaultdict(_Progress)
        self.seconds: Counter[str] = Counter()
        """Wall seconds of every stage, over all workers."""
        self.clip_bytes = 0
        """Of all clips, without the headers of the shards."""

    def begin(self, groups: Sequence[tuple[int, tuple[Source, ...]]]) -> None:
        """Takes (group number, sources) of groups whose parts are on their way."""
        self._groups |= dict(groups)
        self._group_of |= {s.uri: number for number, sources in groups for s in sources}
        self._missing |= {number: len(sources) for number, sources in groups}

    def add(self, work: Work) -> FinishedGroup | None:
        """Takes one finished part; returns its group when that was the last part of it."""
        assert isinstance(work.content, Outcome), f"{work.source.uri} left the stages unfinished"
        self.seconds.update(work.seconds)
        self.clip_bytes += work.content.clip_bytes
        progress = self._progress[work.source.uri]
        progress.outcomes.append(work.content)
        progress.share += work.share
        assert progress.share <= 1, f"{work.source.uri} came back more than once"
        if progress.share < 1:
            return None
        number = self._group_of[work.source.uri]
        self._missing[number] -= 1
        return None if self._missing[number] else self._finish(number)

    def unfinished(self) -> list[str]:
        """URIs of sources that have not come back whole; empty at the end of a sound run."""
        return sorted(s.uri for n, left in self._missing.items() if left for s in self._groups[n])

    def _finish(self, number: int) -> FinishedGroup:
        group = FinishedGroup(number, [], [], [])
        del self._missing[number]
        for source in self._groups.pop(number):
            del self._group_of[source.uri]
            outcomes = self._progress.pop(source.uri).outcomes
            records = [record for outcome in outcomes for record in outcome.clips]
            rejects = [reject for outcome in outcomes for reject in outcome.rejects]
            rejects += [_internal(outcome.error) for outcome in outcomes if outcome.error]
            group.records.extend(records)
            group.inputs.append(_state(source, len(records), rejects))
            group.rejects.extend(_row(source, reject) for reject in rejects)
        return group


def _state(source: Source, samples: int, rejects: Sequence[Reject]) -> InputState:
    """The one state a source ends in. Of several rejects the commonest names the reason."""
    if samples:
        return InputState(source.uri, source.sha256, "kept", samples=samples)
    counts = Counter(sorted(reject.reason for reject in rejects))
    assert counts, f"{source.uri} has neither a clip nor a reason"
    if Reason.INTERNAL_ERROR in counts:
        return InputState(source.uri, source.sha256, "failed", Reason.INTERNAL_ERROR)
    return InputState(source.uri, source.sha256, "rejected", counts.most_common(1)[0][0])


def _internal(error: str) -> Reject:
    logger.error("%s", error)
    return Reject(Reason.INTERNAL_ERROR, error.strip().splitlines()[-1], error.split(":")[0])


def _row(source: Source, reject: Reject) -> RejectRow:
    return RejectRow(
        uri=source.uri,
        source_sha256=source.sha256,
        level=reject.level,
        reason=str(reject.reason),
        stage=reject.stage,
        evidence=reject.evidence,
        start_seconds=reject.start_seconds,
        stop_seconds=reject.stop_seconds,
    )

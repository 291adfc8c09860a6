"""The first pass of a job, over every source: bytes, shots, signatures, verdicts on files.

It stands apart from the stages that follow, so that its workers load no model.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from avatarmill.pipeline.executor import StageSpec
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.forgotten import forgotten_outcome
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import ScanSettings, ShotConfig, scan
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Reject, Source
from avatarmill.pipeline.work import Arrived, Content, Outcome, Scanned

SCAN_VERSION = 6
"""Raised when a change of the code changes what a scan finds."""


class FetchStage:
    """A listed place to its bytes on this machine, hashed in the same pass."""

    def __init__(self, fetch: FetchConfig) -> None:
        self._spool = Spool(fetch)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """The source with the sha256 and size of its bytes, or why they cannot be had."""
        with self._spool.local(source) as local:
            if isinstance(local, Reject):
                return [source_reject(local)]
            known = replace(source, sha256=local.sha256, size_bytes=local.size_bytes)
            return [Arrived(known)]

    def close(self) -> None:
        """Lets go of the file."""
        self._spool.close()


class ScanStage:
    """A file to its shots and signature. Opens containers in a supervised child."""

    def __init__(
        self,
        limits: ProbeConfig,
        shots: ShotConfig,
        fetch: FetchConfig,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        """`hidden` are the sha256 of sources that were forgotten."""
        self._limits, self._shots = limits, shots
        self._hidden = hidden
        self._spool = Spool(fetch)
        self._child = video_child(limits)

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        """What one pass over the file gives, or why it is rejected."""
        if source.sha256 in self._hidden:
            return [forgotten_outcome()]
        with self._spool.local(source) as local:
            if isinstance(local, Reject):
                return [source_reject(local)]
            return [self._scan(local)]

    def _scan(self, source: Source) -> Content:
        facts = probe(self._child, source, self._limits)
        if isinstance(facts, Reject):
            return source_reject(facts)
        found = scan(self._child, source, facts, self._shots, self._limits)
        return source_reject(found) if isinstance(found, Reject) else Scanned(found)

    def close(self) -> None:
        """Ends the child and lets go of the file."""
        self._child.close()
        self._spool.close()


def scan_stages(
    config: ScanSettings,
    fetch: FetchConfig | None = None,
    hidden: frozenset[str] = frozenset(),
) -> list[StageSpec]:
    """The stages of the pass. `hidden` are the sha256 of forgotten sources, not to be opened."""
    limits = fetch or FetchConfig()
    return [
        StageSpec("fetch", partial(FetchStage, limits)),
        StageSpec("shots", partial(ScanStage, config.probe, config.shots, limits, hidden)),
    ]


def source_reject(reject: Reject) -> Outcome:
    """The end of a part whose file could not be used."""
    return Outcome(rejects=(replace(reject, level="source"),))

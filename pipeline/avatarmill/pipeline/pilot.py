"""A pilot: the stages on a stratified sample of the list, and what they say of the whole of it."""

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatarmill.pipeline.estimate import divide, draw, share, total
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.foreseen import Estimate, Pilot
from avatarmill.pipeline.passes import on_workers
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.stages import StageConfig, curation_stages
from avatarmill.pipeline.types import Source
from avatarmill.pipeline.watch import Watch
from avatarmill.pipeline.work import (
    Outcome,
    Scanned,
    Work,
    longest_first,
    seconds_of_video,
    shot_parts,
)

GPU_STAGES = frozenset({"people"})
"""Stages that hold a share of a GPU when there are GPU workers."""


@dataclass(slots=True)
class Measured:
    """What one source of the sample took and gave."""

    seconds: Counter[str]
    """Worker seconds by stage."""
    clips: int = 0
    bytes: int = 0
    """Of its samples in the shard."""


def run_pilot(
    sources: Sequence[Source],
    count: int,
    config: StageConfig,
    fetch: FetchConfig,
    workers: Workers,
    recipe: str,
    watch: Watch,
    seed: int = 0,
) -> Pilot:
    """Runs the stages on about `count` of the sources. Writes no clips."""
    sizes = np.array([_size(source) for source in sources], np.float64)
    strata = divide(sizes, count)
    rows = draw(strata, count, seed)
    chosen = [sources[int(row)] for row in rows]
    found = _measure(chosen, config, fetch, workers, watch)
    taken = [found[source.uri] for source in chosen]

    def sum_of(values: Sequence[float]) -> Estimate:
        return total(strata, rows, sizes, values)

    stages = sorted({name for one in taken for name in one.seconds})
    estimates = {f"seconds.{s}": sum_of([one.seconds[s] for one in taken]) for s in stages}
    estimates["worker_seconds"] = sum_of([sum(one.seconds.values()) for one in taken])
    on_gpu = [sum(s for name, s in one.seconds.items() if name in GPU_STAGES) for one in taken]
    estimates["gpu_seconds"] = sum_of(on_gpu).times(workers.gpu_share if workers.gpu else 0.0)
    estimates["clips"] = sum_of([one.clips for one in taken])
    estimates["bytes"] = sum_of([one.bytes for one in taken])
    estimates["yield"] = share(strata, rows, [one.clips > 0 for one in taken])
    return Pilot(recipe, len(sources), len(rows), estimates)


def _size(source: Source) -> int:
    """Bytes of a source as far as they are known without fetching it."""
    if source.size_bytes or not os.path.isfile(source.path):
        return source.size_bytes
    return os.path.getsize(source.path)


def _measure(
    sources: Sequence[Source],
    config: StageConfig,
    fetch: FetchConfig,
    workers: Workers,
    watch: Watch,
) -> dict[str, Measured]:
    """By URI: both passes over the sources, nothing kept but figures."""
    found: defaultdict[str, Measured] = defaultdict(lambda: Measured(Counter()))
    works = [Work(source) for source in sources]
    sizes = {source.uri: float(_size(source)) for source in sources}
    watch.progress.phase("pilot scan", len(works), sizes)
    parts: list[list[Work]] = []
    for work in on_workers(works, scan_stages(config, fetch), workers, watch):
        found[work.source.uri].seconds.update(work.seconds)
        if isinstance(work.content, Scanned):
            parts.append(shot_parts(work.source, work.content.scan))
    shots = longest_first([parts])
    watch.progress.phase("pilot clips", len(shots), seconds_of_video(shots))
    for work in on_workers(shots, curation_stages(config, fetch), workers, watch):
        assert isinstance(work.content, Outcome)
        one = found[work.source.uri]
        one.seconds.update(work.seconds)
        one.clips += len(work.content.clips)
        one.bytes += work.content.clip_bytes
    return found

"""The two passes of a job over its sources, on the workers of its configuration."""

from collections.abc import Iterator, Sequence

from avatarmill.infra.cluster import cluster_cpus, start_ray
from avatarmill.pipeline.board import Board
from avatarmill.pipeline.executor import StageSpec, run_on_ray
from avatarmill.pipeline.pools import Workers, in_pools
from avatarmill.pipeline.scans import Scans
from avatarmill.pipeline.shots import Scan
from avatarmill.pipeline.types import Source
from avatarmill.pipeline.watch import Watch
from avatarmill.pipeline.work import Outcome, Work, shot_parts


def on_workers(
    works: Sequence[Work], stages: Sequence[StageSpec], workers: Workers, watch: Watch
) -> Iterator[Work]:
    """The works through the stages; Ray is started or joined when there are any."""
    if not works:
        return
    start_ray()
    watch.board = watch.board or Board()
    pools = in_pools(stages, workers, cluster_cpus())
    for work in run_on_ray(works, pools, watch.board):
        watch.progress.part(work)
        yield work
    # Or the end of the driver kills them before they have deleted what they fetched.
    watch.board.wait_until_left()


def scanned_parts(source: Source, scans: Scans) -> list[Work]:
    """The shots of a source for the second pass, or how it ended in the first."""
    found = scans.found.of(source)
    if isinstance(found, Scan):
        return shot_parts(source, found)
    return [Work(source, Outcome(rejects=(found,)) if found else scans.errors[source.uri])]

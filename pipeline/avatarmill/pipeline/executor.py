"""Runs stages over parts of sources with Ray Data: the one module here that knows Ray Data."""

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from avatarmill.infra.cluster import Pool, check_pools
from avatarmill.infra.exits import end_for_certain
from avatarmill.pipeline.board import Board, Desk
from avatarmill.pipeline.retry import attempts
from avatarmill.pipeline.types import Source
from avatarmill.pipeline.work import Arrived, Content, Outcome, Stage, Work

logger = logging.getLogger(__name__)

_MOST_DEATHS = 5
"""Ray starts a dead worker again and gives it the same part, for ever: after so many deaths the
part is given up, for none of the processes that may die of an item is the worker itself."""
_MOST_BLOCKS = 10_000
"""Input blocks of a dataset: Ray keeps an object and a task for each."""


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as the executor sees it."""

    name: str
    build: Callable[[], Stage]
    """Called once in each worker process; loads models, starts supervised children."""


@dataclass(frozen=True, slots=True)
class StagePool:
    """Stages that share worker processes: what one hands to the next never leaves its worker."""

    stages: tuple[StageSpec, ...]
    pool: Pool
    """How many workers, and what each reserves."""


def apply_stage(name: str, stage: Stage, work: Work) -> list[Work]:
    """One stage on one part, with the time it took.

    This is the one place that catches everything: a bug in a stage costs the source it met
    (state `failed`, with the traceback), never the job.
    """
    if isinstance(work.content, Outcome):
        return [work]
    started = time.perf_counter()
    try:
        contents = list(attempts(lambda: stage(work.source, work.content), name))
        assert contents, f"stage {name} returned nothing for {work.source.uri}"
    except Exception:
        contents = [Outcome(error=f"{name}: {traceback.format_exc()}")]
    spent = time.perf_counter() - started
    share = work.share / len(contents)
    # The time goes to the first part only, so that sums over parts stay true.
    first = {**work.seconds, name: spent}
    return [
        Work(_source(work, content), content, share, first if number == 0 else {})
        for number, content in enumerate(contents)
    ]


def _source(work: Work, content: Content) -> Source:
    """The source of a part that a stage made: what it found out about the bytes stays with it."""
    return content.source if isinstance(content, Arrived) else work.source


def run_here(works: Iterable[Work], specs: Sequence[StageSpec]) -> Iterator[Work]:
    """The stages in a plain loop in this process: for tests, debugging and overhead figures."""
    with ExitStack() as stack:
        stages = [(spec.name, stack.enter_context(closing(spec.build()))) for spec in specs]
        for work in works:
            parts = [work]
            for name, stage in stages:
                parts = [out for part in parts for out in apply_stage(name, stage, part)]
            yield from parts


class _Worker:
    """The stages of a pool inside a Ray actor. Rows carry one of our own `Work` records."""

    def __init__(self, stages: Sequence[StageSpec], board: Board | None) -> None:
        end_for_certain()
        self._stages: list[tuple[str, Stage]] = []
        self._desk = Desk(board)
        for spec in stages:
            self._stages.append((spec.name, spec.build()))

    def __del__(self) -> None:
        # Ray Data has no other word for a worker that has no more work. One that is killed leaves
        # its children to their deadline and its fetched file to the next worker on the machine.
        for _, stage in self._stages:
            stage.close()
        self._desk.close()

    def __call__(self, row: dict[str, Work]) -> list[dict[str, Work]]:
        work = row["work"]
        with self._desk.item(f"{self._stages[0][0]} {work.source.uri} {work.span}") as deaths:
            if deaths >= _MOST_DEATHS:
                error = f"worker: {deaths} worker processes died at this part"
                return [{"work": replace(work, content=Outcome(error=error))}]
            parts = [work]
            for name, stage in self._stages:
                self._desk.at(name, work.source.uri)
                parts = [out for part in parts for out in apply_stage(name, stage, part)]
        return [{"work": part} for part in parts]


def run_on_ray(
    works: Sequence[Work], pools: Sequence[StagePool], board: Board | None = None
) -> Iterator[Work]:
    """The stages as a streaming Ray Data plan, one actor pool after the other; parts as they end.

    Ray must be initialised. Work is handed out in the order given. The order of results depends on
    timing; callers pack by key.

    Raises:
        ValueError: the pools do not fit the cluster.
    """
    import ray.data

    check_pools([pool.pool for pool in pools])
    dataset: Any = ray.data.from_items(
        [{"work": work} for work in works], override_num_blocks=min(len(works), _MOST_BLOCKS)
    )
    for pool in pools:
        dataset = dataset.flat_map(
            _Worker,
            fn_constructor_args=(pool.stages, board),
            num_cpus=pool.pool.num_cpus,
            num_gpus=pool.pool.num_gpus or None,
            memory=pool.pool.memory_bytes or None,
            # One part in a worker's hands and one at its door: what waits, waits in the input.
            compute=ray.data.ActorPoolStrategy(
                size=min(pool.pool.workers, len(works)), max_tasks_in_flight_per_actor=2
            ),
        )
    for row in dataset.iter_rows():
        yield row["work"]

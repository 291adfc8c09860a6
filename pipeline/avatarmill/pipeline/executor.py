"""Runs stages over parts of sources with Ray Data: the one module here that knows Ray Data."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from avatarmill.infra.cluster import check_reservation
from avatarmill.pipeline.work import Outcome, Stage, Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as the executor sees it: how to build it in a worker, and what a worker holds."""

    name: str
    build: Callable[[], Stage]
    """Called once in each worker process; loads models, starts supervised children."""
    num_cpus: float
    num_workers: int = 1
    num_gpus: float = 0.0


def apply_stage(name: str, stage: Stage, work: Work) -> list[Work]:
    """One stage on one part, with the time it took.

    This is the one place that catches everything: a bug in a stage costs the source it met
    (state `failed`, with the traceback), never the job.
    """
    if isinstance(work.content, Outcome):
        return [work]
    started = time.perf_counter()
    try:
        contents = list(stage(work.source, work.content))
        assert contents, f"stage {name} returned nothing for {work.source.uri}"
    except Exception:
        contents = [Outcome(error=f"{name}: {traceback.format_exc()}")]
    spent = time.perf_counter() - started
    share = work.share / len(contents)
    # The time goes to the first part only, so that sums over parts stay true.
    first = {**work.seconds, name: spent}
    return [
        Work(work.source, content, share, first if number == 0 else {})
        for number, content in enumerate(contents)
    ]


def run_here(works: Sequence[Work], specs: Sequence[StageSpec]) -> Iterator[Work]:
    """The stages in a plain loop in this process: for tests, debugging and overhead figures."""
    with ExitStack() as stack:
        stages = [(spec.name, stack.enter_context(closing(spec.build()))) for spec in specs]
        for work in works:
            parts = [work]
            for name, stage in stages:
                parts = [out for part in parts for out in apply_stage(name, stage, part)]
            yield from parts


class _StageActor:
    """A stage inside a Ray actor. Rows carry one of our own `Work` records."""

    def __init__(self, spec: StageSpec) -> None:
        self._name = spec.name
        self._stage = spec.build()

    def __call__(self, row: dict[str, Work]) -> list[dict[str, Work]]:
        parts = apply_stage(self._name, self._stage, row["work"])
        return [{"work": part} for part in parts]


def run_on_ray(works: Sequence[Work], specs: Sequence[StageSpec]) -> Iterator[Work]:
    """The stages as a streaming Ray Data plan, one actor pool a stage; parts as they finish.

    Ray must be initialised. The order of results depends on timing; callers pack by key.
    """
    import ray.data

    check_reservation({spec.name: spec.num_cpus * spec.num_workers for spec in specs})
    dataset: Any = ray.data.from_items(
        [{"work": work} for work in works], override_num_blocks=len(works)
    )
    for spec in specs:
        dataset = dataset.flat_map(
            _StageActor,
            fn_constructor_args=(spec,),
            num_cpus=spec.num_cpus,
            num_gpus=spec.num_gpus or None,
            compute=ray.data.ActorPoolStrategy(size=spec.num_workers),
        )
    for row in dataset.iter_rows():
        yield row["work"]

"""Runs a list of stages over the sources with Ray Data: the one module here that knows Ray."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from avatarmill.pipeline.types import Source
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


def run_here(sources: Sequence[Source], specs: Sequence[StageSpec]) -> Iterator[Work]:
    """The stages in a plain loop in this process: for tests, debugging and overhead figures."""
    stages = [(spec.name, spec.build()) for spec in specs]
    for source in sources:
        parts = [Work(source)]
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


def check_resources(specs: Sequence[StageSpec], cluster: dict[str, float]) -> None:
    """Refuses pools that would reserve every CPU: Ray Data 2.60 then waits without a word.

    Raises:
        ValueError: the pools want more than the cluster has, less one CPU for Ray Data's tasks.
    """
    wanted = sum(spec.num_cpus * spec.num_workers for spec in specs)
    limit = cluster.get("CPU", 0.0) - 1
    if wanted > limit:
        pools = ", ".join(f"{s.name} {s.num_workers} x {s.num_cpus:g}" for s in specs)
        raise ValueError(
            f"the stages reserve {wanted:g} CPUs ({pools}) but only {limit:g} may be reserved of "
            f"{limit + 1:g}; lower `workers` or add CPUs to the cluster"
        )


def run_on_ray(sources: Sequence[Source], specs: Sequence[StageSpec]) -> Iterator[Work]:
    """The stages as a streaming Ray Data plan, one actor pool a stage; parts as they finish.

    Ray must be initialised. The order of results depends on timing; callers pack by key.
    """
    import ray
    import ray.data

    check_resources(specs, ray.cluster_resources())
    dataset: Any = ray.data.from_items(
        [{"work": Work(source)} for source in sources], override_num_blocks=len(sources)
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


def start_ray(num_cpus: int | None = None) -> None:
    """Joins the cluster of RAY_ADDRESS or starts a local Ray, quietly, unless one is running."""
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # One row a block: a part moves on as soon as it is done instead of waiting for a full block.
    context.target_max_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.ERROR)

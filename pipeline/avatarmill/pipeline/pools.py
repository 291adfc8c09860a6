"""How many worker processes a job has, and which stages share one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from avatarmill.infra.cluster import Pool, cpu_share
from avatarmill.pipeline.executor import StagePool, StageSpec


@dataclass(frozen=True, slots=True)
class Workers:
    """How many processes work on each part of the job, and what each reserves of the cluster."""

    cpu: int = 0
    """Worker processes; 0 for one a CPU of the cluster. Each keeps about one CPU busy."""
    gpu: int = 0
    """Workers that find people and masks on a share of a GPU, in a pool of their own; frames then
    travel through Ray's object store to the others. 0: every worker does all."""
    gpu_share: float = 0.25
    """Share of a GPU that each of those reserves."""
    memory_gb: float = 0.0
    """Memory each worker reserves, GiB, so that none is put where it has no room."""

    def __post_init__(self) -> None:
        if min(self.cpu, self.gpu) < 0 or self.memory_gb < 0:
            raise ValueError(f"workers: {self} must not be negative")
        if not 0 < self.gpu_share <= 8:
            raise ValueError(
                f"workers.gpu_share: {self.gpu_share:g} must be above 0 and at most 8 GPUs"
            )

    def pool(self, name: str, cpus: int) -> Pool:
        """The workers without a GPU on a cluster of `cpus`."""
        count = self.cpu or cpus
        share = cpu_share(count + self.gpu, cpus)
        return Pool(name, count, share, 0.0, round(self.memory_gb * 2**30))


def in_pools(stages: Sequence[StageSpec], workers: Workers, cpus: int) -> list[StagePool]:
    """Stages laid on worker pools of a cluster of `cpus`.

    Without GPUs all stages share one pool: a worker takes a part from its file to its end, so
    decoded frames never enter the object store and all cores have work until the last part.
    """
    shared = workers.pool(stages[-1].name, cpus)
    if not workers.gpu or len(stages) == 1:
        return [StagePool(tuple(stages), shared)]
    gpu = replace(shared, name=stages[0].name, workers=workers.gpu, num_gpus=workers.gpu_share)
    return [StagePool((stages[0],), gpu), StagePool(tuple(stages[1:]), shared)]

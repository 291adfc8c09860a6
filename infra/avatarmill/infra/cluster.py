"""Ray as our jobs use it: how it is started, and the reservations it cannot survive."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

_SHARES = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers of one kind and what each of them reserves."""

    name: str
    workers: int
    num_cpus: float
    num_gpus: float = 0.0
    memory_bytes: int = 0
    """Of each worker with its children; 0 reserves none."""

    def each(self) -> dict[str, float]:
        """The reservation of one worker in Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory_bytes)}


def start_ray(num_cpus: int | None = None) -> None:
    """Joins the cluster of RAY_ADDRESS or starts a local Ray, quietly, unless one is running."""
    import ray
    import ray.data

    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS") or "local"
        # Ray's own C++ layer logs our actor pools' constructor arguments as an error.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(
            # Said outright: without it Ray joins any cluster that once was started on the machine.
            address=address,
            # A running cluster has the CPUs it has, and Ray refuses to be told.
            num_cpus=num_cpus if address == "local" else None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        if address == "local":
            # It reads all logs over and over for drivers that show them, which ours does not, and
            # takes 1 % of a core. Ray 2.60 has no public way to do without.
            ray._private.worker._global_node.kill_log_monitor(check_alive=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # One row a block: a row moves on as soon as it is done instead of waiting for a full block.
    context.target_max_block_size = 1
    # The deadlines of our children are the limit: half an hour at one long film is no fault.
    context.execution_no_progress_timeout_s = -1
    # A worker killed while it starts is replaced; one that always dies there ends the job.
    context.max_consecutive_actor_init_deaths = 8
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def cluster_cpus() -> int:
    """CPUs of the running cluster, all nodes together."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def cpu_share(workers: int, cpus: int) -> float:
    """CPUs that each of `workers` reserves on a cluster of `cpus`: half of what it uses.

    Ray Data 2.60 waits without a word when its actors reserve every CPU, and an actor of a node
    that died waits for room elsewhere. With half the reservation, half the nodes can be lost and
    the others take over all workers.

    >>> cpu_share(2, 2), cpu_share(63, 64), cpu_share(1, 8)
    (0.25, 0.5, 0.5)
    """
    most = max(cpus - 1, 0.5) / workers
    return floor(_SHARES * min(1.0, most) / 2) / _SHARES


def check_reservation(pools: Mapping[str, float]) -> None:
    """Refuses actor pools that reserve every CPU: Ray Data 2.60 then waits without a word.

    Args:
        pools: CPUs that each pool of a job reserves, all its workers together.

    Raises:
        ValueError: they want more than the cluster has, less one CPU for Ray Data's own tasks.
    """
    import ray

    wanted = sum(pools.values())
    limit = ray.cluster_resources().get("CPU", 0.0) - 1
    if wanted > limit:
        shares = ", ".join(f"{name} {cpus:g}" for name, cpus in pools.items())
        raise ValueError(
            f"workers: the stages reserve {wanted:g} CPUs ({shares}), but of the {limit + 1:g} of "
            f"this cluster only {limit:g} may be reserved; lower --workers or add CPUs"
        )


def check_pools(pools: Sequence[Pool]) -> None:
    """Refuses pools that the nodes of the running cluster cannot hold all at once.

    Raises:
        ValueError: naming the worker that finds no node, and what the nodes have.
    """
    import ray

    check_reservation({pool.name: pool.workers * pool.num_cpus for pool in pools})
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fit_pools(pools, nodes)


def fit_pools(pools: Sequence[Pool], nodes: Sequence[Mapping[str, float]]) -> None:
    """Places every worker on the first node with room, the hungriest first.

    Args:
        pools: to be held all at once.
        nodes: resources of each node in Ray's names.

    Raises:
        ValueError: a worker finds no node.
    """
    free = [dict(node) for node in nodes]
    for pool in sorted(pools, key=lambda pool: (-pool.num_gpus, -pool.memory_bytes)):
        for number in range(pool.workers):
            if not any(_take(node, pool.each()) for node in free):
                raise ValueError(_no_room(pool, number, nodes))


def _take(node: dict[str, float], wanted: Mapping[str, float]) -> bool:
    """Takes what is wanted from a node's free resources, or nothing when it has too little."""
    if any(node.get(name, 0.0) + 1e-9 < amount for name, amount in wanted.items()):
        return False
    for name, amount in wanted.items():
        node[name] = node.get(name, 0.0) - amount
    return True


def _no_room(pool: Pool, placed: int, nodes: Sequence[Mapping[str, float]]) -> str:
    each = ", ".join(_amount(name, amount) for name, amount in pool.each().items() if amount)
    have = "; ".join(
        ", ".join(_amount(name, node.get(name, 0.0)) for name in ("CPU", "GPU", "memory"))
        for node in nodes
    )
    return (
        f"workers: the pool {pool.name!r} wants {pool.workers} workers with {each} each, but the "
        f"cluster has room for {placed} beside the other pools (nodes: {have}); lower the number "
        "of workers or what each reserves, or add nodes"
    )


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB" if name == "memory" else f"{amount:g} {name}"

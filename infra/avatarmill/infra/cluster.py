"""Ray as our jobs use it: how it is started, and the reservation it cannot survive."""

import logging
import os
from collections.abc import Mapping


def start_ray(num_cpus: int | None = None) -> None:
    """Joins the cluster of RAY_ADDRESS or starts a local Ray, quietly, unless one is running."""
    import ray
    import ray.data

    if not ray.is_initialized():
        # Ray's own C++ layer logs our actor pools' constructor arguments as an error.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # One row a block: a row moves on as soon as it is done instead of waiting for a full block.
    context.target_max_block_size = 1
    logging.getLogger("ray.data").setLevel(logging.ERROR)


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

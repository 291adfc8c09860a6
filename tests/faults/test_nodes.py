"""Two Ray nodes on one machine run the job, and one of them dies half-way."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from avatarmill.records.commit import verify

pytestmark = [
    pytest.mark.faults,
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture()
def cluster() -> Iterator[Any]:
    """A head and a node of two CPUs each; no driver of this process is connected."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    cluster.add_node(num_cpus=2)
    yield cluster
    cluster.shutdown()


def test_a_node_that_dies_leaves_no_trace(
    cluster: Any, new_job: Callable[[int], Any], undisturbed: tuple[dict[str, bytes], float]
) -> None:
    (node,) = cluster.worker_nodes
    job = new_job(4)
    job.env = {"RAY_ADDRESS": cluster.address}
    job.start()
    job.until(lambda: (job.clips / "sources.parquet").exists())
    # Three shots for three workers, of which one or two are here.
    job.until(lambda: _workers_on(node) or not job.running())
    assert job.running(), job.log()
    cluster.remove_node(node, allow_graceful=False)
    assert job.wait() == 0, job.log()
    assert job.files() == undisturbed[0]
    assert verify(job.clips) == []


def _workers_on(node: Any) -> list[int]:
    """Process ids of our workers among the descendants of the node's raylet."""
    import psutil

    (raylet,) = node.all_processes["raylet"]
    try:
        family = psutil.Process(raylet.process.pid).children(recursive=True)
        return [p.pid for p in family if " ".join(p.cmdline()).startswith("ray::MapWorker")]
    except psutil.Error:
        return []

"""Files that start jobs on clusters: valid for those who read them, and quoted."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml

from avatarmill.infra.deploy import (
    DeployConfig,
    Kind,
    MachinesConfig,
    NodeConfig,
    SlurmConfig,
    render,
    run,
)

AWKWARD = '/data/it\'s a "list"; $(touch x) #1.txt'
TWO_MACHINES = MachinesConfig(head="10.0.0.1", workers=("10.0.0.2",))


def deploy(kind: Kind, **changes: Any) -> DeployConfig:
    """Two nodes with a GPU, and a list whose path needs quotes."""
    values: dict[str, Any] = {
        "out": Path("unused"),
        "videos": AWKWARD,
        "run": "/data/run",
        "options": "--workers.cpu 4",
        "nodes": NodeConfig(count=2, cpus=8, memory_gb=32, gpus=1),
        "machines": TWO_MACHINES,
    }
    return DeployConfig(kind, **(values | changes))


def test_a_rayjob_asks_for_every_node_and_names_the_job() -> None:
    job = yaml.safe_load(render(deploy("kuberay")))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert shlex.split(job["spec"]["entrypoint"]) == deploy("kuberay").command
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 1
    for group in (cluster["headGroupSpec"], workers):
        # Kubernetes takes rayStartParams and resource quantities as strings only.
        assert group["rayStartParams"]["num-cpus"] == "8"
        (container,) = group["template"]["spec"]["containers"]
        wanted = {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
        assert container["resources"] == {"requests": wanted, "limits": wanted}
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def test_one_node_needs_no_workers_and_no_gpu_is_asked_for() -> None:
    job = yaml.safe_load(render(deploy("kuberay", nodes=NodeConfig(count=1))))
    assert "workerGroupSpecs" not in job["spec"]["rayClusterSpec"]
    assert "nvidia.com/gpu" not in render(deploy("kuberay", nodes=NodeConfig(count=1)))


def test_a_ray_cluster_file_passes_rays_own_schema() -> None:
    cluster = yaml.safe_load(render(deploy("ray")))
    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    assert cluster["provider"]["worker_ips"] == ["10.0.0.2"]
    for start in (*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]):
        subprocess.run(["bash", "-n", "-c", start], check=True)


def test_a_slurm_script_is_bash_and_asks_for_every_node() -> None:
    script = render(deploy("slurm", slurm=SlurmConfig(partition="gpu", hours=48)))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    asked = dict(re.findall(r"#SBATCH --([a-z-]+)=(\S+)", script))
    assert asked["nodes"] == "2" and asked["gpus-per-node"] == "1" and asked["mem"] == "32G"
    assert asked["time"] == "48:00:00" and asked["partition"] == "gpu" and "account" not in asked
    assert shlex.split(script.rstrip().splitlines()[-1]) == deploy("slurm").command


def test_the_file_is_written_with_its_folder(tmp_path: Path) -> None:
    config = deploy("slurm", out=tmp_path / "deep" / "job.sh")
    assert run(config) == 0
    assert config.out.read_text() == render(config)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-a", "a-", "a" * 41, "a\n"])
def test_a_name_that_kubernetes_would_refuse(name: str) -> None:
    with pytest.raises(ValueError, match="small letters, digits and dashes"):
        deploy("kuberay", name=name)


def test_machines_must_be_as_many_as_nodes() -> None:
    with pytest.raises(ValueError, match=r"nodes.count is 3, .*names 1; name one head and count"):
        deploy("ray", nodes=NodeConfig(count=3))


def test_sizes_out_of_range() -> None:
    with pytest.raises(ValueError, match="nodes.cpus: 1 must be at least 2"):
        NodeConfig(cpus=1)
    with pytest.raises(ValueError, match="slurm.port: 80 must be from 1024 to 65535"):
        SlurmConfig(port=80)
    with pytest.raises(ValueError, match="slurm.account: .* must be letters"):
        SlurmConfig(account="me\nrm -r /")

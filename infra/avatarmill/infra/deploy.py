"""Renders what starts a job on a cluster: a KubeRay RayJob, a Ray cluster file or a Slurm script.

One typed configuration describes the nodes, the storage they share and the job; the kind decides
which file comes out. Values are quoted for the file they go to, so a path with a space or a quote
stays one value.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

import jinja2

Kind = Literal["kuberay", "ray", "slurm"]
TEMPLATES = {"kuberay": "rayjob.yaml.j2", "ray": "ray_cluster.yaml.j2", "slurm": "slurm.sh.j2"}
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_QUEUE = re.compile(r"[\w.,-]*")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The machines, all of one size. The first one carries Ray's head and the driver."""

    count: int = 4
    cpus: int = 16
    memory_gb: int = 64
    gpus: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("cpus", 2), ("memory_gb", 8), ("gpus", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"nodes.{name}: {getattr(self, name)} must be at least {least}")


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """Where the pods live and what they mount."""

    namespace: str = "default"
    image: str = "avatarmill:0.1.0"
    """Built from infra/docker/Dockerfile and pushed where the cluster pulls from."""
    claim: str = "avatarmill-data"
    """A PersistentVolumeClaim that many nodes can mount (ReadWriteMany)."""
    mount: str = "/data"
    """Where the claim appears in every pod; videos and out lie below it, or are URLs."""


@dataclass(frozen=True, slots=True)
class MachinesConfig:
    """Machines that Ray reaches with ssh (Ray's `local` provider)."""

    user: str = "ubuntu"
    key: str = "~/.ssh/id_ed25519"
    head: str = ""
    """Address of the first machine."""
    workers: tuple[str, ...] = ()
    """Addresses of the others."""


@dataclass(frozen=True, slots=True)
class SlurmConfig:
    """What the queue wants to know."""

    partition: str = ""
    account: str = ""
    hours: int = 24
    port: int = 6379
    """Ray's port on the first node; two jobs that share a node need two ports."""

    def __post_init__(self) -> None:
        if self.hours < 1:
            raise ValueError(f"slurm.hours: {self.hours} must be at least 1")
        if not 1024 <= self.port <= 65535:
            raise ValueError(f"slurm.port: {self.port} must be from 1024 to 65535")
        for name in ("partition", "account"):
            # Lines for the queue are comments to bash: there is no way to quote in them.
            if not _QUEUE.fullmatch(getattr(self, name)):
                raise ValueError(
                    f"slurm.{name}: {getattr(self, name)!r} must be letters, digits and _ . , -"
                )


@dataclass(frozen=True, slots=True)
class DeployConfig:
    """Which kind of file, for which job, on which machines."""

    kind: Kind
    out: Path
    """The file to write."""
    videos: str
    """The job's list or folder, as the nodes see it."""
    run: str
    """The job's run folder, as the nodes see it."""
    options: str = ""
    """More options of `avatarmill curate`, as one would type them: --options="--workers.cpu 4"."""
    name: str = "avatarmill"
    environments: str = "/opt/avatarmill"
    """Folder of the two environments, .venv and .venv-mediapipe, on every node."""
    nodes: NodeConfig = field(default_factory=NodeConfig)
    kubernetes: KubernetesConfig = field(default_factory=KubernetesConfig)
    machines: MachinesConfig = field(default_factory=MachinesConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name: {self.name!r} must be at most 40 small letters, digits and dashes, "
                "begin with a letter and end without a dash"
            )
        if self.kind == "ray":
            machines = 1 + len(self.machines.workers)
            if not self.machines.head or machines != self.nodes.count:
                raise ValueError(
                    f"machines: nodes.count is {self.nodes.count}, but machines.head is "
                    f"{self.machines.head!r} and machines.workers names "
                    f"{len(self.machines.workers)}; name one head and count - 1 workers"
                )

    @property
    def command(self) -> list[str]:
        """The job's command line, word by word."""
        words = ["avatarmill", "curate", "--videos", self.videos, "--out", self.run]
        return [*words, *shlex.split(self.options)]


def render(config: DeployConfig) -> str:
    """The text of the file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["shell"] = shlex.quote
    # JSON is YAML, and json.dumps knows how to quote.
    environment.filters["yaml"] = json.dumps
    text = environment.get_template(TEMPLATES[config.kind]).render(
        config=config,
        nodes=config.nodes,
        command=shlex.join(config.command),
        ray_version=metadata.version("ray"),
    )
    return text.rstrip() + "\n"


def run(config: DeployConfig) -> int:
    """Writes the file; the job of `avatarmill deploy`."""
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(render(config))
    return 0

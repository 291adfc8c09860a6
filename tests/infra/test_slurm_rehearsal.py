"""The Slurm script run for real, on two Ray nodes of this machine; only Slurm itself is played."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pyarrow.parquet as pq
import pytest

from avatarmill.infra.deploy import DeployConfig, NodeConfig, SlurmConfig, render

ROOT = Path(__file__).resolve().parents[2]
# Slurm's tools, as far as the script uses them: every task runs here.
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = "#!/bin/bash\nprintf '%s\\n' {0} {0}\n"


def own_address() -> str:
    """The address other machines would use; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def play_slurm(folder: Path) -> Path:
    """A folder of programs for the path, named as Slurm's."""
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL.format(own_address()))):
        program = folder / name
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_script_brings_up_two_nodes_runs_the_job_and_takes_them_down(tmp_path: Path) -> None:
    videos = tmp_path / "some videos"
    videos.mkdir()
    source = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([ffmpeg, "-v", "error", *source, videos / "nobody.mp4"], check=True)
    config = DeployConfig(
        "slurm",
        out=tmp_path / "job.sh",
        videos=str(videos),
        run=str(tmp_path / "run"),
        environments=str(ROOT),
        nodes=NodeConfig(count=2, cpus=3),
        slurm=SlurmConfig(port=free_port()),
    )
    environment = os.environ | {
        "PATH": f"{play_slurm(tmp_path / 'bin')}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        ["bash", "-c", render(config)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=420,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Ray runtime started.") == 2
    (state,) = pq.read_table(tmp_path / "run" / "clips" / "ledger.parquet").to_pylist()
    assert (state["state"], state["reason"]) == ("rejected", "no_person")
    left = subprocess.run(["pgrep", "-f", f"--port={config.slurm.port}"], capture_output=True)
    assert not left.stdout

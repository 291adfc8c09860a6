"""A disk that is full for real: the job stops and says so; with room again it ends as any other."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SCRIPT = """
set -u
mkdir -p "$OUT"
mount -t tmpfs -o size="$SIZE"k none "$OUT"
"$@"; echo $? > "$CODES"
mount -o remount,size=512m "$OUT"
"$@"; echo $? >> "$CODES"
cp -a "$OUT/clips" "$COPY"
"""
"""Mounts a small disk in a namespace of its own, which goes with the shell."""


@pytest.fixture(scope="module")
def own_mounts() -> list[str]:
    """The command that may mount: as root, or as root of a user namespace."""
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        if shutil.which("unshare") is None:
            break
        tried = [*command, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(tried, capture_output=True).returncode == 0:
            return command
    pytest.skip("neither root nor user namespaces may mount a tmpfs here")


@pytest.mark.slow
def test_a_full_disk_stops_the_job_and_nothing_is_lost(
    new_job: Callable[[int], Any],
    undisturbed: tuple[dict[str, bytes], float],
    own_mounts: list[str],
    tmp_path: Path,
) -> None:
    expected, _ = undisturbed
    job = new_job(2)
    kilobytes = sum(map(len, expected.values())) * 6 // 10 >> 10
    codes, copy = tmp_path / "codes", tmp_path / "copy"
    env = {"OUT": job.out, "SIZE": kilobytes, "CODES": codes, "COPY": copy}
    with (tmp_path / "run.log").open("wb") as errors:
        subprocess.run(
            [*own_mounts, "sh", "-c", SCRIPT, "sh", *job.command()],
            env={**os.environ, **{name: str(value) for name, value in env.items()}},
            stderr=errors,
            timeout=500,
        )
    log = (tmp_path / "run.log").read_text()
    assert codes.read_text().split() == ["1", "0"], log
    assert "free some space and run the same command again" in log
    assert "Traceback" not in log
    assert job.files(copy) == expected


@pytest.mark.parametrize("name", ["curate", "cut"])
def test_a_full_disk_is_said_in_one_line(
    job_type: type[Any], own_mounts: list[str], tmp_path: Path, name: str
) -> None:
    """The same on a disk without room for the configuration: no Ray is started."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    job = job_type(tmp_path / "videos", tmp_path / "run")
    command = [name if word == "curate" else word for word in job.command()]
    mount = f"mkdir -p {job.out} && mount -t tmpfs -o size=4k none {job.out} && "
    mount += f'head -c 4096 /dev/zero > {job.out}/full && exec "$@"'
    done = subprocess.run(
        [*own_mounts, "sh", "-c", mount, "sh", *command], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no space left for" in done.stderr
    assert "Traceback" not in done.stderr

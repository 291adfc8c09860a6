"""What every test gets: its own random state, few threads, and clear skips."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Before numpy, torch and numba start their pools. Tests start processes of their own (Ray, the
# supervised children, torchrun), and each of those would otherwise take every core.
THREADS = str(min(2, os.cpu_count() or 1))
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)
os.environ.setdefault("NUMBA_NUM_THREADS", THREADS)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
LONGEST = (
    "test_kills.py",
    "test_job.py",
    "test_notebooks.py",
    "test_executor.py",
    "test_chain.py",
    "test_web_sources.py",
    "test_child_faults.py",
    "test_full_disk.py",
    "test_cut.py",
    "test_diffusion.py",
    "test_people.py",
    "test_demo.py",
)
"""Files whose tests take half a minute and more, the longest first."""
VIDEOS = Path(os.environ.get("AVATARMILL_VIDEOS", ROOT.parent / "shared" / "videos"))


# A deadline of an example is a timed test, and machines are shared.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def keep_random_state() -> Iterator[None]:
    """Give each test the same random state and put the old one back after it."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is None:
        yield
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    random.setstate(python)
    np.random.set_state(numpy)


S3_SERVER = """
import sys, time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """URL of a bucket on an S3 server of loopback, to which s3:// leads in every process."""
    server = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None and server.stdout is not None
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from avatarmill.records.store import file_system

        file_system("s3").mkdir("clips-bucket")
        yield "s3://clips-bucket"
    server.communicate(timeout=20)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of real web clips; tests that use it are marked `real`."""
    return VIDEOS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A long file that begins last is waited for by all other processes: they come first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, or fail where it was promised that it can."""
    if item.get_closest_marker("real") and not VIDEOS.is_dir():
        pytest.skip(f"no folder of real videos at {VIDEOS}; AVATARMILL_VIDEOS names another")
    if item.get_closest_marker("gpu") and not _has_gpu():
        if os.environ.get("AVATARMILL_REQUIRE_GPU") == "1":
            pytest.fail("AVATARMILL_REQUIRE_GPU=1, and there is no CUDA device", pytrace=False)
        pytest.skip("no CUDA device")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()

"""The executor: the same outcomes in a plain loop and on Ray, and one bug costs one source."""

import errno
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.infra.cluster import Pool, check_pools, cpu_share, fit_pools, start_ray
from avatarmill.pipeline import retry
from avatarmill.pipeline.board import Board
from avatarmill.pipeline.children.supervise import ChildKilled
from avatarmill.pipeline.executor import StagePool, StageSpec, run_here, run_on_ray
from avatarmill.pipeline.retry import attempts
from avatarmill.pipeline.types import Probe, Shot, Source
from avatarmill.pipeline.work import Content, Outcome, ShotSpan, Work, longest_first
from avatarmill.records.index import Record

PROBE = Probe(1.0, 10.0, 10, 64, 64, 0, "h264", "mp4", 0.0)


class Split:
    """As many parts as the source has bytes."""

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        return [ShotSpan(PROBE, Shot(i, i + 1)) for i in range(source.size_bytes)]

    def close(self) -> None:
        pass


class Finish:
    """A clip for each part; a bug in the second part of one source."""

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        assert isinstance(content, ShotSpan)
        if source.uri == "bad" and content.shot.start_seconds == 1:
            raise ZeroDivisionError("a bug in a stage")
        return [Outcome(clips=(Record(f"{source.uri}-{content.shot.start_seconds}", {}, {}),))]

    def close(self) -> None:
        pass


SPECS = (StageSpec("split", Split), StageSpec("finish", Finish))
SHARED = [StagePool(SPECS, Pool("finish", 2, 0.25))]
APART = [
    StagePool(SPECS[:1], Pool("split", 1, 0.25)),
    StagePool(SPECS[1:], Pool("finish", 2, 0.25)),
]
WORKS = [Work(Source("good", "", "1", 3)), Work(Source("bad", "", "2", 2))]


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    import ray

    start_ray(num_cpus=2)
    yield
    ray.shutdown()


def outcomes(works: Iterator[Work]) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for work in works:
        assert isinstance(work.content, Outcome)
        what = work.content.clips[0].key if work.content.clips else work.content.error[:18]
        found.setdefault(work.source.uri, []).append((what, float(work.share)))
    return {uri: sorted(parts) for uri, parts in found.items()}


EXPECTED = {
    "good": [(f"good-{i}", pytest.approx(1 / 3)) for i in range(3)],
    "bad": [("bad-0", 0.5), ("finish: Traceback ", 0.5)],
}


def test_a_plain_loop() -> None:
    assert outcomes(run_here(WORKS, SPECS)) == EXPECTED


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("pools", [SHARED, APART], ids=["shared", "apart"])
def test_on_ray(pools: list[StagePool]) -> None:
    board = Board()
    assert outcomes(run_on_ray(WORKS, pools, board)) == EXPECTED
    board.wait_until_left()
    assert board.reports() == [], "everybody has put away what they held"


class Holds:
    """Has a file for as long as it may be asked for something."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / str(os.getpid())

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        self._file.touch()
        return [Outcome()]

    def close(self) -> None:
        self._file.unlink(missing_ok=True)


@pytest.mark.usefixtures("ray")
def test_workers_without_work_close_their_stages(tmp_path: Path) -> None:
    """Or the last films of a job would stay on the disks of its machines."""
    pools = [StagePool((StageSpec("holds", partial(Holds, tmp_path)),), Pool("holds", 2, 0.25))]
    board = Board()
    assert len(list(run_on_ray(WORKS, pools, board))) == 2
    board.wait_until_left()
    assert not list(tmp_path.iterdir())


class Die:
    """Kills its own process when it meets one source, as a bug in native code would."""

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        if source.uri == "bad":
            os.kill(os.getpid(), signal.SIGKILL)
        return [Outcome(clips=(Record(source.uri, {}, {}),))]

    def close(self) -> None:
        pass


@pytest.mark.usefixtures("ray")
@pytest.mark.slow
def test_a_part_that_kills_its_worker_is_given_up() -> None:
    pools = [StagePool((StageSpec("die", Die),), Pool("die", 1, 0.25))]
    done = {work.source.uri: work.content for work in run_on_ray(WORKS, pools, Board())}
    assert isinstance(done["good"], Outcome) and done["good"].clips
    assert isinstance(done["bad"], Outcome)
    assert done["bad"].error == "worker: 5 worker processes died at this part"


@pytest.mark.usefixtures("ray")
def test_nobody_reads_the_logs_of_a_local_ray() -> None:
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    assert any("gcs_server" in command for command in commands)
    assert not any("log_monitor.py" in command for command in commands)


@pytest.mark.usefixtures("ray")
def test_pools_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1.5 CPUs \(split 0.25, finish 1.25\).*only 1 may"):
        check_pools([Pool("split", 1, 0.25), Pool("finish", 5, 0.25)])
    with pytest.raises(
        ValueError, match=r"'sam2' wants 2 workers with 0.1 CPU, 0.5 GPU each.*for 0"
    ):
        check_pools([Pool("sam2", 2, 0.1, 0.5)])


NODES = [{"CPU": 4.0, "GPU": 1.0, "memory": 8.0 * 2**30}, {"CPU": 2.0, "memory": 2.0 * 2**30}]


def test_workers_are_placed_node_by_node() -> None:
    fit_pools([Pool("cpu", 4, 1.0), Pool("gpu", 2, 1.0, 0.5)], NODES)
    with pytest.raises(ValueError, match="'gpu' wants 3 workers.*has room for 2 beside"):
        fit_pools([Pool("gpu", 3, 0.5, 0.5)], NODES)
    with pytest.raises(ValueError, match=r"4.0 GiB each.*room for 2.*memory|2.0 GiB"):
        fit_pools([Pool("big", 3, 0.5, 0.0, 4 << 30)], NODES)


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_share_of_the_cpus_leaves_ray_data_one(workers: int, cpus: int) -> None:
    share = cpu_share(workers, cpus)
    assert 0 <= share <= 1
    assert share * workers <= max(cpus - 1, 0.5)


class Flaky:
    """Fails with each of its errors in turn, then works."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_errors_that_pass_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0.0)
    passing = [ChildKilled("killed"), OSError(errno.ESTALE, "stale")]
    assert attempts(Flaky(passing), "stage") == "done"
    with pytest.raises(ConnectionResetError):
        attempts(Flaky([ConnectionResetError()] * 3), "stage")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyError("bug")])
def test_other_errors_are_not(error: Exception) -> None:
    flaky = Flaky([error])
    with pytest.raises(type(error)):
        attempts(flaky, "stage")
    assert flaky() == "done", "it was called once"


def test_the_longest_part_of_the_longest_source_of_the_longest_group_comes_first() -> None:
    def parts(name: str, *seconds: float) -> list[Work]:
        return [Work(Source(name, "", name, 1), ShotSpan(PROBE, Shot(0, s))) for s in seconds]

    groups = [[parts("a", 5)], [parts("b", 1, 2), parts("c", 4, 1)], []]
    taken = [(work.source.uri, work.span) for work in longest_first(groups)]
    assert taken == [
        *(("c", "0.000-4.000 s"), ("c", "0.000-1.000 s")),
        *(("b", "0.000-2.000 s"), ("b", "0.000-1.000 s"), ("a", "0.000-5.000 s")),
    ]

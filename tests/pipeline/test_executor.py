"""The executor: the same outcomes in a plain loop and on Ray, and one bug costs one source."""

from collections.abc import Iterator, Sequence

import pytest

from avatarmill.infra.cluster import check_reservation, start_ray
from avatarmill.pipeline.executor import StageSpec, run_here, run_on_ray
from avatarmill.pipeline.types import Probe, Shot, Source
from avatarmill.pipeline.work import Content, Outcome, ShotSpan, Work
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


SPECS = [StageSpec("split", Split, 0.25), StageSpec("finish", Finish, 0.25, 2)]
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
def test_on_ray() -> None:
    assert outcomes(run_on_ray(WORKS, SPECS)) == EXPECTED


@pytest.mark.usefixtures("ray")
def test_pools_that_would_hang_ray_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1.5 CPUs \(split 0.25, finish 1.25\).*only 1 may"):
        check_reservation({"split": 0.25, "finish": 1.25})

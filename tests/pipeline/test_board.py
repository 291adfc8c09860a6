"""The board of a job: lines of the living, deaths of items, and what happens without a store."""

import time
from collections.abc import Iterator

import psutil
import pytest

from avatarmill.infra.cluster import start_ray
from avatarmill.pipeline import board as module
from avatarmill.pipeline.board import Board, Desk, Report

LINE = Report("node", 1, "fit", "a", 2.0, 3)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    import ray

    start_ray(num_cpus=1)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("ray")
def test_each_worker_has_one_line_until_it_leaves() -> None:
    board, other = Board(), Board()
    board.put(Report("node", 1, "people", "a", 1.0, 2))
    board.put(LINE)
    board.put(Report("node", 2, "", "", 0.0, 0))
    assert sorted(report.pid for report in board.reports()) == [1, 2]
    assert LINE in board.reports(), "the latest"
    board.leave("node", 2)
    assert board.reports() == [LINE]
    assert other.reports() == [], "another run"


@pytest.mark.usefixtures("ray")
def test_a_worker_that_falls_silent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(module, "LEAVE_SECONDS", 5.0)
    board = Board()
    board.put(LINE)
    assert board.reports() == [LINE]
    started = time.monotonic()
    board.wait_until_left()
    assert time.monotonic() - started < 2.0, "the dead are not waited for"
    assert board.reports() == []


@pytest.mark.usefixtures("ray")
def test_an_item_that_its_worker_does_not_end_counts_as_a_death() -> None:
    board = Board()
    desk = Desk(board)
    for deaths in range(3):
        assert board.begin("bad") == deaths
    with desk.item("bad") as deaths:
        assert deaths == 3
    assert board.begin("bad") == 0, "it went well"
    assert board.reports(), "the desk reports"
    desk.close()
    assert board.reports() == []
    board.wait_until_left()
    assert board.begin("bad") == 0, "wiped"


@pytest.mark.usefixtures("ray")
def test_a_store_that_does_not_answer_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    board = Board()
    board.put(LINE)
    children = psutil.Process().children(recursive=True)
    (store,) = (child for child in children if child.name() == "gcs_server")
    store.suspend()
    try:
        assert board.reports() == []
        assert board.begin("a") == 0
    finally:
        store.resume()
    assert board.reports() == [LINE]


def test_without_ray_there_is_nothing_on_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver may look once more when Ray has been shut down."""
    monkeypatch.setattr("ray.experimental.internal_kv.global_gcs_client", None)
    board = Board()
    board.put(LINE)
    assert board.reports() == []
    assert board.begin("a") == 0

"""What a running job shows: status, metrics, log, and that a job without signs of life is seen."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from avatarmill.cli.main import main
from avatarmill.pipeline.board import Report
from avatarmill.pipeline.gather import FinishedGroup
from avatarmill.pipeline.metrics import METRICS, PREFIX, Endpoint, exposition
from avatarmill.pipeline.progress import Progress
from avatarmill.pipeline.runlog import RunLog, read_log
from avatarmill.pipeline.status import Status, alive, beginning, read_status, write_status
from avatarmill.pipeline.types import Source
from avatarmill.pipeline.watch import Watch, WatchConfig
from avatarmill.pipeline.work import Outcome, Work
from avatarmill.records.index import Record
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import RejectRow

DASHBOARD = Path(__file__).parents[2] / "infra" / "grafana" / "curate.json"


@pytest.fixture()
def progress() -> Progress:
    """A phase of four parts of two sources, of which one part is done and one in hand."""
    progress = Progress()
    progress.inputs(2)
    progress.phase("curate", 4, {"a": 30.0, "b": 10.0})
    source = Source("a", "", "1", 1)
    progress.part(Work(source, Outcome(), seconds={"people": 3.0, "fit": 1.0}))
    progress.groups(2)
    state = InputState("a", "1", "kept", samples=1)
    rejected = RejectRow("a", "1", "track", "blurred", "select", "0.1 < 0.2", 0.0, 1.0)
    progress.group(FinishedGroup(0, [Record("k", {}, {})], [state], [rejected]))
    return progress


def test_progress_is_counted_and_weighed(progress: Progress) -> None:
    time.sleep(0.05)
    status = progress.status([Report("node", 7, "fit", "b", 2.0, 0)])
    assert (status.phase, status.done, status.total, status.queue) == ("curate", 1, 4, 2)
    assert status.fraction == 0.75, "by seconds of video, not by parts"
    assert status.eta_seconds is not None
    assert status.eta_seconds == pytest.approx((status.time - status.started) / 3, abs=0.2)
    assert (status.stages["people"].done, status.stages["people"].seconds) == (1, 3.0)
    assert status.stages["fit"].busy == 1
    assert (status.groups_done, status.groups_total, status.clips) == (1, 2, 1)
    assert (status.states, status.rejects) == ({"kept": 1}, {"blurred": 1})


def test_a_status_survives_its_file(progress: Progress, tmp_path: Path) -> None:
    status = progress.status([Report("node", 7, "fit", "b", 2.0, 0)])
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    assert read_status(tmp_path / "nowhere") is None


def test_a_job_is_alive_while_it_says_so() -> None:
    running = beginning()
    assert alive(running)
    assert not alive(replace(running, state="finished"))
    assert not alive(replace(running, pid=2**22 + 1)), "its process is gone"
    elsewhere = replace(running, host=socket.gethostname() + "-2")
    assert alive(elsewhere)
    assert not alive(elsewhere, now=time.time() + 60)


def test_the_exposition_is_what_prometheus_reads(progress: Progress) -> None:
    """Names, types and values by the format's grammar; each metric is declared once."""
    lines = exposition(progress.status()).splitlines()
    declared = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert declared == [f"{PREFIX}_{name}" for name in METRICS]
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"\\\n]*"(,[a-z]+="[^"\\\n]*")*\})? -?[0-9.e+-]+')
    samples = [line for line in lines if not line.startswith("#")]
    assert all(sample.fullmatch(line) for line in samples), samples
    assert f'{PREFIX}_stage_seconds_total{{stage="people"}} 3' in samples
    assert f'{PREFIX}_progress_ratio{{phase="curate"}} 0.75' in samples


def test_the_endpoint_answers_scrapes(progress: Progress) -> None:
    endpoint = Endpoint("127.0.0.1", 0, progress.status)
    url = f"http://127.0.0.1:{endpoint.port}/metrics"
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert f"{PREFIX}_inputs 2" in answer.read().decode()
    endpoint.close()


def test_the_dashboard_shows_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for query in queries for name in re.findall(rf"{PREFIX}_(\w+)", query)}
    assert shown <= METRICS.keys()
    assert {"stage_parts_total", "queue_parts", "eta_seconds", "rejects_total"} <= shown


def test_the_log_is_one_object_a_line_and_grows_in_parts(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.event("started", inputs=3)
    log.flush()
    log.event("big", text="x" * (1 << 20))
    log.flush()
    log.event("after")
    log.flush()
    assert [event["event"] for event in read_log(tmp_path)] == ["started", "big", "after"]
    assert len(list((tmp_path / "log").iterdir())) == 2
    assert all("time" in event for event in read_log(tmp_path))


def test_a_watched_job_leaves_its_end(tmp_path: Path) -> None:
    with Watch(tmp_path, WatchConfig()) as watch:
        watch.progress.inputs(5)
        watch.log.event("started", inputs=5)
    status = read_status(tmp_path)
    assert status is not None and (status.state, status.inputs) == ("finished", 5)
    assert f"{PREFIX}_running 0" in (tmp_path / "metrics.prom").read_text()
    with pytest.raises(RuntimeError, match="boom"), Watch(tmp_path, WatchConfig()):
        raise RuntimeError("boom")
    failed = read_status(tmp_path)
    assert failed is not None and (failed.state, failed.message) == ("failed", "RuntimeError: boom")
    events = [event["event"] for event in read_log(tmp_path)]
    assert events == ["started", "finished", "failed"]


def test_status_tells_running_stopped_and_finished(
    progress: Progress, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown(status: Status) -> tuple[int, str]:
        write_status(tmp_path, status)
        code = main(["status", str(tmp_path)])
        return code, capsys.readouterr().out

    now = progress.status([Report("node", os.getpid(), "fit", "b.mp4", 130.0, 4)])
    code, text = shown(now)
    assert code == 0 and "running for" in text
    assert re.search(r"phase curate: 1 of 4 parts, 75.0 % of the work, 2 waiting, about", text)
    assert re.search(r"node:\d+\s+fit\s+2 min\s+4\s+b.mp4", text)
    code, text = shown(replace(now, pid=2**22 + 1))
    assert code == 1 and "stopped in phase 'curate'" in text and "command continues" in text
    code, text = shown(replace(now, state="finished"))
    assert code == 0 and "finished after" in text
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "no status.json" in capsys.readouterr().err


ENDS = """
import os, sys
from pathlib import Path
from avatarmill.pipeline.watch import Watch, WatchConfig
with Watch(Path(sys.argv[1]), WatchConfig()):
    exec(sys.argv[2])
"""


@pytest.mark.parametrize(
    ("end", "said"),
    [("pass", False), ("raise ValueError('x')", False), ("os._exit(1)", True)],
)
def test_a_driver_that_is_killed_has_last_words(tmp_path: Path, end: str, said: bool) -> None:
    """As Ray ends it when its own processes die; a job that ends by itself says so itself."""
    command = [sys.executable, "-P", "-c", ENDS, str(tmp_path), end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ("the same command goes on from there" in done.stderr) is said, done.stderr

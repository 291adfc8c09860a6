"""Long lists: a million rows planned, packed and resumed, and the second start of a finished job.

The million rows are scanned already (the pass over their bytes is not what is measured here), every
second group of them is committed. What runs is what `avatarmill curate` runs before and between its
two passes, in a process of its own. The two lists are worked on beside each other.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avatarmill.cli.console import say, table
from avatarmill.pipeline import job, rounds
from avatarmill.pipeline.executor import StageSpec, run_here
from avatarmill.pipeline.groups import by_precedence, plan_groups, split_duplicates
from avatarmill.pipeline.identify import stat_files, with_identity
from avatarmill.pipeline.ingest import read_list
from avatarmill.pipeline.pending import group_name, pending_groups, windows
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.scan_table import SOURCE_TABLE, write_known
from avatarmill.pipeline.scans import finish_scans, load_scans
from avatarmill.pipeline.watch import Watch
from avatarmill.pipeline.work import Work
from avatarmill.records.commit import Commit, commit_bytes, commit_name
from avatarmill.records.fingerprint import sha256_bytes
from avatarmill.records.ledger import InputState

ROWS = 1_000_000
FINISHED = 10_000
GROUP_SIZE = 8
MADE_BY = "f" * 64
SECONDS_LIMIT, MB_LIMIT = 120, 1500


def write_list(folder: Path) -> None:
    """A Parquet list with columns to carry, and the table of its scans."""
    names = [f"https://films.example/{k % 997:03d}/{k:07d}.mp4" for k in range(ROWS)]
    shas = [sha256_bytes(b"%d" % (k - k % 50 if k % 50 == 1 else k)) for k in range(ROWS)]
    columns = {"uri": names, "licence": ["CC-BY-4.0"] * ROWS, "language": ["de"] * ROWS}
    pq.write_table(pa.table(columns), folder / "list.parquet")
    schema = SOURCE_TABLE
    empty = {f.name: pa.nulls(ROWS, f.type) for f in schema}
    known = {
        "uri": names,
        "sha256": shas,
        "fingerprint": [MADE_BY] * ROWS,
        "size_bytes": pa.repeat(1 << 20, ROWS),
        "modified_ns": pa.repeat(0, ROWS),
    }
    scans = pa.table({**empty, **known}, schema=schema).sort_by("uri")
    (folder / "clips").mkdir()
    pq.write_table(scans, folder / "clips/sources.parquet", row_group_size=64, compression="zstd")
    write_known(folder / "clips/sources.parquet")


def pass_over_the_list(folder: Path) -> tuple[int, int, int]:
    """What a start of the job does with its list; sources kept, groups, and groups to make."""
    clips = folder / "clips"
    sources = stat_files(read_list(folder / "list.parquet"))
    scans = load_scans(clips, MADE_BY)
    sources = with_identity(sources, scans.known)
    left = sources.where(~scans.found.has(sources))
    assert not len(left), f"{len(left)} rows are not known"
    finish_scans(clips, sources, scans, MADE_BY)
    unique, exact = split_duplicates(sources)
    unique = by_precedence(unique, clips).without({copy.uri for copy, _ in exact})
    plan = plan_groups(unique, clips, group_size=GROUP_SIZE, fingerprint=MADE_BY)
    pending = pending_groups(clips, plan)
    # The first window is what the workers would begin with.
    next(iter(windows(plan, pending)))
    return len(unique), len(plan.groups), len(pending)


def commit_every_second_group(folder: Path) -> None:
    """The commits of a job that was killed half-way."""
    clips = folder / "clips"
    (clips / "commits").mkdir(exist_ok=True)
    plan = pq.read_table(clips / "plan.parquet", columns=["uri", "sha256", "group"])
    even = plan.filter(pc.equal(pc.bit_wise_and(plan["group"], 1), 0))
    inputs: dict[int, list[InputState]] = {}
    for row in even.to_pylist():
        state = InputState(row["uri"], row["sha256"], "kept", samples=1)
        inputs.setdefault(row["group"], []).append(state)
    for number, states in inputs.items():
        keys = tuple(f"{state.sha256[:12]}-000000000-00" for state in states)
        commit = Commit(group_name(number), MADE_BY, *["0" * 64] * 3, keys, tuple(states))
        (clips / commit_name(commit.group)).write_bytes(commit_bytes(commit))


def measure(folder: Path) -> None:
    """One pass in this process: prints what it found and took."""
    started, cpu = time.perf_counter(), time.process_time()
    unique, groups, pending = pass_over_the_list(folder)
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "mb": _peak_mb(),
        "unique": unique,
        "groups": groups,
        "pending": pending,
    }
    say(json.dumps(figures))


def _peak_mb() -> float:
    """Most memory this program held. `ru_maxrss` would count the process it was started from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def in_a_process(folder: Path) -> dict[str, float]:
    """`measure` in a fresh interpreter, whose peak memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def million_rows() -> tuple[dict[str, float], dict[str, float]]:
    """Figures of the first start on a million rows, and of one with half of the groups done."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder)
        planned = in_a_process(folder)
        commit_every_second_group(folder)
        return planned, in_a_process(folder)


def finished_job() -> dict[str, float]:
    """Seconds of the second start of a job whose 10,000 sources are all done."""
    with tempfile.TemporaryDirectory() as name:
        return _finished_job(Path(name))


def _finished_job(folder: Path) -> dict[str, float]:
    videos = folder / "videos"
    videos.mkdir()
    for number in range(FINISHED):
        (videos / f"{number:05d}.mp4").write_text(f"no video, number {number}\n" * 3)
    workers, rounds.on_workers = rounds.on_workers, _here
    try:
        job.run(job.CurateConfig(videos, folder / "out"))
    finally:
        rounds.on_workers = workers
    command = [sys.executable, "-m", "avatarmill.cli.main", "curate", "--videos", str(videos)]
    started, before = time.perf_counter(), _children_seconds()
    subprocess.run([*command, "--out", str(folder / "out")], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu_seconds": _children_seconds() - before}


def _here(
    works: Sequence[Work], stages: Sequence[StageSpec], workers: Workers, watch: Watch
) -> Iterator[Work]:
    """The stages without Ray: the first start is not what is measured."""
    return run_here(works, stages)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Prints the figures and, last, one line of JSON; 1 when a limit is broken."""
    with ProcessPoolExecutor(1, get_context("spawn")) as beside:
        finished = beside.submit(finished_job)
        planned, resumed = million_rows()
        again = finished.result()
    rows = [
        (what, f"{f['seconds']:.1f}", f"{f['cpu_seconds']:.1f}", f"{f.get('mb', 0):.0f}")
        for what, f in (
            (f"plan {ROWS:,} rows", planned),
            (f"resume {ROWS:,} rows, half of the groups committed", resumed),
            (f"second start of a finished job of {FINISHED:,} sources", again),
        )
    ]
    table(("what", "seconds", "CPU seconds", "MB at most"), rows)
    say()
    seconds = planned["seconds"] + resumed["seconds"]
    megabytes = max(planned["mb"], resumed["mb"])
    figures = {
        "million_rows_seconds": round(seconds, 1),
        "million_rows_mb": round(megabytes),
        "resume_seconds": round(again["seconds"], 1),
        "million_rows_cpu_seconds": round(planned["cpu_seconds"] + resumed["cpu_seconds"], 1),
        "resume_cpu_seconds": round(again["cpu_seconds"], 1),
        "million_rows_groups": planned["groups"],
        "million_rows_pending": resumed["pending"],
    }
    say(json.dumps(figures))
    return 0 if seconds <= SECONDS_LIMIT and megabytes <= MB_LIMIT else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        sys.exit(main())

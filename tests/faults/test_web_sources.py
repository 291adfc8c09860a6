"""A job on web addresses: a server that breaks in every way costs time, and rows where it must."""

import csv
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from avatarmill.pipeline.types import Reason
from avatarmill.records.commit import list_commits, verify
from avatarmill.records.ledger import read_ledger
from avatarmill.records.reader import samples_in
from avatarmill.records.rejects import read_rejects
from avatarmill.records.store import Store
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


class FilmServer(ThreadingHTTPServer):
    """Serves the films of a folder under /FAULT/NAME, with that fault unless it is calm."""

    daemon_threads = True
    films: Path
    calm: bool
    asked: list[str]

    def handle_error(self, request: object, client_address: object) -> None:
        return  # clients that hang up are what this is about

    def url(self, path: str) -> str:
        """Address of a path."""
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    """One request; the fault is the first folder of its path."""

    protocol_version = "HTTP/1.1"
    server: FilmServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        before = self.server.asked.count(self.path) - 1
        _, fault, name = self.path.split("/")
        path = self.server.films / name
        data = path.read_bytes() if path.is_file() else b""
        lasting = {"none": self.none, "lost": self.busy, "drip": self.drip, "away": self.away}
        passing = {"reset": self.reset, "short": self.short, "busy": self.busy, "slow": self.slow}
        if fault in lasting:
            lasting[fault](data, before)
        elif fault in passing and before < 2 and not self.server.calm:
            passing[fault](data, before)
        else:
            self.whole(data)

    def head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self, data: bytes) -> None:
        """All bytes, or those from a place on."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        span = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.head(206 if start else 200, len(data) - start, ETag='"v1"', **span)
        self.wfile.write(data[start:])

    def reset(self, data: bytes, before: int) -> None:
        """Some more bytes, then a reset in place of a farewell."""
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        span = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.head(206 if start else 200, len(data) - start, ETag='"v1"', **span)
        self.wfile.write(data[start : (before + 1) * len(data) // 3])
        self.wfile.flush()
        linger = b"\x01\0\0\0\0\0\0\0"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def short(self, data: bytes, before: int) -> None:
        """A length that is never reached."""
        self.head(200, len(data) + 5000)
        self.wfile.write(data)
        self.close_connection = True

    def busy(self, data: bytes, before: int) -> None:
        """Another time, please."""
        self.head((503, 500)[before % 2], 0, Retry_After="1")

    def slow(self, data: bytes, before: int) -> None:
        """Half of it in small bits, then silence until the client has had enough."""
        self.head(200, len(data), ETag='"v1"')
        for start in range(0, len(data) // 2, 2000):
            self.wfile.write(data[start : start + 2000])
            time.sleep(0.001)
        time.sleep(4)
        self.close_connection = True

    def drip(self, data: bytes, before: int) -> None:
        """A byte now and then, for ever."""
        self.head(200, 100_000)
        try:
            for _ in range(100_000):
                self.wfile.write(b"\0")
                time.sleep(0.05)
        except OSError:
            self.close_connection = True

    def none(self, data: bytes, before: int) -> None:
        self.head(404, 0)

    def away(self, data: bytes, before: int) -> None:
        """To the address at which clouds tell machines their secrets."""
        self.head(302, 0, Location="http://169.254.169.254/latest/meta-data")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FilmServer]:
    """Without films; a test says where they are."""
    with FilmServer(("127.0.0.1", 0), Handler) as made:
        made.films, made.calm, made.asked = tmp_path, False, []
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def write_list(path: Path, uris: list[str]) -> Path:
    """A list with a licence and a language, both its own for each row."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["url", "license", "language"])
        rows.writerows([uri, f"CC-{n}", f"l{n}"] for n, uri in enumerate(uris))
    return path


def options(spool: Path, *more: str) -> tuple[str, ...]:
    """Loopback allowed, small limits, files of remote sources below `spool`."""
    own = ["--fetch.allow-networks", "127.0.0.1/32", "--fetch.spool", str(spool)]
    return (*own, "--fetch.pause-seconds", "0.1", *more)


def states(folder: Path | str) -> dict[str, tuple[str, str]]:
    """By the path of a URL: how it ended, from the ledger."""
    rows = read_ledger(Store.of(folder).path("ledger.parquet"))
    assert len({row.uri for row in rows}) == len(rows)
    return {re.sub("^https?://[^/]+", "", row.uri): (row.state, row.reason) for row in rows}


def test_a_list_of_urls_becomes_shots_in_a_bucket(
    server: FilmServer, job_type: type[Any], s3_bucket: str, tmp_path: Path
) -> None:
    """A download that resets twice, a missing page and a forbidden redirect; out is a bucket."""
    synth(SynthConfig("wild", count=1, seed=3, out=tmp_path / "synth", seconds=1.2))
    server.films = tmp_path / "synth/videos"
    (film,) = server.films.iterdir()
    urls = [server.url(f"/{place}") for place in (f"reset/{film.name}", "none/a.mp4", "away/b.mp4")]
    # A password of the URL is for the server alone.
    urls[0] = urls[0].replace("http://", "http://me:secret-word@")
    videos = write_list(tmp_path / "list.csv", urls)
    job = job_type(videos, tmp_path / "run", options=options(tmp_path / "spool"), verb="cut")
    job.place = f"{s3_bucket}/{tmp_path.name}"
    job.start()
    assert job.wait() == 0, job.log()
    shots = f"{job.place}/shots"
    assert states(shots) == {
        f"/reset/{film.name}": ("kept", ""),
        "/none/a.mp4": ("rejected", Reason.NOT_FOUND),
        "/away/b.mp4": ("rejected", Reason.FORBIDDEN_ADDRESS),
    }
    (sample,) = samples_in(Path(shots))
    meta = json.loads(sample[1]["json"])
    assert meta["source_uri"] == server.url(f"/reset/{film.name}")
    assert (meta["licence"], meta["listed"]) == ("CC-0", {"language": "l0"})
    assert verify(Path(shots)) == []
    assert not list((tmp_path / "spool").iterdir()) and not job.out.exists()
    everything = Store.of(job.place)
    for folder in ("", "shots", "log"):
        assert all(b"secret-word" not in everything.read(name) for name in everything.files(folder))


@pytest.mark.slow
def test_faults_of_a_server_leave_no_trace_in_the_shards(
    server: FilmServer,
    actors: Path,
    job_type: type[Any],
    undisturbed: tuple[dict[str, bytes], float],
    tmp_path: Path,
) -> None:
    """Every fault and a kill of the driver, against a calm server and against local files."""
    server.films = actors
    first, second, third = sorted(actors.glob("wild*"))
    lasting = {
        "none/a.mp4": Reason.NOT_FOUND,
        "lost/b.mp4": Reason.UNREACHABLE,
        "drip/c.mp4": Reason.TIMED_OUT,
        "away/d.mp4": Reason.FORBIDDEN_ADDRESS,
    }
    places = [f"reset/{first.name}", f"busy/{second.name}", f"slow/{third.name}", "short/cut.mp4"]
    urls = [server.url(f"/{place}") for place in [*places, "short/twin.mp4", *lasting]]
    # Of the machine itself, but not of the network that is allowed.
    urls.append(server.url("/inside/e.mp4").replace("127.0.0.1", "127.0.0.2"))
    limits = ["--fetch.deadline-seconds", "20", "--fetch.stall-seconds", "2"]

    def job_on(name: str) -> Any:
        videos = write_list(tmp_path / "list.csv", urls)
        job = job_type(videos, tmp_path / name, 2, options(tmp_path / "spool", *limits))
        job.start()
        return job

    job = job_on("flaky")
    job.until(lambda: list_commits(job.clips) or not job.running())
    job.kill("driver")
    job.wait()
    job.start()
    assert job.wait() == 0, job.log()
    ended = states(job.clips)
    assert {place: ended.pop(f"/{place}") for place in lasting} == {
        place: ("rejected", reason) for place, reason in lasting.items()
    }
    assert sorted(ended.values()) == [
        ("duplicate", f"same bytes as {server.url(f'/busy/{second.name}')}"),
        *[("kept", "")] * 3,
        ("rejected", Reason.FORBIDDEN_ADDRESS),
        ("rejected", Reason.TRUNCATED),
    ]
    rejects = read_rejects(job.clips / "rejects.parquet")
    assert all(row.evidence for row in rejects)
    assert sum(row.level == "source" for row in rejects) == 6
    assert verify(job.clips) == [] and not list((tmp_path / "spool").iterdir())

    server.calm = True
    calm = job_on("calm")
    assert calm.wait() == 0, calm.log()
    assert steady(calm.files()) == steady(job.files())
    assert pictures(job.clips) == pictures_of(undisturbed[0], tmp_path / "local")


def steady(files: dict[str, bytes]) -> dict[str, object]:
    """Files without the evidence of refusals: it says how far a download came in its time."""
    found: dict[str, object] = {}
    for name, data in files.items():
        if name.startswith("commits/"):
            found[name] = {**json.loads(data), "rejects_sha256": ""}
        elif "reject" not in name and not name.startswith("sources"):
            found[name] = data
    assert sum(name.endswith(".tar") for name in found) == 3
    return found


def pictures(folder: Path | str) -> dict[str, dict[str, object]]:
    """Members of every sample; of the JSON all but what the list says of the source."""
    found: dict[str, dict[str, object]] = {}
    for key, members in samples_in(Path(folder)):
        meta = json.loads(members.pop("json"))
        for name in ("source_uri", "licence", "consent", "listed"):
            meta.pop(name)
        found[key] = {**members, "json": meta}
    return found


def pictures_of(files: dict[str, bytes], folder: Path) -> dict[str, dict[str, object]]:
    """The same of a run that is only there as bytes."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return pictures(folder)

"""A job from a bucket into a bucket, over a store that fails now and then, killed half-way."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from avatarmill.records.commit import list_commits, verify
from avatarmill.records.ledger import read_ledger
from avatarmill.records.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1500)]

FAULT_EACH = 7
"""Of so many requests one goes wrong."""


class Between(ThreadingHTTPServer):
    """Stands before an S3 server and spoils some of the answers."""

    daemon_threads = True
    behind: str
    count: int
    faults: int

    def handle_error(self, request: object, client_address: object) -> None:
        return


class Handler(BaseHTTPRequestHandler):
    """Hands on one request, or breaks it in one of three ways."""

    protocol_version = "HTTP/1.1"
    server: Between

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.count += 1
        turn, kind = divmod(self.server.count, FAULT_EACH)
        if kind == 0:
            self.server.faults += 1
            if turn % 3 == 0:
                self.hang_up()
                return
            if turn % 3 == 1:
                self.answer(503, [("Content-Length", "0")], b"")
                return
        connection = http.client.HTTPConnection(self.server.behind, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        facts = [h for h in response.getheaders() if h[0].lower() not in ("connection", "date")]
        if kind == 0 and self.command == "GET":
            data = data[: len(data) // 2]  # less than it says
            self.close_connection = True
        self.answer(response.status, facts, data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def answer(self, status: int, facts: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in facts:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        linger = b"\x01\0\0\0\0\0\0\0"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def between(s3_bucket: str) -> Iterator[Between]:
    with Between(("127.0.0.1", 0), Handler) as made:
        made.behind = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        made.count = made.faults = 0
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_buckets_give_the_shards_of_a_disk(
    between: Between, actors: Path, job_type: type[Any], s3_bucket: str, tmp_path: Path
) -> None:
    """Listed as a folder of the bucket; the same sources into a local folder are the measure."""
    films = Store.of(f"{s3_bucket}/{tmp_path.name}/films")
    for path in actors.iterdir():
        films.put_atomic(path.name, path.read_bytes())
    videos = Path(str(films))
    spool = ("--fetch.spool", str(tmp_path / "spool"))
    measure = job_type(videos, tmp_path / "local", 2, spool)
    measure.start()
    assert measure.wait() == 0, measure.log()

    job = job_type(videos, tmp_path / "run", 2, spool)
    job.place = f"{s3_bucket}/{tmp_path.name}/run"
    job.env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{between.server_address[1]}"}
    clips = Path(job.place) / "clips"
    job.start()
    job.until(lambda: list_commits(clips) or not job.running())
    assert job.running(), job.log()
    job.kill("driver")
    job.wait()
    job.start()
    assert job.wait() == 0, job.log()
    assert between.faults > 20
    assert in_bucket(clips) == measure.files()
    assert verify(clips) == []
    states = sorted(row.state for row in read_ledger(clips / "ledger.parquet"))
    assert states == ["duplicate", "kept", "kept", "kept", "rejected"]
    assert not list((tmp_path / "spool").iterdir())


def in_bucket(folder: Path) -> dict[str, bytes]:
    """Name to bytes of all files that do not depend on what happened."""
    store = Store.of(folder)
    names = [name for place in ["", *store.folders()] for name in store.files(place)]
    unstable = {"summary.json", "report.html"}
    return {name: store.read(name) for name in names if name not in unstable}

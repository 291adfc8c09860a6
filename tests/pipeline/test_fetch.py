"""Fetching from a server that breaks in every way, from S3, and from addresses nobody may reach."""

import hashlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.addresses import ForbiddenAddress, check_address, parse_networks, resolve
from avatarmill.pipeline.fetch import FetchConfig, LocalSource, fetch
from avatarmill.pipeline.types import Reason, Reject
from avatarmill.pipeline.uris import can_fetch, protocol_of, public_uri
from avatarmill.records.store import Store, file_system

DATA = bytes(range(256)) * 6000
SHA = hashlib.sha256(DATA).hexdigest()
HERE = FetchConfig(
    allow_networks=("127.0.0.1/32",), pause_seconds=0.01, attempts=3, deadline_seconds=20
)


@dataclass
class Script:
    """What the server does: one action a request, the last one again and again."""

    actions: list[Callable[["Handler"], None]]
    requests: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Serves the scripts of the tests, by path."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        script = self.server.scripts[self.path.partition("?")[0]]
        number = min(len(script.requests), len(script.actions) - 1)
        script.requests.append({name.lower(): value for name, value in self.headers.items()})
        script.actions[number](self)

    def head(self, status: int, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return

    def reset(self) -> None:
        """Hang up with a reset instead of a farewell."""
        self.wfile.flush()
        linger = b"\x01\0\0\0\0\0\0\0"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()


class Server(ThreadingHTTPServer):
    """A flaky server on loopback."""

    daemon_threads = True
    scripts: dict[str, Script]

    def handle_error(self, request: object, client_address: object) -> None:
        return  # clients that hang up are what this is about

    def serve(self, path: str, *actions: Callable[[Handler], None]) -> tuple[str, Script]:
        script = Script(list(actions))
        self.scripts[path] = script
        return f"http://127.0.0.1:{self.server_address[1]}{path}", script


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.scripts = {}
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def whole(handler: Handler) -> None:
    """All bytes, or the asked range of them."""
    start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    facts: dict[str, str | int] = {"ETag": '"v1"', "Content_Length": len(DATA) - start}
    if start:
        facts["Content_Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    handler.head(206 if start else 200, **facts)
    handler.wfile.write(DATA[start:])


def broken_off(at: int, tag: str = '"v1"') -> Callable[[Handler], None]:
    """The first bytes of the whole, then a reset."""

    def action(handler: Handler) -> None:
        handler.head(200, ETag=tag, Content_Length=len(DATA))
        handler.wfile.write(DATA[:at])
        handler.reset()

    return action


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def fetched(uri: str, folder: Path, config: FetchConfig = HERE) -> LocalSource:
    found = fetch(uri, config, folder)
    assert isinstance(found, LocalSource), found
    return found


def rejected(uri: str, folder: Path, config: FetchConfig = HERE) -> Reject:
    found = fetch(uri, config, folder)
    assert isinstance(found, Reject)
    assert found.stage == "fetch" and found.evidence
    assert not list(folder.glob("*")), "a rejected source leaves no file"
    return found


def test_a_page_becomes_a_local_file_with_its_sha256(server: Server, tmp_path: Path) -> None:
    url, script = server.serve("/plain.mp4", whole)
    source = fetched(url, tmp_path)
    assert (source.sha256, source.size_bytes) == (SHA, len(DATA))
    assert source.path.parent == tmp_path and source.path.read_bytes() == DATA
    assert script.requests[0]["accept-encoding"] == "identity"
    source.delete()
    assert not list(tmp_path.iterdir())


def test_a_broken_download_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    url, script = server.serve("/resets.mp4", broken_off(400_000), broken_off_range, whole)
    assert fetched(url, tmp_path).sha256 == SHA
    asked = [request.get("range") for request in script.requests]
    assert asked[0] is None and asked[1] is not None and asked[2] is not None
    # A reset may take back bytes that were on their way.
    first, second = int(asked[1][6:-1]), int(asked[2][6:-1])
    assert 0 < first <= 400_000 and first <= second <= 900_000
    assert script.requests[2]["if-range"] == '"v1"'


def broken_off_range(handler: Handler) -> None:
    start = int(handler.headers["Range"][6:-1])
    span = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    handler.head(206, Content_Range=span, Content_Length=len(DATA) - start)
    handler.wfile.write(DATA[start:900_000])
    handler.reset()


def test_bytes_that_changed_meanwhile_are_not_mixed(server: Server, tmp_path: Path) -> None:
    # The first answer is of another version: the server ignores the range and sends the new one.
    def new_version(handler: Handler) -> None:
        handler.head(200, ETag='"v2"', Content_Length=len(DATA))
        handler.wfile.write(DATA)

    def old_version(handler: Handler) -> None:
        handler.head(200, ETag='"v0"', Content_Length=len(DATA) + 7)
        handler.wfile.write(bytes(300_000))
        handler.reset()

    url, _ = server.serve("/changed.mp4", old_version, new_version)
    assert fetched(url, tmp_path).sha256 == SHA


@pytest.mark.parametrize("lie", ["start", "total", "none"])
def test_a_wrong_range_starts_over(server: Server, tmp_path: Path, lie: str) -> None:
    def wrong(handler: Handler) -> None:
        start = int(handler.headers["Range"][6:-1])
        begin, total = (start + 1, len(DATA)) if lie == "start" else (start, len(DATA) + 1)
        facts = {} if lie == "none" else {"Content_Range": f"bytes {begin}-{total - 1}/{total}"}
        handler.head(206, Content_Length=len(DATA) - start, **facts)
        handler.wfile.write(DATA[start:])

    url, script = server.serve(f"/range-{lie}.mp4", broken_off(400_000), wrong, whole)
    assert fetched(url, tmp_path).sha256 == SHA
    assert "range" not in script.requests[2]


@pytest.mark.parametrize("tag", ['W/"weak"', ""])
def test_without_a_strong_validator_it_starts_over(
    server: Server, tmp_path: Path, tag: str
) -> None:
    url, script = server.serve(f"/weak-{len(tag)}.mp4", broken_off(400_000, tag), whole)
    assert fetched(url, tmp_path).sha256 == SHA
    assert "range" not in script.requests[1]


def test_statuses_that_may_pass_are_tried_again(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url, script = server.serve("/busy.mp4", status(503, Retry_After="1"), status(429), whole)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert fetched(url, tmp_path).sha256 == SHA
    assert len(script.requests) == 3 and time.monotonic() - started >= 1
    assert "status 503; again in 1 s" in caplog.text


@pytest.mark.parametrize(
    ("code", "reason", "requests"),
    [
        (404, Reason.NOT_FOUND, 1),
        (410, Reason.NOT_FOUND, 1),
        (401, Reason.ACCESS_DENIED, 1),
        (403, Reason.ACCESS_DENIED, 1),
        (418, Reason.UNREACHABLE, 1),
        (204, Reason.UNREACHABLE, 1),
        (500, Reason.UNREACHABLE, 3),
        (416, Reason.UNREACHABLE, 3),
    ],
)
def test_statuses_have_reasons(
    server: Server, tmp_path: Path, code: int, reason: Reason, requests: int
) -> None:
    url, script = server.serve(f"/status-{code}.mp4", status(code))
    assert rejected(url, tmp_path).reason is reason
    assert len(script.requests) == requests


def test_a_length_that_is_never_reached_is_unreachable(server: Server, tmp_path: Path) -> None:
    def short(handler: Handler) -> None:
        handler.head(200, Content_Length=2 * len(DATA))
        handler.wfile.write(DATA)
        handler.close_connection = True

    url, script = server.serve("/short.mp4", short)
    found = rejected(url, tmp_path)
    assert found.reason is Reason.UNREACHABLE and len(script.requests) > 2
    assert f"broke off at {len(DATA)} of {2 * len(DATA)} bytes" in found.evidence


def test_broken_chunks_are_tried_again(server: Server, tmp_path: Path) -> None:
    def chunks(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        handler.wfile.write(b"40000\r\n" + DATA[:1000])
        handler.reset()

    url, script = server.serve("/chunks.mp4", chunks, whole)
    assert fetched(url, tmp_path).sha256 == SHA and len(script.requests) == 2


def drip(handler: Handler) -> None:
    handler.head(200, Content_Length=len(DATA))
    _drip(handler, DATA)


def drip_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    _drip(handler, b"X-Slow: " + b"y" * 60_000)


def _drip(handler: Handler, data: bytes) -> None:
    try:
        for byte in data:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.02)
    except OSError:
        handler.close_connection = True


@pytest.mark.parametrize("action", [drip, drip_headers])
def test_a_slow_drip_ends_at_the_deadline(
    server: Server, tmp_path: Path, action: Callable[[Handler], None]
) -> None:
    url, _ = server.serve(f"/{action.__name__}.mp4", action)
    started = time.monotonic()
    found = rejected(url, tmp_path, replace(HERE, deadline_seconds=0.6))
    assert found.reason is Reason.TIMED_OUT and "0.6 s, the limit" in found.evidence
    assert time.monotonic() - started < 5


def test_a_silent_server_stalls(server: Server, tmp_path: Path) -> None:
    url, script = server.serve("/silent.mp4", lambda handler: time.sleep(1))
    config = replace(HERE, stall_seconds=0.2, attempts=2)
    assert rejected(url, tmp_path, config).reason is Reason.UNREACHABLE
    assert len(script.requests) == 2


def test_size_limits_hold_for_declared_and_for_sent_bytes(server: Server, tmp_path: Path) -> None:
    def endless(handler: Handler) -> None:
        handler.head(200, Transfer_Encoding="chunked")
        block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            for _ in range(2000):
                handler.wfile.write(block)
        except OSError:
            handler.close_connection = True

    config = replace(HERE, max_bytes=1_000_000)
    url, script = server.serve("/big.mp4", whole)
    found = rejected(url, tmp_path, config)
    assert found.reason is Reason.TOO_LARGE and "1536000 bytes declared" in found.evidence
    url, script = server.serve("/endless.mp4", endless)
    found = rejected(url, tmp_path, config)
    assert found.reason is Reason.TOO_LARGE and "limit of 1000000 bytes" in found.evidence
    assert len(script.requests) == 1


def test_redirects_are_followed_up_to_the_limit(server: Server, tmp_path: Path) -> None:
    server.serve("/end.mp4", whole)
    url, _ = server.serve("/start.mp4", status(302, Location="/end.mp4"))
    assert fetched(url, tmp_path).sha256 == SHA
    assert rejected_redirect(url, tmp_path / "none", 0) == "1 redirects, limit 0"
    loop, script = server.serve("/loop.mp4", status(301, Location="/loop.mp4"))
    assert rejected_redirect(loop, tmp_path / "loop", 5) == "6 redirects, limit 5"
    assert len(script.requests) == 6


def rejected_redirect(url: str, folder: Path, limit: int) -> str:
    found = rejected(url, folder, replace(HERE, max_redirects=limit))
    assert found.reason is Reason.UNREACHABLE
    return found.evidence


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://127.0.0.2/x", "127.0.0.2 is 127.0.0.2, a loopback address"),
        ("http://localhost.localdomain@127.0.0.3/x", "127.0.0.3 is 127.0.0.3, a loopback"),
        ("http://169.254.169.254/latest/meta-data", "a link-local address"),
        ("http://10.1.2.3/x", "not a public address"),
        ("http://[::1]:9/x", "::1 is ::1, a loopback address"),
        ("http://[::ffff:10.0.0.1]/x", "10.0.0.1, not a public address"),
        ("http://0/x", "0.0.0.0, not a public address"),
        ("file:///etc/passwd", "not http or https"),
    ],
)
def test_redirects_to_forbidden_addresses_are_refused(
    server: Server, tmp_path: Path, target: str, words: str
) -> None:
    url, _ = server.serve("/turn.mp4", status(302, Location=target))
    found = rejected(url, tmp_path)
    assert found.reason is Reason.FORBIDDEN_ADDRESS and words in found.evidence


def test_loopback_is_refused_unless_allowed(server: Server, tmp_path: Path) -> None:
    url, script = server.serve("/private.mp4", whole)
    port = url.split(":")[2]
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
        found = rejected(f"http://{host}:{port}", tmp_path, FetchConfig())
        assert found.reason is Reason.FORBIDDEN_ADDRESS
    assert not script.requests


def test_a_name_that_resolves_to_two_addresses_is_judged_by_both(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*names: str) -> Callable[..., object]:
        return lambda host, port, *_, **__: [(2, 1, 6, "", (name, port)) for name in names]

    url, script = server.serve("/named.mp4", whole)
    named = url.replace("127.0.0.1", "films.example")
    monkeypatch.setattr(socket, "getaddrinfo", answer("93.184.216.34", "10.0.0.1"))
    assert rejected(named, tmp_path).reason is Reason.FORBIDDEN_ADDRESS
    monkeypatch.setattr(socket, "getaddrinfo", answer("127.0.0.1"))
    assert fetched(named, tmp_path).sha256 == SHA
    assert script.requests[0]["host"].startswith("films.example:")


def test_the_address_really_connected_to_is_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever leads a connection elsewhere after the check of the name: it is looked at again.
    url, script = server.serve("/elsewhere.mp4", whole)
    plain, here = socket.create_connection, server.server_address[1]
    monkeypatch.setattr("avatarmill.pipeline.web.resolve", lambda *_: ["93.184.216.34"])
    monkeypatch.setattr(
        socket, "create_connection", lambda _, timeout: plain(("127.0.0.1", here), timeout)
    )
    found = rejected(url, tmp_path, replace(HERE, allow_networks=()))
    assert found.reason is Reason.FORBIDDEN_ADDRESS and not script.requests


def test_no_such_host_and_no_listener(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = rejected(f"http://127.0.0.1:{port}/x.mp4", tmp_path)
    assert found.reason is Reason.UNREACHABLE and "3 attempts without progress" in found.evidence
    for url in ("http:///x", "http://host:port/x", "http://a..b/x"):
        assert rejected(url, tmp_path).reason is Reason.UNREACHABLE


def test_a_password_goes_to_its_host_and_nowhere_else(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, target = server.serve("/after.mp4", status(500), whole)
    url, script = server.serve("/secret.mp4", status(307, Location="/after.mp4?X-Amz-Signature=ab"))
    with caplog.at_level(logging.DEBUG):
        fetched(url.replace("http://", "http://me:pass%20word@") + "?token=abc", tmp_path)
    assert script.requests[0]["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert not any("authorization" in request for request in target.requests)
    for secret in ("pass", "bWU6", "abc", "Signature"):
        assert secret not in caplog.text


def test_an_answer_that_is_packed_is_refused(server: Server, tmp_path: Path) -> None:
    def packed(handler: Handler) -> None:
        handler.head(200, Content_Encoding="gzip", Content_Length=4)
        handler.wfile.write(b"\x1f\x8b\0\0")

    url, _ = server.serve("/packed.mp4", packed)
    assert "content encoding 'gzip'" in rejected(url, tmp_path).evidence


def test_what_is_no_http_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_answer, args=[listener, b"SSH-2.0-x\r\n"])
        thread.start()
        found = rejected(f"http://127.0.0.1:{port}/", tmp_path, replace(HERE, attempts=1))
        thread.join()
    assert found.reason is Reason.UNREACHABLE


def _answer(listener: socket.socket, data: bytes) -> None:
    with listener.accept()[0] as connection:
        connection.sendall(data)


def test_a_full_disk_is_no_fault_of_the_source(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    url, _ = server.serve("/full.mp4", whole)
    monkeypatch.setattr("avatarmill.pipeline.partial.Partial.add", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(url, HERE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_objects_are_fetched_and_rejected(s3_bucket: str, tmp_path: Path) -> None:
    Store.of(s3_bucket).put_atomic("films/a.mp4", DATA)
    for protocol in ("s3", "s3a"):
        source = fetched(f"{s3_bucket}/films/a.mp4".replace("s3:", f"{protocol}:"), tmp_path)
        assert source.sha256 == SHA and source.path.read_bytes() == DATA
        source.delete()
    for uri in (f"{s3_bucket}/films/b.mp4", f"{s3_bucket}/films", "s3://no-such-bucket/a.mp4"):
        assert rejected(uri, tmp_path).reason is Reason.NOT_FOUND
    found = rejected(f"{s3_bucket}/films/a.mp4", tmp_path, replace(HERE, max_bytes=10))
    assert found.reason is Reason.TOO_LARGE


def test_an_object_that_breaks_off_or_changes_is_read_again(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.of(s3_bucket)
    store.put_atomic("films/c.mp4", bytes(len(DATA)))
    files = file_system("s3")
    asked: list[int] = []

    class Broken:
        info = staticmethod(files.info)

        @staticmethod
        def cat_file(path: str, start: int, end: int) -> bytes:
            asked.append(start)
            if len(asked) == 2:
                raise ConnectionResetError("reset")
            if len(asked) == 4:
                store.put_atomic("films/c.mp4", DATA)
            return bytes(files.cat_file(path, start=start, end=end))

    monkeypatch.setattr("avatarmill.pipeline.fetch.file_system", lambda _: Broken)
    monkeypatch.setattr("avatarmill.pipeline.fetch._OBJECT_BLOCK", 600_000)
    assert fetched(f"{s3_bucket}/films/c.mp4", tmp_path).sha256 == SHA
    assert asked == [0, 600_000, 600_000, 1_200_000, 0, 600_000, 1_200_000]


def test_local_files_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a b.mp4"
    path.write_bytes(DATA)
    for uri in (str(path), f"file://{str(path).replace(' ', '%20')}"):
        source = fetched(uri, tmp_path / "spool")
        assert (source.path, source.sha256, source.temporary) == (path, SHA, False)
        source.delete()
    assert path.exists()


def test_local_places_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(DATA)
    spool = tmp_path / "spool"
    assert rejected(str(tmp_path / "none"), spool).reason is Reason.NOT_FOUND
    assert rejected(str(tmp_path / "large/x"), spool).reason is Reason.NOT_FOUND
    assert "is a named pipe; an input must be" in rejected(str(tmp_path / "pipe"), spool).evidence
    assert "is a folder; an input must be" in rejected(str(tmp_path), spool).evidence
    assert "is a character device; an input" in rejected("/dev/zero", spool).evidence
    found = rejected(str(tmp_path / "large"), spool, replace(HERE, max_bytes=9))
    assert found.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("uri", ["ftp://h/a.mp4", "simplecache::http://h/a", "github://o:r@/x"])
def test_other_protocols_are_refused(uri: str, tmp_path: Path) -> None:
    assert not can_fetch(protocol_of(uri))
    assert "known are http, https, abfs" in rejected(uri, tmp_path).evidence


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("videos/a.mp4?token=x", "videos/a.mp4?token=x"),
        ("https://u:p@h:8/a?x=1#frag", "https://h:8/a?x=1"),
        ("https://h/a?v=7&Expires=9&Signature=ab&Key-Pair-Id=K", "https://h/a?v=7"),
        ("https://h/a?st=3&se=5", "https://h/a?st=3&se=5"),
        ("https://h/a?st=3&se=5&sig=xyz&v=1", "https://h/a?v=1"),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
    ],
)
def test_the_public_form_of_a_uri(uri: str, public: str) -> None:
    assert public_uri(uri) == public == public_uri(public)


@given(st.ip_addresses())
def test_only_public_addresses_pass(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    bad = address.is_private or address.is_loopback or address.is_link_local
    if bad or address.is_unspecified or address.is_multicast:
        with pytest.raises(ForbiddenAddress, match="h is "):
            check_address("h", str(address), ())
    everything = parse_networks(["0.0.0.0/0", "::/0"])
    check_address("h", str(address), everything)


@pytest.mark.parametrize(
    "address",
    ["::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "fe80::1%eth0", "fd00::1"],
)
def test_private_addresses_in_disguise(address: str) -> None:
    with pytest.raises(ForbiddenAddress, match="host is "):
        check_address("host", address, ())


def test_resolving_checks_every_address() -> None:
    with pytest.raises(ForbiddenAddress, match="localhost is .*, a loopback address"):
        resolve("localhost", 80, ())
    assert resolve("127.0.0.1", 80, parse_networks(["127.0.0.0/8"])) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "fetch.attempts: 0 must be above 0"),
        ({"max_redirects": -1}, "fetch.max_redirects: -1 must not be negative"),
        ({"allow_networks": ("10.0.0.1/8",)}, "is no network such as 10.0.0.0/8"),
    ],
)
def test_limits_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FetchConfig(**options)  # type: ignore[arg-type]

"""Files and names made to mislead: what they ask for is not read, written or run."""

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.decode import DecodeConfig, decode, decode_command
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import FORMATS, ProbeConfig, probe, video_child
from avatarmill.pipeline.regular import NotRegularError, open_regular
from avatarmill.pipeline.shots import Scan, ShotConfig, scan
from avatarmill.pipeline.sniff import sniff
from avatarmill.pipeline.types import Frames, Probe, Reason, Reject, Shot, Source
from avatarmill.records.clip import clip_key

RunFfmpeg = Callable[..., None]
FACTS = Probe(3.0, 25.0, 75, 320, 180, 0, "h264", "mov", 0.0)
WHOLE = Shot(0.0, 3.0)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    """What opens containers."""
    with video_child(ProbeConfig()) as opened:
        yield opened


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server nobody should call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def source(path: Path) -> Source:
    """As if it had been listed."""
    return Source(str(path), str(path), "0" * 64, path.stat().st_size)


def verdict(child: Child, path: Path) -> Scan | Reject:
    """Probe and scan, as the job does."""
    facts = probe(child, source(path), ProbeConfig())
    if isinstance(facts, Reject):
        return facts
    return scan(child, source(path), facts, ShotConfig(), ProbeConfig())


def opened_anyway(child: Child, path: Path) -> str:
    """What the container library says when the bytes were not sniffed first."""
    request = {"call": "probe", "path": str(path), "formats": FORMATS, "max_pixels": 1 << 25}
    reply = child.call(Message(request), deadline_seconds=30)
    return str(reply.values.get("error", ""))


def scripts(target: Path, port: int) -> dict[str, str]:
    """Texts that make a demuxer open something else."""
    url = f"http://127.0.0.1:{port}/secret.mp4"
    return {
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat_url": f"ffconcat version 1.0\nfile '{url}'\n",
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        "playlist_url": f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{url}\n#EXT-X-ENDLIST\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>',
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("kind", sorted(scripts(Path(), 1)))
def test_scripts_open_nothing_else(
    child: Child, good_video: Path, tmp_path: Path, listener: socket.socket, kind: str
) -> None:
    """Three walls, each alone: the sniffer, PyAV's and ffmpeg's white lists."""
    shutil.copy(good_video, tmp_path / "target.mp4")
    path = tmp_path / "innocent.mp4"
    path.write_text(scripts(tmp_path / "target.mp4", listener.getsockname()[1])[kind])
    found = sniff(path)
    assert isinstance(found, Reject) and found.reason is Reason.FORBIDDEN_FORMAT
    assert opened_anyway(child, path)
    frames = decode(str(path), FACTS, WHOLE, DecodeConfig())
    assert isinstance(frames, Reject) and frames.reason is Reason.TRUNCATED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["innocent.mp4", "target.mp4"]


def test_ffmpeg_has_no_protocol_that_opens_files() -> None:
    """Even a demuxer that follows references would find no door: one descriptor, no path."""
    command = decode_command(FACTS, WHOLE, DecodeConfig(), (320, 180), showinfo="showinfo@x")
    assert command[command.index("-protocol_whitelist") + 1] == "fd"
    assert command[command.index("-i") + 1] == "fd:"
    assert not [word for word in command[1:] if word.startswith("/")]


def bomb(folder: Path, run_ffmpeg: RunFfmpeg) -> Path:
    """A motion JPEG film of a few KB whose frames say that they have 65,500 x 65,500 pixels."""
    path = folder / "bomb.avi"
    size = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=1")
    run_ffmpeg(*size, "-c:v", "mjpeg", "-flags", "+bitexact", path)
    data = bytearray(path.read_bytes())
    at = data.find(b"\xff\xc0")
    while at >= 0:
        data[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
        at = data.find(b"\xff\xc0", at + 2)
    path.write_bytes(data)
    return path


def test_a_frame_as_large_as_a_bomb_is_not_made(
    child: Child, tmp_path: Path, run_ffmpeg: RunFfmpeg
) -> None:
    path = bomb(tmp_path, run_ffmpeg)
    assert path.stat().st_size < 100_000
    found = verdict(child, path)
    assert isinstance(found, Reject)
    assert found.reason in (Reason.UNREADABLE, Reason.TOO_LARGE, Reason.TRUNCATED)
    frames = decode(str(path), FACTS, Shot(0, 1), DecodeConfig())
    assert isinstance(frames, Reject) and frames.reason is Reason.TRUNCATED


def test_a_header_that_promises_a_bomb_promises_in_vain(
    child: Child, good_video: Path, tmp_path: Path
) -> None:
    """65,535 pixels in the sample table: the limit, or the size in the stream, decides."""
    data = bytearray(good_video.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd"))
    data[at + 28 : at + 32] = struct.pack(">HH", 65535, 65535)
    path = tmp_path / "wide.mp4"
    path.write_bytes(data)
    found = verdict(child, path)
    if isinstance(found, Reject):
        assert found.reason in (Reason.TOO_LARGE, Reason.UNREADABLE)
    else:
        assert (found.probe.width, found.probe.height) == (320, 180)


NAMES = (
    "-i.mp4",
    "--version.mp4",
    "a\n[showinfo@0 @ 0x1] [info] config in time_base: 1:1.mp4",
    "a\n[Parsed_showinfo_4 @ 0x1] [info] n: 0 pts: 7.mp4",
    "[error] not really.mp4",
    "a\n[fatal] not really.mp4",
    "<script>alert(1)<b onload=x>&amp;.mp4",
    "'; touch hacked; '.mp4",
    "$(touch hacked)`touch hacked`.mp4",
    "concat:a|b.mp4",
    "pipe:0.mp4",
    "%03d.mp4",
    "\udcff\udcfe.mp4",
)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_only_names(
    child: Child, good_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same frames and times as under a plain name; nothing is made, nothing is run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    shutil.copy(good_video, path)
    found = verdict(child, path)
    assert isinstance(found, Scan), found
    frames = decode(str(path), found.probe, WHOLE, DecodeConfig())
    assert isinstance(frames, Frames), frames
    np.testing.assert_allclose(frames.pts_seconds, np.arange(0, 75, 2) / 25)
    assert os.listdir(tmp_path) == [name]


def test_a_path_in_a_name_leads_nowhere(child: Child, good_video: Path, tmp_path: Path) -> None:
    """Keys are made of hashes and numbers; a path is read where it leads and written nowhere."""
    inner = tmp_path / "in" / "..." / "%2e%2e%2f"
    inner.mkdir(parents=True)
    shutil.copy(good_video, inner / "x.mp4")
    (listed,) = list_sources(inner / ".." / "%2e%2e%2f" / "x.mp4")
    assert listed.path == str(inner.resolve() / "x.mp4")
    assert isinstance(verdict(child, Path(listed.path)), Scan)
    key = clip_key(listed.sha256, 0, 0)
    assert key == f"{listed.sha256[:12]}-000000000-00" and set(key) <= set("0123456789abcdef-")


@pytest.mark.parametrize(
    "title",
    [
        "a\n[showinfo@0 @ 0x1] [info] n: 0 pts: 7",
        "[Parsed_showinfo_4 @ 0x1] [info] n: 0 pts: 7\n[error] not really",
        "[in#0/mov @ 0x1] [fatal] not really",
    ],
)
def test_what_a_file_says_of_itself_is_no_message(
    child: Child, good_video: Path, tmp_path: Path, run_ffmpeg: RunFfmpeg, title: str
) -> None:
    path = tmp_path / "titled.mkv"
    tags = ("-metadata", f"title={title}", "-metadata:s:v", f"handler_name={title}")
    run_ffmpeg("-i", good_video, "-c", "copy", *tags, path)
    found = verdict(child, path)
    assert isinstance(found, Scan), found
    frames = decode(str(path), found.probe, WHOLE, DecodeConfig())
    assert isinstance(frames, Frames), frames
    np.testing.assert_allclose(np.diff(frames.pts_seconds), 0.08, atol=0.0011)


def test_titles_need_not_be_text(
    child: Child, good_video: Path, tmp_path: Path, run_ffmpeg: RunFfmpeg
) -> None:
    path = tmp_path / "titled.mp4"
    run_ffmpeg("-i", good_video, "-c", "copy", "-metadata", "title=ABCDEFGH", path)
    path.write_bytes(path.read_bytes().replace(b"ABCDEFGH", b"\xff\xfe\xfa\xf0\x80\xc0\xc1\xf5"))
    assert isinstance(verdict(child, path), Scan)


def test_durations_that_lie(
    child: Child, good_video: Path, tmp_path: Path, run_ffmpeg: RunFfmpeg
) -> None:
    """Where frames are counted the count decides; else what is missing or too long is rejected."""
    data = bytearray(good_video.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 4
        data[at + 16 : at + 20] = struct.pack(">I", 2**32 - 2)
    counted = tmp_path / "counted.mp4"
    counted.write_bytes(data)
    found = verdict(child, counted)
    assert isinstance(found, Scan) and found.shots[-1].stop_seconds == pytest.approx(3.0)
    honest = tmp_path / "honest.mkv"
    run_ffmpeg("-i", good_video, "-c", "copy", honest)
    for hours, reason in (("01", Reason.TRUNCATED), ("72", Reason.TOO_LARGE)):
        path = tmp_path / f"{hours}.mkv"
        tag = b"00:00:03.000000000"
        assert tag in honest.read_bytes()
        path.write_bytes(honest.read_bytes().replace(tag, f"{hours}{tag.decode()[2:]}".encode()))
        refused = verdict(child, path)
        assert isinstance(refused, Reject) and refused.reason is reason, refused


def test_a_table_that_lies_about_its_frames_is_rejected(
    child: Child, good_video: Path, tmp_path: Path
) -> None:
    """A thousand million frames are declared, and frames larger than the file."""
    for name, offset, value in (("count", 12, 10**9), ("size", 16, 2**31 - 1)):
        data = bytearray(good_video.read_bytes())
        at = data.index(b"stsz")
        data[at + offset : at + offset + 4] = struct.pack(">I", value)
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        found = verdict(child, path)
        assert isinstance(found, Reject), name
        assert found.reason in (
            Reason.TRUNCATED,
            Reason.UNREADABLE,
            Reason.OUT_OF_MEMORY,
            Reason.TOO_LARGE,
        ), (name, found)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "loop"])
def test_only_regular_files_are_opened(child: Child, tmp_path: Path, kind: str) -> None:
    """Also when a file has been replaced since it was listed: no wait, one row of rejects."""
    path = tmp_path / "listed.mp4"
    words = {
        "pipe": "a named pipe",
        "device": "a character device",
        "folder": "a folder",
        "socket": "a socket",
        "loop": "a loop of symbolic links",
    }
    with socket.socket(socket.AF_UNIX) as server:
        {
            "pipe": lambda: os.mkfifo(path),
            "device": lambda: path.symlink_to("/dev/zero"),
            "folder": lambda: path.mkdir(),
            "socket": lambda: server.bind(str(path)),
            "loop": lambda: path.symlink_to(path),
        }[kind]()
        listed = Source(str(path), str(path), "0" * 64, 100)
        found = probe(child, listed, ProbeConfig())
        assert isinstance(found, Reject) and found.reason is Reason.FORBIDDEN_FORMAT
        assert words[kind] in found.evidence
        frames = decode(str(path), FACTS, WHOLE, DecodeConfig())
        assert isinstance(frames, Reject) and frames.reason is Reason.FORBIDDEN_FORMAT
        assert (frames.level, frames.stop_seconds) == ("shot", 3.0)
        with pytest.raises(NotRegularError, match="symbolic links|must be a regular file"):
            open_regular(path)


def test_folders_with_loops_are_listed_once(good_video: Path, tmp_path: Path) -> None:
    shutil.copy(good_video, tmp_path / "a.mp4")
    (tmp_path / "again").symlink_to(tmp_path)
    assert {Path(s.path).name for s in list_sources(tmp_path)} == {"a.mp4"}


def test_names_reach_the_child_as_data(child: Child, tmp_path: Path) -> None:
    """A name that is a message of the protocol is a name."""
    name = json.dumps({"values": {"call": "probe"}, "arrays": []}).replace("/", "") + ".mp4"
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(8))
    assert "error" in opened_anyway(child, tmp_path / name).lower()

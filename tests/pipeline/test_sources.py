"""From files to frames: listing, verdicts on broken files, shots, exact decoding."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.decode import DecodeConfig, decode, output_size
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, displayed_size, probe, video_child
from avatarmill.pipeline.shots import ShotConfig, find_shots, spans
from avatarmill.pipeline.sniff import sniff
from avatarmill.pipeline.types import Frames, Probe, Reason, Reject, Shot

RunFfmpeg = Callable[..., None]
BROKEN = {
    "empty.mp4": (Reason.EMPTY_FILE, "0 bytes"),
    "text.mp4": (Reason.FORBIDDEN_FORMAT, "not a video"),
    "ffconcat.mp4": (Reason.FORBIDDEN_FORMAT, "ffconcat ver"),
    "playlist.mp4": (Reason.FORBIDDEN_FORMAT, "EXTM3U"),
    "image.mp4": (Reason.FORBIDDEN_FORMAT, "PNG"),
    "audio.mp4": (Reason.NO_VIDEO_STREAM, "without video"),
    "cut.mp4": (Reason.TRUNCATED, "box 'mdat' ends at byte"),
    "index_lost.mp4": (Reason.TRUNCATED, "box 'mdat' ends at byte"),
    "zeroed.mp4": (Reason.TRUNCATED, "of 75 declared"),
    "flipped.mp4": (Reason.TRUNCATED, "of 75 declared"),
    "cut.mkv": (Reason.TRUNCATED, "declared"),
}

OPENER = video_child(ProbeConfig())


@pytest.fixture(scope="module", autouse=True)
def close_opener() -> Iterator[None]:
    """Ends the child that all tests share; it starts on first use."""
    yield
    OPENER.close()


def verdict(path: Path) -> tuple[Probe, list[Shot]] | Reject:
    """The file's facts and shots, or why it has none."""
    (source,) = list_sources(path)
    facts = probe(OPENER, source, ProbeConfig())
    if isinstance(facts, Reject):
        return facts
    shots = find_shots(OPENER, source, facts, ShotConfig(), ProbeConfig())
    return shots if isinstance(shots, Reject) else (facts, shots)


def accepted(path: Path) -> tuple[Probe, list[Shot]]:
    found = verdict(path)
    assert not isinstance(found, Reject), found
    return found


def decoded(path: Path, **config: float) -> Frames:
    """All frames of a file taken as one shot."""
    facts, shots = accepted(path)
    whole = Shot(shots[0].start_seconds, shots[-1].stop_seconds)
    frames = decode(str(path), facts, whole, DecodeConfig(**config))  # type: ignore[arg-type]
    assert not isinstance(frames, Reject), frames
    return frames


def times_by_pyav(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    with av.open(str(path)) as container:
        return np.array([float(frame.time) for frame in container.decode(video=0)])


def test_broken_files_each_have_their_reason(broken_videos: Path) -> None:
    assert {p.name for p in broken_videos.iterdir()} == set(BROKEN)
    for name, (reason, evidence) in BROKEN.items():
        found = verdict(broken_videos / name)
        assert isinstance(found, Reject), name
        assert (found.reason, found.level) == (reason, "source"), (name, found)
        assert evidence in found.evidence, (name, found)


def test_the_children_outlive_broken_files(broken_videos: Path, good_video: Path) -> None:
    with video_child(ProbeConfig()) as child:
        for source in list_sources([broken_videos, good_video]):
            facts = probe(child, source, ProbeConfig())
            if not isinstance(facts, Reject):
                find_shots(child, source, facts, ShotConfig(), ProbeConfig())
        assert isinstance(facts, Probe), "the good file is listed last and still opens"


@pytest.mark.parametrize(
    ("limit", "evidence"),
    [
        ({"max_pixels": 1000}, "320x180 pixels, limit 1000"),
        ({"max_duration_seconds": 1.0}, "3 s, limit 1 s"),
        ({"max_bytes": 1000}, "bytes, limit 1000"),
    ],
)
def test_limits_of_a_file(good_video: Path, limit: dict[str, float], evidence: str) -> None:
    config = ProbeConfig(**limit)  # type: ignore[arg-type]
    (source,) = list_sources(good_video)
    with video_child(config) as child:
        found = probe(child, source, config)
    assert isinstance(found, Reject)
    assert found.reason in (Reason.TOO_LARGE, Reason.UNREADABLE)
    assert evidence in found.evidence or found.reason is Reason.UNREADABLE


def test_a_probe_that_hangs_costs_its_deadline(good_video: Path) -> None:
    (source,) = list_sources(good_video)
    config = ProbeConfig(deadline_seconds=1e-6)
    with video_child(config) as child:
        found = probe(child, source, config)
    assert isinstance(found, Reject) and found.reason is Reason.TIMED_OUT


def test_config_mistakes_name_the_field() -> None:
    with pytest.raises(ValueError, match="ProbeConfig.max_bytes is 0"):
        ProbeConfig(max_bytes=0)
    with pytest.raises(ValueError, match="DecodeConfig.fps is -1"):
        DecodeConfig(fps=-1)
    with pytest.raises(ValueError, match="longest_seconds"):
        ShotConfig(longest_seconds=0.1)


def test_every_input_is_listed_once(tmp_path: Path, good_video: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "a.MOV", "sub/c.webm", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    names = [Path(s.uri).name for s in list_sources(tmp_path)]
    assert names == ["a.MOV", "b.mp4", "c.webm"]
    listing = tmp_path / "list.txt"
    listing.write_text("# comment\nb.mp4\n\nb.mp4\n")
    assert [s.size_bytes for s in list_sources(listing)] == [5]
    table = pa.table({"uri": ["b.mp4"], "licence": ["CC0"], "consent": [None]})
    pq.write_table(table, tmp_path / "list.parquet")
    (source,) = list_sources(tmp_path / "list.parquet")
    assert (source.licence, source.consent, Path(source.path).name) == ("CC0", "", "b.mp4")
    pq.write_table(pa.table({"file": ["b.mp4"]}), tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="it needs 'uri' or 'path'"):
        list_sources(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match="does not exist"):
        list_sources(tmp_path / "nothing.mp4")


def test_sniffing_knows_the_containers(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    assert sniff(good_video) == "iso"
    for name, family in (("a.mkv", "matroska"), ("a.avi", "avi"), ("a.ts", "mpegts")):
        run_ffmpeg("-i", good_video, "-t", "1", "-c", "copy", tmp_path / name)
        assert sniff(tmp_path / name) == family
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[:-500])
    found = sniff(tmp_path / "cut.avi")
    assert isinstance(found, Reject) and found.reason is Reason.TRUNCATED


@given(st.binary(max_size=300))
def test_sniffing_any_bytes_ends_in_a_verdict(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("sniff") / "any"
    path.write_bytes(b"\x00\x00\x00\x10ftyp" + data)
    found = sniff(path)
    assert found == "iso" or isinstance(found, Reject)


def test_a_hard_cut_is_found_to_the_frame(good_video: Path) -> None:
    _, shots = accepted(good_video)
    assert [(s.start_seconds, s.stop_seconds) for s in shots] == [(0.0, 2.0), (2.0, 3.0)]


def test_a_dissolve_ends_a_shot_and_a_pan_does_not(tmp_path: Path, run_ffmpeg: RunFfmpeg) -> None:
    path = tmp_path / "dissolve.mp4"
    run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=3"),
        *("-f", "lavfi", "-i", "smptehdbars=s=320x180:r=25:d=3"),
        *("-filter_complex", "[0][1]xfade=transition=fade:duration=0.64:offset=2"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", path),
    )
    _, shots = accepted(path)
    assert len(shots) == 2
    assert 1.8 <= shots[0].stop_seconds <= 2.2 and 2.4 <= shots[1].start_seconds <= 2.9
    pan = tmp_path / "pan.mp4"
    run_ffmpeg(
        *("-f", "lavfi", "-i", "mandelbrot=s=960x180:r=25:start_scale=1"),
        *("-vf", "trim=duration=3,crop=320:180:x=100*t:y=0"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", pan),
    )
    assert len(accepted(pan)[1]) == 1


@given(
    st.integers(2, 400),
    st.sets(st.integers(1, 399), max_size=5),
    st.floats(0.5, 20),
)
def test_spans_cover_all_frames_once(count: int, cuts: set[int], longest: float) -> None:
    pts = np.arange(count) / 25 + 1.5
    rows = np.array([(c, c) for c in sorted(cuts) if c < count], np.int64).reshape(-1, 2)
    shots = spans(pts, rows, 25.0, longest)
    inside = [sum(s.start_seconds <= t < s.stop_seconds for s in shots) for t in pts]
    assert inside == [1] * count
    assert shots[0].start_seconds == pts[0]
    assert shots[-1].stop_seconds == pytest.approx(pts[-1] + 0.04)
    assert all(s.stop_seconds - s.start_seconds <= longest + 0.081 for s in shots)


def test_decoded_times_are_those_of_the_container(good_video: Path) -> None:
    frames = decoded(good_video, fps=100)
    np.testing.assert_allclose(frames.pts_seconds, times_by_pyav(good_video), atol=1e-9)
    assert frames.images.shape == (75, 180, 320, 3)


def test_decoded_pixels_are_those_of_pyav(good_video: Path) -> None:
    frames = decoded(good_video, fps=100)
    with av.open(str(good_video)) as container:
        for row, frame in enumerate(container.decode(video=0)):
            if row % 25 == 0:
                other = frame.to_ndarray(format="rgb24").astype(int)
                # Chroma is scaled by other filters: close, and closer than any other frame.
                distance = np.abs(frames.images.astype(np.int16) - other).mean((1, 2, 3))
                assert distance.argmin() == row and distance[row] < 5


def test_a_lower_rate_keeps_evenly_spaced_frames(good_video: Path) -> None:
    for fps, step in ((10, 0.08), (8, 0.12), (5, 0.2)):
        pts = decoded(good_video, fps=fps).pts_seconds
        np.testing.assert_allclose(np.diff(pts), step, atol=1e-9)


def test_shots_of_a_file_share_no_frame(good_video: Path) -> None:
    facts, shots = accepted(good_video)
    times = []
    for shot in shots:
        frames = decode(str(good_video), facts, shot, DecodeConfig(fps=100))
        assert isinstance(frames, Frames)
        times += list(frames.pts_seconds)
    np.testing.assert_allclose(times, times_by_pyav(good_video), atol=1e-9)


def test_uneven_frame_times_stay_exact(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    path = tmp_path / "uneven.mp4"
    run_ffmpeg(
        *("-i", good_video, "-vf", r"select='mod(n\,3)+eq(mod(n\,7)\,0)'", "-fps_mode", "vfr"),
        *("-c:v", "libx264", "-preset", "veryfast", path),
    )
    truth = times_by_pyav(path)
    assert len(set(np.diff(truth).round(3))) > 1
    np.testing.assert_allclose(decoded(path, fps=100).pts_seconds, truth, atol=1e-9)


def test_rotation_and_sample_aspect_are_honoured(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    turned, wide = tmp_path / "turned.mp4", tmp_path / "wide.mp4"
    run_ffmpeg("-display_rotation", "90", "-i", good_video, "-c", "copy", turned)
    run_ffmpeg(
        *("-i", good_video, "-t", "1", "-vf", "setsar=2"),
        *("-c:v", "libx264", "-preset", "veryfast", wide),
    )
    upright = decoded(good_video).images
    np.testing.assert_allclose(
        decoded(turned).images.mean((0, 1, 2)), upright.mean((0, 1, 2)), atol=2
    )
    left = np.rot90(upright[0]).astype(int)
    assert np.abs(decoded(turned).images[0].astype(int) - left).mean() < 3
    assert decoded(wide, max_side=320).images.shape[1:] == (90, 320, 3)


def test_transport_streams_keep_their_first_frames(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    path = tmp_path / "stream.ts"
    run_ffmpeg("-i", good_video, "-c", "copy", path)
    frames = decoded(path, fps=100)
    np.testing.assert_allclose(frames.pts_seconds, times_by_pyav(path), atol=1e-6)


def test_odd_names_are_names(tmp_path: Path, good_video: Path) -> None:
    for name in ("concat:a|b.mp4", "-i.mp4", "a b'%d<b>.mp4"):
        path = tmp_path / name
        path.write_bytes(good_video.read_bytes())
        assert len(decoded(path).images) > 0


def test_a_short_shot_is_too_short(good_video: Path) -> None:
    facts, _ = accepted(good_video)
    found = decode(str(good_video), facts, Shot(0.5, 0.7), DecodeConfig())
    assert isinstance(found, Reject)
    assert (found.reason, found.level, found.start_seconds) == (Reason.TOO_SHORT, "shot", 0.5)


def test_decoding_a_broken_file_gives_no_frames(broken_videos: Path, good_video: Path) -> None:
    facts, _ = accepted(good_video)
    for name in ("zeroed.mp4", "flipped.mp4", "ffconcat.mp4"):
        found = decode(str(broken_videos / name), facts, Shot(0, 3), DecodeConfig())
        assert isinstance(found, Reject) and found.reason is Reason.TRUNCATED, name


def test_decoding_stops_at_its_deadline(good_video: Path) -> None:
    facts, _ = accepted(good_video)
    config = DecodeConfig(deadline_base_seconds=0.0, deadline_per_second=1e-6)
    found = decode(str(good_video), facts, Shot(0, 3), config)
    assert isinstance(found, Reject) and found.reason is Reason.TIMED_OUT


def test_sizes() -> None:
    assert displayed_size(720, 576, 16 / 15, 90) == (576, 768)
    assert output_size(1920, 1080, 960) == (960, 540)
    assert output_size(100, 50, 960) == (100, 50)


@pytest.mark.real
@pytest.mark.parametrize("name", ["talking_head", "street_5fps", "noperson_kitchen"])
def test_real_clips_are_not_called_broken(real_videos: Path, name: str) -> None:
    """An edit list that starts in the middle, five frames in all, a plain one."""
    _, shots = accepted(real_videos / f"{name}.mp4")
    assert len(shots) == 1


def test_a_film_is_found_beside_a_cover_picture_and_a_song_has_none(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    cover, song, film = tmp_path / "cover.jpg", tmp_path / "song.mp4", tmp_path / "film.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1", cover)
    pieces = ("-i", cover, "-map", "0", "-map", "1", "-c:v:0", "mjpeg")
    run_ffmpeg(
        *("-f", "lavfi", "-i", "sine=d=2", *pieces[:2], "-map", "0:a", "-map", "1:v"),
        *("-c:v", "mjpeg", "-disposition:v:0", "attached_pic", song),
    )
    found = verdict(song)
    assert isinstance(found, Reject) and found.reason is Reason.NO_VIDEO_STREAM, found
    # The picture comes first, and players show the film all the same.
    run_ffmpeg(*pieces[:2], "-i", good_video, *pieces[2:], "-c:v:1", "copy", film)
    facts, _ = accepted(film)
    assert (facts.stream, facts.width, facts.height) == (1, 320, 180)
    assert decoded(film, fps=25.0).images.shape == (75, 180, 320, 3)


def test_an_avi_with_dropped_frames_is_whole_and_a_cut_one_is_not(
    tmp_path: Path, good_video: Path, run_ffmpeg: RunFfmpeg
) -> None:
    path = tmp_path / "dropped.avi"
    # Every fifth frame is missing: its slot is there, counted by the header, and empty.
    run_ffmpeg(
        *("-i", good_video, "-vf", "select='mod(n,5)'", "-fps_mode", "vfr"),
        *("-c:v", "mpeg4", "-g", "10", path),
    )
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 75
    facts, _ = accepted(path)
    assert facts.num_frames == 60
    data = path.read_bytes()
    kept = data[: len(data) * 2 // 3]
    for rest, evidence in ((b"", "RIFF of"), (bytes(len(data) - len(kept)), "of 75 declared")):
        (tmp_path / "cut.avi").write_bytes(kept + rest)
        found = verdict(tmp_path / "cut.avi")
        assert isinstance(found, Reject) and found.reason is Reason.TRUNCATED, found
        assert evidence in found.evidence

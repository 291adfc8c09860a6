"""Decoding against other decoders and known pixels: times, fields, turns, devices, limits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.pipeline.decode import DecodeConfig, check_device, decode, decode_command
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import Scan, ShotConfig, scan
from avatarmill.pipeline.types import Frames, Probe, Reason, Reject, Shot
from avatarmill.synth.film import Film, FilmConfig
from avatarmill.synth.frames import WildConfig
from avatarmill.synth.render import RenderConfig
from avatarmill.synth.video import Encoding, Timing, write_video

RunFfmpeg = Callable[..., None]
Images = NDArray[np.uint8]

OPENER = video_child(ProbeConfig())
FACTS = Probe(1.0, 25.0, 25, 320, 180, 0, "h264", "mov", 0.0)


@pytest.fixture(scope="module", autouse=True)
def close_opener() -> Iterator[None]:
    """Ends the child that all tests share; it starts on first use."""
    yield
    OPENER.close()


def scanned(path: Path) -> Scan:
    """What the first pass makes of a sound file."""
    (source,) = list_sources(path)
    facts = probe(OPENER, source, ProbeConfig())
    assert not isinstance(facts, Reject), facts
    found = scan(OPENER, source, facts, ShotConfig(longest_seconds=1e6), ProbeConfig())
    assert not isinstance(found, Reject), found
    return found


def whole(path: Path, config: DecodeConfig) -> Frames:
    """All frames of a file, its shots taken as one."""
    found = scanned(path)
    span = Shot(found.shots[0].start_seconds, found.shots[-1].stop_seconds)
    frames = decode(str(path), found.probe, span, config)
    assert not isinstance(frames, Reject), frames
    return frames


def moving_bars(count: int, height: int = 96, width: int = 160) -> Images:
    """[F, H, W, 3]: bright upright bars that move by six pixels a picture."""
    columns = np.arange(width)[None, :] - 6 * np.arange(count)[:, None]
    line = np.where(columns % 40 < 20, 220, 30).astype(np.uint8)
    return np.repeat(np.repeat(line[:, None, :, None], height, 1), 3, 3)


def combing(images: Images) -> float:
    """How unlike each row is to the rows around it: large where two instants are woven."""
    rows = images.astype(np.float32)
    return float(np.abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) / 2).mean())


@pytest.mark.parametrize("defect", ["odd_rate", "variable_rate"])
def test_times_of_films_are_exact(tmp_path: Path, defect: str) -> None:
    """Against PyAV's times of the same frames, and against what the film was written with."""
    wild = WildConfig(24, width=96, height=64, render=RenderConfig(1, 0, 6))
    film = Film(5, FilmConfig(wild, (defect,), anchors=0))  # type: ignore[arg-type]
    path = tmp_path / "film.mp4"
    write_video(path, film.frames(), fps=film.form.fps, encoding=film.form.encoding)
    with av.open(str(path)) as container:
        theirs = np.array([float(frame.time) for frame in container.decode(video=0)])
    ours = whole(path, DecodeConfig(fps=100)).pts_seconds
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(ours, film.form.timing.seconds, atol=1e-9)


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("filter_name", ["bwdif", "yadif"])
def test_fields_are_parted(tmp_path: Path, order: str, filter_name: str) -> None:
    instants = moving_bars(40)
    woven = instants[::2].copy()
    late = 1 if order == "tff" else 0
    woven[:, late::2] = instants[1::2, late::2]
    path = tmp_path / "fields.mp4"
    encoding = Encoding(crf=12, field_order=order, timing=Timing.regular(20, 25))  # type: ignore[arg-type]
    write_video(path, woven, fps=25, encoding=encoding)
    assert scanned(path).probe.interlaced_frames == 20
    config = DecodeConfig(fps=100, deinterlace=filter_name)  # type: ignore[arg-type]
    frames = whole(path, config)
    raw = whole(path, DecodeConfig(fps=100, deinterlace="none"))
    assert len(frames.images) == len(raw.images) == 20
    np.testing.assert_array_equal(frames.pts_seconds, raw.pts_seconds)
    assert combing(raw.images) > 10 and combing(frames.images) < 0.25 * combing(raw.images)
    # The first field's instant is what stays.
    first, second = (np.abs(frames.images - instants[k::2].astype(float)).mean() for k in (0, 1))
    assert first < 0.5 * second


def test_progressive_frames_are_left_alone(good_video: Path) -> None:
    assert scanned(good_video).probe.interlaced_frames == 0
    command = decode_command(FACTS, Shot(0, 1), DecodeConfig(), (320, 180), showinfo="showinfo@x")
    assert not any("bwdif" in word for word in command)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_woven_frames_are_parted_before_they_are_turned(
    tmp_path: Path, run_ffmpeg: RunFfmpeg, turn: int
) -> None:
    """ffmpeg itself turns first, which makes columns of the fields."""
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    instants = moving_bars(24)
    woven = instants[::2].copy()
    woven[:, 1::2] = instants[1::2, 1::2]
    woven[:, :30, :40] = 255  # what says which way is up
    encoding = Encoding(crf=12, field_order="tff", timing=Timing.regular(12, 25))
    write_video(flat, woven, fps=25, encoding=encoding)
    run_ffmpeg("-display_rotation", str(turn), "-i", flat, "-c", "copy", turned)
    straight = whole(flat, DecodeConfig(fps=100)).images
    expected = np.rot90(straight, turn // 90, axes=(1, 2))
    found = whole(turned, DecodeConfig(fps=100)).images
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).mean() < 2


def test_hardware_flags_reach_ffmpeg() -> None:
    config = DecodeConfig(hwaccel="vaapi", hwaccel_device="/dev/dri/renderD128")
    command = decode_command(FACTS, Shot(0, 1), config, (320, 180), showinfo="showinfo@x")
    before_input = command[: command.index("-i")]
    assert before_input[before_input.index("-hwaccel") + 1] == "vaapi"
    assert before_input[before_input.index("-hwaccel_device") + 1] == "/dev/dri/renderD128"
    plain = decode_command(FACTS, Shot(0, 1), DecodeConfig(), (320, 180), showinfo="showinfo@x")
    assert "-hwaccel" not in plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hwaccel": "cuda -i /etc/passwd"}, "hwaccel is 'cuda -i"),
        ({"hwaccel": "cuda", "hwaccel_device": "0,loglevel=quiet"}, "hwaccel_device is"),
        ({"hwaccel_device": "0"}, "needs hwaccel"),
        ({"deinterlace": "weave"}, "allowed: bwdif, yadif, none"),
        ({"max_frames_bytes": 0}, "max_frames_bytes is 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodeConfig(**settings)  # type: ignore[arg-type]


def test_a_missing_device_is_said_and_no_frame_is_blamed(good_video: Path) -> None:
    """`amf` needs a driver for Windows cards, `nonsense` is no device at all."""
    for name in ("amf", "nonsense"):
        with pytest.raises(ValueError, match=f"hwaccel '{name}' does not work on this machine: ."):
            decode(str(good_video), FACTS, Shot(0, 1), DecodeConfig(hwaccel=name))
    with pytest.raises(ValueError, match="Leave it empty to decode in software"):
        check_device("nonsense", "7")


def test_frames_that_need_too_much_memory_are_refused(good_video: Path) -> None:
    facts = scanned(good_video).probe
    config = DecodeConfig(fps=100, max_frames_bytes=1 << 20)
    found = decode(str(good_video), facts, Shot(0, 3), config)
    assert isinstance(found, Reject) and found.reason is Reason.TOO_LARGE
    assert "frames of 320x180, limit 1048576 bytes" in found.evidence


def test_a_decoder_that_swells_is_stopped(good_video: Path) -> None:
    facts = scanned(good_video).probe
    config = DecodeConfig(fps=100, memory_limit_bytes=4 << 20)
    found = decode(str(good_video), facts, Shot(0, 3), config)
    assert isinstance(found, Reject) and found.reason is Reason.OUT_OF_MEMORY
    assert "limit 4 MiB" in found.evidence


def test_frames_larger_than_the_limit_are_an_error(good_video: Path) -> None:
    facts = scanned(good_video).probe
    found = decode(str(good_video), facts, Shot(0, 3), DecodeConfig(max_pixels=1000))
    assert isinstance(found, Reject) and found.reason is Reason.TRUNCATED

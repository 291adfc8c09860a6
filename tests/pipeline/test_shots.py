"""Shot boundaries: rules on made pictures, a bench in small on rendered films and real clips."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from avatarmill.pipeline.children.fades import fades
from avatarmill.pipeline.children.picture import Comparer, Picture
from avatarmill.pipeline.children.transitions import TransitionDetector
from avatarmill.pipeline.probe import ProbeConfig, video_child
from avatarmill.pipeline.shots import ShotConfig

Images = NDArray[np.uint8]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script that measures shots, for its films and its scoring."""
    spec = importlib.util.spec_from_file_location(
        "curation_shots", ROOT / "benchmarks" / "curation_shots.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def scene(seed: int, count: int, speed: float = 0.25) -> Images:
    """[F, 90, 160, 3] of a camera that moves slowly over something with structure."""
    rng = np.random.default_rng(seed)
    canvas = np.kron(rng.integers(20, 235, (14, 30, 3)), np.ones((9, 9, 1)))
    starts = np.rint(speed * np.arange(count)).astype(int)
    return np.stack([canvas[10:100, s : s + 160] for s in starts]).astype(np.uint8)


def transitions(images: Images, fps: float = 25.0) -> list[tuple[int, int]]:
    """Rows of a whole film."""
    detector = TransitionDetector(fps, strength=0.46, shortest_seconds=0.2)
    for image in images:
        detector.push(image)
    return [(int(begin), int(end)) for begin, end in detector.transitions()]


def mixed(a: Images, b: Images, length: int) -> Images:
    """Dissolve from a to b."""
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    middle = (1 - share) * a[-length:] + share * b[:length]
    return np.concatenate([a[:-length], np.rint(middle).astype(np.uint8), b[length:]])


def test_a_cut_is_one_boundary_at_the_new_frame() -> None:
    film = np.concatenate([scene(1, 30), scene(2, 30)])
    assert transitions(film) == [(30, 30)]


def test_moving_pictures_have_no_boundary() -> None:
    assert transitions(scene(3, 60, speed=1.0)) == []
    assert transitions(scene(3, 30, speed=3.0)) == []


@pytest.mark.parametrize("length", [6, 12, 24])
def test_a_dissolve_is_found_within_its_length(length: int) -> None:
    film = mixed(scene(4, 30 + length), scene(5, 30 + length), length)
    ((begin, end),) = transitions(film)
    assert 28 <= begin < end <= 32 + length


@pytest.mark.parametrize("color", [0, 255])
def test_a_fade_is_one_boundary(color: int) -> None:
    share = (np.arange(1, 9) / 9)[:, None, None, None]
    a, b = scene(6, 38), scene(7, 38)
    fall = (1 - share) * a[30:] + share * color
    rise = share * b[:8] + (1 - share) * color
    parts = [a[:30], np.rint(fall), np.full((3, *a.shape[1:]), color), np.rint(rise), b[8:]]
    film = np.concatenate(parts).astype(np.uint8)
    ((begin, end),) = transitions(film)
    assert 29 <= begin <= 33 and 46 <= end <= 50


def test_a_flash_is_none_and_a_cut_through_a_flash_is_one() -> None:
    film = scene(8, 60)
    film[30] = 255
    assert transitions(film) == []
    film = np.concatenate([scene(8, 30), np.full((1, 90, 160, 3), 255, np.uint8), scene(9, 30)])
    ((begin, end),) = transitions(film)
    assert 30 <= begin <= end <= 33


def test_light_that_changes_is_no_boundary() -> None:
    gain = np.interp(np.arange(60), (15, 27, 40), (1, 0.4, 1))[:, None, None, None]
    assert transitions((scene(10, 60) * gain).astype(np.uint8)) == []


def test_a_cut_with_a_mixed_frame_is_one_boundary() -> None:
    film = mixed(scene(11, 31), scene(12, 31), 1)
    ((begin, end),) = transitions(film)
    assert 29 <= begin <= end <= 32


def test_pieces_shorter_than_a_shot_belong_to_the_transition() -> None:
    film = np.concatenate([scene(13, 30), scene(14, 4), scene(15, 30)])
    rows = transitions(film)
    assert all(begin - end >= 5 for (_, end), (begin, _) in zip(rows, rows[1:], strict=False))


def test_short_and_empty_films_have_no_boundary() -> None:
    assert transitions(scene(1, 1)) == []
    assert transitions(scene(1, 3)) == []
    black = np.zeros((20, 90, 160, 3), np.uint8)
    assert transitions(black) == []
    assert TransitionDetector(25, strength=0.46, shortest_seconds=0.2).transitions().shape == (0, 2)


def test_unlikeness_ignores_motion_and_light() -> None:
    compare = Comparer().unlikeness
    first, moved = (Picture.of(image) for image in scene(16, 5, speed=1.0)[[0, 4]])
    darker = Picture.of((scene(16, 1)[0] * 0.6).astype(np.uint8))
    other = Picture.of(scene(17, 1)[0])
    assert compare(first, first) == pytest.approx(0, abs=0.15)
    assert compare(first, moved) < 0.3 and compare(first, darker) < 0.3
    assert compare(first, other) > 0.5
    flat = Picture.of(np.full((90, 160, 3), 90, np.uint8))
    assert compare(flat, flat) < 0.2


def test_fades_of_nothing() -> None:
    assert fades([], [], 25) == []
    assert fades([5.0] * 50, [0.5] * 50, 25) == []


def test_the_limit_is_checked() -> None:
    with pytest.raises(ValueError, match=r"ShotConfig.unlikeness is 3.0, must be between 0 and 1"):
        ShotConfig(unlikeness=3.0)


def test_rendered_films_are_cut_where_they_were_joined(bench: ModuleType, tmp_path: Path) -> None:
    """Another camera on the same person, a fade and a dissolve, as the bench scores them."""
    with video_child(ProbeConfig()) as child:
        case = bench.synth_case(3, tmp_path)
        hits, false = bench.matched(case.edges, bench.boundaries(child, case.path))
    assert {edge.kind for edge in case.edges} == {"camera cut", "fade", "dissolve"}
    assert all(hits) and false == 0


def test_each_boundary_is_counted_once(bench: ModuleType) -> None:
    edge = bench.Edge
    edges = [edge("cut", 20, 20), edge("fade", 40, 50)]
    assert bench.matched(edges, [(21, 21), (45, 45)]) == ([True, True], 0)
    assert bench.matched(edges, [(23, 23), (41, 41), (49, 49)]) == ([False, True], 2)


@pytest.mark.real
def test_real_clips_joined(bench: ModuleType, real_videos: Path, tmp_path: Path) -> None:
    film, edges = bench.joined(bench.DEVELOPMENT_CLIPS, 1)
    case = bench._written("joined", "1", film, edges, tmp_path)
    with video_child(ProbeConfig()) as child:
        hits, false = bench.matched(edges, bench.boundaries(child, case.path))
    assert all(hits) and false == 0

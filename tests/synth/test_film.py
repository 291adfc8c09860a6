"""Films: every defect is in the file that is decoded, and the truth says exactly where."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avatarmill.avatar.body import BodyParams
from avatarmill.synth.actor import free_body
from avatarmill.synth.defects import DEFECTS, DefectKind, draw_defects
from avatarmill.synth.film import Film, FilmConfig, SynthFilm, synth_film
from avatarmill.synth.frames import WildConfig, synth_wild
from avatarmill.synth.timeline import Boundary, sample_boundaries, shot_shares, shots_between
from avatarmill.synth.truth import ClipTruth, PersonTruth, read_truth, write_truth
from avatarmill.synth.video import write_video


def wild(num_frames: int, fps: float = 12.0, side: int = 128) -> WildConfig:
    return WildConfig(
        num_frames=num_frames, fps=fps, width=side, height=side, framing="full", places=("street",)
    )


def film_of(
    seed: int, *defects: DefectKind, num_frames: int = 6, fps: float = 12.0, anchors: int = 0
) -> SynthFilm:
    return synth_film(seed, FilmConfig(wild(num_frames, fps), defects, anchors))


def written(folder: Path, seed: int, config: FilmConfig) -> tuple[Path, Path]:
    film = Film(seed, config)
    video, truth = folder / "clip.mp4", folder / "clip.json"
    write_video(video, film.frames(), fps=film.form.fps, encoding=film.form.encoding)
    write_truth(truth, film.truth())
    return video, truth


def decoded(path: Path) -> tuple[list[av.VideoFrame], int, np.ndarray]:
    """Frames, field order and upright pictures, as PyAV reads them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        order = int(stream.codec_context.field_order)
    pictures = [np.rot90(f.to_ndarray(format="rgb24"), int(f.rotation) // 90) for f in frames]
    return frames, order, np.stack(pictures)


def same(first: ClipTruth, second: ClipTruth) -> None:
    names = [name for name in ClipTruth.__dataclass_fields__ if name not in ("people", "ticks")]
    assert all(getattr(first, name) == getattr(second, name) for name in names)
    np.testing.assert_array_equal(first.ticks, second.ticks)
    for one, other in zip(first.people, second.people, strict=True):
        for name in PersonTruth.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_no_defects_are_the_frames_of_synth_wild() -> None:
    shot = wild(3)
    frames, film = synth_wild(5, shot), synth_film(5, FilmConfig(shot, anchors=0))
    person = film.truth.people[0]
    np.testing.assert_array_equal(film.images, frames.images)
    np.testing.assert_array_equal(person.masks, frames.masks)
    for name in ("pose", "shape", "expression", "translation", "intrinsics", "world_to_camera"):
        np.testing.assert_array_equal(getattr(person, name), getattr(frames, name))
    np.testing.assert_allclose(film.truth.pts_seconds, frames.pts_seconds, atol=1e-12)
    assert (person.attributes, person.captions) == (frames.attributes, frames.captions)


MIXES: tuple[tuple[DefectKind, ...], ...] = (
    ("two_people", "cut", "letterbox", "captions", "variable_rate", "rotation"),
    ("half_body", "occluder", "interlace", "low_bitrate"),
    ("odd_rate", "dissolve", "rotation"),
)


@pytest.mark.parametrize("defects", MIXES, ids=lambda mix: mix[0])
def test_the_file_is_what_the_truth_says(tmp_path: Path, defects: Sequence[DefectKind]) -> None:
    num_frames = 22 if {"cut", "dissolve"} & set(defects) else 4
    config = FilmConfig(wild(num_frames), tuple(defects), anchors=64)
    video, path = written(tmp_path, 3, config)
    truth, (frames, order, pictures) = read_truth(path), decoded(video)
    assert [frame.pts for frame in frames] == truth.ticks.tolist()
    assert all(frame.time_base == truth.time_base for frame in frames)
    assert {int(frame.rotation) % 360 for frame in frames} == {truth.rotation}
    assert order == {"progressive": 1, "tff": 2, "bff": 3}[truth.field_order]
    assert all(frame.interlaced_frame == ("interlace" in defects) for frame in frames)
    assert pictures.shape[1:] == (truth.height, truth.width, 3)
    film = synth_film(3, config)
    same(truth, film.truth)
    # Upright and in place: a copy moved by one pixel, turned or mirrored fits worse.
    images = film.images.astype(np.int16)

    def error(moved: np.ndarray) -> float:
        return float(np.abs(moved - pictures).mean())

    moves = [np.roll(images, step, axis) for step in (-1, 1) for axis in (1, 2)]
    moves += [np.rot90(images, 2, axes=(1, 2)), images[:, :, ::-1]]
    # Half of the error of coarse files is blocks.
    margin = 0.98 if "low_bitrate" in defects else 0.9
    assert error(images) < margin * min(map(error, moves))


def test_the_seed_reproduces_the_bytes_of_all_files(tmp_path: Path) -> None:
    config = FilmConfig(wild(16, side=96), ("fade", "two_people", "captions"), anchors=32)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        written(folder, 8, config)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names[0] == "clip.json" and "clip.person1.npz" in names
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_bodies_project_into_their_masks_inside_the_bars() -> None:
    film = film_of(4, "letterbox", "two_people", num_frames=3)
    box = film.truth.letterbox
    assert box is not None
    bars = np.ones(film.images.shape[1:3], bool)
    bars[box.top : box.bottom, box.left : box.right] = False
    assert (film.images[:, bars] == np.array(box.color)).all()
    inside = total = 0
    for person in film.truth.people:
        params = BodyParams(
            torch.from_numpy(person.pose),
            torch.from_numpy(person.shape).expand(len(person), -1),
            torch.from_numpy(person.expression),
            torch.from_numpy(person.translation),
        )
        joints = free_body()(params).joints.numpy()[:, :22] @ person.intrinsics.swapaxes(1, 2)
        at = np.floor(joints[..., :2] / joints[..., 2:]).astype(int)
        # Of both masks: one person may stand before the other.
        anyone = np.max([other.masks for other in film.truth.people], axis=0)
        assert not anyone[:, bars].any()
        for mask, points in zip(anyone, at, strict=True):
            inside += int((mask[points[:, 1], points[:, 0]] > 0).sum())
            total += len(points)
    assert inside > 0.95 * total


def crossing(seed: int) -> SynthFilm:
    return film_of(seed, "two_people", num_frames=13, fps=5.0, anchors=256)


def test_people_cross_and_one_hides_the_other() -> None:
    film = crossing(1)
    one, other = film.truth.people
    assert film.truth.shots[0].people == (0, 1) and one.attributes != other.attributes
    assert len(one) == len(other) == len(film.truth) == 13
    assert not ((one.masks > 0) & (other.masks > 0)).any()
    left = [
        np.sign(np.flatnonzero(a.any(0)).mean() - np.flatnonzero(b.any(0)).mean())
        for a, b in zip(one.masks, other.masks, strict=True)
        if a.any() and b.any()
    ]
    assert left[0] == -left[-1]
    # Whoever is further away loses pixels and anchors where they meet.
    far = one if one.translation[6, 2] > other.translation[6, 2] else other
    area = (far.masks > 0).sum((1, 2))
    assert area.min() < 0.55 * np.median(area)
    seen = far.visibility.sum(1)
    assert seen[area.argmin()] < 0.6 * np.median(seen)


def test_things_in_front_take_pixels_and_anchors() -> None:
    free = film_of(6, num_frames=5, anchors=256).truth.people[0]
    behind = film_of(6, "occluder", num_frames=5, anchors=256).truth
    person = behind.people[0]
    assert behind.shots[0].occluder in ("pole", "table", "box", "plant", "passing")
    np.testing.assert_array_equal(person.pose, free.pose)
    assert not ((person.masks > 0) & (free.masks == 0)).any()
    lost = 1 - (person.masks > 0).sum((1, 2)) / (free.masks > 0).sum((1, 2))
    assert 0.03 < lost.max() <= 1
    assert not (person.visibility & ~free.visibility).any()
    assert person.visibility.sum() < free.visibility.sum()


def test_half_bodies_leave_the_picture() -> None:
    whole = film_of(7, num_frames=2).truth.people[0]
    half = film_of(7, "half_body", num_frames=2).truth.people[0]
    assert (whole.in_image > 0.9).all()
    assert (half.in_image < 0.9).all() and (half.in_image > 0.1).all()


def test_fades_reach_their_color_and_dissolves_mix() -> None:
    fade = film_of(9, "fade", num_frames=24)
    (boundary,) = fade.truth.boundaries
    assert boundary.color in ((0, 0, 0), (255, 255, 255))
    assert (fade.images[boundary.middle] == np.array(boundary.color)).all()
    shares = shot_shares(24, [boundary])
    frames = [person.frames[person.opacity == 1] for person in fade.truth.people]
    assert not set(np.concatenate(frames)) & set(range(boundary.first, boundary.last + 1))
    np.testing.assert_array_equal(shares.max(0)[: boundary.first], 1)
    dissolve = film_of(9, "dissolve", num_frames=24)
    (boundary,) = dissolve.truth.boundaries
    old, new = boundary.shares()
    np.testing.assert_allclose(old + new, 1, atol=1e-6)
    pure = dissolve.images[[boundary.first - 1, boundary.last + 1]].astype(float)
    middle = (boundary.first + boundary.last) // 2 - boundary.first
    mixed = old[middle] * pure[0] + new[middle] * pure[1]
    picture = dissolve.images[boundary.first + middle]
    assert np.abs(picture - mixed).mean() < 0.5 * np.abs(picture - pure[0]).mean()


@pytest.mark.parametrize("seed", range(3))
def test_cuts_are_the_largest_steps(seed: int) -> None:
    film = film_of(seed, "cut", num_frames=16)
    (boundary,) = film.truth.boundaries
    steps = np.abs(np.diff(film.images.astype(int), axis=0)).mean((1, 2, 3))
    assert steps.argmax() == boundary.first - 1
    people = [shot.people for shot in film.truth.shots]
    assert (people[0] == people[1]) == (boundary.change != "person")
    rows = [len(person) for person in film.truth.people]
    assert sum(rows) == 16


def test_interlaced_frames_weave_two_instants() -> None:
    film = film_of(2, "interlace", num_frames=3)
    rows = slice(0, None, 2) if film.truth.field_order == "tff" else slice(1, None, 2)
    late = slice(1, None, 2) if film.truth.field_order == "tff" else slice(0, None, 2)
    # The same scene at twice the rate: frame 2k is the first field, 2k + 1 the second.
    rate = film.truth.fps
    whole = synth_wild(2, wild(2 * len(film.truth), 2 * rate))
    np.testing.assert_array_equal(film.images[:, rows], whole.images[::2, rows])
    np.testing.assert_array_equal(film.images[:, late], whole.images[1::2, late])
    np.testing.assert_array_equal(film.truth.people[0].pose, whole.pose[::2])
    np.testing.assert_array_equal(film.truth.people[0].masks, whole.masks[::2])


def test_text_changes_pixels_in_its_boxes_only() -> None:
    plain, written_on = film_of(12, num_frames=4), film_of(12, "captions", num_frames=4)
    texts = written_on.truth.texts
    assert texts
    for frame in range(4):
        changed = (plain.images[frame] != written_on.images[frame]).any(-1)
        for text in texts:
            left, top, right, bottom = text.box
            assert 0 <= left < right <= 128 and 0 <= top < bottom <= 128
            if text.first <= frame <= text.last:
                assert changed[top:bottom, left:right].any()
                changed[top:bottom, left:right] = False
        assert not changed.any()
    for one, other in zip(plain.truth.people, written_on.truth.people, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)


@pytest.mark.parametrize("seed", range(30))
def test_boundaries_leave_every_frame_one_shot(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(32, 200))
    boundaries = sample_boundaries(rng, count, 24, ("cut", "fade", "dissolve"))
    shots, shares = shots_between(count, boundaries), shot_shares(count, boundaries)
    assert [shot.first for shot in shots[1:]] == [shot.last + 1 for shot in shots[:-1]]
    assert shots[0].first == 0 and shots[-1].last == count - 1
    assert (shares.sum(0) < 1 + 1e-6).all()
    for shot, share in zip(shots, shares, strict=True):
        seen = np.flatnonzero(share)
        assert shot.begin <= seen[0] and seen[-1] < shot.end
        assert (share[shot.first : shot.last + 1] >= share.max() - 1 - 1e-6).all()
    for one, other in zip(boundaries, boundaries[1:], strict=False):
        assert one.last < other.first - 1


def test_mixes_vary_and_fit_together() -> None:
    drawn = [draw_defects(np.random.default_rng(seed), 100) for seed in range(200)]
    assert set(DEFECTS) == {name for mix in drawn for name in mix}
    assert max(map(len, drawn)) == 3 and () in drawn
    for mix in drawn:
        FilmConfig(defects=mix)
    short = [draw_defects(np.random.default_rng(seed), 10) for seed in range(50)]
    assert not {"cut", "fade", "dissolve"} & {name for mix in short for name in mix}


def test_bad_films_are_refused() -> None:
    with pytest.raises(ValueError, match="defect 'snow' is not one of half_body"):
        FilmConfig(defects=("snow",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="interlace and rotation exclude each other"):
        FilmConfig(defects=("interlace", "rotation"))
    with pytest.raises(ValueError, match="anchors 9000 must be"):
        FilmConfig(anchors=9000)
    with pytest.raises(ValueError, match="6 frames are too few for 1 shot boundaries: at least 16"):
        film_of(0, "cut")
    with pytest.raises(RuntimeError, match="needs all frames"):
        Film(0, FilmConfig(wild(2), anchors=0)).truth()


def test_old_truth_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"version": 1}')
    with pytest.raises(ValueError, match="version 1, this reads 2"):
        read_truth(tmp_path / "a.npz")


def test_a_cut_has_no_length() -> None:
    cut = Boundary("cut", 7, 7, "camera")
    assert cut.middle == 7 and [share.tolist() for share in cut.shares()] == [[0.0], [1.0]]

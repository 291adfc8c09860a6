"""Tracks from landmarks: steady bodies pass, everything that only looks like one does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from avatarmill.pipeline.analyse import AnalyseConfig, analyse
from avatarmill.pipeline.boxes import track_boxes
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.people import People, PeopleConfig, find_people, people_child, tracks_of
from avatarmill.pipeline.second_look import look_distance, wide_boxes
from avatarmill.pipeline.steadiness import body_size, core_motion, measure
from avatarmill.pipeline.types import Bytes, Float, Frames, Landmarks, Reason, Reject
from avatarmill.pipeline.verdict import judge, rows_of

HEIGHT, WIDTH = 360, 640


def standing(num_frames: int, *, scale: float = 100.0, x: float = 300.0) -> Landmarks:
    """A person of synthetic landmarks, `scale` pixels a metre, walking slowly to the right."""
    world = np.zeros((33, 3), np.float32)
    sides = {11: 0.2, 13: 0.25, 15: 0.27, 23: 0.12, 25: 0.13, 27: 0.13, 29: 0.13, 31: 0.13}
    heights = {11: -0.5, 13: -0.2, 15: 0.05, 23: 0.0, 25: 0.42, 27: 0.84, 29: 0.9, 31: 0.9}
    for left, side in sides.items():
        world[left], world[left + 1] = (side, heights[left], 0), (-side, heights[left], 0)
    world[:11] = (0, -0.7, -0.1)
    world[7, 0], world[8, 0] = 0.07, -0.07
    for offset in (17, 19, 21):
        world[offset], world[offset + 1] = world[15], world[16]
    walk = np.arange(num_frames, dtype=np.float32)[:, None] * 2
    body = np.ones((num_frames, 33, 4), np.float32)
    body[..., 0] = world[:, 0] * scale + x + walk
    body[..., 1] = world[:, 1] * scale + HEIGHT / 2
    body[..., 2] = world[:, 2] * scale
    face = np.repeat(body[:, :1, :3], 478, 1)
    none = np.full((num_frames, 21, 3), np.nan, np.float32)
    return Landmarks(body, np.repeat(world[None], num_frames, 0), none, none.copy(), face)


def masks_of(landmarks: Landmarks) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    return np.full((len(landmarks.body), HEIGHT, WIDTH), 255, np.uint8)


Judged = tuple[NDArray[np.int64], Landmarks] | Reject


def judged(landmarks: Landmarks, masks: Bytes | None = None) -> Judged:
    """The verdict on a figure where it was found."""
    pts = np.arange(len(landmarks.body), dtype=np.float64) * 0.1
    rows = np.flatnonzero(np.isfinite(landmarks.body[:, 0, 0]))
    masks = masks_of(landmarks) if masks is None else masks
    return judge(rows_of(landmarks, rows), masks[rows], rows, pts, PeopleConfig())


def rows_kept(landmarks: Landmarks) -> list[int]:
    """Rows of the shot, not of the figure."""
    found = judged(landmarks)
    assert not isinstance(found, Reject), found
    rows: list[int] = np.flatnonzero(np.isfinite(landmarks.body[:, 0, 0]))[found[0]].tolist()
    return rows


def reason(found: Judged | People) -> Reason:
    assert isinstance(found, Reject), found
    return found.reason


def without(landmarks: Landmarks, rows: list[int]) -> Landmarks:
    body = landmarks.body.copy()
    body[rows] = np.nan
    return replace(landmarks, body=body)


def test_a_steady_person_is_kept_whole() -> None:
    found = judged(standing(20))
    assert not isinstance(found, Reject)
    assert found[0].tolist() == list(range(20))
    assert found[1].body.shape == (20, 33, 4)


def test_a_gap_is_bridged_and_short_runs_beside_a_long_gap_are_left_out() -> None:
    assert rows_kept(without(standing(20), [9, 10])) == [*range(9), *range(11, 20)]
    assert rows_kept(without(standing(30), [*range(12, 16)])) == [*range(12), *range(16, 30)]
    assert rows_kept(without(standing(30), [*range(12, 28)])) == list(range(12))


def test_what_jumps_away_for_a_moment_is_left_out() -> None:
    landmarks = standing(20)
    landmarks.body[10:12, :, 0] += 150
    landmarks.face[10:12, :, 0] += 150
    assert rows_kept(landmarks) == [*range(10), *range(12, 20)]


def test_flicker_is_too_short() -> None:
    flicker = without(standing(40), [i for i in range(40) if i % 8 > 3])
    assert reason(judged(flicker)) is Reason.TRACK_TOO_SHORT


def test_nobody_and_too_small() -> None:
    frames = Frames(np.zeros((10, HEIGHT, WIDTH, 3), np.uint8), np.arange(10) / 10)
    nobody = tracks_of([], frames, PeopleConfig())
    assert isinstance(nobody, Reject)
    assert (nobody.reason, nobody.level) == (Reason.NO_PERSON, "shot")
    assert nobody.stop_seconds == pytest.approx(1.0)
    assert reason(judged(standing(20, scale=20))) is Reason.PERSON_TOO_SMALL


def broken(landmarks: Landmarks, evidence: str) -> None:
    found = judged(landmarks)
    assert isinstance(found, Reject)
    assert found.reason is Reason.LANDMARKS_DISAGREE
    assert evidence in found.evidence, found


def test_impossible_bodies_disagree() -> None:
    noise = np.random.default_rng(0)
    breathing = standing(30)
    breathing.body_world[...] *= np.exp(noise.normal(0, 0.4, (30, 1, 1)))
    broken(breathing, "limb_deviation")
    lopsided = standing(30)
    lopsided.body_world[:, 13::2] *= 3
    broken(lopsided, "limb_asymmetry")
    faced = standing(30)
    faced.face[..., 0] += 0.25 * 50
    broken(faced, "face_distance")
    crooked = standing(30)
    crooked.body[..., :2] += noise.normal(0, 25, (1, 33, 2))
    broken(crooked, "plane_residual")
    hidden = standing(30)
    hidden.body[..., 3] = 0.2
    broken(hidden, "core_visibility")


def test_the_few_faces_that_a_profile_gives_are_no_evidence_and_are_dropped() -> None:
    profile = standing(30)
    profile.face[...] = np.nan
    profile.face[[5, 6, 20]] = profile.body[[5, 6, 20], :1, :3] + 25
    found = judged(profile)
    assert not isinstance(found, Reject), found
    assert np.isnan(found[1].face).all()


def test_a_mask_beside_the_body_disagrees() -> None:
    landmarks = standing(20)
    empty = np.zeros((20, HEIGHT, WIDTH), np.uint8)
    found = judged(landmarks, empty)
    assert isinstance(found, Reject) and "mask_support" in found.evidence


def test_stray_hands_and_faces_are_dropped() -> None:
    landmarks = standing(20)
    landmarks.left_hand[...] = landmarks.body[:, 15:16, :3]
    landmarks.right_hand[...] = landmarks.body[:, 16:17, :3] + 200
    landmarks.face[3] += 100
    found = judged(landmarks)
    assert not isinstance(found, Reject)
    own = found[1]
    assert np.isfinite(own.left_hand).all() and np.isnan(own.right_hand).all()
    assert np.isnan(own.face[3]).all() and np.isfinite(own.face[4]).all()


@given(st.floats(0.3, 4), st.floats(-100, 100))
def test_measures_do_not_depend_on_size_and_place(scale: float, shift: float) -> None:
    plain, other = standing(8), standing(8)
    other.body[..., :2] = other.body[..., :2] * scale + shift
    other.face[..., :2] = other.face[..., :2] * scale + shift
    np.testing.assert_allclose(core_motion(other.body), core_motion(plain.body), atol=1e-3)
    np.testing.assert_allclose(body_size(other.body), scale * body_size(plain.body), rtol=1e-3)
    masks = masks_of(plain)
    assert measure(other, masks).plane_residual == pytest.approx(
        measure(plain, masks).plane_residual, abs=1e-3
    )


def test_a_mirrored_look_agrees_with_its_body() -> None:
    body = standing(4).body
    swapped: Float = body[..., :2].copy()
    swapped[:, [11, 12, 13, 14, 23, 24, 25, 26]] = swapped[:, [12, 11, 14, 13, 24, 23, 26, 25]]
    looks = [body[..., :2], swapped, np.full_like(swapped, np.nan), swapped + 200]
    distances = [look_distance(body, look)[0] for look in looks]
    assert distances[0] == distances[1] == 0
    assert distances[2] == np.inf and distances[3] > 1


def test_boxes_hold_the_person_and_stay_in_the_image() -> None:
    landmarks = standing(3)
    boxes = track_boxes(landmarks, np.zeros((3, HEIGHT, WIDTH), np.uint8))
    body = landmarks.body
    assert (boxes[:, 0] < body[..., 0].min(1)).all() and (boxes[:, 3] > body[..., 1].max(1)).all()
    assert (boxes >= 0).all() and (boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()
    skirt = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    skirt[:, 200:250, 240:380] = 255
    wider = track_boxes(landmarks, skirt)
    assert (wider[:, 0] < boxes[:, 0]).all()
    everything = track_boxes(landmarks, masks_of(landmarks))
    assert (everything[:, 2] - everything[:, 0] < WIDTH).all(), "a flooded mask is not followed"
    assert (wide_boxes(boxes, WIDTH, HEIGHT)[:, 1] <= boxes[:, 1]).all()


def test_config_mistakes_name_the_field() -> None:
    with pytest.raises(ValueError, match="model_complexity is 3"):
        PeopleConfig(model_complexity=3)
    with pytest.raises(ValueError, match="min_frames is 1"):
        PeopleConfig(min_frames=1)


def test_mediapipe_finds_nobody_in_noise_and_repeats_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As a notebook has it, in whose kernel a job may be started.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    images = np.random.default_rng(0).integers(0, 255, (6, 128, 128, 3), np.uint8)
    frames = Frames(images, np.arange(6) / 10)
    with people_child(PeopleConfig()) as child:
        first, second = (find_people(child, frames, PeopleConfig()) for _ in range(2))
    assert first == second
    assert reason(first) is Reason.NO_PERSON


def test_a_hung_model_costs_the_shot(tmp_path: Path) -> None:
    frames = Frames(np.zeros((6, 64, 64, 3), np.uint8), np.arange(6) / 10)
    config = PeopleConfig(deadline_base_seconds=1e-6, deadline_per_frame=0.0)
    with people_child(config) as child:
        found = find_people(child, frames, config)
    assert isinstance(found, Reject)
    assert (found.reason, found.level) == (Reason.TIMED_OUT, "shot")


@pytest.mark.real
@pytest.mark.parametrize("name", ["fullbody_snow_walk", "street_5fps"])
def test_people_of_real_clips_survive(real_videos: Path, name: str) -> None:
    config = AnalyseConfig(decode=DecodeConfig(fps=5))
    (shot,) = analyse(real_videos / f"{name}.mp4", config)
    assert not isinstance(shot, Reject), shot
    # Others walk in the distance; the clip is about the one who is nearest.
    areas = [float(np.ptp(t.boxes[:, ::2]) * np.ptp(t.boxes[:, 1::2])) for t in shot.tracks]
    track, masks = shot.tracks[int(np.argmax(areas))], shot.masks[int(np.argmax(areas))]
    assert len(track.frame_indices) == len(shot.frames.images)
    inside = masks > 127
    boxes = track.boxes.astype(int)
    for mask, (x0, y0, x1, y1) in zip(inside, boxes, strict=True):
        area = mask[y0:y1, x0:x1].mean()
        assert 0.2 < area < 0.9
        assert mask.sum() - mask[y0:y1, x0:x1].sum() < 0.05 * mask.sum()


@pytest.mark.real
@pytest.mark.parametrize("name", ["noperson_jeep", "noperson_kitchen"])
def test_wheels_and_kitchens_are_nobody(real_videos: Path, name: str) -> None:
    config = AnalyseConfig(decode=DecodeConfig(fps=6))
    (found,) = analyse(real_videos / f"{name}.mp4", config)
    assert isinstance(found, Reject)
    assert found.reason in (Reason.NO_PERSON, Reason.TRACK_TOO_SHORT, Reason.LANDMARKS_DISAGREE)

"""The ONNX adapter, with a tiny model that knows where it wants the keypoints to be."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from avatarmill.pipeline.analyse import AnalyseConfig, analyse
from avatarmill.pipeline.children.supervise import ChildCrashed
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.people import PeopleConfig
from avatarmill.pipeline.stages import PeopleStage
from avatarmill.pipeline.types import Landmarks, Reject, Track
from avatarmill.pipeline.whole_body import (
    BODY_KEYPOINTS,
    NUM_KEYPOINTS,
    look_closer,
    merge,
    whole_body_child,
)
from avatarmill.pipeline.work import ShotPeople, ShotSpan
from avatarmill.synth.frames import WildConfig, synth_wild
from avatarmill.synth.video import write_video

WIDTH, HEIGHT = 48, 64
BOX = (100.0, 40.0, 148.0, 104.0)


def simcc_model(path: Path, num_keypoints: int = NUM_KEYPOINTS) -> Path:
    """A model [1, 3, 64, 48] whose keypoint k peaks at column k % 48, row k % 64, score 0.9.

    It adds 0 times its input, so that it has the input a real one has.
    """
    peaks = []
    for length in (WIDTH, HEIGHT):
        rows = np.zeros((1, num_keypoints, 2 * length), np.float32)
        rows[0, np.arange(num_keypoints), 2 * (np.arange(num_keypoints) % length)] = 0.9
        peaks.append(rows)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "columns"], ["simcc_x"]),
        helper.make_node("Add", ["nothing", "rows"], ["simcc_y"]),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "simcc",
        [helper.make_tensor_value_info("image", floats, [1, 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info("simcc_x", floats, list(peaks[0].shape)),
            helper.make_tensor_value_info("simcc_y", floats, list(peaks[1].shape)),
        ],
        [
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
            numpy_helper.from_array(peaks[0], "columns"),
            numpy_helper.from_array(peaks[1], "rows"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(path))
    return path


def track(num_frames: int = 2) -> Track:
    """Landmarks that are all at 1, 1 and hardly visible; no left hand."""
    body = np.full((num_frames, 33, 4), 1, np.float32)
    body[..., 3] = 0.1
    ones = np.ones((num_frames, 21, 3), np.float32)
    landmarks = Landmarks(
        body, body[..., :3], np.full_like(ones, np.nan), ones, np.ones((num_frames, 478, 3), "f4")
    )
    boxes = np.tile(np.array(BOX, np.float32), (num_frames, 1))
    return Track(0, np.arange(num_frames) * 2, boxes, landmarks)


def test_keypoints_come_back_in_pixels_of_the_frame(tmp_path: Path) -> None:
    config = PeopleConfig(whole_body=simcc_model(tmp_path / "tiny.onnx"))
    images = np.random.default_rng(0).integers(0, 255, (4, 160, 200, 3), np.uint8)
    child = whole_body_child(config)
    assert child is not None
    with child:
        found = look_closer(child, images, track(), config).landmarks
    # The box has the proportions of the model's input and is padded by a quarter.
    keypoints = np.array([BODY_KEYPOINTS[i] for i in range(33)])
    corner = np.array([124, 72]) - 0.5 * 1.25 * np.array([WIDTH, HEIGHT])
    places = corner + 1.25 * np.stack([keypoints % WIDTH, keypoints % HEIGHT], axis=1)
    np.testing.assert_allclose(found.body[0, :, :2], places, atol=1e-3)
    np.testing.assert_allclose(found.body[..., 3], 0.9, atol=1e-6)
    assert np.isfinite(found.left_hand).all(), "a hand that MediaPipe missed"
    np.testing.assert_array_equal(found.body[..., 2], 1)
    assert (found.face[:, 10] == 1).all() and (found.face[:, 1, :2] != 1).all()


def test_unsure_keypoints_change_nothing() -> None:
    before = track().landmarks
    points = np.full((2, NUM_KEYPOINTS, 2), 7, np.float32)
    after = merge(before, points, np.full((2, NUM_KEYPOINTS), 0.2, np.float32), least=0.3)
    for name in ("body", "left_hand", "right_hand", "face"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    scores = np.zeros((2, NUM_KEYPOINTS), np.float32)
    scores[:, 0] = 0.8
    nose = merge(before, points, scores, least=0.3)
    assert (nose.body[:, 0, :2] == 7).all() and (nose.body[:, 1:, :2] == 1).all()


def test_a_face_is_never_made_of_keypoints() -> None:
    before = replace(track().landmarks, face=np.full((2, 478, 3), np.nan, np.float32))
    points = np.full((2, NUM_KEYPOINTS, 2), 7, np.float32)
    after = merge(before, points, np.ones((2, NUM_KEYPOINTS), np.float32), least=0.3)
    assert np.isnan(after.face).all()


def test_every_landmark_of_the_body_has_a_keypoint_and_mirrors_it() -> None:
    assert sorted(BODY_KEYPOINTS) == list(range(33))
    assert len(set(BODY_KEYPOINTS.values())) == 33
    for left, right in ((11, 12), (15, 16), (27, 28)):
        assert BODY_KEYPOINTS[right] == BODY_KEYPOINTS[left] + 1
    for left, right in ((17, 18), (19, 20), (21, 22)):
        assert BODY_KEYPOINTS[right] == BODY_KEYPOINTS[left] + 21


def test_wrong_models_are_named(tmp_path: Path) -> None:
    assert whole_body_child(PeopleConfig()) is None
    with pytest.raises(ValueError, match="no ONNX model at .*missing.onnx"):
        whole_body_child(PeopleConfig(whole_body=tmp_path / "missing.onnx"))
    with pytest.raises(ValueError, match="whole_body_confidence is 2"):
        PeopleConfig(whole_body_confidence=2)
    images = np.zeros((4, 160, 200, 3), np.uint8)
    small = PeopleConfig(whole_body=simcc_model(tmp_path / "body.onnx", 17))
    broken = PeopleConfig(whole_body=tmp_path / "text.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    child = whole_body_child(small)
    assert child is not None
    with child:
        with pytest.raises(ValueError, match="has 17 keypoints, not the 133"):
            look_closer(child, images, track(), small)
        with pytest.raises(ChildCrashed, match="text.onnx|InvalidProtobuf"):
            look_closer(child, images, track(), broken)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a rendered actor."""
    wild = WildConfig(num_frames=8, fps=8.0, width=256, height=256, framing="full")
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    write_video(path, synth_wild(3, wild).images, fps=wild.fps)
    return path


def is_the_models(tracks: Sequence[Track]) -> bool:
    """MediaPipe's visibilities are replaced by the score of the tiny model."""
    return len(tracks) == 1 and bool(np.allclose(tracks[0].landmarks.body[..., 3], 0.9))


def test_analyse_and_the_job_use_the_configured_model(walk: Path, tmp_path: Path) -> None:
    people = PeopleConfig(whole_body=simcc_model(tmp_path / "tiny.onnx"))
    (shot,) = analyse(walk, AnalyseConfig(people=people))
    assert not isinstance(shot, Reject), shot
    assert is_the_models(shot.tracks)
    config = CurateConfig(videos=walk, out=tmp_path / "out", people=people)
    (source,) = list_sources(walk)
    stage = PeopleStage(config.stages())
    try:
        (found,) = stage(source, ShotSpan(shot.probe, shot.shot))
    finally:
        stage.close()
    assert isinstance(found, ShotPeople), found
    assert is_the_models(found.tracks)
    np.testing.assert_array_equal(
        found.tracks[0].landmarks.body, shot.tracks[0].landmarks.body, strict=True
    )


def test_a_missing_model_is_said_before_any_frame_is_seen(walk: Path, tmp_path: Path) -> None:
    people = PeopleConfig(whole_body=tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="no ONNX model at .*missing.onnx"):
        list(analyse(walk, AnalyseConfig(people=people)))

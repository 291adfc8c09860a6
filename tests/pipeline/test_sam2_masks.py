"""sam2 with random weights: windows, hand-over, prompts where the mask drifts, bounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from avatarmill.pipeline.children import sam2_child
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.masks import create_segmenter
from avatarmill.pipeline.sam2_follow import LEAST_AGREEMENT, Prompts, follow
from avatarmill.pipeline.sam2_masks import Sam2Segmenter, prompt_points
from avatarmill.pipeline.types import Bytes, Frames, Landmarks, Reason, Reject, Track

TINY = Path(__file__).with_name("sam2_tiny.yaml")
"""A network of 0.6 million weights from the parts of the package."""
SIZE = 96
IMAGE_SIZE = 128


def walker(num_frames: int, step: int = 2) -> tuple[Frames, Track, Bytes]:
    """A bright block that walks to the right, and its mask 0 or 255."""
    truth = np.zeros((num_frames, SIZE, SIZE), np.uint8)
    boxes = np.zeros((num_frames, 4), np.float32)
    body = np.ones((num_frames, 33, 4), np.float32)
    for row in range(num_frames):
        left = 4 + step * row
        truth[row, 20:80, left : left + 24] = 255
        boxes[row] = (left, 20, left + 24, 80)
        body[row, :, :2] = (left + 12, 50)
    noise = np.random.default_rng(0).integers(0, 40, (num_frames, SIZE, SIZE, 3))
    images = np.where(truth[..., None] > 0, 200, 60) + noise
    none = np.full((num_frames, 21, 3), np.nan, np.float32)
    face = np.full((num_frames, 478, 3), np.nan, np.float32)
    landmarks = Landmarks(body, body[..., :3].copy(), none, none, face)
    frames = Frames(images.astype(np.uint8), np.arange(num_frames) / 10)
    return frames, Track(0, np.arange(num_frames), boxes, landmarks), truth


def prompts_of(track: Track, known: Bytes) -> Prompts:
    return Prompts(track.boxes, *prompt_points(track.landmarks.body), known)


class Stubborn:
    """Stands for a predictor whose mask stays where it was last shown, and never moves."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.places: dict[int, Any] = {}
        self.passes = 0

    def reset_state(self, state: object) -> None:
        self.places.clear()

    def add_new_mask(self, state: object, *, frame_idx: int, obj_id: int, mask: Any) -> None:
        self.places[frame_idx] = mask

    def add_new_points_or_box(self, state: object, *, frame_idx: int, box: Any, **_: Any) -> None:
        mask = np.zeros((SIZE, SIZE), np.bool_)
        x0, y0, x1, y1 = box.astype(int)
        mask[y0:y1, x0:x1] = True
        self.places[frame_idx] = mask

    def propagate_in_video(
        self, state: object, start_frame_idx: int | None
    ) -> Iterator[tuple[int, list[int], torch.Tensor]]:
        self.passes += 1
        first = min(self.places) if start_frame_idx is None else start_frame_idx
        for row in range(first, self.num_frames):
            mask = self.places[max(place for place in self.places if place <= row)]
            yield row, [1], torch.where(torch.from_numpy(mask), 9.0, -9.0)[None, None]


def test_agreement_wants_points_box_and_known_mask() -> None:
    _, track, truth = walker(6)
    prompts = prompts_of(track, truth[:2])
    assert prompts.agreement(0, truth[0]) == prompts.agreement(5, truth[5]) == 1
    assert prompts.agreement(5, np.roll(truth[5], 60, axis=1)) == 0, "off the points"
    assert prompts.agreement(5, np.full_like(truth[5], 255)) < LEAST_AGREEMENT, "the whole picture"
    assert prompts.agreement(5, np.zeros_like(truth[5])) == 0, "nothing"
    other = truth[0].copy()
    other[20:64] = 0
    assert prompts.agreement(0, other) < LEAST_AGREEMENT, "not what was known"


def test_agreement_falls_as_a_mask_leaves() -> None:
    _, track, truth = walker(1)
    prompts = prompts_of(track, truth[:0])
    shares = [prompts.agreement(0, np.roll(truth[0], shift, axis=1)) for shift in range(0, 40, 4)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1 and shares[-1] == 0


def test_a_mask_that_stays_behind_is_called_back_where_it_drifts() -> None:
    _, track, truth = walker(30)
    predictor, prompts = Stubborn(30), prompts_of(track, truth[:0])
    masks, shown = follow(predictor, None, prompts, shape=(SIZE, SIZE), max_prompts=10)
    assert shown[0] == 0 and shown == sorted(shown) and 3 <= len(shown) <= 8
    assert predictor.passes == len(shown)
    agreements = [prompts.agreement(row, mask) for row, mask in enumerate(masks)]
    assert min(agreements) >= LEAST_AGREEMENT


@pytest.mark.parametrize("most", [0, 1, 2])
def test_prompts_are_limited(most: int) -> None:
    _, track, truth = walker(30)
    predictor, prompts = Stubborn(30), prompts_of(track, truth[:0])
    masks, shown = follow(predictor, None, prompts, shape=(SIZE, SIZE), max_prompts=most)
    assert len(shown) == 1 + most == predictor.passes
    assert prompts.agreement(29, masks[29]) < LEAST_AGREEMENT, "said nowhere else: select sees it"


def test_a_mask_that_follows_needs_one_prompt() -> None:
    _, track, truth = walker(12, step=0)
    masks, shown = follow(
        Stubborn(12), None, prompts_of(track, truth[:0]), shape=(SIZE, SIZE), max_prompts=3
    )
    assert shown == [0]
    np.testing.assert_array_equal(masks > 127, truth > 127)


def test_a_bad_hand_over_is_not_taken() -> None:
    _, track, truth = walker(12, step=0)
    elsewhere = np.roll(truth[:3], 60, axis=2)
    prompts = prompts_of(track, elsewhere)
    assert prompts.handed() == []
    assert prompts_of(track, truth[:4]).handed() == [0, 3]
    masks, shown = follow(Stubborn(12), None, prompts, shape=(SIZE, SIZE), max_prompts=0)
    assert shown == [0] and prompts.agreement(11, masks[11]) == 1


class Recorder:
    """Stands for the child: keeps what it was asked and answers with the truth."""

    def __init__(self, truth: Bytes) -> None:
        self.truth = truth
        self.windows: list[tuple[int, int, int]] = []

    def call(self, request: Message, *, deadline_seconds: float) -> Message:
        boxes, known = request.arrays["boxes"], request.arrays["known"]
        begin = int((boxes[0, 0] - 4) / 2)
        self.windows.append((begin, begin + len(boxes), len(known)))
        np.testing.assert_array_equal(known, self.truth[begin : begin + len(known)])
        return Message({}, {"masks": self.truth[begin : begin + len(boxes)]})


def test_windows_overlap_and_hand_over_what_was_found(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MaskConfig(sam2_checkpoint=checkpoint, sam2_window_frames=10, sam2_overlap_frames=3)
    frames, track, truth = walker(26)
    segmenter, recorder = Sam2Segmenter(config), Recorder(truth)
    monkeypatch.setattr(segmenter, "_child", recorder)
    np.testing.assert_array_equal(segmenter.segment(frames, track, truth), truth)
    assert recorder.windows == [(0, 10, 0), (7, 17, 3), (14, 24, 3), (21, 26, 3)]


def test_config_of_windows_is_checked() -> None:
    with pytest.raises(ValueError, match="sam2_overlap_frames is 64, must be at least 1 and below"):
        MaskConfig(sam2_overlap_frames=64)
    with pytest.raises(ValueError, match="sam2_prompts is -1"):
        MaskConfig(sam2_prompts=-1)
    with pytest.raises(ValueError, match="sam2_image_size is 250"):
        MaskConfig(sam2_image_size=250)
    with pytest.raises(ValueError, match="needs MaskConfig.sam2_checkpoint"):
        Sam2Segmenter(MaskConfig())


def test_prompts_are_visible_landmarks() -> None:
    body = np.ones((2, 33, 4), np.float32)
    body[1, 25:, 3] = 0.1
    points, labels = prompt_points(body)
    assert points.shape == (2, 7, 2)
    assert labels.tolist() == [[1] * 7, [1] * 5 + [-1] * 2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny network in a checkpoint file of the package's form."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam2") / "random.pt"
    model = sam2_child.build(str(TINY), None, IMAGE_SIZE, "cpu")
    weights = model.state_dict()
    # Of random weights half believe that the object is absent, and answer with nothing.
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 100
    torch.save({"model": weights}, path)
    return path


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Any:
    return sam2_child.build(str(TINY), str(checkpoint), IMAGE_SIZE, "cpu")


@pytest.fixture()
def state(predictor: Any, tmp_path: Path) -> Any:
    for row, image in enumerate(walker(8)[0].images):
        Image.fromarray(image).save(tmp_path / f"{row:05d}.jpg")
    return predictor.init_state(str(tmp_path))


def test_the_predictor_goes_on_from_masks_handed_over(predictor: Any, state: Any) -> None:
    _, track, truth = walker(8)
    prompts = prompts_of(track, truth[:3])
    with torch.inference_mode():
        masks, shown = follow(predictor, state, prompts, shape=(SIZE, SIZE), max_prompts=0)
    assert shown == []
    for row in (0, 2):
        both = (masks[row] > 127) & (truth[row] > 127)
        assert both.sum() > 0.9 * ((masks[row] > 127) | (truth[row] > 127)).sum()
    assert masks[3:].std() > 0


def test_the_predictor_is_repeatable_and_its_prompts_bounded(predictor: Any, state: Any) -> None:
    _, track, truth = walker(8)
    prompts = prompts_of(track, truth[:0])
    with torch.inference_mode():
        first, second = (
            follow(predictor, state, prompts, shape=(SIZE, SIZE), max_prompts=2) for _ in range(2)
        )
    np.testing.assert_array_equal(first[0], second[0])
    # Random weights never find anybody: every call back is used.
    assert first[1] == second[1] == [0, 1, 2]


def test_a_track_longer_than_a_window_goes_through_the_child(checkpoint: Path) -> None:
    frames, track, truth = walker(11)
    config = MaskConfig(
        sam2_checkpoint=checkpoint,
        sam2_model=str(TINY),
        sam2_image_size=IMAGE_SIZE,
        sam2_window_frames=6,
        sam2_overlap_frames=2,
        sam2_prompts=1,
    )
    segmenter = create_segmenter(config)
    masks = segmenter.segment(frames, track, truth)
    segmenter.close()
    assert not isinstance(masks, Reject), masks
    assert masks.shape == truth.shape and masks.dtype == np.uint8
    assert (masks.reshape(len(masks), -1).std(1) > 0).all(), "every frame has a mask"


def test_a_broken_checkpoint_costs_the_track(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not weights")
    frames, track, truth = walker(4)
    config = MaskConfig(sam2_checkpoint=path, sam2_model=str(TINY), sam2_image_size=IMAGE_SIZE)
    found = create_segmenter(config).segment(frames, track, truth)
    assert isinstance(found, Reject)
    assert (found.reason, found.stage) == (Reason.CRASHED, "masks")

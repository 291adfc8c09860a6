"""What the fit believes of a camera before it has seen anything."""

import numpy as np
import pytest

from avatarmill.pipeline.children.video_child import focal_35mm
from avatarmill.pipeline.fit_lens import starting_lens


def test_a_calibrated_camera_is_kept() -> None:
    lens = starting_lens(
        640, 480, focal_35mm=26, intrinsics=np.array([[700, 0, 300], [0, 700, 200], [0, 0, 1.0]])
    )
    assert (lens.focal, lens.center) == (700, (300, 200))
    assert lens.sigma < 0.01


def test_metadata_refer_to_the_diagonal() -> None:
    # A 35 mm equivalent as long as the film's diagonal sees that diagonal under 53 degrees.
    lens = starting_lens(1920, 1080, focal_35mm=43.27)
    assert lens.focal == pytest.approx(np.hypot(1920, 1080))
    assert lens.sigma < starting_lens(1920, 1080).sigma


def test_a_guess_is_a_multiple_of_the_longer_side() -> None:
    assert starting_lens(480, 640, ratio=1.5).focal == 960


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"com.apple.quicktime.camera.focal_length.35mm_equivalent": "26"}, 26.0),
        ({"com.apple.quicktime.camera.focal_length.35mm_equivalent": "wide"}, 0.0),
        ({"com.apple.quicktime.camera.focal_length.35mm_equivalent": "0"}, 0.0),
        ({"title": "26"}, 0.0),
        ({}, 0.0),
    ],
)
def test_focal_length_of_tags(tags: dict[str, str], wanted: float) -> None:
    assert focal_35mm(tags) == wanted

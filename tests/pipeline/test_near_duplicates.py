"""Near duplicates: copies match, other takes do not, and the order of arrival leaves no trace."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from avatarmill.pipeline.children.strip import MAX_PICTURES, SIDE, Strip
from avatarmill.pipeline.likeness import Signature, likeness
from avatarmill.pipeline.near_duplicates import NearDuplicateConfig, find_copies

THRESHOLD, OVERLAP = NearDuplicateConfig().threshold, NearDuplicateConfig().overlap
Film = NDArray[np.uint8]


def make_film(place: int, take: int, seconds: float = 6.0, fps: float = 25.0) -> Film:
    """Frames [F, 90, 160, 3]: a fixed place, and blobs that move by the number of the take."""
    rng = np.random.default_rng(place)
    coarse = rng.uniform(40, 200, (7, 10))
    still = np.kron(coarse, np.ones((13, 16)))[:90, :160]
    rng = np.random.default_rng([place, take])
    waves = rng.uniform(0.1, 0.45, (3, 2)), rng.uniform(0, 6.3, (3, 2))
    y, x = np.mgrid[:90, :160]
    frames = []
    for t in np.arange(round(seconds * fps)) / fps:
        picture = still.copy()
        for rate, phase in zip(*waves, strict=True):
            cy, cx = (
                45 + 30 * np.sin(6.3 * rate[0] * t + phase[0]),
                80 + 60 * np.sin(6.3 * rate[1] * t + phase[1]),
            )
            picture[(y - cy) ** 2 + (x - cx) ** 2 < 15**2] = 230
        frames.append(picture)
    return np.repeat(np.stack(frames)[..., None], 3, -1).astype(np.uint8)


def signature(film: Film | Sequence[Film], fps: float = 25.0, start: float = 0.0) -> Signature:
    strip = Strip()
    for index, frame in enumerate(film):
        strip.push(np.asarray(frame), start + index / fps)
    return Signature(*strip.pictures())


ORIGINAL = make_film(1, 1)

COPIES = {
    "noisy": (np.random.default_rng(0).normal(ORIGINAL, 12).clip(0, 255).astype(np.uint8), 25),
    "brighter": ((ORIGINAL * 0.8 + 40).astype(np.uint8), 25),
    "cropped in a corner": (ORIGINAL[:, 4:, 8:], 25),
    "faster": (ORIGINAL, 27.5),
    "slower": (ORIGINAL, 22.5),
    "half the frames": (ORIGINAL[::2], 12.5),
    "trimmed": (ORIGINAL[15:-15], 25),
    "in black bars": (np.pad(ORIGINAL, ((0, 0), (15, 15), (0, 0), (0, 0))), 25),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_alike_in_both_directions(name: str) -> None:
    film, fps = COPIES[name]
    copy, original = signature(film, fps), signature(ORIGINAL)
    for one, other in ((copy, original), (original, copy)):
        found = likeness(one, other, THRESHOLD, OVERLAP)
        assert found.value > 0.65 and found.coverage > 0.75, found
    if name in ("faster", "slower"):
        found = likeness(copy, original, THRESHOLD, OVERLAP)
        assert found.speed == pytest.approx(fps / 25, abs=0.03)


@pytest.mark.parametrize("take", range(2, 7))
def test_another_take_in_the_same_place_is_not_alike(take: int) -> None:
    found = likeness(signature(make_film(1, take)), signature(ORIGINAL), THRESHOLD, OVERLAP)
    assert found.value < 0.5 and found.coverage == 0


def test_films_without_motion_must_look_the_same() -> None:
    still = [ORIGINAL[0]] * 50
    other = [ORIGINAL[0][:, ::-1]] * 50
    assert likeness(signature(still), signature(still), THRESHOLD, OVERLAP).value > 0.99
    assert likeness(signature(still), signature(other), THRESHOLD, OVERLAP).value < THRESHOLD


def test_films_of_a_few_frames_are_not_compared() -> None:
    short = signature(ORIGINAL[:10])
    assert likeness(short, short, THRESHOLD, OVERLAP).value == 0


def test_a_copy_of_a_part_covers_itself_but_not_the_whole() -> None:
    long = signature(np.concatenate([make_film(k, k) for k in (1, 2, 3, 4)]))
    part = signature(ORIGINAL)
    assert likeness(part, long, THRESHOLD, OVERLAP).coverage > 0.9
    assert likeness(long, part, THRESHOLD, OVERLAP).coverage < OVERLAP


def test_the_strip_is_bounded_and_bridges_gaps() -> None:
    strip = Strip()
    for seconds in range(0, 4000, 2):
        strip.push(ORIGINAL[seconds % 100], 7.0 + seconds)
    pictures, rate = strip.pictures()
    assert len(pictures) <= MAX_PICTURES and rate == 0.25
    gaps = signature(ORIGINAL[::25], 1.0)
    assert gaps.rate == 4 and len(gaps.pictures) == 21
    middle = (gaps.pictures[0].astype(float) + gaps.pictures[4]) / 2
    np.testing.assert_allclose(gaps.pictures[2], middle, atol=1)


def test_no_frame_gives_no_picture() -> None:
    assert signature([]).pictures.shape == (0, SIDE, SIDE)


def test_turning_back_gives_the_same_strip() -> None:
    upright, turned = Strip(), Strip()
    for index, frame in enumerate(ORIGINAL[:25]):
        upright.push(frame, index / 25)
        turned.push(np.ascontiguousarray(np.rot90(frame, -1)), index / 25, rotation=90)
    difference = upright.pictures()[0].astype(int) - turned.pictures()[0]
    assert np.abs(difference).max() <= 1, "sums in another order may round to another level"


def test_a_signature_survives_its_file() -> None:
    one = signature(ORIGINAL)
    back = Signature.from_png(one.to_png(), one.rate)
    np.testing.assert_array_equal(back.pictures, one.pictures)
    assert len(one.to_png()) < 150 * len(one.pictures)
    with pytest.raises(ValueError, match="not a readable PNG"):
        Signature.from_png(b"no picture", 4.0)


FILMS: list[Signature | None] = [
    None,  # rejected
    signature(ORIGINAL),
    signature(make_film(2, 1)),
    signature(COPIES["faster"][0], 27.5),
    signature(make_film(1, 2)),
    signature(make_film(2, 1)[15:]),
    signature(COPIES["trimmed"][0]),
    signature([]),
]


def test_the_first_of_the_list_stays() -> None:
    copies = find_copies(len(FILMS), FILMS.__getitem__, NearDuplicateConfig())
    assert {film: copy.of for film, copy in copies.items()} == {3: 1, 5: 2, 6: 1}


@settings(max_examples=4)
@given(st.permutations(range(len(FILMS))))
def test_one_of_each_family_stays_whatever_the_order(order: list[int]) -> None:
    films = [FILMS[k] for k in order]
    copies = find_copies(len(films), films.__getitem__, NearDuplicateConfig())
    stay = {order[k] for k in range(len(films)) if k not in copies}
    families = ({1, 3, 6}, {2, 5}, {4}, {0}, {7})
    assert [len(stay & family) for family in families] == [1] * 5
    assert all(copy.of < film and copy.of not in copies for film, copy in copies.items())


def test_many_copies_of_one_film_stay_cheap() -> None:
    copies = find_copies(25, lambda film: FILMS[1], NearDuplicateConfig())
    assert {copy.of for copy in copies.values()} == {0} and len(copies) == 24


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match=r"NearDuplicateConfig.overlap is 1.5, limit 0 to 1"):
        NearDuplicateConfig(overlap=1.5)
    with pytest.raises(ValueError, match="rate is 0"):
        Signature(np.zeros((1, SIDE, SIDE), np.uint8), 0.0)

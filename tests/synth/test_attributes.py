"""Colour terms, the vocabulary and captions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.avatar.attributes import (
    COLOR_TERMS,
    HAIR_COLORS,
    VOCABULARY,
    color_exemplars,
    describe,
    hair_exemplars,
    lab_to_srgb,
    nearest_color_term,
    nearest_hair_color,
    srgb_to_lab,
)

looks = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in VOCABULARY.items()}
)


@pytest.mark.parametrize("term", COLOR_TERMS)
def test_exemplars_are_their_own_term(term: str) -> None:
    assert {nearest_color_term(rgb) for rgb in color_exemplars(term)} == {term}


@pytest.mark.parametrize("term", HAIR_COLORS)
def test_hair_exemplars_are_their_own_term(term: str) -> None:
    assert {nearest_hair_color(rgb) for rgb in hair_exemplars(term)} == {term}


@pytest.mark.parametrize(
    ("rgb", "term"),
    [((0.10, 0.16, 0.36), "blue"), ((0.5, 0.0, 0.05), "red"), ((0.45, 0.3, 0.18), "brown")],
)
def test_dark_colors_keep_their_name(rgb: tuple[float, float, float], term: str) -> None:
    assert nearest_color_term(rgb) == term


def test_lab_round_trip_and_white() -> None:
    rgb = np.random.default_rng(0).random((200, 3))
    np.testing.assert_allclose(lab_to_srgb(srgb_to_lab(rgb)), rgb, atol=1e-6)
    np.testing.assert_allclose(srgb_to_lab([1.0, 1.0, 1.0]), [100, 0, 0], atol=0.02)


@given(looks)
def test_captions_exist_for_any_attributes(attributes: dict[str, str]) -> None:
    captions = describe(attributes)
    assert set(captions) == {"short", "medium", "long"}
    assert len(captions["short"]) <= len(captions["long"]) + 12  # "dressed in" against "in"
    assert captions == describe(dict(reversed(attributes.items())))
    for text in captions.values():
        assert "  " not in text and "None" not in text and text[0].isupper()


def test_long_caption_names_everything() -> None:
    attributes = {
        "top": "t-shirt",
        "top_color": "orange",
        "top_pattern": "striped",
        "bottom": "trousers",
        "bottom_color": "blue",
        "shoes": "boots",
        "shoes_color": "black",
        "hair": "short",
        "hair_color": "brown",
        "build": "slim",
        "age": "older",
    }
    text = describe(attributes)["long"]
    for words in ("slim older person", "short brown hair", "an orange striped t-shirt"):
        assert words in text
    assert text.endswith("blue trousers and black boots")


def test_words_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="top 'toga' is not one of tank top"):
        describe({"top": "toga"})
    with pytest.raises(ValueError, match="attribute 'scarf' is not one of top"):
        describe({"scarf": "red"})
    with pytest.raises(ValueError, match=r"one sRGB colour \[3\] is needed"):
        nearest_color_term([0.1, 0.2])
    with pytest.raises(ValueError, match="color 'teal' is not one of black"):
        color_exemplars("teal")
    with pytest.raises(ValueError, match="hair color 'blue' is not one of black"):
        hair_exemplars("blue")

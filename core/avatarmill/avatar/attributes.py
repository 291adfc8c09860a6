"""Words for what a person looks like: the closed vocabulary, colour terms and caption sentences.

Rendered actors know these attributes exactly and the curation pipeline measures them from frames;
both write captions with `describe`, so a text model sees one language.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

COLOR_TERMS = (
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
)
"""The 11 basic colour terms of English (Berlin and Kay, 1969)."""

HAIR_COLORS = ("black", "brown", "blond", "red", "grey", "white")
"""Hair has its own terms: nobody calls blond hair yellow."""

VOCABULARY: dict[str, tuple[str, ...]] = {
    "top": ("tank top", "t-shirt", "long-sleeved shirt", "coat", "dress"),
    "top_color": COLOR_TERMS,
    "top_pattern": ("plain", "striped", "checked", "dotted", "printed"),
    "bottom": ("trousers", "shorts", "skirt", "none"),
    "bottom_color": COLOR_TERMS,
    "shoes": ("shoes", "boots", "barefoot"),
    "shoes_color": COLOR_TERMS,
    "hair": ("bald", "buzz", "short", "curly", "bob", "long", "bun", "ponytail"),
    "hair_color": HAIR_COLORS,
    "glasses": ("none", "glasses", "sunglasses"),
    "hat": ("none", "cap", "beanie", "brimmed hat"),
    "hat_color": COLOR_TERMS,
    "build": ("slim", "average", "heavy"),
    "age": ("child", "adult", "older"),
}
"""Attribute name -> its allowed values. Any attribute may be left out where it was not seen:
no `hat` means unknown, "none" means bare-headed. `bottom` is "none" where a dress hides it."""

# Light, middle and dark exemplars of each term (sRGB bytes). One focal colour a term would call
# navy "black" and burgundy "brown".
_EXEMPLARS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((8, 8, 8), (32, 32, 35)),
    "white": ((250, 250, 250), (226, 226, 223)),
    "grey": ((128, 128, 128), (86, 87, 90), (176, 176, 177)),
    "red": ((200, 25, 30), (140, 20, 28), (225, 65, 58)),
    "orange": ((240, 125, 25), (215, 100, 30), (245, 165, 80)),
    "yellow": ((245, 215, 40), (240, 226, 125), (203, 172, 35)),
    "green": ((40, 140, 60), (24, 78, 42), (120, 185, 95), (108, 120, 52)),
    "blue": ((35, 80, 180), (26, 40, 92), (110, 165, 222), (35, 125, 155)),
    "purple": ((110, 50, 140), (70, 32, 90), (165, 120, 200)),
    "pink": ((240, 140, 175), (228, 80, 150), (245, 196, 206)),
    "brown": ((110, 70, 42), (70, 43, 28), (160, 115, 76)),
}
_HAIR_EXEMPLARS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black": ((18, 15, 14), (35, 30, 28)),
    "brown": ((62, 40, 26), (96, 64, 40), (125, 88, 58)),
    "blond": ((214, 180, 120), (186, 148, 92), (232, 208, 160)),
    "red": ((150, 62, 28), (178, 84, 42)),
    "grey": ((128, 126, 124), (90, 88, 87), (165, 163, 160)),
    "white": ((232, 230, 226), (206, 204, 200)),
}

# sRGB (D65) primaries to XYZ, IEC 61966-2-1, and the D65 white point.
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def srgb_to_lab(rgb: ArrayLike) -> NDArray[np.float64]:
    """CIELAB (D65, 2 degrees) of sRGB colours [..., 3] in 0..1."""
    rgb = np.asarray(rgb, np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _RGB_TO_XYZ.T / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_srgb(lab: ArrayLike) -> NDArray[np.float64]:
    """sRGB in 0..1 of CIELAB colours [..., 3]; colours outside the gamut are clipped to it."""
    lab = np.asarray(lab, np.float64)
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    ratio = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip((ratio * _WHITE) @ np.linalg.inv(_RGB_TO_XYZ).T, 0, 1)
    rgb: NDArray[np.float64] = np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return rgb


def _nearest(rgb: ArrayLike, exemplars: Mapping[str, tuple[tuple[int, int, int], ...]]) -> str:
    if np.shape(rgb) != (3,):
        raise ValueError(f"one sRGB colour [3] is needed, got shape {np.shape(rgb)}")
    target = srgb_to_lab(rgb)

    def distance(term: str) -> float:
        lab = srgb_to_lab(np.array(exemplars[term]) / 255)
        return float(np.linalg.norm(lab - target, axis=-1).min())

    return min(exemplars, key=distance)


def nearest_color_term(rgb: ArrayLike) -> str:
    """The basic colour term whose exemplar lies nearest in CIELAB to one sRGB colour in 0..1.

    Raises:
        ValueError: `rgb` is not one colour [3].
    """
    return _nearest(rgb, _EXEMPLARS)


def nearest_hair_color(rgb: ArrayLike) -> str:
    """The hair colour whose exemplar lies nearest in CIELAB to one sRGB colour in 0..1.

    Raises:
        ValueError: `rgb` is not one colour [3].
    """
    return _nearest(rgb, _HAIR_EXEMPLARS)


def color_exemplars(term: str) -> NDArray[np.float64]:
    """sRGB exemplars [n, 3] in 0..1 of a basic colour term.

    Raises:
        ValueError: `term` is not one of `COLOR_TERMS`.
    """
    if term not in _EXEMPLARS:
        raise ValueError(f"color {term!r} is not one of {', '.join(COLOR_TERMS)}")
    return np.array(_EXEMPLARS[term]) / 255


def hair_exemplars(term: str) -> NDArray[np.float64]:
    """sRGB exemplars [n, 3] in 0..1 of a hair colour.

    Raises:
        ValueError: `term` is not one of `HAIR_COLORS`.
    """
    if term not in _HAIR_EXEMPLARS:
        raise ValueError(f"hair color {term!r} is not one of {', '.join(HAIR_COLORS)}")
    return np.array(_HAIR_EXEMPLARS[term]) / 255


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Refuse names and values outside `VOCABULARY`.

    Raises:
        ValueError: naming the attribute, the value and what is allowed.
    """
    for name, value in attributes.items():
        if name not in VOCABULARY:
            raise ValueError(f"attribute {name!r} is not one of {', '.join(VOCABULARY)}")
        if value not in VOCABULARY[name]:
            raise ValueError(f"{name} {value!r} is not one of {', '.join(VOCABULARY[name])}")


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _person(attributes: Mapping[str, str], *, build: bool) -> str:
    noun = "child" if attributes.get("age") == "child" else "person"
    words = [noun]
    if attributes.get("age") == "older":
        words.insert(0, "older")
    if build and attributes.get("build", "average") != "average":
        words.insert(0, attributes["build"])
    return _article(" ".join(words))


def _garment(attributes: Mapping[str, str], slot: str, *, pattern: bool = False) -> str | None:
    """ "a red striped t-shirt", "blue trousers"; None where the slot is unknown or empty."""
    kind, color = attributes.get(slot), attributes.get(f"{slot}_color", "")
    if kind is None or kind in ("none", "barefoot"):
        return None
    worn = attributes.get(f"{slot}_pattern", "plain") if pattern else "plain"
    phrase = " ".join(word for word in (color, "" if worn == "plain" else worn, kind) if word)
    return phrase if kind.endswith("s") and kind != "dress" else _article(phrase)


def _hair(attributes: Mapping[str, str]) -> str | None:
    style, color = attributes.get("hair"), attributes.get("hair_color", "")
    if style == "bald":
        return "a bald head"
    if style == "bun":
        return f"{color} hair in a bun".strip()
    if style == "ponytail":
        return f"{color} hair in a ponytail".strip()
    if style == "bob":
        return _article(f"{color} bob".strip())
    if style == "buzz":
        return f"{color} buzz-cut hair".strip()
    words = [word for word in (style, color) if word]
    return f"{' '.join(words)} hair" if words else None


def _features(attributes: Mapping[str, str]) -> str | None:
    """Hair and glasses: "short brown hair and glasses"; None where neither is known."""
    worn = attributes.get("glasses", "none")
    seen = [_hair(attributes), None if worn == "none" else worn]
    return " and ".join(phrase for phrase in seen if phrase) or None


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _clothes(attributes: Mapping[str, str], *, pattern: bool, shoes: bool) -> list[str]:
    slots = ("top", "bottom", "shoes", "hat") if shoes else ("top", "bottom", "hat")
    worn = (_garment(attributes, slot, pattern=pattern) for slot in slots)
    return [garment for garment in worn if garment]


def _sentence(person: str, clothes: list[str], hair: str | None, *, vary: int) -> str:
    if not clothes:
        return f"{person} with {hair}" if hair else person
    wear = ("wearing", "in", "dressed in")[vary]
    if not hair:
        return f"{person} {wear} {_join(clothes)}"
    return f"{person} with {hair}, {wear} {_join(clothes)}"


def describe(attributes: Mapping[str, str]) -> dict[str, str]:
    """Captions of three lengths from whatever attributes are known.

    Args:
        attributes: some of the names of `VOCABULARY` with values of it.

    Returns:
        "short" (clothes and hat), "medium" (also hair and glasses) and "long" (also build,
        patterns, shoes).
        The wording varies with the attributes alone, so equal attributes give equal captions.

    Raises:
        ValueError: a name or value outside the vocabulary.
    """
    check_attributes(attributes)
    digest = hashlib.sha256(repr(sorted(attributes.items())).encode()).digest()
    person, features = _person(attributes, build=False), _features(attributes)
    brief = _clothes(attributes, pattern=False, shoes=False)
    full = _clothes(attributes, pattern=True, shoes=True)
    captions = {
        "short": _sentence(person, brief, None if brief else features, vary=digest[0] % 3),
        "medium": _sentence(person, brief, features, vary=digest[1] % 3),
        "long": _sentence(_person(attributes, build=True), full, features, vary=digest[2] % 3),
    }
    return {name: text[0].upper() + text[1:] for name, text in captions.items()}

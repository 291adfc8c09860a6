"""What an actor wears and looks like, drawn from seeds: colours, patterns, garments, hair, skin."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.attributes import (
    COLOR_TERMS,
    color_exemplars,
    hair_exemplars,
    lab_to_srgb,
    srgb_to_lab,
)
from avatarmill.synth.hair import HairStyle

Color = NDArray[np.float64]
Pattern = Literal["plain", "striped", "checked", "dotted", "printed"]
Glasses = Literal["none", "glasses", "sunglasses"]
Hat = Literal["none", "cap", "beanie", "brimmed hat"]
Collar = Literal["none", "rib", "stand", "folded"]
PATTERNS: tuple[Pattern, ...] = ("plain", "striped", "checked", "dotted", "printed")

# Skin in CIELAB along the range people have, from very light to very dark (L, a, b), after the
# lightness-hue loci of measured skin (Xiao et al., 2017).
_SKIN = np.array([[81, 8, 14], [74, 10, 18], [66, 12, 21], [55, 13, 22], [43, 12, 18], [32, 9, 12]])
_IRIS = np.array([[0.24, 0.14, 0.07], [0.35, 0.22, 0.10], [0.33, 0.42, 0.52], [0.32, 0.40, 0.25]])


@dataclass(frozen=True, slots=True)
class Cloth:
    """Colours (sRGB 0..1) and pattern of one garment."""

    color: Color
    second: Color
    pattern: Pattern
    period: float
    """Metres from one stripe, check or dot to the next."""
    phase: float


@dataclass(frozen=True, slots=True)
class Look:
    """Everything about an actor that is not body shape."""

    skin: Color
    lips: Color
    iris: Color
    hair_style: HairStyle
    hair: Color
    top: str
    top_cloth: Cloth
    sleeve: float
    """Share of the arm that is covered."""
    bottom: str
    bottom_cloth: Cloth
    fit: float
    """0..1 from tight to wide."""
    shoes: str
    shoes_cloth: Cloth
    collar: Collar
    open_coat: bool
    """Whether a coat shows the shirt under it."""
    shirt_cloth: Cloth
    cuffs: bool
    """Whether trouser legs are turned up."""
    glasses: Glasses
    frame_cloth: Cloth
    hat: Hat
    hat_cloth: Cloth
    wrinkles: float
    """0..1 how lined the face is."""
    stubble: float
    """0..1 how dark the beard's shadow is."""
    detail: int
    """Seed of geometry details: hem heights, folds, hair waves."""


def jitter(rng: np.random.Generator, rgb: Color, *, spread: float = 5.0) -> Color:
    """A colour near another: normal noise of `spread` (L) and 0.7 `spread` (a, b) in CIELAB."""
    noise = rng.normal(0, [spread, 0.7 * spread, 0.7 * spread])
    return lab_to_srgb(srgb_to_lab(rgb) + noise)


_SOBER = {"black": 4, "blue": 4, "grey": 3, "brown": 3, "white": 1.5, "green": 1}
_LIVELY = {"white": 1.7, "blue": 1.6, "black": 1.3, "grey": 1.2, "red": 1.1, "green": 1.1}


def _pick_color(rng: np.random.Generator, *, sober: bool) -> Color:
    """A colour of a random basic term; `sober` prefers what trousers and shoes are made of."""
    likely, rest = (_SOBER, 0.3) if sober else (_LIVELY, 0.75)
    chance = np.array([likely.get(term, rest) for term in COLOR_TERMS])
    term = str(rng.choice(COLOR_TERMS, p=chance / chance.sum()))
    exemplars = color_exemplars(term)
    # Dyed cloth is never quite black nor quite white: its folds would not show.
    return np.clip(jitter(rng, exemplars[rng.integers(len(exemplars))]), 0.09, 0.95)


def _sample_cloth(rng: np.random.Generator, *, sober: bool, patterns: float) -> Cloth:
    color = _pick_color(rng, sober=sober)
    second = _pick_color(rng, sober=False)
    # A pattern nobody can see is no pattern: ask for contrast.
    while np.linalg.norm(srgb_to_lab(color) - srgb_to_lab(second)) < 30:
        second = _pick_color(rng, sober=False)
    pattern: Pattern = "plain"
    if rng.random() < patterns:
        pattern = PATTERNS[1 + int(rng.integers(len(PATTERNS) - 1))]
    return Cloth(color, second, pattern, float(rng.uniform(0.035, 0.09)), float(rng.uniform(0, 1)))


def _sample_skin(rng: np.random.Generator) -> Color:
    at = rng.uniform(0, len(_SKIN) - 1)
    lab = np.array([np.interp(at, np.arange(len(_SKIN)), _SKIN[:, axis]) for axis in range(3)])
    return lab_to_srgb(lab + rng.normal(0, [1.5, 1.2, 1.5]))


def _sample_hair(rng: np.random.Generator, skin: Color, age: str) -> Color:
    chance = np.array([3.0, 3.0, 2.0, 0.9, 0.3, 0.1])
    if srgb_to_lab(skin)[0] < 55:  # dark skin goes with dark hair, nearly always
        chance *= [3, 1, 0.05, 0.05, 1, 1]
    if age == "older":
        chance *= [0.4, 0.5, 0.4, 0.3, 12, 25]
    if age == "child":
        chance *= [1, 1, 1.5, 1, 0, 0]
    term = str(
        rng.choice(("black", "brown", "blond", "red", "grey", "white"), p=chance / chance.sum())
    )
    exemplars = hair_exemplars(term)
    return jitter(rng, exemplars[rng.integers(len(exemplars))], spread=2.5)


_HAIR_STYLES: tuple[HairStyle, ...] = (
    *("bald", "buzz", "short", "curly"),
    *("bob", "long", "bun", "ponytail"),
)
_HAIR_CHANCE = (0.05, 0.09, 0.27, 0.12, 0.12, 0.14, 0.09, 0.12)


def _sample_garments(rng: np.random.Generator) -> tuple[str, str, float, Collar]:
    """Kinds of top and bottom, the share of the arm that is covered, the collar."""
    tops = ("tank top", "t-shirt", "long-sleeved shirt", "coat", "dress")
    top = str(rng.choice(tops, p=(0.08, 0.33, 0.30, 0.15, 0.14)))
    bottom = "none" if top == "dress" else "trousers"
    if top in ("tank top", "t-shirt", "long-sleeved shirt"):
        bottom = str(rng.choice(("trousers", "shorts", "skirt"), p=(0.62, 0.2, 0.18)))
    sleeve = {"tank top": 0.0, "t-shirt": rng.uniform(0.24, 0.42)}.get(top, rng.uniform(0.93, 0.99))
    if top == "dress":
        sleeve = float(rng.choice([0.0, rng.uniform(0.2, 0.4), 0.95]))
    collars: dict[str, tuple[Collar, ...]] = {
        "t-shirt": ("rib", "rib", "rib", "folded"),
        "long-sleeved shirt": ("rib", "folded", "folded", "stand"),
        "coat": ("stand",),
        "dress": ("none", "none", "rib", "folded"),
    }
    allowed = collars.get(top, ("none",))
    return top, bottom, float(sleeve), allowed[int(rng.integers(len(allowed)))]


def _sample_worn(rng: np.random.Generator, style: HairStyle) -> tuple[Glasses, Hat]:
    """Glasses and a hat that goes over the hair."""
    glasses: tuple[Glasses, ...] = ("none", "glasses", "sunglasses")
    hats: tuple[Hat, ...] = ("none", "cap", "beanie", "brimmed hat")
    eyewear = glasses[int(rng.choice(3, p=(0.70, 0.22, 0.08)))]
    headgear = hats[int(rng.choice(4, p=(0.76, 0.10, 0.07, 0.07)))]
    return eyewear, "none" if style in ("curly", "bun") else headgear


def sample_look(rng: np.random.Generator, age: str) -> Look:
    """A random look; every garment, hair style and skin tone may meet every other."""
    skin = _sample_skin(rng)
    lips = lab_to_srgb(srgb_to_lab(skin) + [-11, 13 * rng.uniform(0.7, 1.6), 2])
    top, bottom, sleeve, collar = _sample_garments(rng)
    chance = np.array(_HAIR_CHANCE) * ([0, 0.5, 1, 1, 1, 1, 1, 1] if age == "child" else 1)
    style = _HAIR_STYLES[int(rng.choice(len(_HAIR_STYLES), p=chance / chance.sum()))]
    glasses, hat = _sample_worn(rng, style)
    bearded = age != "child" and style in ("bald", "buzz", "short", "curly") and rng.random() < 0.4
    coat = top == "coat"
    return Look(
        skin=skin,
        lips=lips,
        iris=jitter(rng, _IRIS[rng.choice(4, p=(0.45, 0.25, 0.18, 0.12))], spread=3),
        hair_style=style,
        hair=_sample_hair(rng, skin, age),
        top=top,
        top_cloth=_sample_cloth(rng, sober=coat, patterns=0.15 if coat else 0.45),
        sleeve=sleeve,
        bottom=bottom,
        bottom_cloth=_sample_cloth(rng, sober=True, patterns=0.12),
        fit=float(rng.uniform(0, 1)),
        shoes=str(rng.choice(("shoes", "boots"), p=(0.75, 0.25))),
        shoes_cloth=_sample_cloth(rng, sober=True, patterns=0.0),
        collar=collar,
        open_coat=coat and bool(rng.random() < 0.65),
        shirt_cloth=_sample_cloth(rng, sober=False, patterns=0.2),
        cuffs=bool(rng.random() < 0.25),
        glasses=glasses,
        frame_cloth=_sample_cloth(rng, sober=True, patterns=0.0),
        hat=hat,
        hat_cloth=_sample_cloth(rng, sober=True, patterns=0.0),
        wrinkles=float(rng.uniform(0.6, 1.0)) if age == "older" else 0.0,
        stubble=float(rng.uniform(0.2, 0.8)) if bearded else 0.0,
        detail=int(rng.integers(2**31)),
    )

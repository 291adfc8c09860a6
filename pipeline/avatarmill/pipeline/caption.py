"""Attributes of a person measured on the crops, in the vocabulary rendered actors use."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.attributes import (
    describe,
    lab_to_srgb,
    nearest_color_term,
)
from avatarmill.avatar.body import Body
from avatarmill.pipeline.caption_evidence import OFFSETS, Evidence, collect
from avatarmill.pipeline.caption_features import features_of
from avatarmill.pipeline.caption_model import load_model, values_of
from avatarmill.pipeline.caption_regions import REGIONS
from avatarmill.pipeline.crops import Crops

_SKIN_DISTANCE = 9.0
"""CIELAB distance to the face, lightness halved, below which a torso or a foot is bare."""
_LIT_SKIN = 35.0
"""CIELAB lightness of the face below which a bare foot cannot be told from a dark shoe."""
_SLIM, _HEAVY = 20.0, 27.0
"""Mass over squared height (kg/m2), of a body of the density of water, outside which a build is
named. The fit draws shapes towards the mean, so what lies between tells nothing."""
_SURE = {
    "top_pattern": 0.75,
    "hair": 0.8,
    "hair_color": 0.75,
    "hat": 0.85,
    "shoes_color": 0.5,
}
"""Probability from which an attribute is said at all; garments and their colours always are, where
the body they belong to is seen."""
_LEAST_BOTTOM = 0.45
"""Probability below which the kind of what covers the legs is left open."""
_SHOWN_HAIR = ("bald", "long")
"""Styles that are told apart on filmed people; the others look alike in crops."""
_LONG_HAIR = 0.5
"""Share of the places 5 cm behind the nape that long hair fills."""
_WEARABLE = (("dress", "none"),) + tuple(
    (top, bottom)
    for top in ("tank top", "t-shirt", "long-sleeved shirt", "coat")
    for bottom in ("trousers", "shorts", "skirt")
)
"""Kinds of top and bottom that go together: `bottom` is "none" where a dress hides it."""

Array = NDArray[np.float64]
Odds = Mapping[str, NDArray[np.float32]]
"""Output name -> probabilities of its words, in the order of `values_of`."""


def caption(crops: Crops, body: Body) -> tuple[dict[str, str], dict[str, str]]:
    """Attributes and captions of a clip.

    What was not seen (the legs of a half-body shot) has no entry: an attribute is measured or
    left out, never guessed.

    Args:
        crops: frames with masks, cameras and body parameters.
        body: the body they were fitted with.

    Returns:
        (attributes, captions "short", "medium", "long").
    """
    attributes = measure_attributes(crops, body)
    return attributes, describe(attributes)


def measure_attributes(crops: Crops, body: Body) -> dict[str, str]:
    """Words for what the crops show: a subset of `VOCABULARY`."""
    evidence = collect(crops, body)
    odds = load_model()([features_of(evidence)])
    return read_attributes(evidence, {name: rows[0] for name, rows in odds.items()})


def read_attributes(seen: Evidence, odds: Odds) -> dict[str, str]:
    """Words from evidence and the model's odds: where there is no evidence, no word."""
    attributes = _build(seen.mass_index)
    skin = seen.color_of("cheeks")
    attributes |= _garments(seen, odds, skin)
    attributes |= _head(seen, odds)
    return attributes | _shoes(seen, odds, skin)


def color_term(lab: Array) -> str:
    """The basic colour term nearest to a CIELAB colour [3]."""
    return nearest_color_term(lab_to_srgb(lab))


def color_distance(first: Array, second: Array) -> float:
    """CIELAB distance with lightness halved: it is what shading changes most."""
    return float(np.linalg.norm((first - second) * (0.5, 1.0, 1.0)))


def _garments(seen: Evidence, odds: Odds, skin: Array) -> dict[str, str]:
    """Top and bottom: kinds that go together, where the limbs that tell them are seen."""
    trunk = _any_seen(seen, "front_mid", "front_high", "back_mid", "back_high")
    trunk = trunk and not _bare_chest(seen, skin)
    legs = _any_seen(seen, "thigh_2", "thigh_3")
    shins = sum(_any_seen(seen, f"shin_{k}") for k in range(4)) >= 2
    arms = _any_seen(seen, "upper_arm") and _any_seen(seen, "forearm")
    top, bottom = _outfit(odds, thighs=legs, shins=shins)
    found = {}
    if trunk:
        found["top_color"] = _best(odds, "top_color")
        if arms:
            found["top"] = top
        found |= _sure(odds, "top_pattern")
    if legs and not (trunk and top == "dress"):
        found["bottom_color"] = _best(odds, "bottom_color")
    if shins and legs and (_likely(odds, bottom) if bottom != "none" else trunk):
        found["bottom"] = bottom
    return found


def _likely(odds: Odds, bottom: str) -> bool:
    return bool(odds["bottom"][values_of("bottom").index(bottom)] >= _LEAST_BOTTOM)


def _outfit(odds: Odds, *, thighs: bool, shins: bool) -> tuple[str, str]:
    """The likeliest pair of kinds; where not all of the legs is seen the likeliest top alone."""
    tops, bottoms = values_of("top"), values_of("bottom")
    if not (thighs and shins):
        # What tells a dress from a shirt hangs below the hips.
        told = [kind for kind in tops if thighs or kind != "dress"]
        return max(told, key=lambda kind: float(odds["top"][tops.index(kind)])), ""
    return max(
        _WEARABLE,
        key=lambda pair: float(
            odds["top"][tops.index(pair[0])] * odds["bottom"][bottoms.index(pair[1])]
        ),
    )


def _head(seen: Evidence, odds: Odds) -> dict[str, str]:
    """Hair and hat, where the head is seen from a side that shows them.

    A bare head is not claimed: caps look like hair too often for that.
    """
    if not _any_seen(seen, "crown", "temple", "nape"):
        return {}
    hat = {name: kind for name, kind in _sure(odds, "hat").items() if kind != "none"}
    crown = seen.color_of("crown")
    if hat and np.isfinite(crown[0]):
        hat["hat_color"] = color_term(crown)
    hair = _hair(seen, odds)
    if hair.get("hair") == "bald" or hat:
        return hat | hair
    return hair | _sure(odds, "hair_color")


def _hair(seen: Evidence, odds: Odds) -> dict[str, str]:
    found = {name: style for name, style in _sure(odds, "hair").items() if style in _SHOWN_HAIR}
    behind = seen.fill[REGIONS.index("nape"), OFFSETS.index(0.05)]
    if found.get("hair") == "long" and not behind >= _LONG_HAIR:
        return {}
    return found


def _shoes(seen: Evidence, odds: Odds, skin: Array) -> dict[str, str]:
    foot = seen.color_of("foot")
    if not np.isfinite(foot[0]):
        return {}
    if np.isfinite(skin[0]) and color_distance(foot, skin) < _SKIN_DISTANCE:
        return {"shoes": "barefoot"} if skin[0] > _LIT_SKIN else {}
    return {"shoes": "shoes"} | _sure(odds, "shoes_color")


def _bare_chest(seen: Evidence, skin: Array) -> bool:
    """Whether the torso looks as bare as the face: such a person wears no top we could name."""
    places = [
        k
        for k, name in enumerate(REGIONS)
        if name.startswith(("front_mid", "front_low", "back_mid")) and seen.pixels[k] > 0
    ]
    if not places or not np.isfinite(skin[0]):
        return False
    bare = [color_distance(seen.color[k], skin) < _SKIN_DISTANCE for k in places]
    return float(np.mean(bare)) > 0.6


def _any_seen(seen: Evidence, *prefixes: str) -> bool:
    """Whether any region whose name begins so was seen."""
    return any(seen.pixels[k] > 0 for k, name in enumerate(REGIONS) if name.startswith(prefixes))


def _best(odds: Odds, name: str) -> str:
    return values_of(name)[int(odds[name].argmax())]


def _sure(odds: Odds, name: str) -> dict[str, str]:
    """The likeliest word, if it is likely enough to be said."""
    return {name: _best(odds, name)} if odds[name].max() >= _SURE[name] else {}


def _build(index: float) -> dict[str, str]:
    if _SLIM <= index <= _HEAVY:
        return {}
    return {"build": "slim" if index < _SLIM else "heavy"}

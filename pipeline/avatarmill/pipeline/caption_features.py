"""Numbers that tell garments apart, from the evidence of a clip: contrasts, cloth off the body."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.attributes import lab_to_srgb
from avatarmill.pipeline.caption_evidence import Evidence
from avatarmill.pipeline.caption_regions import REGIONS

Array = NDArray[np.float64]
Float = NDArray[np.float32]


def _places(*names: str) -> list[int]:
    return [REGIONS.index(name) for name in names]


_ARMS = _places(*(f"upper_arm_{k}" for k in range(3)), *(f"forearm_{k}" for k in range(3)))
_LEGS = _places(*(f"thigh_{k}" for k in range(4)), *(f"shin_{k}" for k in range(4)))
_CENTER = _places(*(f"front_{height}_center" for height in ("low", "mid", "high")))
_BETWEEN = _places(*(f"front_{height}_between" for height in ("low", "mid", "high")))
_SIDE = _places(*(f"front_{height}_side" for height in ("low", "mid", "high")))
_HIPS = _places("hips_front", "hips_side", "hips_back")
_TRUNK = _places(
    *("front_mid_side", "front_mid_between", "front_high_between", "front_low_between"),
    *("front_low_side", "back_low", "back_mid", "back_high"),
)
"""What a coat covers even when it is open."""
_HEAD = _places("crown", "nape", "forehead", "neck_back")
_FILLED = [
    *_LEGS,
    *_places("hips_side", "hips_back", "front_low_side", "back_mid", "back_high", "back_low"),
    *_places("neck_back", "throat", "crown", "temple", "nape", "forehead", "foot"),
    *_ARMS,
]
_TEXTURED = [
    *_ARMS,
    *_LEGS,
    *_TRUNK,
    *_places("front_mid_center", "hips_front", "eyes", "forehead", "cheeks", "crown"),
]
_SEEN = [*_ARMS, *_LEGS, *_places("foot", "crown", "nape", "front_mid_center", "back_mid")]

WORN: dict[str, list[int]] = {
    "top_color": [
        k
        for k, name in enumerate(REGIONS)
        if name.startswith(("front", "back", "hips", "upper_arm", "forearm", "thigh"))
    ],
    "bottom_color": [
        k
        for k, name in enumerate(REGIONS)
        if name.startswith(("hips", "thigh", "shin", "front_low"))
    ],
    "shoes_color": _places("foot", "shin_3", "shin_2"),
    "hair_color": _places("crown", "temple", "nape", "forehead", "neck_back"),
}
"""Regions where something worn may be seen, by the colour that is asked for."""


@dataclass(frozen=True, slots=True)
class Features:
    """Inputs of the caption model, for one clip or, with a leading axis, for many."""

    contrasts: Float
    """[..., N] what tells kinds apart; 0 where not seen."""
    colors: Float
    """[..., R, 6] lit and mean CIELAB of each region; 0 where not seen."""
    seen: NDArray[np.bool_]
    """[..., R]."""
    light: Float
    """[..., 8] about the pictures' lightness and cast, and the face's mean CIELAB, scaled."""


def features_of(evidence: Evidence) -> Features:
    """The features of one clip."""
    seen = evidence.pixels > 0
    colors = np.nan_to_num(np.concatenate([evidence.color, evidence.mean], axis=-1))
    cheeks = np.nan_to_num(evidence.mean[REGIONS.index("cheeks")])
    light = np.concatenate([evidence.scene / 30, cheeks / 30 - (2, 0, 0)])
    return Features(
        contrasts=_contrasts(evidence).astype(np.float32),
        colors=colors.astype(np.float32),
        seen=seen,
        light=light.astype(np.float32),
    )


def _contrasts(evidence: Evidence) -> Array:
    """[N] contrasts of lightness and hue between regions, fill, spread, what is seen."""
    tone, around = _tone(evidence.mean), _tone(evidence.fill_color)
    skin = _mean(tone[_places("cheeks", "forehead")])
    if not np.isfinite(skin[0]):
        skin = _mean(tone[_places("hand", "throat")])
    trunk, thigh = _mean(tone[_TRUNK]), _mean(tone[_places("thigh_1", "thigh_2")])
    center, foot = _mean(tone[_CENTER]), tone[_places("foot")]
    temple = tone[_places("temple")]
    pairs = [
        *(_contrast(tone[_ARMS], other) for other in (skin, trunk)),
        *(_contrast(tone[_LEGS], other) for other in (skin, trunk, thigh)),
        *(_contrast(tone[_HIPS], other) for other in (trunk, thigh)),
        _contrast(tone[_CENTER], tone[_SIDE]),
        _contrast(tone[_CENTER], tone[_BETWEEN]),
        _contrast(tone[_ARMS[:2]], center),
        _contrast(tone[_places("throat", "front_high_center", "hand", "foot")], skin),
        _contrast(tone[_places("crown", "temple", "nape", "neck_back")], skin),
        _contrast(foot, tone[_places("shin_3")]),
        _contrast(tone[_places("shin_2", "shin_3")], foot),
        _contrast(foot, thigh),
        _contrast(tone[_HEAD], temple),
        _contrast(tone[_places("eyes", "forehead")], tone[_places("cheeks")]),
        _contrast(tone[_LEGS[1:]], tone[_LEGS[:-1]]),
        _contrast(tone[_ARMS[1:]], tone[_ARMS[:-1]]),
        *(_contrast(around[_LEGS], other) for other in (skin, trunk, thigh)),
        _contrast(around[_places("hips_side", "front_low_side")], trunk),
        _contrast(around[_places("crown", "temple", "nape", "neck_back", "back_high")], temple),
    ]
    fill = 2 * evidence.fill[_FILLED] - 0.6
    spread = evidence.spread[_TEXTURED] / 12
    known = np.concatenate([evidence.pixels[_SEEN] > 0, np.isfinite(evidence.fill[_LEGS, 0])])
    build = [
        (evidence.mass_index - 23) / 4,
        (evidence.height - 1.6) * 5,
        (evidence.head_share - 0.145) * 60,
    ]
    parts = [*(pair.ravel() for pair in pairs), fill.ravel(), spread.ravel()]
    rest = [known - 0.5, evidence.scene / 30 - 1, build, skin]
    contrasts: Array = np.nan_to_num(np.concatenate([*parts, *rest]), nan=0.0)
    return contrasts


def _tone(lab: Array) -> Array:
    """[..., 3] log lightness and two log ratios of linear RGB, NaN where `lab` is.

    Under another strength of the same light only the first number changes.
    """
    rgb = lab_to_srgb(np.nan_to_num(lab, nan=50.0))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    # What a dark pixel's hue is worth: noise and reflections add about a hundredth to it.
    logs = np.log(linear + 0.012)
    tone = np.stack(
        [logs.mean(-1), logs[..., 0] - logs[..., 1], logs[..., 2] - logs[..., 1]], axis=-1
    )
    return np.where(np.isfinite(lab[..., :1]), tone, np.nan)


def _contrast(tone: Array, other: Array) -> Array:
    """[..., 2] difference in lightness, clipped, and distance in hue, between tones."""
    apart = tone - other
    hue = np.minimum(np.hypot(apart[..., 1], apart[..., 2]), 1.5)
    return np.stack([np.clip(apart[..., 0], -2, 2), 2 * hue], axis=-1)


def _mean(tones: Array) -> Array:
    """Mean [3] of the known tones of [n, 3], NaN where none is."""
    known = np.isfinite(tones[:, 0])
    middle: Array = tones[known].mean(0) if known.any() else np.full(3, np.nan)
    return middle

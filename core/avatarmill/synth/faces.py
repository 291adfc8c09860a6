"""Faces that live: blinks, speech, moods and a wandering gaze, on all 52 facial actions."""

import numpy as np

from avatarmill.synth.gait import Array, smoothstep
from avatarmill.synth.wander import wander

ACTIONS: dict[str, tuple[int, ...]] = {
    "brow_down": (0, 1),
    "brow_inner_up": (2,),
    "brow_outer_up": (3, 4),
    "cheek_puff": (5,),
    "cheek_squint": (6, 7),
    "blink": (8, 9),
    "look_down": (10, 11),
    "look_in": (12, 13),
    "look_out": (14, 15),
    "look_up": (16, 17),
    "squint": (18, 19),
    "eye_wide": (20, 21),
    "jaw_forward": (22,),
    "jaw_left": (23,),
    "jaw_open": (24,),
    "jaw_right": (25,),
    "mouth_close": (26,),
    "dimple": (27, 28),
    "frown": (29, 30),
    "funnel": (31,),
    "mouth_left": (32,),
    "lower_down": (33, 34),
    "press": (35, 36),
    "pucker": (37,),
    "mouth_right": (38,),
    "roll_lower": (39,),
    "roll_upper": (40,),
    "shrug_lower": (41,),
    "shrug_upper": (42,),
    "smile": (43, 44),
    "stretch": (45, 46),
    "upper_up": (47, 48),
    "sneer": (49, 50),
    "tongue_out": (51,),
}
"""The 52 facial actions, which are in alphabetical order of their ARKit names; left comes first."""

# Strength of the actions of each mood at its height.
MOODS: dict[str, dict[str, float]] = {
    "neutral": {"press": 0.08},
    "smile": {"smile": 0.65, "cheek_squint": 0.35, "squint": 0.2, "dimple": 0.2},
    "grin": {"smile": 0.9, "cheek_squint": 0.6, "upper_up": 0.35, "squint": 0.3, "jaw_open": 0.1},
    "serious": {"brow_down": 0.5, "press": 0.3, "frown": 0.2},
    "sad": {"brow_inner_up": 0.7, "frown": 0.6, "shrug_lower": 0.3, "squint": 0.15},
    "surprised": {"brow_inner_up": 0.7, "brow_outer_up": 0.7, "eye_wide": 0.7, "jaw_open": 0.3},
    "angry": {"brow_down": 0.85, "sneer": 0.5, "squint": 0.35, "press": 0.4, "jaw_forward": 0.2},
    "doubt": {"brow_outer_up": 0.45, "brow_inner_up": 0.25, "mouth_left": 0.35, "shrug_upper": 0.2},
    "wry": {"mouth_right": 0.35, "dimple": 0.3, "smile": 0.25, "jaw_right": 0.25},
    "pout": {"pucker": 0.6, "shrug_lower": 0.4, "brow_down": 0.2},
    "disgust": {"sneer": 0.7, "upper_up": 0.4, "frown": 0.35, "brow_down": 0.3},
    "effort": {"stretch": 0.4, "press": 0.3, "squint": 0.4, "brow_down": 0.3, "jaw_left": 0.25},
    "puff": {"cheek_puff": 0.6, "press": 0.3, "brow_outer_up": 0.2},
    "bite": {"roll_lower": 0.5, "roll_upper": 0.2, "brow_inner_up": 0.3},
    "cheeky": {"tongue_out": 0.45, "jaw_open": 0.25, "smile": 0.4, "squint": 0.3},
}
_COMMON = ("neutral", "neutral", "neutral", "smile", "smile", "serious", "surprised")
# Mouth shapes of speech and how often each leads.
VISEMES: tuple[dict[str, float], ...] = (
    {"jaw_open": 0.42, "lower_down": 0.25},  # a
    {"jaw_open": 0.2, "stretch": 0.35, "smile": 0.15},  # e
    {"jaw_open": 0.22, "funnel": 0.55},  # o
    {"jaw_open": 0.1, "pucker": 0.55},  # u
    {"jaw_open": 0.05, "press": 0.35, "mouth_close": 0.04},  # m
    {"jaw_open": 0.08, "roll_lower": 0.35, "upper_up": 0.2},  # f
    {"jaw_open": 0.12, "lower_down": 0.3, "upper_up": 0.25},  # s
)
_BLINK_SECONDS = 0.11
_GAZE_BY_ACTIONS = 0.3  # share of clips


def expressions(rng: np.random.Generator, times: Array, *, lively: float = 0.3) -> Array:
    """Activations [F, 52] in 0..1: moods that come and go, speech in some clips, and blinks.

    Args:
        lively: 0..1, the chance that a mood is any of `MOODS` rather than a common one.
    """
    action = np.zeros((len(times), 52))
    now, at = _mood(rng, lively), times[0] - rng.uniform(0, 2)
    action += now
    while at < times[-1]:
        at += rng.uniform(1.2, 3.5)
        takes, target = rng.uniform(0.3, 0.8), _mood(rng, lively)
        action += smoothstep((times - at) / takes)[:, None] * (target - now)
        at, now = at + takes, target
    action *= 0.85 + 0.15 * wander(rng, times, 1, rate=0.4)
    if rng.random() < 0.45:
        action += _speech(rng, times)
    # Any one side of the face is a little stronger, and never quite still.
    action *= 1 + 0.12 * rng.normal(size=52).clip(-1.5, 1.5)
    for blink in np.arange(times[0] - rng.uniform(0, 3), times[-1] + 0.2, rng.uniform(2.2, 4.5)):
        shut = 1 - smoothstep(np.abs(times - blink) / _BLINK_SECONDS)
        action[:, ACTIONS["blink"]] = np.maximum(action[:, ACTIONS["blink"]], shut[:, None])
    clipped: Array = np.clip(action, 0, 1)
    return clipped


def _mood(rng: np.random.Generator, lively: float) -> Array:
    """Activations [52] of a random mood at random strength."""
    name = str(rng.choice(list(MOODS) if rng.random() < lively else _COMMON))
    strength = rng.uniform(0.4, 1.1)
    return _activations({key: strength * value for key, value in MOODS[name].items()})


def _activations(parts: dict[str, float]) -> Array:
    full = np.zeros(52)
    for name, value in parts.items():
        full[list(ACTIONS[name])] = value
    return full


def _speech(rng: np.random.Generator, times: Array) -> Array:
    """Mouth shapes that follow each other at the pace of syllables, in phrases with pauses."""
    syllable = rng.uniform(0.17, 0.26)
    first = times[0] - syllable
    count = int((times[-1] - first) / syllable) + 3
    shapes = np.stack([_activations(parts) for parts in VISEMES])
    keys = shapes[rng.integers(len(shapes), size=count)] * rng.uniform(0.5, 1.1, (count, 1))
    # Phrases of about two seconds; the mouth rests in between.
    phrase = np.sin(2 * np.pi * (np.arange(count) * syllable / 2.8 + rng.uniform())) > -0.55
    keys *= phrase[:, None]
    place = (times - first) / syllable
    index = np.floor(place).astype(int)
    share = smoothstep(place - index)[:, None]
    mixed: Array = keys[index] * (1 - share) + keys[index + 1] * share
    return mixed


def gaze(rng: np.random.Generator, times: Array, *, lively: float = 0.3) -> tuple[Array, Array]:
    """Where the eyes look: axis-angle [F, 2, 3] of both eyes, and facial actions [F, 52].

    Eyes rest on one place for a while and jump to the next within 60 ms, both together. Facial
    actions turn the eyeballs too, so that a clip's gaze is carried by the joints or by the
    actions, never by both.
    """
    angles = np.zeros((len(times), 2))
    now, at = rng.normal(0, [3, 6]), times[0]
    angles += now
    while at < times[-1]:
        at += rng.uniform(0.5, 1.8)
        target = rng.normal(0, [4 + 4 * lively, 8 + 8 * lively])
        angles += smoothstep((times - at) / 0.06)[:, None] * (target - now)
        now = target
    down, left = np.clip(angles, [-18, -28], [18, 28]).T
    both, action = np.zeros((len(times), 2, 3)), np.zeros((len(times), 52))
    if rng.random() < _GAZE_BY_ACTIONS:
        inward, outward = ACTIONS["look_in"], ACTIONS["look_out"]
        action[:, outward[0]] = action[:, inward[1]] = np.maximum(left, 0) / 28
        action[:, inward[0]] = action[:, outward[1]] = np.maximum(-left, 0) / 28
        action[:, ACTIONS["look_down"]] = np.maximum(down, 0)[:, None] / 20
        action[:, ACTIONS["look_up"]] = np.maximum(-down, 0)[:, None] / 18
    else:
        both[:, :, 0], both[:, :, 1] = np.deg2rad(down)[:, None], np.deg2rad(left)[:, None]
    # Upper lids sink with the eyes.
    action[:, ACTIONS["blink"]] = np.maximum(down, 0)[:, None] / 60
    return both, action

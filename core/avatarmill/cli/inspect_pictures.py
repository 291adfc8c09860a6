"""Pictures of samples for the contact sheet and the page of `avatarmill inspect`."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatarmill.cli.inspect_shard import Kind
from avatarmill.cli.inspect_shots import shot_pictures
from avatarmill.records.clip import Clip, clip_from_members, frame_names
from avatarmill.records.shot import shot_meta
from avatarmill.records.tarshard import Members
from avatarmill.records.token import TokenSample, token_from_members

Picture = NDArray[np.uint8]

_SIDE = 256
"""Pixels of a drawing of tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """One sample: its pictures with their titles, and what is said of it."""

    key: str
    pictures: list[tuple[str, Picture]]
    caption: str
    lines: list[str]


def sample_card(kind: Kind, key: str, members: Members) -> Card | None:
    """Pictures and words of a sample; None for kinds that have no pictures.

    Raises:
        ShardError: the sample cannot be decoded.
    """
    if kind == "clip":
        return _clip_card(clip_from_members(key, members))
    if kind == "shot":
        return _shot_card(key, members)
    return _token_card(token_from_members(key, members)) if kind == "token" else None


def _clip_card(clip: Clip) -> Card:
    meta = clip.meta
    names = frame_names(clip.num_frames, clip.num_references)
    pictures = [("ref_00 and its mask", _masked(clip.images[0], clip.masks[0]))]
    pictures += [
        (f"{name}, {pts:.2f} s", image)
        for name, pts, image in zip(names, meta.pts_seconds, clip.images, strict=True)
    ]
    lines = [
        f"{meta.source_uri}, {meta.start_seconds:.2f} to {meta.stop_seconds:.2f} s, "
        f"track {meta.track}",
        f"licence {meta.licence or 'not stated'}, consent {meta.consent or 'not stated'}",
        ", ".join(f"{name} {value:.3g}" for name, value in sorted(meta.scores.items())),
    ]
    return Card(clip.key, pictures, meta.captions.get("medium", ""), lines)


def _shot_card(key: str, members: Members) -> Card:
    meta = shot_meta(members["json"])
    pictures = [(f"{pts:.2f} s", image) for pts, image in shot_pictures(key, members["mp4"])]
    lines = [
        f"{meta.source_uri}, {meta.start_seconds:.2f} to {meta.stop_seconds:.2f} s",
        f"licence {meta.licence or 'not stated'}, consent {meta.consent or 'not stated'}",
        f"{len(meta.pts_seconds)} frames of {meta.width}x{meta.height}",
    ]
    return Card(key, pictures, "", lines)


def _masked(image: Picture, mask: Picture) -> Picture:
    """The person as seen, the rest in a third of its light and blue."""
    alpha = mask[..., None].astype(np.float32) / 255
    rest = image / 3 + np.array([0, 0, 80], np.float32)
    return np.asarray(image * alpha + rest * (1 - alpha), np.uint8)


def _token_card(sample: TokenSample) -> Card:
    meta = sample.meta
    face = sample.face_crop
    pictures = [("face", np.full((8, 8, 3), 230, np.uint8) if face is None else face)]
    points = _anchor_points(len(sample.latent))
    pictures += [
        (title, _dots(points * (sign, 1, sign), sample.visibility))
        for title, sign in (("visibility, front", 1), ("visibility, back", -1))
        if points is not None
    ]
    lines = [
        f"clip {meta.clip_key}, source sha256 {meta.source_sha256[:12]}, "
        f"licence {meta.licence or 'not stated'}",
        f"{len(sample.latent)} tokens, {100 * sample.visible_fraction:.0f} % visible, "
        f"tokenizer {meta.tokenizer[:12]}",
    ]
    return Card(sample.key, pictures, meta.captions.get("medium", ""), lines)


@cache
def _anchor_points(count: int) -> NDArray[np.float32] | None:
    """[count, 3] where the tokens lie on the body in T-pose, metres; None for no or too many."""
    from avatarmill.avatar.anchors import MAX_ANCHORS, load_anchors
    from avatarmill.avatar.body import load_body

    if not 1 <= count <= MAX_ANCHORS:
        return None
    points: NDArray[np.float32] = load_anchors(load_body(), count=count).position.numpy()
    return points


def _dots(points: NDArray[np.float32], scores: NDArray[np.uint8]) -> Picture:
    """Points seen along -z, from red (unseen) to green (well seen); the nearest on top."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    scale = (_SIDE - 12) / float((high - low).max())
    middle = (low + high) / 2
    canvas = Image.new("RGB", (_SIDE, _SIDE), "white")
    pen = ImageDraw.Draw(canvas)
    for at in np.argsort(points[:, 2]):
        x, y = (points[at, :2] - middle) * (scale, -scale) + _SIDE / 2
        seen = int(scores[at])
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(255 - seen, seen, 50))
    return np.asarray(canvas)

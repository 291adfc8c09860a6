"""From pictures of shots to pictures of a clip: fields woven, shots mixed, bars and text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.defects import Format
from avatarmill.synth.overlay import draw_text
from avatarmill.synth.render import RenderConfig, render_cast
from avatarmill.synth.takes import Take

Bytes = NDArray[np.uint8]
_CHUNK = 8  # instants rendered at once: what bounds the memory of a film


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the camera of one shot saw in one frame."""

    image: Bytes
    """[H, W, 3] sRGB."""
    masks: Bytes
    """[P, H, W] of the people in the shot."""


def expose(take: Take, form: Format, render: RenderConfig) -> Iterator[Exposure]:
    """Render the frames of a shot in order, a few at a time.

    Args:
        take: the shot.
        form: format of the clip; interlaced frames take two instants each.
        render: quality.
    """
    # The chunk is even, so both fields of a frame are in one.
    for start in range(0, len(take.views), _CHUNK):
        instants = np.arange(start, min(start + _CHUNK, len(take.views)))
        rendered = render_cast(
            take.actors,
            [motion.take(instants) for motion in take.motions],
            [take.views[instant] for instant in instants],
            take.scene,
            render,
            props=None if take.occluder is None else take.occluder.at(instants).props,
        )
        images, masks = rendered.images, rendered.masks
        for frame in range(0, len(instants), form.fields):
            image = images[frame]
            if form.fields == 2:
                image = weave(image, images[frame + 1], form.encoding.field_order)
            yield Exposure(image, masks[frame])


def weave(first: Bytes, second: Bytes, order: str) -> Bytes:
    """One interlaced picture of two instants: rows 0, 2, ... of the first if `order` is tff."""
    # The stored rows of a broadcast frame were scanned half a frame time apart.
    woven = first.copy()
    late = 1 if order == "tff" else 0
    woven[late::2] = second[late::2]
    return woven


def compose_frame(
    form: Format, frame: int, seen: Mapping[int, Bytes], shares: NDArray[np.float32]
) -> Bytes:
    """The upright picture [H, W, 3] of one frame of a clip.

    Args:
        form: format of the clip.
        frame: its number.
        seen: shot -> its picture in this frame.
        shares: [S] how much of every shot is in it; what is missing to 1 is a fade's colour.
    """
    picture = _mix(form, frame, seen, shares)
    if form.letterbox is not None:
        picture = form.letterbox.around(picture, form.width, form.height)
    for text in form.texts:
        if text.first <= frame <= text.last:
            draw_text(picture, text)
    return picture


def _mix(form: Format, frame: int, seen: Mapping[int, Bytes], shares: NDArray[np.float32]) -> Bytes:
    """Shots on top of each other in the sRGB values, as editing programs mix them."""
    if len(seen) == 1 and shares.max() == 1:
        return next(iter(seen.values())).copy()
    color = next(
        (b.color for b in form.boundaries if b.color and b.first <= frame <= b.last), (0, 0, 0)
    )
    mixed = (1 - shares.sum()) * np.array(color, np.float32)
    total = sum(
        (shares[shot] * picture.astype(np.float32) for shot, picture in seen.items()), mixed
    )
    return np.asarray(np.clip(total + 0.5, 0, 255), np.uint8)

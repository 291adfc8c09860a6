"""The child that fits bodies: the landmarks of one track a request, SMPL-X parameters back."""

from dataclasses import fields

from avatarmill.pipeline.children.protocol import Message, serve
from avatarmill.pipeline.fit import FitConfig, fit_track
from avatarmill.pipeline.plain import from_plain
from avatarmill.pipeline.shared_body import shared_body
from avatarmill.pipeline.types import Fit, Landmarks, Reject, Track
from avatarmill.records.fingerprint import describe

LANDMARKS = tuple(field.name for field in fields(Landmarks))
FIT = tuple(field.name for field in fields(Fit))


def fit(request: Message) -> Message:
    """Fits one track.

    Takes the arrays of `Landmarks` over T frames, `frame_indices` [T], `boxes` [T, 4] and
    `pts_seconds` [T], and the values `index`, `scores`, `width`, `height`, `focal_35mm` and
    `config`. Replies with the arrays of `Fit`, or with `reject`.
    """
    values, arrays = request.values, request.arrays
    found = fit_track(
        Track(
            index=int(values["index"]),
            frame_indices=arrays["frame_indices"],
            boxes=arrays["boxes"],
            landmarks=Landmarks(**{name: arrays[name] for name in LANDMARKS}),
            scores=values["scores"],
        ),
        pts_seconds=arrays["pts_seconds"],
        width=int(values["width"]),
        height=int(values["height"]),
        body=shared_body(),
        config=from_plain(FitConfig, values["config"]),
        focal_35mm=float(values["focal_35mm"]),
    )
    if isinstance(found, Reject):
        return Message({"reject": describe(found)})
    return Message({}, {name: getattr(found, name) for name in FIT})


if __name__ == "__main__":
    serve({"fit": fit})

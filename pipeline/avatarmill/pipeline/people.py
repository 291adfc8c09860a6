"""The people of a shot: everybody followed, told apart, and judged whether they are persons.

MediaPipe sees people in wheels. A track is one person, possibly in several runs of frames with the
time hidden behind somebody else in between; in each run the figure neither vanishes nor jumps, and
its body stays one body: limbs of constant length, sides that match, a face where the head is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.boxes import track_boxes
from avatarmill.pipeline.children.supervise import Child, ChildFailure, python_module
from avatarmill.pipeline.children.venv import mediapipe_python
from avatarmill.pipeline.division import divide_pixels
from avatarmill.pipeline.figures import Figure, join
from avatarmill.pipeline.identities import Identity, identify
from avatarmill.pipeline.people_config import PeopleConfig
from avatarmill.pipeline.second_look import confirmed_share
from avatarmill.pipeline.sight import MediaPipeSight
from avatarmill.pipeline.steadiness import CORE
from avatarmill.pipeline.tracking import follow_people
from avatarmill.pipeline.types import Bytes, Frames, Reason, Reject, Track
from avatarmill.pipeline.verdict import frame_seconds, judge
from avatarmill.pipeline.whole_body import look_closer, whole_body_child

__all__ = [
    "People",
    "PeopleConfig",
    "find_people",
    "people_child",
    "track_scores",
    "whole_body_child",
]


@dataclass(frozen=True, slots=True)
class People:
    """What was found in a shot."""

    tracks: tuple[Track, ...]
    """May overlap in time; in the order their persons were first seen."""
    masks: tuple[Bytes, ...]
    """[T, H, W] MediaPipe's own mask of each track, 0..255, over the frames of the track, without
    what belongs to the other people."""
    rejects: tuple[Reject, ...]
    """Figures that were turned away beside the tracks that were kept."""


def people_child(config: PeopleConfig) -> Child:
    """The child that holds MediaPipe; one per worker, closed by its owner.

    Raises ValueError when the MediaPipe environment is missing.
    """
    return Child(
        python_module(
            "avatarmill.pipeline.children.mediapipe_child", mediapipe_python(config.python)
        ),
        memory_limit_bytes=config.memory_limit_bytes,
        env={
            **{"OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2", "MEDIAPIPE_DISABLE_GPU": "1"},
            # MediaPipe imports pyplot, which stops at the backend a notebook names.
            "MPLBACKEND": "agg",
        },
    )


def find_people(
    child: Child, frames: Frames, config: PeopleConfig, *, whole_body: Child | None = None
) -> People | Reject:
    """Tracks of the people in a shot.

    Rejects the shot when none is left: NO_PERSON, TRACK_TOO_SHORT, LANDMARKS_DISAGREE or
    PERSON_TOO_SMALL (the reason of its longest figure), and the child's failures. `whole_body`
    is the child of a configured ONNX model, see `whole_body_child`.
    """
    settings = {
        "model_complexity": config.model_complexity,
        "detection_confidence": config.detection_confidence,
        "tracking_confidence": config.tracking_confidence,
    }
    deadline = config.deadline_base_seconds + config.deadline_per_frame * len(frames.images)
    try:
        sight = MediaPipeSight(child, frames.images, settings=settings, deadline_seconds=deadline)
        trails = follow_people(sight, frames.images, frames.pts_seconds, config.tracking)
        persons = identify(trails, frames.pts_seconds, same_figure=config.tracking.same_figure)
        found = tracks_of(persons, frames, config)
        if not isinstance(found, Reject):
            found = _confirmed(sight, frames, found, config)
        if not isinstance(found, Reject) and whole_body is not None:
            found = replace(
                found,
                tracks=tuple(
                    look_closer(whole_body, frames.images, track, config) for track in found.tracks
                ),
            )
        return found
    except ChildFailure as failure:
        return replace(failure.reject("people"), level="shot")


def _confirmed(
    sight: MediaPipeSight, frames: Frames, people: People, config: PeopleConfig
) -> People | Reject:
    """Keeps the tracks whose body is found again by looks that know nothing of the tracking."""
    kept: list[tuple[Track, Bytes]] = []
    rejects: list[Reject] = []
    height, width = frames.images.shape[1:3]
    for track, masks in zip(people.tracks, people.masks, strict=True):
        share = confirmed_share(sight, track, looks=config.second_looks, width=width, height=height)
        if share >= config.min_confirmed:
            scores = {**track.scores, "confirmed": round(share, 4)}
            kept.append((replace(track, index=len(kept), scores=scores), masks))
            continue
        times = frames.pts_seconds[track.frame_indices]
        evidence = f"{share:.2f} of second looks find the same body, limit {config.min_confirmed}"
        start, stop = float(times[0]), float(times[-1]) + frame_seconds(frames.pts_seconds)
        reason = Reason.LANDMARKS_DISAGREE
        rejects.append(Reject(reason, evidence, "people", start, stop, "track"))
    if not kept:
        return max(rejects, key=lambda reject: reject.stop_seconds - reject.start_seconds)
    return People(
        tuple(track for track, _ in kept),
        tuple(masks for _, masks in kept),
        (*people.rejects, *rejects),
    )


def tracks_of(persons: Sequence[Identity], frames: Frames, config: PeopleConfig) -> People | Reject:
    """Judges the persons of a shot and makes tracks of those that are. No child is involved."""
    times = frames.pts_seconds
    if not persons:
        stop = float(times[-1]) + frame_seconds(times)
        evidence = f"no figure in {len(times)} frames"
        return Reject(Reason.NO_PERSON, evidence, "people", float(times[0]), stop, level="shot")
    hidden = divide_pixels(persons, frames.images)
    kept: list[tuple[Track, Bytes]] = []
    rejects: list[Reject] = []
    order = sorted(range(len(persons)), key=lambda number: -len(persons[number].figures))
    for number in order:
        person = persons[number]
        rows, figures = person.rows(), [person.figures[int(row)] for row in person.rows()]
        masks = _whole_masks(figures, frames.images.shape[1:3])
        verdict = judge(join(figures), masks, rows, times, config)
        if isinstance(verdict, Reject):
            rejects.append(verdict)
        elif len(kept) < config.max_tracks:
            positions, landmarks = verdict
            track = Track(
                number, rows[positions], track_boxes(landmarks, masks[positions]), landmarks
            )
            scores = track_scores(track, hidden[number][positions], person.swaps_suspected)
            kept.append((replace(track, scores=scores), masks[positions]))
    if not kept:
        return rejects[0]
    kept.sort(key=lambda pair: pair[0].index)
    tracks = tuple(replace(track, index=i) for i, (track, _) in enumerate(kept))
    return People(tracks, tuple(masks for _, masks in kept), tuple(rejects))


def track_scores(
    track: Track, hidden: NDArray[np.float64], swaps_suspected: int
) -> dict[str, float]:
    """How well a person could be followed.

    Args:
        track: T frames.
        hidden: [T] share of joints behind others, see `hidden_share`.
        swaps_suspected: meetings after which the people may have been exchanged.

    Returns:
        seen: share of the frames between the first and the last in which the person was followed;
        visibility: mean of MediaPipe's over head and trunk; hidden: mean share of joints behind
        others; swaps_suspected; and, of tracks that were looked at twice, confirmed: share of
        second looks that agree.
    """
    rows = track.frame_indices
    return {
        "seen": round(len(rows) / float(rows[-1] - rows[0] + 1), 4),
        "visibility": round(float(track.landmarks.body[:, CORE, 3].mean()), 4),
        "hidden": round(float(hidden.mean()), 4),
        "swaps_suspected": float(swaps_suspected),
    }


def _whole_masks(figures: Sequence[Figure], shape: tuple[int, ...]) -> Bytes:
    """[T, H, W] of masks that cover a part each."""
    masks = np.zeros((len(figures), *shape), np.uint8)
    for mask, figure in zip(masks, figures, strict=True):
        mask[figure.window()] = figure.mask
    return masks

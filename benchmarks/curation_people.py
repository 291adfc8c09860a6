"""How well people keep their identity through crossings, and what finding them costs.

Six rendered films in which two people cross, against the masks they were rendered with, and two
real clips against boxes written by hand. Prints a table and, last, one JSON object.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatarmill.cli.console import say, table
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.people import People, PeopleConfig, find_people, people_child
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.track_truth import (
    TrackErrors,
    box_agreement,
    mask_agreement,
    track_errors,
)
from avatarmill.pipeline.types import Frames, Reject, Shot
from avatarmill.synth.film import FilmConfig, SynthFilm, synth_film
from avatarmill.synth.frames import WildConfig

ROOT = Path(__file__).resolve().parents[1]
VIDEOS = Path(os.environ.get("AVATARMILL_VIDEOS", ROOT.parent / "shared" / "videos"))
BOXES = ROOT / "tests" / "pipeline" / "two_people_boxes.json"
SEEDS = (21, 22, 23, 24, 25, 26)
"""None of these films was looked at while the tracker was made; 1 to 10 were."""
FILM = FilmConfig(
    wild=WildConfig(num_frames=50, fps=10.0, width=640, height=360),
    defects=("two_people",),
    anchors=0,
)
_LEAST_MASK, _LEAST_BOX = 0.4, 0.5
_VISIBLE_PIXELS = 400


@dataclass(frozen=True, slots=True)
class Clip:
    """What one clip showed."""

    name: str
    errors: TrackErrors
    frames: int
    seconds: float
    model_seconds: float
    """Of `seconds`, inside MediaPipe."""


def measure(child: Child, frames: Frames) -> tuple[People, float, float]:
    """The people of a shot, seconds, and seconds of these inside MediaPipe."""
    before, started = _model_seconds(child), time.perf_counter()
    people = find_people(child, frames, PeopleConfig())
    seconds = time.perf_counter() - started
    if isinstance(people, Reject):
        raise SystemExit(f"no people where there are two: {people.reason}: {people.evidence}")
    return people, seconds, _model_seconds(child) - before


def _model_seconds(child: Child) -> float:
    reply = child.call(Message({"call": "spent"}), deadline_seconds=60)
    return float(reply.values["seconds"])


def film_errors(film: SynthFilm, people: People) -> TrackErrors:
    """Errors of tracks against the people of a film, by their masks."""
    persons = film.truth.people
    agreement = np.zeros((len(film.images), len(persons), len(people.tracks)))
    present = np.zeros(agreement.shape[:2], np.bool_)
    rows = [{int(row): i for i, row in enumerate(t.frame_indices)} for t in people.tracks]
    nothing = np.zeros(film.images.shape[1:3], np.uint8)
    for frame in range(len(film.images)):
        truth = [person.mask(int(np.searchsorted(person.frames, frame))) for person in persons]
        present[frame] = [(mask > 0).sum() > _VISIBLE_PIXELS for mask in truth]
        found = [
            masks[own[frame]] if frame in own else nothing
            for own, masks in zip(rows, people.masks, strict=True)
        ]
        agreement[frame] = mask_agreement(truth, found)
    return track_errors(agreement, present, least=_LEAST_MASK)


def box_errors(path: Path, frames: Frames, people: People) -> TrackErrors:
    """Errors of tracks against the boxes written by hand, at the times they were written for."""
    entries = json.loads(BOXES.read_text())[path.name]
    names = sorted({entry["person"] for entry in entries})
    times = sorted({float(entry["seconds"]) for entry in entries})
    height, width = frames.images.shape[1:3]
    agreement = np.zeros((len(times), len(names), len(people.tracks)))
    for at, when in enumerate(times):
        row = int(np.abs(frames.pts_seconds - when).argmin())
        own = {entry["person"]: entry["box"] for entry in entries if entry["seconds"] == when}
        truth = np.array([own[name] for name in names], np.float32)
        agreement[at] = box_agreement(
            truth * np.array([width, height, width, height], np.float32), _boxes_at(people, row)
        )
    return track_errors(agreement, np.ones(agreement.shape[:2], np.bool_), least=_LEAST_BOX)


def _boxes_at(people: People, row: int) -> NDArray[np.float32]:
    """[K, 4] boxes of all tracks in a row of the shot; empty ones where a track is not there."""
    boxes = np.zeros((len(people.tracks), 4), np.float32)
    for box, track in zip(boxes, people.tracks, strict=True):
        at = np.flatnonzero(track.frame_indices == row)
        if len(at):
            box[:] = track.boxes[at[0]]
    return boxes


def synth_clips(child: Child, seeds: Iterable[int] = SEEDS) -> list[Clip]:
    """Renders and measures the films."""
    clips = []
    for seed in seeds:
        film = synth_film(seed, FILM)
        frames = Frames(film.images, film.truth.ticks / film.truth.scale)
        people, seconds, inside = measure(child, frames)
        errors = film_errors(film, people)
        clips.append(Clip(f"synth {seed}", errors, len(film.images), seconds, inside))
    return clips


def real_clips(child: Child) -> list[Clip]:
    """Measures the two real clips of two people; none where the folder of videos is missing."""
    clips = []
    for path in (VIDEOS / name for name in json.loads(BOXES.read_text())):
        if not path.is_file():
            say(f"no {path.name} in {path.parent}; AVATARMILL_VIDEOS names another folder")
            continue
        frames = _decoded(path)
        people, seconds, inside = measure(child, frames)
        errors = box_errors(path, frames, people)
        clips.append(Clip(path.stem, errors, len(frames.images), seconds, inside))
    return clips


def _decoded(path: Path) -> Frames:
    (source,) = list_sources(path)
    with video_child(ProbeConfig()) as child:
        facts = probe(child, source, ProbeConfig())
    assert not isinstance(facts, Reject), facts
    whole = Shot(facts.start_seconds, facts.start_seconds + facts.duration_seconds)
    frames = decode(source.path, facts, whole, DecodeConfig())
    assert not isinstance(frames, Reject), frames
    return frames


def figures() -> dict[str, float]:
    """The figures of the people stage."""
    with people_child(PeopleConfig()) as child:
        synth, real = synth_clips(child), real_clips(child)
    clips = synth + real
    table(
        ["clip", "swaps", "found", "missed", "ms a frame", "outside MediaPipe"],
        [
            [
                clip.name,
                clip.errors.swaps,
                clip.errors.found,
                clip.errors.missed,
                round(1000 * clip.seconds / clip.frames),
                round(1 - clip.model_seconds / clip.seconds, 3),
            ]
            for clip in clips
        ],
    )
    seconds = sum(clip.seconds for clip in clips)
    found = sum(clip.errors.found for clip in synth)
    return {
        "id_swaps": sum(clip.errors.swaps for clip in clips),
        "id_clips_synth": len(synth),
        "id_clips_real": len(real),
        "people_found": round(found / (found + sum(clip.errors.missed for clip in synth)), 3),
        "people_ms_per_frame": round(1000 * seconds / sum(clip.frames for clip in clips), 1),
        "people_outside_fraction": round(
            1 - sum(clip.model_seconds for clip in clips) / seconds, 3
        ),
    }


def main() -> None:
    """Measures and prints."""
    say(json.dumps(figures()))


if __name__ == "__main__":
    main()

"""How well people keep their identity through crossings, and what finding them costs.

Twelve rendered films of two people who mostly cross, against the masks they were rendered with, and
two real clips against boxes written by hand. In every frame people and tracks are matched one to
one, with the largest sum of mask (clips: box) intersection over union, from 0.4 (clips: 0.5). A
track that is matched with another person than the last time it was matched is a swap; a person who
goes on in another track is a break; people out of sight count neither as found nor as missed.

Prints a table and, last, one JSON object. `--speed` times two films and a clip instead: run alone.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
SEEDS = (*range(21, 27), *range(31, 37))
"""None of these films was looked at while the tracker was made; 1 to 20 were."""
TIMED_SEEDS, TIMED_CLIP = (21, 22), "two_people_shop.mp4"
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


def real_clips(child: Child, names: Iterable[str] | None = None) -> list[Clip]:
    """Measures the real clips of two people; none where the folder of videos is missing."""
    clips = []
    for path in (VIDEOS / name for name in names or json.loads(BOXES.read_text())):
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


def show(clips: Iterable[Clip]) -> None:
    """The table of clips."""
    table(
        ["clip", "swaps", "breaks", "tracks", "found", "missed", "ms a frame", "outside MediaPipe"],
        [
            [
                clip.name,
                clip.errors.swaps,
                clip.errors.breaks,
                " ".join(map(str, clip.errors.tracks)),
                clip.errors.found,
                clip.errors.missed,
                round(1000 * clip.seconds / clip.frames),
                round(1 - clip.model_seconds / clip.seconds, 3),
            ]
            for clip in clips
        ],
    )


def identity_figures(synth: list[Clip], real: list[Clip]) -> dict[str, float]:
    """Who is who: swaps, breaks, and shares of person-frames that were found."""
    errors = [clip.errors for clip in synth + real]
    tracks = [count for error in errors for count in error.tracks]
    return {
        "id_swaps": sum(error.swaps for error in errors),
        "id_breaks": sum(error.breaks for error in errors),
        "id_clips_synth": len(synth),
        "id_clips_real": len(real),
        "people_found": found_share(synth),
        "people_found_least": min((found_share([clip]) for clip in synth), default=0.0),
        "people_found_real": found_share(real),
        "tracks_per_person": round(sum(tracks) / max(len(tracks), 1), 3),
    }


def found_share(clips: Iterable[Clip]) -> float:
    """Share of person-frames found, over clips."""
    errors = [clip.errors for clip in clips]
    found = sum(error.found for error in errors)
    return round(found / max(found + sum(error.missed for error in errors), 1), 3)


def time_figures(clips: list[Clip]) -> dict[str, float]:
    """What a frame costs, and the share of it that is not MediaPipe's."""
    seconds = sum(clip.seconds for clip in clips)
    inside = sum(clip.model_seconds for clip in clips)
    return {
        "people_ms_per_frame": round(1000 * seconds / sum(clip.frames for clip in clips), 1),
        "people_outside_fraction": round(1 - inside / seconds, 3),
    }


def warm_up(child: Child) -> None:
    """Has the graphs built, which a job does once for all its videos."""
    images = synth_film(TIMED_SEEDS[0], replace(FILM, wild=replace(FILM.wild, num_frames=6))).images
    find_people(child, Frames(images, np.arange(len(images)) / 10), PeopleConfig())


def main() -> None:
    """Measures and prints."""
    speed = "--speed" in sys.argv[1:]
    with people_child(PeopleConfig()) as child:
        warm_up(child)
        synth = synth_clips(child, TIMED_SEEDS if speed else SEEDS)
        real = real_clips(child, [TIMED_CLIP] if speed else None)
    show(synth + real)
    found = {} if speed else identity_figures(synth, real)
    say(json.dumps(found | time_figures(synth + real)))


if __name__ == "__main__":
    main()

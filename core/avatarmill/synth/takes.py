"""Shots as they are staged: who moves how, in which place, before which camera, behind what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.actor import Actor, sample_actor
from avatarmill.synth.clock import Clock, perform
from avatarmill.synth.defects import DefectKind, Format
from avatarmill.synth.frames import WildConfig, camera_extent
from avatarmill.synth.motion import Motion, walk_between
from avatarmill.synth.props import Occluder, sample_occluder
from avatarmill.synth.render import View
from avatarmill.synth.scenery import Scene, sample_scene
from avatarmill.synth.staging import Crop, group_views, wild_views
from avatarmill.synth.timeline import Shot, shots_between

Array = NDArray[np.float64]
_CROPS: tuple[Crop, ...] = ("half", "half", "knees", "bust")
_STROLL, _HURRY = 0.7, 1.15
"""Metres a second of people who cross: usual, and at most in clips too short for that."""


@dataclass(frozen=True, slots=True)
class Take:
    """One shot, ready to be rendered."""

    people: tuple[int, ...]
    """Numbers of the persons in the film."""
    actors: tuple[Actor, ...]
    motions: tuple[Motion, ...]
    """One an actor, over the instants of the shot: `fields` for each of its frames."""
    views: list[View]
    """One an instant."""
    scene: Scene
    occluder: Occluder | None
    shot: Shot


@dataclass(frozen=True, slots=True)
class _Place:
    """Consecutive shots in one place, where the motion goes on through the cuts."""

    shots: tuple[Shot, ...]
    people: tuple[int, ...]
    actors: tuple[Actor, ...]

    def clock(self, form: Format) -> Clock:
        begin, end = self.shots[0].begin, self.shots[-1].end
        if form.timing.uneven:
            return Clock.uneven(form.timing.seconds[begin:end], form.fps)
        return Clock.even((end - begin) * form.fields, form.fps * form.fields)

    def instants(self, shot: Shot, fields: int) -> slice:
        begin = self.shots[0].begin
        return slice((shot.begin - begin) * fields, (shot.end - begin) * fields)


def stage_film(
    rng: np.random.Generator, config: WildConfig, form: Format, defects: Sequence[DefectKind]
) -> list[Take]:
    """All shots of a clip; without defects, the one that `synth_wild` renders."""
    return [
        take
        for place in _places(rng, form, crowd=2 if "two_people" in defects else 1)
        for take in _stage(rng, config, form, defects, place)
    ]


def _places(rng: np.random.Generator, form: Format, *, crowd: int) -> list[_Place]:
    """Cast the shots and put those of one place together.

    Args:
        rng: consumed.
        form: format of the clip, with its boundaries.
        crowd: people in each shot.
    """
    shots = shots_between(form.num_frames, form.boundaries)
    actors = tuple(sample_actor(rng) for _ in range(crowd))
    places = [_Place((shots[0],), tuple(range(crowd)), actors)]
    known = crowd
    for boundary, shot in zip(form.boundaries, shots[1:], strict=True):
        last = places[-1]
        if boundary.change == "camera":
            places[-1] = _Place((*last.shots, shot), last.people, last.actors)
        elif boundary.change == "place":
            places.append(_Place((shot,), last.people, last.actors))
        else:
            actors = tuple(sample_actor(rng) for _ in range(crowd))
            places.append(_Place((shot,), tuple(range(known, known + crowd)), actors))
            known += crowd
    return places


def _stage(
    rng: np.random.Generator,
    config: WildConfig,
    form: Format,
    defects: Sequence[DefectKind],
    place: _Place,
) -> list[Take]:
    """Motions, cameras and surroundings of one place."""
    clock = place.clock(form)
    half = "half_body" in defects
    if len(place.actors) == 1:
        motions: tuple[Motion, ...] = (perform(rng, place.actors[0], config.motions, clock),)
    else:
        motions = _pair(rng, place.actors, clock, still=half)
    cameras, crops = _cameras(rng, config, form, place, motions, clock, half=half)
    views = [view for shot in cameras for view in shot]
    scene = sample_scene(
        rng, config.places[int(rng.integers(len(config.places)))], extent=camera_extent(views)
    )
    occluder = None
    if "occluder" in defects:
        occluder = _obstruct(rng, place, motions, cameras, clock, tall=crops[0] != "full")
    takes = []
    for shot, camera in zip(place.shots, cameras, strict=True):
        span = place.instants(shot, form.fields)
        frames = np.arange(span.start, span.stop)
        moving = tuple(motion.take(frames) for motion in motions)
        inside = None if occluder is None else occluder.at(frames)
        takes.append(Take(place.people, place.actors, moving, camera, scene, inside, shot))
    return takes


def _cameras(
    rng: np.random.Generator,
    config: WildConfig,
    form: Format,
    place: _Place,
    motions: tuple[Motion, ...],
    clock: Clock,
    *,
    half: bool,
) -> tuple[list[list[View]], list[Crop]]:
    """Views and framing of every shot; each next camera stands well aside of the one before."""
    width, height = form.inner
    cameras: list[list[View]] = []
    crops: list[Crop] = []
    for index, shot in enumerate(place.shots):
        span = place.instants(shot, form.fields)
        times = clock.times[span]
        framing = _framing(rng, config, half=half)
        seen = [motion.take(np.arange(span.start, span.stop)) for motion in motions]
        size = {"width": width, "height": height}
        azimuth = None
        if index:
            # Editors keep 30 degrees between cameras of one scene; less reads as a jump.
            azimuth = _azimuth(cameras[-1][-1]) + rng.choice([-1, 1]) * rng.uniform(0.7, 1.5)
        if len(seen) > 1:
            around = rng.uniform(-0.35, 0.35) if azimuth is None else azimuth
            views = group_views(
                rng, place.actors, seen, framing=framing, times=times, azimuth=around, **size
            )
        else:
            views = wild_views(
                rng, place.actors[0], seen[0], framing=framing, times=times, azimuth=azimuth, **size
            )
        cameras.append(views)
        crops.append(framing)
    return cameras, crops


def _azimuth(view: View) -> float:
    """Radians by which a camera stands beside the +z axis of what it looks at."""
    forward = view.world_to_camera[2, :3]
    return float(np.arctan2(-forward[0], -forward[2]))


def _framing(rng: np.random.Generator, config: WildConfig, *, half: bool) -> Crop:
    if half:
        return _CROPS[int(rng.integers(len(_CROPS)))]
    if config.framing == "half" or (config.framing == "mixed" and rng.random() < 0.25):
        return "half"
    return "full"


def _pair(
    rng: np.random.Generator, actors: Sequence[Actor], clock: Clock, *, still: bool
) -> tuple[Motion, ...]:
    """Two people: three pairs of four walk past each other, the others stand side by side."""
    if still or rng.random() < 0.25:
        apart = rng.uniform(0.75, 1.05)
        return tuple(
            perform(rng, actor, ("gesture", "idle"), clock).placed(
                side * apart / 2, float(rng.uniform(-0.15, 0.15)), float(rng.normal(0, 0.25))
            )
            for actor, side in zip(actors, rng.permutation([-1, 1]), strict=True)
        )
    # Their paths run side by side in opposite directions, mirrored at the origin, so they meet half
    # way; the angle to the picture's plane makes one grow and the other shrink.
    seconds = clock.num_steps / clock.rate
    length = min(max(_STROLL * seconds, 1.4), _HURRY * seconds, 2.8)
    gap, angle = rng.uniform(0.30, 0.42), rng.uniform(-0.6, 0.6)
    along = np.array([np.cos(angle), np.sin(angle)])
    aside = np.array([-along[1], along[0]])
    walks = []
    # Who comes from the left is drawn: the first person is not always in front.
    for actor, side in zip(actors, rng.permutation([-1, 1]), strict=True):
        start = side * (gap * aside - 0.5 * length * along)
        stop = side * (gap * aside + 0.5 * length * along)
        walk = walk_between(
            rng,
            clock.num_steps,
            clock.rate,
            actor.skeleton,
            (float(start[0]), float(start[1])),
            (float(stop[0]), float(stop[1])),
        )
        walks.append(clock.look(walk))
    return tuple(walks)


def _ground(actor: Actor, motion: Motion) -> Array:
    """Where the pelvis is on the ground, [F, 2]."""
    at: Array = (motion.translation.astype(np.float64) + actor.skeleton.joints[0])[:, [0, 2]]
    return at


def _obstruct(
    rng: np.random.Generator,
    place: _Place,
    motions: tuple[Motion, ...],
    cameras: list[list[View]],
    clock: Clock,
    *,
    tall: bool,
) -> Occluder:
    """One thing that is in the way of the first camera of a place, and stands there in all."""
    paths = [_ground(a, m) for a, m in zip(place.actors, motions, strict=True)]
    hidden = paths[int(rng.integers(len(paths)))]
    return sample_occluder(rng, cameras, hidden, np.concatenate(paths), clock.times, tall=tall)

"""How near fitted bodies come to true ones, and what fitting costs.

Rendered films of held-out seeds give images with exact truth: whole people (some behind things,
some under captions), half bodies, and the same bodies with landmarks that have no error. Real
clips have no truth: there the distance of the projected body from the landmarks is reported.

Errors are PA-MPJPE over the 22 body joints of frames in which 0.9 of the body is inside the image.
MediaPipe's 33 world landmarks become those joints by the linear map that is best for landmarks
without error (`joints_from_landmarks`, poses of development seeds). Prints tables and, last, one
JSON object; with --speed only `fit_fps`.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatarmill.cli.console import say, table
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.decode import DecodeConfig, decode
from avatarmill.pipeline.fit import FitConfig, fit_track
from avatarmill.pipeline.fit_kinematics import PointModel
from avatarmill.pipeline.fit_landmarks import NUM_BODY, NUM_BODY_JOINTS, point_model
from avatarmill.pipeline.fit_prior import pose_prior
from avatarmill.pipeline.fit_truth import (
    acceleration,
    aligned_errors_mm,
    body_joints,
    body_params,
    joints_from_landmarks,
    params_of,
    true_landmarks,
    true_points,
    turned_degrees,
)
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.people import PeopleConfig, find_people, people_child
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Fit, Frames, Reject, Shot, Track
from avatarmill.synth.actor import sample_actor
from avatarmill.synth.clock import Clock, perform
from avatarmill.synth.defects import DefectKind
from avatarmill.synth.film import FilmConfig, synth_film
from avatarmill.synth.frames import WildConfig
from avatarmill.synth.motion import MotionKind
from avatarmill.synth.truth import PersonTruth

ROOT = Path(__file__).resolve().parents[1]
VIDEOS = Path(os.environ.get("AVATARMILL_VIDEOS", ROOT.parent / "shared" / "videos"))
SEEDS = tuple(range(21, 37))
"""Whole people. Nothing of the fit was chosen on these or the next ones; 1 to 20 were for that."""
HALF_SEEDS = tuple(range(37, 43))
DEFECTS: tuple[tuple[DefectKind, ...], ...] = ((), ("occluder",), (), ("captions",))
WHOLE = WildConfig(num_frames=30, fps=10.0, width=640, height=360, framing="full")
HALF = WildConfig(num_frames=24, fps=10.0, width=480, height=480, framing="half")
REAL_SECONDS = 4.0
SPEED_FRAMES = 300
_MAP_SEEDS = range(1, 11)
_MAP_KINDS: tuple[MotionKind, ...] = ("dance", "gesture", "walk")
_INSIDE = 0.9
_TRUE_NOISE = 0.05

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Filmed:
    """One rendered person as the pipeline found it, with what is true in the same frames."""

    name: str
    track: Track
    seconds: Array
    size: tuple[int, int]
    person: PersonTruth
    """The rows of the track's frames."""

    @property
    def params(self) -> BodyParams:
        """The true body."""
        person = self.person
        return body_params(person.pose, person.shape, person.expression, person.translation)


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one film; errors in mm, a row a frame that counts."""

    name: str
    fit: Array
    mediapipe: Array
    true: Array
    jitter: tuple[float, float]
    """Summed acceleration of fit and truth."""


def films(child: Child, seeds: tuple[int, ...], wild: WildConfig) -> Iterator[Filmed]:
    """Renders films and finds their person; a film whose person is not found counts as missing."""
    for at, seed in enumerate(seeds):
        defects = DEFECTS[at % len(DEFECTS)] if wild.framing == "full" else ()
        film = synth_film(seed, FilmConfig(wild=wild, defects=defects, anchors=0))
        frames = Frames(film.images, film.truth.pts_seconds)
        people = find_people(child, frames, PeopleConfig())
        name = f"{wild.framing} {seed} {' '.join(defects)}"
        if isinstance(people, Reject):
            say(f"{name}: nobody found ({people.reason}: {people.evidence})")
            continue
        track = max(people.tracks, key=lambda one: len(one.frame_indices))
        truth = film.truth.people[0]
        rows = np.searchsorted(truth.frames, track.frame_indices)
        size = (film.truth.width, film.truth.height)
        yield Filmed(
            name, track, frames.pts_seconds[track.frame_indices], size, rows_of(truth, rows)
        )


def rows_of(person: PersonTruth, rows: NDArray[np.intp]) -> PersonTruth:
    """The truth of some frames."""
    names = ("frames", "pose", "expression", "translation", "intrinsics", "in_image")
    return replace(person, **{name: getattr(person, name)[rows] for name in names})


def fit_of(
    film: Filmed, track: Track, body: Body, config: FitConfig, *, known: bool = False
) -> Fit:
    """The fit of a track of a film; a refused one ends the benchmark."""
    width, height = film.size
    fit = fit_track(
        track,
        pts_seconds=film.seconds,
        width=width,
        height=height,
        body=body,
        config=config,
        intrinsics=film.person.intrinsics[0] if known else None,
    )
    if isinstance(fit, Reject):
        raise SystemExit(f"{film.name}: {fit.reason}: {fit.evidence}")
    return fit


def score(film: Filmed, body: Body, model: PointModel, weights: Array) -> Scores:
    """Errors of one film of a whole person."""
    truth = body_joints(body, film.params)
    fitted = body_joints(body, params_of(fit_of(film, film.track, body, FitConfig())))
    exact = true_landmarks(model, film.params, film.person.intrinsics[0].astype(float), film.size)
    config = FitConfig(noise=_TRUE_NOISE, lifter=False)
    known = fit_of(film, replace(film.track, landmarks=exact), body, config, known=True)
    world = film.track.landmarks.body_world.astype(np.float64)
    counts = film.person.in_image >= _INSIDE
    return Scores(
        film.name,
        aligned_errors_mm(fitted, truth)[counts],
        aligned_errors_mm(np.einsum("jl,tlc->tjc", weights, world), truth)[counts],
        aligned_errors_mm(body_joints(body, params_of(known)), truth)[counts],
        (
            float(acceleration(fitted, film.seconds).sum()),
            float(acceleration(truth, film.seconds).sum()),
        ),
    )


def score_half(film: Filmed, body: Body) -> tuple[Array, Array]:
    """Errors in mm of joints inside the image, and degrees from the prior's mean of those outside.

    Each frame is aligned on its inside joints. A joint is outside with all its children.
    """
    truth = body_joints(body, film.params)
    fit = fit_of(film, film.track, body, FitConfig())
    found = body_joints(body, params_of(fit))
    lens = film.person.intrinsics
    pixels = np.einsum("tab,tjb->tja", lens, truth / truth[..., 2:])[..., :2]
    inside = ((pixels >= 0) & (pixels < film.size)).all(-1)
    errors = [
        aligned_errors_mm(found[row : row + 1, keep], truth[row : row + 1, keep]).ravel()
        for row, keep in enumerate(inside)
        if keep.sum() >= 4
    ]
    outside = ~inside
    for joint in range(NUM_BODY_JOINTS - 1, 0, -1):
        outside[:, body.parents[joint]] &= outside[:, joint]
    mean = pose_prior().mean[:NUM_BODY_JOINTS].numpy()
    turned = turned_degrees(fit.pose[:, :NUM_BODY_JOINTS].astype(float), mean)
    return np.concatenate(errors), turned[:, 1:][outside[:, 1:]]


def landmark_weights(body: Body, model: PointModel) -> Array:
    """[22, 33] the linear map of landmarks to joints, over poses of development seeds."""
    points, joints = [], []
    for seed in _MAP_SEEDS:
        rng = np.random.default_rng([seed, 1])
        actor = sample_actor(rng)
        for kind in _MAP_KINDS:
            motion = perform(rng, actor, (kind,), Clock.even(12, 3.0))
            params = body_params(motion.pose, actor.shape, motion.expression, motion.translation)
            points.append(true_points(model, params)[:, :NUM_BODY])
            joints.append(body_joints(body, params))
    return joints_from_landmarks(np.concatenate(points), np.concatenate(joints))


def real_residuals(child: Child, body: Body) -> dict[str, float]:
    """Median reprojection error in pixels of each real clip; none where the folder is missing."""
    found: dict[str, float] = {}
    for path in sorted(VIDEOS.glob("*.mp4")):
        (source,) = list_sources(path)
        with video_child(ProbeConfig()) as prober:
            facts = probe(prober, source, ProbeConfig())
        if isinstance(facts, Reject):
            continue
        stop = facts.start_seconds + min(facts.duration_seconds, REAL_SECONDS)
        frames = decode(source.path, facts, Shot(facts.start_seconds, stop), DecodeConfig())
        if isinstance(frames, Reject):
            continue
        people = find_people(child, frames, PeopleConfig())
        for track in people.tracks if not isinstance(people, Reject) else ():
            height, width = frames.images.shape[1:3]
            fit = fit_track(
                track,
                pts_seconds=frames.pts_seconds[track.frame_indices],
                width=width,
                height=height,
                body=body,
            )
            if not isinstance(fit, Reject):
                found[f"{path.stem} {track.index}"] = float(np.median(fit.residual_px))
    return found


def speed(body: Body) -> float:
    """Frames a second of `fit_track` over a track of 300 frames, second run, all cores."""
    model = point_model(body)
    rng = np.random.default_rng([1, 1])
    actor = sample_actor(rng)
    motion = perform(rng, actor, ("walk", "gesture", "dance"), Clock.even(SPEED_FRAMES, 10.0))
    params = body_params(motion.pose, actor.shape, motion.expression, motion.translation)
    size = (640, 480)
    lens = np.array([[800.0, 0, 320], [0, 800, 240], [0, 0, 1]])
    half_turn = torch.diag(torch.tensor((1.0, -1.0, -1.0)))
    params = facing(params, body, half_turn)
    exact = true_landmarks(model, params, lens, size)
    noise = rng.normal(0, 2.0, exact.body[..., :2].shape).astype(np.float32)
    landmarks = replace(exact, body=exact.body + np.pad(noise, ((0, 0), (0, 0), (0, 2))))
    boxes = np.tile(np.array((0, 0, *size), np.float32), (SPEED_FRAMES, 1))
    track = Track(0, np.arange(SPEED_FRAMES), boxes, landmarks)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        fit = fit_track(
            track,
            pts_seconds=np.arange(SPEED_FRAMES) / 10,
            width=size[0],
            height=size[1],
            body=body,
        )
        seconds = time.perf_counter() - started
    assert isinstance(fit, Fit), fit
    return SPEED_FRAMES / seconds


def facing(params: BodyParams, body: Body, turn: torch.Tensor) -> BodyParams:
    """World motion seen by a camera 5 m away at the height of the hips."""
    pelvis = body.transforms(params)[0][:, 0]
    pose = params.pose.clone()
    pose[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[:, 0]))
    rest = pelvis - params.translation
    place = (pelvis - pelvis.mean(0)) @ turn.T + torch.tensor((0.0, 0.0, 5.0)) - rest
    return BodyParams(pose, params.shape, params.expression, place)


def _mean(parts: list[Array]) -> float:
    return float(np.concatenate([part.ravel() for part in parts]).mean())


def figures() -> dict[str, float]:
    """The figures of the fit stage but its speed."""
    body = load_body()
    model = point_model(body)
    weights = landmark_weights(body, model)
    with people_child(PeopleConfig()) as child:
        scores = [score(film, body, model, weights) for film in films(child, SEEDS, WHOLE)]
        halves = [score_half(film, body) for film in films(child, HALF_SEEDS, HALF)]
        real = real_residuals(child, body)
    scores = [one for one in scores if len(one.fit)]
    table(
        ["film", "frames", "fit mm", "MediaPipe mm", "true landmarks mm", "jitter"],
        [
            [
                one.name,
                len(one.fit),
                *(round(float(part.mean()), 1) for part in (one.fit, one.mediapipe, one.true)),
                round(one.jitter[0] / one.jitter[1], 2),
            ]
            for one in scores
        ],
    )
    table(["real clip", "px"], [[name, round(px, 2)] for name, px in real.items()])
    fit, mediapipe = _mean([one.fit for one in scores]), _mean([one.mediapipe for one in scores])
    outside = np.concatenate([turned for _, turned in halves])
    return {
        "fit_pa_mpjpe_mm": round(fit, 2),
        "fit_mediapipe_mm": round(mediapipe, 2),
        "fit_vs_mediapipe_ratio": round(fit / mediapipe, 3),
        "fit_pa_mpjpe_mm_true_landmarks": round(_mean([one.true for one in scores]), 2),
        "fit_half_body_mm": round(_mean([errors for errors, _ in halves]), 2),
        "fit_outside_degrees_max": round(float(outside.max()), 1),
        "fit_outside_degrees_p95": round(float(np.quantile(outside, 0.95)), 1),
        "fit_jitter_ratio": round(
            sum(one.jitter[0] for one in scores) / sum(one.jitter[1] for one in scores), 3
        ),
        "reprojection_px_real": round(float(np.mean([*real.values()])), 2) if real else 0.0,
        "fit_frames": sum(len(one.fit) for one in scores),
        "fit_films": len(scores),
        "fit_films_refused": len(SEEDS) - len(scores),
        "fit_half_films": len(halves),
        "fit_real_tracks": len(real),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="only the time of a long track")
    if parser.parse_args().speed:
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        say(json.dumps({"fit_fps": round(speed(load_body()), 1)}))
    else:
        say(json.dumps(figures()))


if __name__ == "__main__":
    main()

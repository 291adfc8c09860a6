"""How often captions are right, and how well each score of selection finds what it is for.

Rendered actors go through people, masks, fit, selection and captions as videos do. Prints a table
of what was said against what is true and, last, one JSON object.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.attributes import VOCABULARY
from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.cli.console import say, table
from avatarmill.pipeline.caption import caption
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.crops import crop_clip
from avatarmill.pipeline.fit import fit_track
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.masks import create_segmenter
from avatarmill.pipeline.measure import measure
from avatarmill.pipeline.people import PeopleConfig, find_people, people_child
from avatarmill.pipeline.select import LIMITS, SelectConfig, select
from avatarmill.pipeline.types import Bytes, Fit, Frames, Reject, Track
from avatarmill.synth.frames import SynthFrames, WildConfig, synth_wild
from avatarmill.synth.overlay import draw_text, sample_texts

SEEDS = range(21, 45)
"""None of these actors was looked at while captions were made."""
FILM = WildConfig(num_frames=10, fps=5.0, width=448, height=448)
COLORS = ("top_color", "bottom_color")
KINDS = ("top", "bottom")


@dataclass(frozen=True, slots=True)
class Person:
    """One actor as the stages up to the fit saw them."""

    film: SynthFrames
    frames: Frames
    track: Track
    masks: Bytes
    fit: Fit


def people_of(child: Child, seeds: Iterable[int], body: Body) -> Iterator[tuple[int, Person]]:
    """Seed and actor of every film; films that a stage rejects are said and left out."""
    segmenter = create_segmenter(MaskConfig())
    for seed in seeds:
        film = synth_wild(seed, FILM)
        frames = Frames(film.images, np.array(film.pts_seconds))
        found = find_people(child, frames, PeopleConfig())
        if isinstance(found, Reject):
            say(f"{seed}: {found.reason}: {found.evidence}")
            continue
        longest = int(np.argmax([len(track.frame_indices) for track in found.tracks]))
        track = found.tracks[longest]
        masks = segmenter.segment(frames, track, found.masks[longest])
        fit = fit_track(
            track,
            pts_seconds=frames.pts_seconds[track.frame_indices],
            width=FILM.width,
            height=FILM.height,
            body=body,
        )
        if isinstance(masks, Reject) or isinstance(fit, Reject):
            say(f"{seed}: {masks if isinstance(masks, Reject) else fit}")
            continue
        yield seed, Person(film, frames, track, masks, fit)
    segmenter.close()


def say_of(person: Person, body: Body) -> dict[str, str] | Reject:
    """What selection and captions make of an actor."""
    selection = select(person.frames, person.track, person.masks, person.fit, body)
    if isinstance(selection, Reject):
        return selection
    crops = crop_clip(person.frames, person.track, person.masks, person.fit, selection, body)
    return caption(crops, body)[0]


def legs_shown(film: SynthFrames, body: Body) -> bool:
    """Whether knees and ankles of the actor are inside most frames."""
    params = BodyParams(
        *(
            torch.from_numpy(np.array(part))
            for part in (
                film.pose,
                np.broadcast_to(film.shape, (len(film), 20)),
                film.expression,
                film.translation,
            )
        )
    )
    with torch.no_grad():
        joints = body.transforms(params)[0].numpy()[:, (4, 5, 7, 8)]
    pixels = np.einsum("fij,fkj->fki", film.intrinsics, joints)
    pixels = pixels[..., :2] / pixels[..., 2:]
    size = np.array((FILM.width, FILM.height))
    return bool(((pixels >= 0) & (pixels < size)).all((-1, -2)).mean() > 0.5)


def verdicts(
    truth: dict[str, str], said: dict[str, str], *, legs: bool
) -> dict[str, tuple[str, str]]:
    """Attribute -> (true, said) for what counts: whatever is said, and what could be seen."""
    counted = {}
    for name in VOCABULARY:
        visible = legs or not name.startswith(("bottom", "shoes"))
        target = name in (*COLORS, *KINDS)
        if name in said or (target and visible and name in truth):
            counted[name] = (truth.get(name, "-"), said.get(name, "-"))
    return counted


def accuracy(counted: list[dict[str, tuple[str, str]]], names: Iterable[str]) -> float:
    """Share of the counted attributes among `names` that are right."""
    right = [a == b for row in counted for name, (a, b) in row.items() if name in set(names)]
    return round(float(np.mean(right)), 4) if right else float("nan")


def spoiled(film: SynthFrames, masks: Bytes, seed: int) -> Iterator[tuple[str, Bytes, Bytes]]:
    """Score that should tell, pictures and masks after one thing was done to all frames."""
    images, rng = film.images, np.random.default_rng([seed, 9])
    yield "sharpness", np.stack([cv2.GaussianBlur(one, (0, 0), 2.5) for one in images]), masks
    yield "brightness", (images * 0.15).astype(np.uint8), masks
    yield "clipped", np.clip(images.astype(np.float32) * 3.5, 0, 255).astype(np.uint8), masks
    written = images.copy()
    for text in sample_texts(rng, 1, FILM.width, FILM.height):
        box = _over_person(text.box, film.masks)
        for picture in written:
            draw_text(picture, replace(text, box=box))
    yield "lettering", written, masks
    # A board before the lower body: the segmenter leaves out what it hides.
    rows = np.flatnonzero(film.masks.any((0, 2)))
    edge = int(rows[0] + 0.5 * (rows[-1] - rows[0]))
    boarded, cut = images.copy(), masks.copy()
    boarded[:, edge:], cut[:, edge:] = (110, 80, 50), 0
    yield "occluded", boarded, cut


def _over_person(box: tuple[int, int, int, int], masks: Bytes) -> tuple[int, int, int, int]:
    """The box moved so that its middle is the person's."""
    rows, columns = np.flatnonzero(masks.any((0, 2))), np.flatnonzero(masks.any((0, 1)))
    wide, tall = box[2] - box[0], box[3] - box[1]
    left = int(np.clip((columns[0] + columns[-1] - wide) // 2, 0, FILM.width - wide))
    top = int(np.clip((rows[0] + rows[-1] - tall) // 2, 0, FILM.height - tall))
    return left, top, left + wide, top + tall


def told_apart(
    person: Person, body: Body, seed: int
) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Score, its values on an actor's frames as they are, and after they were spoiled."""
    rows = np.linspace(0, len(person.track.frame_indices) - 1, 3).round().astype(np.int64)
    clean = measure(person.frames, person.track, person.masks, person.fit, body, rows)
    for score, images, masks in spoiled(person.film, person.masks, seed):
        frames = replace(person.frames, images=images)
        after = measure(frames, person.track, masks, person.fit, body, rows)
        yield score, getattr(clean, score), getattr(after, score)


def separation(
    pairs: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, float]:
    """By score: area under the ROC curve, share caught and false alarms at the default limit."""
    found: dict[str, float] = {}
    limits = {limit.score: limit for limit in LIMITS}
    rows = []
    for score in dict.fromkeys(name for name, _, _ in pairs):
        clean = np.concatenate([a for name, a, _ in pairs if name == score])
        after = np.concatenate([b for name, _, b in pairs if name == score])
        sign = 1 if limits[score].kind == "most" else -1
        apart = np.sign(sign * (after[:, None] - clean))
        bound = getattr(SelectConfig(), limits[score].setting)
        caught, alarms = (float((sign * (v - bound) > 0).mean()) for v in (after, clean))
        auc = float((apart.mean() + 1) / 2)
        rows.append([score, len(clean), round(auc, 3), round(caught, 3), round(alarms, 3)])
        found |= {f"select_auc_{score}": round(auc, 4), f"select_recall_{score}": round(caught, 4)}
        found |= {f"select_false_alarms_{score}": round(alarms, 4)}
    table(["score", "frames", "AUC", "caught", "false alarms"], rows)
    return found


def figures(seeds: Iterable[int] = SEEDS) -> dict[str, float]:
    """The figures of captions and selection."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    started, body = time.perf_counter(), load_body()
    counted, rows, rejected = [], [], 0
    pairs: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = []
    with people_child(PeopleConfig()) as child:
        for seed, person in people_of(child, seeds, body):
            pairs += told_apart(person, body, seed)
            said = say_of(person, body)
            if isinstance(said, Reject):
                say(f"{seed}: {said.reason}: {said.evidence}")
                rejected += 1
                continue
            own = verdicts(person.film.attributes, said, legs=legs_shown(person.film, body))
            counted.append(own)
            wrong = [f"{name}: {b} for {a}" for name, (a, b) in own.items() if a != b]
            rows.append([seed, f"{sum(a == b for a, b in own.values())}/{len(own)}", *wrong[:6]])
    width = max(map(len, rows))
    header = ["seed", "right", *("wrong",) * (width - 2)]
    table(header, [[*row, *("",) * (width - len(row))] for row in rows])
    colors, kinds = accuracy(counted, COLORS), accuracy(counted, KINDS)
    extras = {
        f"caption_{name}": accuracy(counted, (name,))
        for name in VOCABULARY
        if any(name in row for row in counted)
    }
    said_of = {
        f"caption_{name}_said": sum(row.get(name, ("-", "-"))[1] != "-" for row in counted)
        for name in VOCABULARY
        if f"caption_{name}" in extras
    }
    return {
        "caption_accuracy": min(colors, kinds),
        "caption_color_accuracy": colors,
        "caption_garment_accuracy": kinds,
        "caption_actors": len(counted),
        "caption_rejected": rejected,
        **extras,
        **said_of,
        **separation(pairs),
        "caption_seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Measures and prints."""
    say(json.dumps(figures()))


if __name__ == "__main__":
    main()

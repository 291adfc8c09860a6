"""Films: rendered clips with the defects of web video, streamed frame by frame with their truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.anchors import MAX_ANCHORS
from avatarmill.avatar.attributes import describe
from avatarmill.synth.actor import Actor
from avatarmill.synth.defects import DefectKind, Format, check_defects, plain_format, sample_format
from avatarmill.synth.exposure import Exposure, compose_frame, expose
from avatarmill.synth.frames import StudioConfig, WildConfig, stage_studio
from avatarmill.synth.sightings import Sighting, sightings
from avatarmill.synth.takes import Take, stage_film
from avatarmill.synth.timeline import Shot, shot_shares
from avatarmill.synth.truth import ClipTruth, PersonTruth, ShotTruth

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FilmConfig:
    """One clip as it could be found on the web."""

    wild: WildConfig = field(default_factory=WildConfig)
    """Size, rate, length and what may happen. Some defects change the rate, never the length."""
    defects: tuple[DefectKind, ...] = ()
    """All of them at once; none gives the frames of `synth_wild`."""
    anchors: int = MAX_ANCHORS
    """Visibility is recorded for the first so many anchors; 0 for none."""

    def __post_init__(self) -> None:
        check_defects(self.defects)
        if not 0 <= self.anchors <= MAX_ANCHORS:
            raise ValueError(f"anchors {self.anchors} must be 0..{MAX_ANCHORS}")


@dataclass(frozen=True, slots=True)
class SynthFilm:
    """A whole clip in memory."""

    images: Bytes
    """[F, H, W, 3] sRGB, upright, before encoding."""
    truth: ClipTruth


def synth_film(seed: int, config: FilmConfig | None = None) -> SynthFilm:
    """A random clip with the wanted defects; the seed reproduces it bit for bit.

    Raises:
        ValueError: the clip is too short for its shot boundaries.
    """
    film = Film(seed, config)
    images = np.stack(list(film.frames()))
    return SynthFilm(images, film.truth())


class Film:
    """A planned clip: `frames` renders it, in order, and `truth` then says what was in it.

    Only a few frames are in memory at a time; masks are kept as bits.

    Args:
        seed: makes the clip.
        config: what is wanted.

    Raises:
        ValueError: the clip is too short for its shot boundaries.
    """

    def __init__(self, seed: int, config: FilmConfig | None = None) -> None:
        self.seed = seed
        self.config = config or FilmConfig()
        wild = self.config.wild
        self.form: Format = sample_format(
            np.random.default_rng([seed, 4]),
            self.config.defects,
            num_frames=wild.num_frames,
            fps=wild.fps,
            width=wild.width,
            height=wild.height,
        )
        # The same stream as `synth_wild`: a defect that does not touch people and cameras, such as
        # captions or rotation, leaves them as they are without it.
        rng = np.random.default_rng([seed, 1])
        self.takes = stage_film(rng, wild, self.form, self.config.defects)
        self.actors = {
            person: actor
            for take in self.takes
            for person, actor in zip(take.people, take.actors, strict=True)
        }
        self._masks: dict[int, list[Bytes]] = {person: [] for person in self.actors}

    def frames(self) -> Iterator[Bytes]:
        """Upright pictures [H, W, 3] of the clip, in order; rendered as they are asked for."""
        form, shares = self.form, shot_shares(self.form.num_frames, self.form.boundaries)
        for masks in self._masks.values():
            masks.clear()
        rolls = [expose(take, form, self.config.wild.render) for take in self.takes]
        for frame in range(form.num_frames):
            seen = {
                row: next(rolls[row])
                for row, take in enumerate(self.takes)
                if take.shot.begin <= frame < take.shot.end
            }
            # A dissolve renders two shots; only the one with the larger share is recorded.
            for row, exposure in seen.items():
                shot = self.takes[row].shot
                if shot.first <= frame <= shot.last:
                    self._record(self.takes[row], exposure)
            images = {row: exposure.image for row, exposure in seen.items()}
            yield compose_frame(form, frame, images, shares[:, frame])

    def _record(self, take: Take, exposure: Exposure) -> None:
        for person, mask in zip(take.people, exposure.masks, strict=True):
            if self.form.letterbox is not None:
                mask = self.form.letterbox.mask_around(mask, self.form.width, self.form.height)
            self._masks[person].append(np.packbits(mask > 0, axis=-1))

    def truth(self) -> ClipTruth:
        """The truth of the frames, which have all been rendered.

        Raises:
            RuntimeError: they have not.
        """
        form, shares = self.form, shot_shares(self.form.num_frames, self.form.boundaries)
        seen = [
            sightings(take, form, share, self.config.anchors)
            for take, share in zip(self.takes, shares, strict=True)
        ]
        people = []
        for person, actor in sorted(self.actors.items()):
            parts = [
                rows[take.people.index(person)]
                for take, rows in zip(self.takes, seen, strict=True)
                if person in take.people
            ]
            masks = self._masks[person]
            if len(masks) != sum(len(part.frames) for part in parts):
                raise RuntimeError("truth() needs all frames(): they have not been read to the end")
            people.append(person_truth(actor, form, parts, masks, self.config.anchors))
        return clip_truth("wild", self.seed, self.config.defects, form, self.takes, people)


def person_truth(
    actor: Actor,
    form: Format,
    parts: Sequence[Sighting],
    packed_masks: Sequence[Bytes],
    num_anchors: int,
) -> PersonTruth:
    """Join what the shots of a clip show of one person, and the masks of the same frames."""
    merged = {
        name.name: np.concatenate([getattr(part, name.name) for part in parts])
        for name in fields(Sighting)
    }
    return PersonTruth(
        **merged,
        shape=actor.shape,
        packed_masks=np.stack(packed_masks),
        width=form.width,
        num_anchors=num_anchors,
        attributes=actor.attributes,
        captions=describe(actor.attributes),
    )


def clip_truth(
    kind: str,
    seed: int,
    defects: tuple[DefectKind, ...],
    form: Format,
    takes: Sequence[Take],
    people: Sequence[PersonTruth],
) -> ClipTruth:
    """What is recorded of a clip besides its people."""
    return ClipTruth(
        kind=kind,
        seed=seed,
        defects=defects,
        width=form.width,
        height=form.height,
        fps=form.fps,
        ticks=form.timing.ticks,
        scale=form.timing.scale,
        shots=tuple(
            ShotTruth(
                take.shot.first,
                take.shot.last,
                take.people,
                None if take.occluder is None else take.occluder.kind,
            )
            for take in takes
        ),
        boundaries=form.boundaries,
        letterbox=form.letterbox,
        texts=form.texts,
        crf=form.encoding.crf,
        rotation=form.encoding.rotation,
        field_order=form.encoding.field_order,
        people=tuple(people),
    )


def studio_clips(
    seed: int, config: StudioConfig, *, anchors: int = MAX_ANCHORS
) -> list[tuple[Format, Bytes, ClipTruth]]:
    """The clips of all cameras of a studio: format, images [F, H, W, 3] and truth of each."""
    stage, count = stage_studio(seed, config), config.num_instants
    images, masks = stage.render(config.render)
    form = plain_format(count, config.fps, config.size, config.size)
    clips = []
    for camera in range(config.num_views):
        own = np.arange(camera, len(images), config.num_views)
        motions, views = (stage.motion.take(own),), [stage.views[frame] for frame in own]
        shot = Shot(0, count - 1, 0, count)
        take = Take((0,), (stage.actor,), motions, views, stage.scene, None, shot)
        parts = sightings(take, form, np.ones(count, np.float32), anchors)
        packed = [np.packbits(mask > 0, axis=-1) for mask in masks[own]]
        person = person_truth(stage.actor, form, parts, packed, anchors)
        clips.append((form, images[own], clip_truth("studio", seed, (), form, [take], [person])))
    return clips

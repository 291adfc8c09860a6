"""Two rendered people who cross, through MediaPipe: each stays who they are."""

import numpy as np
import pytest

from avatarmill.pipeline.people import People, PeopleConfig, find_people, people_child
from avatarmill.pipeline.track_truth import mask_agreement, track_errors
from avatarmill.pipeline.types import Frames, Reject
from avatarmill.synth.film import FilmConfig, SynthFilm, synth_film
from avatarmill.synth.frames import WildConfig

FILM = FilmConfig(
    wild=WildConfig(num_frames=30, fps=6.0, width=480, height=270, framing="full"),
    defects=("two_people",),
    anchors=0,
)
SEED = 9


@pytest.fixture(scope="module")
def film() -> SynthFilm:
    return synth_film(SEED, FILM)


@pytest.fixture(scope="module")
def people(film: SynthFilm) -> People:
    frames = Frames(film.images, film.truth.ticks / film.truth.scale)
    config = PeopleConfig()
    with people_child(config) as child:
        found = find_people(child, frames, config)
    assert not isinstance(found, Reject), found
    return found


def test_each_keeps_one_track_through_the_crossing(film: SynthFilm, people: People) -> None:
    truth = np.stack([person.masks for person in film.truth.people])
    shared = [np.flatnonzero((person > 127).any((1, 2))) for person in truth]
    assert all(len(frames) > 20 for frames in shared), "a film of two people"
    agreement = np.zeros((len(film.images), len(truth), len(people.tracks)))
    for column, (track, masks) in enumerate(zip(people.tracks, people.masks, strict=True)):
        for row, mask in zip(track.frame_indices, masks, strict=True):
            agreement[row, :, column] = mask_agreement(list(truth[:, row]), [mask])[:, 0]
    errors = track_errors(agreement, (truth > 127).sum((2, 3)).T > 300, least=0.4)
    assert (errors.swaps, errors.breaks, errors.tracks) == (0, 0, (1, 1))
    assert errors.found > 0.8 * (errors.found + errors.missed), errors


def test_masks_of_one_frame_do_not_overlap(people: People) -> None:
    first, second = people.tracks
    both, ours, theirs = np.intersect1d(
        first.frame_indices, second.frame_indices, return_indices=True
    )
    assert len(both) > 10
    overlap = np.minimum(people.masks[0][ours], people.masks[1][theirs])
    assert overlap.max() <= 25


def test_scores_tell_of_the_meeting(people: People) -> None:
    for track in people.tracks:
        assert 0.6 < track.scores["seen"] <= 1
        assert track.scores["confirmed"] >= 0.5
        assert track.scores["hidden"] < 0.3

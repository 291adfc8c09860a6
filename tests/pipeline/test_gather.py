"""Gathering: groups finish exactly when all their parts are back, in any order."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.gather import FinishedGroup, Gather
from avatarmill.pipeline.types import Reason, Reject, Source
from avatarmill.pipeline.work import Outcome, Work
from avatarmill.records.index import Record


def source(name: str) -> Source:
    return Source(uri=name, path=name, sha256=f"sha-{name}", size_bytes=1)


def part(name: str, share: Fraction, number: int) -> Work:
    clip = Record(f"{name}-{number}", {}, {})
    return Work(source(name), Outcome(clips=(clip,)), share, {"fit": 1.0})


@given(st.permutations(range(7)))
def test_groups_finish_once_whatever_the_order_of_arrival(order: list[int]) -> None:
    thirds = [part("a", Fraction(1, 3), n) for n in range(3)]
    # "b" was split in two, and one half again in three: the shares still add up.
    halves = [part("b", Fraction(1, 2), 0), *(part("b", Fraction(1, 6), n) for n in (1, 2, 3))]
    parts = [*thirds, *halves]
    gather = Gather([(0, (source("a"),)), (7, (source("b"),))])
    finished = [group for i in order if (group := gather.add(parts[i]))]
    assert sorted((g.number, len(g.records)) for g in finished) == [(0, 3), (7, 4)]
    assert gather.unfinished() == []
    assert gather.seconds["fit"] == 7.0


def finish(outcome: Outcome) -> FinishedGroup:
    group = Gather([(0, (source("a"),))]).add(Work(source("a"), outcome))
    assert group is not None
    return group


def test_the_commonest_reject_names_the_state_and_all_are_in_the_table() -> None:
    rejects = [
        Reject(reason, "seen", "people", level="shot")
        for reason in (Reason.NO_PERSON, Reason.TRACK_TOO_SHORT, Reason.NO_PERSON)
    ]
    group = finish(Outcome(rejects=tuple(rejects)))
    assert (group.inputs[0].state, group.inputs[0].reason) == ("rejected", "no_person")
    assert len(group.rejects) == 3


def test_our_own_error_is_a_failure_with_its_last_line_as_evidence() -> None:
    group = finish(Outcome(error="fit: Traceback\n  ...\nZeroDivisionError: by zero"))
    assert group.inputs[0].state == "failed"
    assert group.rejects[0].evidence == "ZeroDivisionError: by zero"
    assert group.rejects[0].stage == "fit"


def test_unfinished_sources_are_named() -> None:
    gather = Gather([(0, (source("a"), source("b")))])
    gather.add(part("a", Fraction(1), 0))
    assert gather.unfinished() == ["a", "b"]


def test_a_part_that_comes_twice_is_a_bug() -> None:
    gather = Gather([(0, (source("a"), source("b")))])
    gather.add(part("a", Fraction(1, 2), 0))
    gather.add(part("a", Fraction(1, 4), 0))
    with pytest.raises(AssertionError, match="a came back more than once"):
        gather.add(part("a", Fraction(1, 2), 0))

"""Ledger, rejects, fingerprints, atomic files and run configurations."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.records.atomic import atomic_writer, write_bytes
from avatarmill.records.canonical import json_object
from avatarmill.records.fingerprint import fingerprint, sha256_bytes, sha256_file
from avatarmill.records.ledger import STATES, InputState, LedgerError, State, check_ledger
from avatarmill.records.rejects import RejectRow, read_rejects, write_rejects
from avatarmill.records.runs import write_config


@dataclass(frozen=True, slots=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, slots=True)
class Config:
    out: Path = Path("a/b")
    rate: float = 1e-4
    weights: Path | None = None
    inner: Inner = field(default_factory=Inner)


def state(uri: str, kind: State) -> InputState:
    if kind == "kept":
        return InputState(uri, "0" * 64, kind, samples=1)
    return InputState(uri, "0" * 64, kind, reason="no_person")


@given(st.lists(st.sampled_from(STATES), max_size=20))
def test_a_complete_ledger_adds_up(kinds: list[State]) -> None:
    states = [state(f"{i}.mp4", kind) for i, kind in enumerate(kinds)]
    counts = check_ledger(reversed(states), [s.uri for s in states])
    assert tuple(counts) == STATES and sum(counts.values()) == len(kinds)
    assert all(counts[kind] == kinds.count(kind) for kind in STATES)


@pytest.mark.parametrize(
    ("have", "listed", "message"),
    [
        (["a"], ["a", "b", "c"], "2 inputs without a state: b, c"),
        (["a", "a"], ["a"], "1 inputs with more than one state: a"),
        (["a", "z"], ["a"], "1 inputs never listed: z"),
        (["a"], ["a", "a"], "1 inputs listed more than once: a"),
    ],
)
def test_a_ledger_that_does_not_add_up(have: list[str], listed: list[str], message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        check_ledger([state(uri, "kept") for uri in have], listed)


def test_states_are_consistent_with_samples_and_reasons() -> None:
    with pytest.raises(ValueError, match="a is kept with 0 samples"):
        InputState("a", "", "kept")
    with pytest.raises(ValueError, match="a is rejected with reason ''"):
        InputState("a", "", "rejected")
    with pytest.raises(ValueError, match="state is 'lost'"):
        InputState("a", "", "lost")  # type: ignore[arg-type]


def test_rejects_are_sorted_and_round_trip(tmp_path: Path) -> None:
    rows = [
        RejectRow("b.mp4", "1" * 64, "track", "track_too_short", "people", "3 frames, limit 8", 1),
        RejectRow("a.mp4", "2" * 64, "source", "empty_file", "probe", "0 bytes, limit 1"),
    ]
    write_rejects(tmp_path / "one.parquet", rows)
    write_rejects(tmp_path / "two.parquet", reversed(rows))
    assert read_rejects(tmp_path / "one.parquet") == rows[::-1]
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    with pytest.raises(ValueError, match="reason is 'Too bad!'"):
        RejectRow("a", "", "shot", "Too bad!", "", "")
    with pytest.raises(ValueError, match="level is 'frame', one of source, shot, track"):
        RejectRow("a", "", "frame", "blurred", "", "")  # type: ignore[arg-type]


def test_fingerprint_changes_with_everything_and_nothing_else() -> None:
    values: list[object] = [
        Config(),
        Config(rate=2e-4),
        Config(inner=Inner((2, 1))),
        Config(weights=Path("w")),
        {"x": np.zeros(3, np.float32)},
        {"x": np.zeros(3, np.float64)},
        {"x": np.zeros((3, 1), np.float32)},
    ]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint({"a": 1, "b": {"x", "y"}}) == fingerprint({"b": {"y", "x"}, "a": 1})
    assert fingerprint(Config()) == fingerprint(Config())
    with pytest.raises(ValueError, match="which canonical JSON cannot hold"):
        fingerprint(object())


def test_file_and_bytes_hash_alike(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == sha256_bytes(data)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="halfway"), atomic_writer(path) as file:
        file.write(b"new")
        raise RuntimeError("halfway")
    assert path.read_bytes() == b"old" and len(list(path.parent.iterdir())) == 1


def test_config_is_written_whole(tmp_path: Path) -> None:
    path = write_config(tmp_path / "run", "train", Config())
    assert path.name == "train.config.json"
    document = json_object(path.read_bytes())
    assert document["fingerprint"] == fingerprint(Config())
    assert document["config"] == {
        "type": "Config",
        "out": "a/b",
        "rate": 1e-4,
        "weights": None,
        "inner": {"type": "Inner", "sizes": [1, 2]},
    }

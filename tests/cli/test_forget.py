"""`avatarmill forget` over clips, tokens and training runs: gone, proven, and who has seen it."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from avatarmill.cli.forget import find_source, shard_folders
from avatarmill.cli.main import BAD_CONFIGURATION, FAILED, OK, main
from avatarmill.pipeline.forgotten import forget_scans, near_copies
from avatarmill.pipeline.scan_table import SOURCE_TABLE
from avatarmill.records.canonical import json_bytes, npy_bytes
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import list_commits, merge, write_group
from avatarmill.records.index import Record, read_rows, save_table
from avatarmill.records.ledger import InputState, read_ledger, write_ledger
from avatarmill.records.token import TOKEN_INDEX, TokenMeta, TokenSample, token_record
from avatarmill.records.tombstones import buried
from avatarmill.tokenize.job import group_fingerprint

TOKENIZER = "t" * 64


def sha(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def key(source: str) -> str:
    return f"{sha(source)[:12]}-000000000-00"


def clip(source: str) -> Record:
    members = {
        "json": json_bytes({"source_sha256": sha(source)}),
        "pose.npy": npy_bytes(np.full(300, ord(source), np.float32)),
    }
    row: dict[str, object] = dict.fromkeys(CLIP_INDEX.names[5:])
    return Record(key(source), members, {**row, "source_sha256": sha(source)})


def token(source: str) -> Record:
    meta = TokenMeta(key(source), sha(source), "CC0", TOKENIZER)
    latent = np.full((8, 8), ord(source) / 100, np.float16)
    shape = np.zeros(20, np.float32)
    return token_record(TokenSample(key(source), latent, np.full(8, 255, np.uint8), shape, meta))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run: clips of a to d in two groups, their tokens, and a training run."""
    place = tmp_path / "out"
    clips, tokens = place / "clips", place / "tokens"
    for number, sources in enumerate(("ab", "cd")):
        group = f"clips-{number:06d}"
        states = [InputState(f"/films/{s}.mp4", sha(s), "kept", samples=1) for s in sources]
        commit = write_group(
            clips,
            group,
            [clip(s) for s in sources],
            schema=CLIP_INDEX,
            fingerprint="c",
            inputs=states,
        )
        write_group(
            tokens,
            group,
            [token(s) for s in sources],
            schema=TOKEN_INDEX,
            fingerprint=group_fingerprint(clips, commit, TOKENIZER),
            inputs=[InputState(key(s), sha(s), "kept", samples=1) for s in sources],
        )
    merge(clips, CLIP_INDEX)
    merge(tokens, TOKEN_INDEX)
    states = [state for commit in list_commits(clips) for state in commit.inputs]
    words = "near copy of /films/b.mp4: likeness 0.9"
    states.append(InputState("/films/e.mp4", sha("e"), "duplicate", words))
    write_ledger(clips / "ledger.parquet", states)
    rows = [dict.fromkeys(SOURCE_TABLE.names) for _ in states]
    for row, state in zip(rows, states, strict=True):
        row |= {"uri": state.uri, "sha256": state.sha256, "fingerprint": "f"}
        row |= {"signature": b"picture of " + state.uri.encode(), "signature_rate": 4.0}
    scans = pa.Table.from_pylist(rows, schema=SOURCE_TABLE)
    save_table(clips / "sources.parquet", scans, row_group_size=2)
    config = {"config": {"clips": str(clips)}}
    (tokens / "tokenize.config.json").write_text(json.dumps(config))
    seen = pa.table({"source_sha256": [sha(s) for s in "abcd"]})
    save_table(place / "train/seen/0.parquet", seen)
    (place / "train/diffusion.config.json").write_text('{"config": {"weights": "w.safetensors"}}')
    (place / "analysis").mkdir()
    for source in "ab":
        (place / f"analysis/{sha(source)[:12]}-{'0' * 64}.shot").write_bytes(b"pictures")
    (place / "train/checkpoints/step-0000100").mkdir(parents=True)
    return place


def test_a_source_is_gone_from_clips_tokens_and_tables(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = {name: (out / name).read_bytes() for name in UNTOUCHED}
    assert main(["forget", "--run", str(out), "--source", "/films/b.mp4"]) == OK
    printed = capsys.readouterr().out
    assert f"source {sha('b')}" in printed
    for folder in ("clips", "tokens"):
        assert f"{out / folder}: 2 shards, 3 samples" in printed
        assert buried(out / folder) == {sha("b")}
    assert printed.count("nothing of it found") == 2
    assert "listed as well, a copy of it by its pictures: /films/e.mp4" in printed
    assert "step-0000100" in printed and "w.safetensors" in printed
    assert {name: (out / name).read_bytes() for name in UNTOUCHED} == shards
    shots = [path.name[:12] for path in (out / "analysis").iterdir()]
    assert shots == [sha("a")[:12]]
    ledger = {state.uri: (state.state, state.reason) for state in read_ledger(out / LEDGER)}
    assert ledger["/films/b.mp4"] == ("rejected", "forgotten")
    assert ledger["/films/a.mp4"] == ("kept", "")
    scans = {row["uri"]: row for row in read_rows(out / "clips/sources.parquet")}
    assert scans["/films/a.mp4"]["signature"] == b"picture of /films/a.mp4"
    blank = scans["/films/b.mp4"]
    assert (blank["sha256"], blank["reason"], blank["signature"]) == (sha("b"), "forgotten", None)
    proof = json.loads((out / "clips/forgotten" / f"{sha('b')}.json").read_bytes())
    assert proof["problems"] == [] and proof["samples"] == 3


UNTOUCHED = (
    "clips/clips-000001.tar",
    "tokens/clips-000001.tar",
    "tokens/commits/clips-000001.json",
)
LEDGER = "clips/ledger.parquet"


def test_the_next_tokenize_finds_everything_up_to_date(out: Path) -> None:
    assert main(["forget", "--run", str(out), "--source", sha("b")]) == OK
    made = {commit.group: commit.fingerprint for commit in list_commits(out / "tokens")}
    assert made == {
        commit.group: group_fingerprint(out / "clips", commit, TOKENIZER)
        for commit in list_commits(out / "clips")
    }


def test_forgetting_again_says_the_same(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["forget", "--run", str(out), "--source", "/films/b.mp4"]) == OK
    assert capsys.readouterr().out.count("nothing of it found") == 4


def test_what_is_left_makes_it_fail(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stray = (out / "clips/clips-000000.tar").read_bytes()
    assert main(["forget", "--run", str(out), "--source", sha("b")]) == OK
    (out / "clips/copy.tar").write_bytes(stray)
    assert main(["forget", "--run", str(out), "--source", sha("b")]) == FAILED
    assert f"copy.tar holds {key('b')}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "OUT", "--source", "/films/x.mp4"], "none of the runs has read '/films/x.mp4'"),
        (["--run", "OUT/tokens", "--source", "a" * 64], "are made from .*clips; give both"),
        (["--run", "OUT/train", "--source", "a" * 64], "train holds no committed shards"),
    ],
)
def test_mistakes_are_named(
    out: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    words = [word.replace("OUT", str(out)) for word in arguments]
    assert main(["forget", *words]) == BAD_CONFIGURATION
    assert re.search(message, capsys.readouterr().err)
    assert not buried(out / "clips")


def test_folders_and_sources_are_found(out: Path) -> None:
    assert shard_folders(out) == [out / "clips", out / "tokens"]
    assert shard_folders(out / "tokens") == [out / "tokens"]
    clips = [out / "clips"]
    assert find_source("/films/e.mp4", clips) == [sha("e")]
    states = [replace(s, sha256=sha("new")) for s in read_ledger(out / LEDGER) if "a.mp4" in s.uri]
    write_ledger(out / LEDGER, states)
    assert find_source("/films/a.mp4", clips) == sorted([sha("a"), sha("new")])


def test_scans_of_other_sources_stay(out: Path) -> None:
    before = (out / "clips/sources.parquet").read_bytes()
    assert forget_scans(out / "clips", sha("zzz")) == 0
    assert (out / "clips/sources.parquet").read_bytes() == before
    assert near_copies(out / "clips", sha("a")) == []

"""Inspection shows what is there, names what does not belong there, and never trips over damage."""

import io
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avatarmill.cli.inspect_job import InspectConfig, run
from avatarmill.cli.inspect_shard import inspect_shard, read_sample
from avatarmill.cli.inspect_tables import quantile_table, reject_tables
from avatarmill.pipeline.cut import CutConfig, CutStage
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.types import Probe, Shot
from avatarmill.pipeline.work import Outcome, ShotSpan
from avatarmill.records.clip import clip_from_members
from avatarmill.records.commit import merge, write_group
from avatarmill.records.ledger import InputState
from avatarmill.records.rejects import RejectRow, write_rejects
from avatarmill.records.shot import SHOT_INDEX
from avatarmill.records.tarshard import write_tar
from avatarmill.records.tombstones import bury

MakeRun = Callable[..., Any]


@pytest.fixture
def made(film: Path, make_run: MakeRun) -> Any:
    """A run with one clip."""
    return make_run(film)


def facts_of(film: Path) -> Probe:
    """What the film declares."""
    with video_child(ProbeConfig()) as child:
        facts = probe(child, list_sources(film)[0], ProbeConfig())
    assert isinstance(facts, Probe)
    return facts


def lone(made: Any) -> Path:
    """The clip shard away from its index."""
    path: Path = made.folder.parent / "lone.tar"
    path.write_bytes((made.folder / "clips" / "clips-000000.tar").read_bytes())
    return path


def test_a_run_at_a_glance(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, page = made.folder / "s.png", made.folder / "p.html"
    assert run(InspectConfig(made.folder, sheet=sheet, html=page, verify=True)) == 0
    told = capsys.readouterr().out
    for words in ("CC0-1.0", "sharpness", "sharpness 0.1, limit 0.2", "visible_fraction", "kept"):
        assert words in told, words
    text = page.read_text()
    assert text.count("<figure>") == 1 + 3 + 3, "mask, three frames; face and two views of tokens"
    assert made.key in text and "every reject" in text
    with Image.open(sheet) as picture:
        assert picture.size == (4 * 192, 20 + 2 * 192)


def test_tables_alone(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in {
        "rejects": "blurred",
        "ledger": "kept",
        "index": "sharpness",
    }.items():
        assert run(InspectConfig(made.folder / "clips" / f"{name}.parquet")) == 0
        assert words in capsys.readouterr().out
    broken = made.folder / "broken.parquet"
    broken.write_bytes(b"PAR1 no")
    assert run(InspectConfig(broken)) == 1
    assert "! not a readable table" in capsys.readouterr().out
    with pytest.raises(ValueError, match="sheet: .* has no sample with pictures"):
        run(InspectConfig(made.folder / "clips" / "rejects.parquet", sheet=broken))
    with pytest.raises(ValueError, match="is no shard"):
        run(InspectConfig(made.film))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        InspectConfig(made.folder / "nowhere")


def test_a_committed_shard_is_held_against_its_index(made: Any) -> None:
    path = made.folder / "clips" / "clips-000000.tar"
    found = inspect_shard(path)
    assert (found.kind, found.checked, found.all_problems()) == ("clip", 1, [])
    clip = clip_from_members(made.key, read_sample(path, found.entries[made.key]))
    assert clip.meta.source_sha256 == made.clip.meta.source_sha256
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 400] ^= 8
    path.write_bytes(data)
    assert inspect_shard(path).problems == [f"sample {made.key}: sha256 is not the index's"]


def test_damage_is_reported_and_the_rest_is_shown(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    members = read_sample(
        made.folder / "clips" / "clips-000000.tar",
        inspect_shard(made.folder / "clips" / "clips-000000.tar").entries[made.key],
    )
    path = made.folder.parent / "three.tar"
    written = write_tar(path, [(key, members) for key in ("a-1", "b-2", "c-3")])
    data = bytearray(path.read_bytes())
    data[written.entries[1].offset + 3] ^= 255
    path.write_bytes(data)
    found = inspect_shard(path)
    assert list(found.entries) == ["a-1", "c-3"]
    assert any("bad checksum" in line for line in found.problems)
    path.write_bytes(data[: written.entries[2].offset + 3000])
    assert list(inspect_shard(path).entries) == ["a-1"]
    assert run(InspectConfig(path, sheet=path.with_suffix(".png"))) == 1
    assert "! truncated" in capsys.readouterr().out
    path.write_bytes(b"")
    assert inspect_shard(path).problems == ["the file is empty"]


def test_foreign_members_are_named(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = lone(made)
    with tarfile.open(path, "a") as tar:
        for name in ("../../etc/passwd", "k.data.pkl", f"{made.key}.json.exe", "k\x1b[2J.npy"):
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    found = inspect_shard(path)
    assert found.foreign[:3] == ["../../etc/passwd", "k.data.pkl", f"{made.key}.json.exe"]
    assert any("'link.jpg' is not a regular file" in line for line in found.problems)
    assert list(found.entries) == [made.key], "the sample itself is sound"
    assert run(InspectConfig(path)) == 1
    told = capsys.readouterr().out
    assert "foreign member '../../etc/passwd'" in told and "\x1b" not in told


def test_members_of_another_format_inside_a_sample_are_named(made: Any) -> None:
    path = lone(made)
    members = read_sample(path, inspect_shard(path).entries[made.key])
    write_tar(path, [(made.key, {**members, "thoughts.npy": b"x"})])
    found = inspect_shard(path)
    assert found.foreign == [f"{made.key}.thoughts.npy"]


def test_a_header_with_a_negative_size_ends(tmp_path: Path) -> None:
    info = tarfile.TarInfo("k.json")
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = b"-0000001000\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    (tmp_path / "negative.tar").write_bytes(bytes(block) + bytes(10240 - 512))
    assert "has size -512" in inspect_shard(tmp_path / "negative.tar").problems[0]


@settings(max_examples=40)
@given(data=st.data())
def test_no_damage_trips_it(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("damage") / "x.tar"
    members = {"json": b"{}", "latent.npy": b"123", "other.npy": b"4" * 700}
    write_tar(path, [(f"k-{n}", members) for n in range(3)])
    blob = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(blob) - 1))
        blob[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    path.write_bytes(blob[:cut])
    found = inspect_shard(path)
    assert found.problems, "none of these samples can be decoded"


def test_forgotten_samples_are_counted_and_not_shown(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("clips", "tokens"):
        bury(made.folder / name, made.clip.meta.source_sha256, reason="asked for")
    page = made.folder / "p.html"
    assert run(InspectConfig(made.folder, html=page)) == 0
    assert "<figure>" not in page.read_text() and made.key not in page.read_text()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines if "of forgotten" in line] == ["1", "1"]


def test_missing_and_short_shards_of_a_folder(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = made.folder / "clips" / "clips-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:2000])
    assert run(InspectConfig(made.folder, html=made.folder / "p.html")) == 1
    assert "clips-000000.tar is truncated: 2000 bytes" in capsys.readouterr().out
    shard.unlink()
    assert run(InspectConfig(made.folder)) == 1
    assert "! clips-000000.tar is missing" in capsys.readouterr().out


def test_shots_are_shown_by_their_frames(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = CutConfig(film, tmp_path / "run")
    (source,) = list_sources(film)
    span = ShotSpan(facts_of(film), Shot(0.0, 1.0))
    with closing(CutStage(config, "test")) as stage:
        (outcome,) = stage(replace(source, licence="CC0-1.0"), span)
    assert isinstance(outcome, Outcome)
    folder = config.out / "shots"
    state = InputState(source.uri, source.sha256, "kept", samples=1)
    write_group(folder, "g", outcome.clips, schema=SHOT_INDEX, fingerprint="test", inputs=[state])
    merge(folder, SHOT_INDEX)
    page = tmp_path / "p.html"
    assert run(InspectConfig(config.out, html=page, verify=True)) == 0
    told = capsys.readouterr().out
    for words in ("CC0-1.0", "lengths and sizes", "longer side", "shot"):
        assert words in told, words
    text = page.read_text()
    assert text.count("<figure>") == 3 and "25 frames of 192x144" in text
    assert run(InspectConfig(folder / "index.parquet")) == 0

    shard = folder / "g.tar"
    found = inspect_shard(shard)
    assert (found.kind, found.checked, found.all_problems()) == ("shot", 1, [])
    ((key, entry),) = found.entries.items()
    members = read_sample(shard, entry)
    write_tar(shard, [(key, {**members, "mp4": members["mp4"][:600]})])
    assert inspect_shard(shard).problems == [f"sample {key}: sha256 is not the index's"]
    lone = tmp_path / "lone.tar"
    lone.write_bytes(shard.read_bytes())
    assert run(InspectConfig(lone, html=page)) == 1
    assert f"! sample {key}: " in capsys.readouterr().out
    write_tar(lone, [(key, {**members, "json": b"{}"})])
    assert "unknown or missing fields" in inspect_shard(lone).problems[0]


def test_quantiles_are_numpys() -> None:
    values = np.random.default_rng(0).uniform(size=101)
    rows = [{"scores": [("a", v), ("b", 1.0)]} for v in values]
    a, b = quantile_table(rows).rows
    assert a[:2] == ("a", 101) and b[2:] == ("1",) * 7
    np.testing.assert_allclose(
        [float(str(v)) for v in a[2:]],
        np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]),
        rtol=1e-3,
    )


def test_reasons_come_with_their_numbers_and_evidence(tmp_path: Path) -> None:
    rows = [
        RejectRow(f"{n}.mp4", "s", "shot", "no_person", "people", f"no figure in {n}")
        for n in range(3)
    ]
    rows.append(RejectRow("x.mp4", "s", "source", "truncated", "probe", "half"))
    write_rejects(tmp_path / "rejects.parquet", rows)
    _, reasons = reject_tables(rows)
    assert reasons.rows == [
        ("no_person", "shot", "people", 3, "no figure in 0", "0.mp4"),
        ("truncated", "source", "probe", 1, "half", "x.mp4"),
    ]

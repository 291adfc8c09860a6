"""Lists of every kind name each source once, keep its columns, and hide what is secret."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatarmill.pipeline.ingest import as_place, check_input, list_sources, read_list
from avatarmill.pipeline.source_table import SourceTable, concat
from avatarmill.pipeline.types import Source
from avatarmill.records.store import Store

ROWS: list[dict[str, str | int]] = [
    {"uri": "b.mp4", "licence": "CC0", "consent": "yes", "language": "de", "year": 2021},
    {"uri": "https://h/a.mp4?id=7&token=x", "licence": "", "consent": "", "language": "en"},
    {"uri": "s3://bucket/c.mp4", "licence": "CC-BY", "consent": "", "language": "007"},
]


def as_csv(path: Path) -> None:
    lines = ["uri,licence,consent,language,year"]
    lines += [",".join(str(row.get(name, "")) for name in lines[0].split(",")) for row in ROWS]
    path.with_suffix(".csv").write_text("\n".join(lines) + "\n")


def as_jsonl(path: Path) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path.with_suffix(".parquet"))


@pytest.mark.parametrize("write", [as_csv, as_jsonl, as_parquet])
def test_columns_are_carried_through(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "list")
    (listing,) = tmp_path.iterdir()
    found = {source.uri.rpartition("/")[2]: source for source in read_list(listing)}
    assert set(found) == {"b.mp4", "a.mp4?id=7", "c.mp4"}
    local, web, store = found["b.mp4"], found["a.mp4?id=7"], found["c.mp4"]
    assert (local.licence, local.consent) == ("CC0", "yes")
    assert local.listed == {"language": "de", "year": "2021"}
    assert local.path == str(tmp_path / "b.mp4") == local.uri
    assert (web.uri, web.path) == ("https://h/a.mp4?id=7", "https://h/a.mp4?id=7&token=x")
    assert web.listed == {"language": "en"} and store.listed == {"language": "007"}
    assert store.path == store.uri == "s3://bucket/c.mp4"


def test_text_lists(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(
        b"\xef\xbb\xbf# films\r\n\n b.mp4 \nsub/../b.mp4\n./c.mp4\n/abs/d.mp4\nfile:///abs/e.mp4\n"
    )
    found = read_list(tmp_path / "list.txt")
    here = str(tmp_path)
    assert [source.uri for source in found] == [
        "/abs/d.mp4",
        f"{here}/b.mp4",
        f"{here}/c.mp4",
        f"{here}/sub/../b.mp4",
        "file:///abs/e.mp4",
    ]
    assert found[3].path == f"{here}/b.mp4"


def test_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.mp4", "sub/a.MOV", "sub/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [Path(s.uri).name for s in read_list(tmp_path)] == ["b.mp4", "a.MOV"]
    assert [Path(s.uri).name for s in read_list(tmp_path / "**/*.MOV")] == ["a.MOV"]
    assert len(read_list([tmp_path, tmp_path / "b.mp4", tmp_path / "*.mp4"])) == 2
    with pytest.raises(ValueError, match="no file matches"):
        read_list(tmp_path / "*.avi")
    (tmp_path / "odd[1].mp4").touch()
    assert [s.uri for s in read_list(tmp_path / "odd[1].mp4")] == [str(tmp_path / "odd[1].mp4")]


def test_inputs_of_an_object_store(s3_bucket: str) -> None:
    store = Store.of(f"{s3_bucket}/ingest")
    for name in ("a.mp4", "deep/b.mkv", "notes.md"):
        store.put_atomic(name, b"x")
    store.put_atomic("list.csv", b"path,licence\na.mp4,CC0\ns3://other/z.mp4,\n")
    base = f"{s3_bucket}/ingest"
    names = [f"{base}/a.mp4", f"{base}/deep/b.mkv"]
    assert [source.uri for source in read_list(base)] == names
    assert [source.uri for source in read_list(Path(base) / "*.mp4")] == names[:1]
    assert [source.uri for source in read_list(names[0])] == names[:1]
    listed = read_list(Path(f"{base}/list.csv"))
    assert [(s.uri, s.licence) for s in listed] == [(names[0], "CC0"), ("s3://other/z.mp4", "")]
    with pytest.raises(ValueError, match="none.csv: not_found: no such object"):
        read_list(f"{base}/none.csv")


def test_one_row_counts_and_the_order_is_that_of_uris(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("uri,licence\nz.mp4,first\na.mp4,\nz.mp4,second\n")
    (tmp_path / "two.csv").write_text("uri,camera\na.mp4,X\nb.mp4,Y\n")
    found = read_list([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert [Path(s.uri).name for s in found] == ["a.mp4", "b.mp4", "z.mp4"]
    assert [s.listed for s in found] == [{}, {"camera": "Y"}, {}]
    assert found[2].licence == "first"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"file\nx.mp4\n", "needs 'uri' or 'path'"),
        ("a.csv", b"uri,uri\nx,y\n", "two columns"),
        ("a.csv", b"uri,b\nx.mp4\n", "not a CSV table"),
        ("a.csv", b"uri,b\n,1\n", "'uri' has rows without a place"),
        ("a.jsonl", b"{", "not one JSON object a line"),
        ("a.parquet", b"PAR1", "not a Parquet table"),
        ("a.txt", b"\xff\xfe", "not UTF-8 text: byte 0 is 0xff"),
    ],
)
def test_broken_lists_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_list(tmp_path / name)
    assert name in str(caught.value)


def test_columns_without_words_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table(
        {"uri": ["a.mp4"], "embedding": [[0.1]], "raw": [b"x"], "sha256": ["0"], "fps": [25.5]}
    )
    pq.write_table(table, tmp_path / "list.parquet")
    with caplog.at_level(logging.WARNING):
        (source,) = read_list(tmp_path / "list.parquet")
    assert source.listed == {"fps": "25.5"} and source.sha256 == ""
    assert "column embedding holds list" in caplog.text and "column raw" in caplog.text


def test_inputs_that_do_not_exist(tmp_path: Path) -> None:
    for check in (check_input, read_list, list_sources):
        with pytest.raises(ValueError, match="nothing does not exist"):
            check(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is on 'ftp'; use http, s3 or gs"):
        check_input(Path("ftp://host/list.csv"))
    check_input("https://host/list.csv")


def test_places_get_their_slash_back() -> None:
    for url in ("https://h/a.mp4", "s3://b/c", "gs://b"):
        assert as_place(Path(url)) == as_place(url) == url
    assert as_place(Path("out/a")) == "out/a"


def make(name: str, **listed: str) -> Source:
    return Source(f"{name}.mp4", f"/{name}.mp4", "", 3, licence="L", listed=listed)


def test_a_table_is_a_sequence_of_sources() -> None:
    sources = [make("c", language="de"), make("a"), make("b", camera="X")]
    table = SourceTable.of(sources)
    assert list(table) == sources == [table[k] for k in range(3)]
    assert SourceTable.of(table) is table and table[-1] == sources[2]
    assert list(table[1:]) == sources[1:] and list(table[::-2]) == [sources[2], sources[0]]
    assert list(table.sorted_by_uri()) == sorted(sources, key=lambda s: s.uri)
    assert list(table.where([True, False, True])) == [sources[0], sources[2]]
    assert [s.sha256 for s in table.with_columns(sha256=["1", "2", "3"])] == ["1", "2", "3"]
    assert [s.uri for s in concat([table[:1], table[1:]])] == [s.uri for s in sources]
    assert list(concat([])) == []
    with pytest.raises(IndexError, match="row 3 of 3"):
        table[3]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)))
def test_the_first_of_equals_stays(names: list[str]) -> None:
    table = SourceTable.of([Source(name, str(k), "", 0) for k, name in enumerate(names)])
    kept = [(source.uri, int(source.path)) for source in table.first_of_each()]
    assert kept == [(name, names.index(name)) for name in dict.fromkeys(names)]
    ordered = [source.uri for source in table.first_of_each().sorted_by_uri()]
    assert ordered == sorted(set(names))

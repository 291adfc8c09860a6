"""Nothing that a stranger wrote becomes markup on a page of ours."""

from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatarmill.cli import report
from avatarmill.cli.inspect_job import InspectConfig
from avatarmill.cli.inspect_job import run as inspect
from avatarmill.records.canonical import json_bytes
from avatarmill.records.rejects import RejectRow, write_rejects

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('1')>",
    "' onmouseover='alert(1)' x='",
    "</td></table><h1>mine</h1><!--",
    "{{ 7 * 7 }}{% for x in y %}",
    "&lt;b&gt; &amp;",
)
WHOLE = " ".join(HOSTILE)
HARMLESS = "a plain name"


class Page(HTMLParser):
    """Tags with the names of their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.words: list[str] = []
        self.values: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag, tuple(name for name, _ in attrs)] += 1
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags["comment", ()] += 1


def write_strangers_run(make_run: Callable[..., Any], film: Path, words: str) -> Path:
    """A run in which every string that comes from outside is `words`."""
    made = make_run(
        film,
        source_uri=f"/videos/{words}.mp4",
        licence=words,
        consent=words,
        captions={"short": words, "medium": words},
        attributes={"top": words},
        scores={words: 0.5},
    )
    folder: Path = made.folder
    summary = {"inputs": 2, "states": {"kept": 1, "rejected": 1}, "clips": 1}
    (folder / "clips" / "summary.json").write_bytes(json_bytes(summary))
    rejects = [RejectRow(words, words, "source", "unreadable", words, words)]
    write_rejects(folder / "clips" / "rejects.parquet", rejects)
    avatars = folder / "avatars"
    avatars.mkdir()
    # A name of a file has no slash.
    picture = avatars / f"{words.replace('/', '')[:200]}.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    picture.with_suffix(".json").write_bytes(json_bytes({"prompt": words}))
    return folder


def write_inspect_page(folder: Path) -> str:
    page = folder / "inspect.html"
    assert inspect(InspectConfig(folder, html=page)) == 0
    return page.read_text()


def write_report(folder: Path) -> str:
    assert report.run(report.ReportConfig(folder)) == 0
    return (folder / "report.html").read_text()


@pytest.mark.parametrize("write", [write_inspect_page, write_report])
def test_strangers_words_stay_words(
    write: Callable[[Path], str],
    film: Path,
    make_run: Callable[..., Any],
    tmp_path: Path,
) -> None:
    plain = Page(write(write_strangers_run(make_run, film, HARMLESS)))
    (tmp_path / "run").rename(tmp_path / "plain")
    text = write(write_strangers_run(make_run, film, WHOLE))
    hostile = Page(text)
    assert hostile.tags == plain.tags, "no tag and no attribute is new"
    assert {tag for tag, _ in hostile.tags}.isdisjoint({"script", "iframe", "object", "base", "a"})
    shown = "".join(hostile.words)
    assert shown.count(WHOLE) == "".join(plain.words).count(HARMLESS) >= 5
    policy = [value for value in hostile.values if value.startswith("default-src")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    sources = [value for value in hostile.values if ":" in value and "src" not in value]
    assert all(value.startswith("data:image/") for value in sources if "base64" in value)
    assert "<script" not in text and "onerror=alert('" not in text

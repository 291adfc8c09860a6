"""The page of a run: every reason with its evidence, and nothing of a stranger as markup."""

from pathlib import Path

from avatarmill.pipeline.run_report import NAME, write_report
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.rejects import RejectRow, write_rejects

SUMMARY = {
    "inputs": 5,
    "states": {"kept": 3, "rejected": 2, "duplicate": 0, "failed": 0},
    "clips": 4,
    "rejects": {"blurred": 1, "truncated": 4},
    "stage_seconds": {"people": 30.0, "fit": 10.0},
}


def page(folder: Path, summary: dict[str, object]) -> str:
    rows = [
        RejectRow(f"<script>{n}</script>.mp4", "1", "source", "truncated", "shots", "7 < 9 & less")
        for n in range(4)
    ]
    rows.append(RejectRow("b.mp4", "2", "track", "blurred", "select", "0.1 < 0.2", 1.0, 2.5))
    write_rejects(folder / "rejects.parquet", rows)
    write_bytes(folder / "summary.json", json_bytes(summary))
    write_report(folder)
    return (folder / NAME).read_text()


def test_reasons_are_counted_with_a_few_examples(tmp_path: Path) -> None:
    text = page(tmp_path, SUMMARY)
    assert text.index("truncated") < text.index("blurred"), "the commonest first"
    assert text.count("7 &lt; 9 &amp; less") == 3, "three examples of four rows"
    assert "1.00-2.50 s" in text and "75.0%" in text
    assert "<script>" not in text and "Against the pilot" not in text


def test_figures_outside_the_pilots_interval_stand_out(tmp_path: Path) -> None:
    inside = {"value": 4.0, "low": 3.0, "high": 5.0, "actual": 4.5, "inside": True}
    outside = {"value": 40.0, "low": 30.0, "high": 50.0, "actual": 80.0, "inside": False}
    text = page(tmp_path, {**SUMMARY, "pilot": {"clips": inside, "worker_seconds": outside}})
    assert "Against the pilot" in text
    assert text.count('outside">80<') == 1 and '">4.5<' in text

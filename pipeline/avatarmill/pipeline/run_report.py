"""report.html of a curation run: how its sources ended, why, what it took; one file, no scripts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from avatarmill.records.atomic import read_bytes, write_bytes
from avatarmill.records.canonical import json_object
from avatarmill.records.rejects import RejectRow, read_rejects

NAME = "report.html"
_EXAMPLES = 3
"""Rows shown of each reason."""
_FIGURES = {
    "worker_seconds": "worker seconds",
    "clips": "clips",
    "bytes": "bytes of clips",
    "yield": "share of sources kept",
}


@dataclass(slots=True)
class _Reason:
    """One reason of the reject table."""

    rows: int = 0
    examples: list[RejectRow] = field(default_factory=list)


def write_report(clips: Path) -> None:
    """Writes CLIPS/report.html from the summary and the reject table of a finished run."""
    summary: dict[str, Any] = json_object(read_bytes(clips / "summary.json"))
    page = _render(summary, read_rejects(clips / "rejects.parquet"))
    write_bytes(clips / NAME, page.encode())


def _render(summary: Mapping[str, Any], rejects: Iterable[RejectRow]) -> str:
    # Names and evidence come from strangers' files: every value is escaped.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = files("avatarmill.pipeline").joinpath("run_report.html.j2").read_text()
    seconds: dict[str, float] = summary["stage_seconds"]
    return environment.from_string(text).render(
        summary=summary,
        reasons=sorted(_by_reason(rejects).items(), key=lambda item: (-item[1].rows, item[0])),
        stages=[
            (name, spent, 100 * spent / max(sum(seconds.values()), 1e-9))
            for name, spent in seconds.items()
        ],
        pilot=[
            (label, summary["pilot"][name])
            for name, label in _FIGURES.items()
            if name in summary.get("pilot", {})
        ],
    )


def _by_reason(rejects: Iterable[RejectRow]) -> dict[str, _Reason]:
    found: dict[str, _Reason] = {}
    for row in rejects:
        reason = found.setdefault(row.reason, _Reason())
        reason.rows += 1
        if len(reason.examples) < _EXAMPLES:
            reason.examples.append(row)
    return found

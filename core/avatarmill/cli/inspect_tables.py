"""What `avatarmill inspect` shows of tables: counts, quantiles, reasons with an example each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from avatarmill.records.index import Row
from avatarmill.records.rejects import RejectRow

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_QUANTILE_NAMES = ("min", "5 %", "25 %", "median", "75 %", "95 %", "max")
_MOST_ROWS = 30
"""Rows of a table of counts; the others are added up in a last one."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table, for the terminal and for the page."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[object, ...]]


@dataclass(slots=True)
class Section:
    """What is known of one thing that was inspected."""

    title: str
    tables: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def facts(title: str, values: Mapping[str, object]) -> Table:
    """Names and values."""
    return Table(title, ("what", "value"), list(values.items()))


def sample_tables(rows: Sequence[Row]) -> list[Table]:
    """Licences, scores and sources of the samples that index rows describe."""
    sources = Counter(str(row["source_sha256"]) for row in rows)
    counts: dict[str, object] = {"samples": len(rows), "sources": len(sources)}
    for name in ("num_references", "num_targets", "num_tokens", "num_frames", "num_bytes"):
        if rows and name in rows[0]:
            counts[name.removeprefix("num_")] = sum(int(str(row[name])) for row in rows)
    counts["fingerprints"] = len({row["fingerprint"] for row in rows})
    licences = Counter(str(row["licence"]) or "not stated" for row in rows)
    tables = [facts("samples", counts), count_table("licences", "licence", licences)]
    if rows and "consent" in rows[0]:
        consents = Counter(str(row["consent"]) or "not stated" for row in rows)
        tables.append(count_table("consent", "consent", consents))
    tables += _listed_tables(rows)
    if rows and "num_bytes" in rows[0]:
        return [*tables, _quantiles("lengths and sizes", map(_sizes, rows))]
    return [*tables, quantile_table(rows)]


def _listed_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """The other columns of the input list, such as the language."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.get("listed") or ():  # type: ignore[attr-defined]
            counts.setdefault(name, Counter())[value] += 1
    for name, own in sorted(counts.items()):
        yield count_table(f"listed: {name}", name, own)


def quantile_table(rows: Iterable[Row]) -> Table:
    """Quantiles of every score over the samples that have it."""
    return _quantiles("scores", map(_scores, rows))


def _scores(row: Row) -> dict[str, float]:
    # A fresh row has a list of pairs, one from Parquet too.
    scores: dict[str, float] = dict(row["scores"])  # type: ignore[call-overload]
    if "visible_fraction" in row:
        scores["visible_fraction"] = float(str(row["visible_fraction"]))
    return scores


def _sizes(row: Row) -> dict[str, float]:
    """What there is to know of a shot in numbers."""
    values = {name: float(str(row[name])) for name in ("num_frames", "num_bytes")}
    seconds = float(str(row["stop_seconds"])) - float(str(row["start_seconds"]))
    sides = max(int(str(row[name])) for name in ("width", "height"))
    return {"seconds": seconds, "longer side": sides, **values}


def _quantiles(title: str, rows: Iterable[Mapping[str, float]]) -> Table:
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(float(value))
    return Table(
        title,
        ("what", "samples", *_QUANTILE_NAMES),
        [
            (name, len(found), *(f"{q:.4g}" for q in np.quantile(found, _QUANTILES)))
            for name, found in sorted(values.items())
        ],
    )


def count_table(title: str, what: str, counts: Counter[str]) -> Table:
    """The commonest values with their numbers."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows: list[tuple[object, ...]] = list(ordered[:_MOST_ROWS])
    if rest := ordered[_MOST_ROWS:]:
        rows.append((f"{len(rest)} others", sum(number for _, number in rest)))
    return Table(title, (what, "number"), rows)


def reject_tables(rejects: Sequence[RejectRow]) -> list[Table]:
    """Reasons with their numbers and the evidence of one of each."""
    groups: dict[tuple[str, str, str], list[RejectRow]] = {}
    for row in rejects:
        groups.setdefault((row.reason, row.level, row.stage), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    sources = len({(row.uri, row.source_sha256) for row in rejects})
    return [
        facts("rejects", {"rejects": len(rejects), "sources concerned": sources}),
        Table(
            "reasons",
            ("reason", "level", "stage", "number", "evidence of one", "its source"),
            [(*key, len(rows), rows[0].evidence, rows[0].uri) for key, rows in ordered],
        ),
    ]


def all_rejects(rejects: Sequence[RejectRow], limit: int) -> Table:
    """The rows themselves, for the page."""
    more = f", the first {limit} of {len(rejects)}" if len(rejects) > limit else ""
    return Table(
        f"every reject{more}",
        ("source", "level", "from s", "to s", "reason", "stage", "evidence"),
        [
            (r.uri, r.level, f"{r.start_seconds:.2f}", f"{r.stop_seconds:.2f}", r.reason)
            + (r.stage, r.evidence)
            for r in rejects[:limit]
        ],
    )


def ledger_tables(rows: Sequence[Row]) -> list[Table]:
    """States of the inputs, with one reason of each."""
    states: dict[str, list[Row]] = {}
    for row in rows:
        states.setdefault(str(row["state"]), []).append(row)
    counts = {"inputs": len(rows), "samples": sum(int(str(row["samples"])) for row in rows)}
    return [
        facts("inputs", counts),
        Table(
            "states",
            ("state", "inputs", "reason of one", "its source"),
            [
                (state, len(found), found[0]["reason"], found[0]["uri"])
                for state, found in sorted(states.items())
            ],
        ),
    ]

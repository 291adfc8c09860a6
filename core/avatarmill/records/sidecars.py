"""New columns for samples whose shards are finished: Parquet beside them, found by key.

FOLDER/sidecars/NAME/parts/GROUP.parquet     key, sha256 of the sample, the new columns
FOLDER/sidecars/NAME/commits/GROUP.json      written last, as for the shards

A row belongs to the bytes it was made from: one whose sha256 is not that of the present sample is
not shown. A side-car is a folder of groups like any other, only without tars.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from avatarmill.records.commit import COMMITS, Commit, list_commits, read_commit, write_rows
from avatarmill.records.index import Row, load_table
from avatarmill.records.store import Store
from avatarmill.records.tombstones import buried

SIDECARS = "sidecars"

KEY_FIELDS = (
    pa.field("key", pa.string(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
)
"""The first columns of each side-car."""


def write_sidecar(
    folder: str | Path | Store,
    name: str,
    group: str,
    values: Mapping[str, Row],
    *,
    schema: pa.Schema,
    fingerprint: str,
) -> Commit:
    """Add columns to the samples of one committed group; the shard keeps its bytes.

    Writing the same values again gives the same bytes.

    Args:
        folder: clip or token shards.
        name: of the side-car: lower case letters, digits and `_`.
        group: a committed group of the folder.
        values: the new columns of samples, by key; samples may be left out.
        schema: of the new columns.
        fingerprint: of what made the values.

    Raises:
        ValueError: no such group or sample, a name that is not allowed, or columns that the
            index of the folder has already.
    """
    commit = read_commit(folder, group)
    if commit is None:
        raise ValueError(f"{folder} has no committed group {group!r} to add columns to")
    index = load_table(Store.of(folder).path(commit.index))
    _check(name, schema, index.schema)
    shas = dict(zip(index["key"].to_pylist(), index["sha256"].to_pylist(), strict=True))
    if odd := sorted(values.keys() - shas.keys()):
        raise ValueError(f"{group} has no samples {', '.join(odd[:5])}")
    rows = [{"key": key, "sha256": shas[key], **values[key]} for key in sorted(values)]
    place = Store.of(folder).child(f"{SIDECARS}/{name}")
    return write_rows(place, group, rows, pa.schema([*KEY_FIELDS, *schema]), fingerprint)


def _check(name: str, schema: pa.Schema, index: pa.Schema) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"side-car {name!r} is refused: lower case letters, digits and '_' only")
    if taken := sorted(set(schema.names) & set(index.names)):
        raise ValueError(f"columns {', '.join(taken)} are in the index already; use other names")


def list_sidecars(folder: str | Path | Store) -> list[str]:
    """Return the names of a folder's side-cars that hold a group."""
    store = Store.of(folder)
    found = (name for name in store.folders(SIDECARS) if store.files(f"{name}/{COMMITS}"))
    return [name.rpartition("/")[2] for name in found]


def missing_groups(folder: str | Path | Store, name: str, fingerprint: str) -> list[str]:
    """Groups of a folder whose side-car is not there, or was made by something else."""
    place = Store.of(folder).child(f"{SIDECARS}/{name}")
    done = {c.group for c in list_commits(place) if c.fingerprint == fingerprint}
    return [commit.group for commit in list_commits(folder) if commit.group not in done]


def rows_in(
    folder: str | Path | Store, sidecars: Sequence[str] = ()
) -> Iterator[dict[str, object]]:
    """Yield the index row of every visible sample with the columns of some side-cars.

    A sample for which a side-car has no row, or one made from other bytes, has None there. Raises
    ValueError for a side-car that does not exist.
    """
    if odd := sorted(set(sidecars) - set(list_sidecars(folder))):
        there = ", ".join(list_sidecars(folder)) or "none"
        raise ValueError(f"{folder} has no side-car {', '.join(odd)}; there are: {there}")
    store, hidden = Store.of(folder), buried(folder)
    cars = [_Sidecar(store.child(f"{SIDECARS}/{name}")) for name in sidecars]
    for commit in list_commits(folder):
        added = [(car.empty, car.values(commit.group)) for car in cars]
        for row in load_table(store.path(commit.index)).to_pylist():
            if row["source_sha256"] not in hidden:
                for empty, values in added:
                    row |= values.get((row["key"], row["sha256"]), empty)
                yield row


class _Sidecar:
    """The groups of one side-car."""

    def __init__(self, place: Store) -> None:
        self._place = place
        self._commits = {commit.group: commit for commit in list_commits(place)}
        first = next(iter(self._commits.values()))
        names = load_table(place.path(first.index)).column_names[len(KEY_FIELDS) :]
        self.empty: Row = dict.fromkeys(names)
        """What a sample without a row gets."""

    def values(self, group: str) -> dict[tuple[object, object], Row]:
        """The columns of a group's samples, by key and sha256."""
        if group not in self._commits:
            return {}
        rows = load_table(self._place.path(self._commits[group].index)).to_pylist()
        return {(row.pop("key"), row.pop("sha256")): row for row in rows}


def drop_orphans(folder: str | Path | Store) -> None:
    """Take rows out of the side-cars whose samples are no longer in the folder."""
    keys = {commit.group: frozenset(commit.keys) for commit in list_commits(folder)}
    for name in list_sidecars(folder):
        place = Store.of(folder).child(f"{SIDECARS}/{name}")
        for commit in list_commits(place):
            own = keys.get(commit.group, frozenset())
            if not set(commit.keys) <= own:
                table = load_table(place.path(commit.index))
                rows = [row for row in table.to_pylist() if row["key"] in own]
                write_rows(place, commit.group, rows, table.schema, commit.fingerprint)

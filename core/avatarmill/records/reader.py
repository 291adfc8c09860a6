"""Iteration over the committed samples of a folder, honouring tombstones."""

from collections.abc import Iterator
from pathlib import Path

from avatarmill.records.clip import Clip, clip_from_members
from avatarmill.records.commit import Commit, list_commits
from avatarmill.records.index import entry_of, read_rows
from avatarmill.records.store import Store
from avatarmill.records.tarshard import Members, ShardReader
from avatarmill.records.token import TokenSample, token_from_members
from avatarmill.records.tombstones import buried


def samples_in(folder: Path) -> Iterator[tuple[str, Members]]:
    """Yield (key, members) of every committed sample, in order of groups, then keys.

    Files without a commit and samples of forgotten sources are not seen. Raises
    FileNotFoundError when `folder` does not exist and ShardError where a shard is damaged.
    """
    if not Store.of(folder).exists():
        raise FileNotFoundError(f"{folder} is not a folder of shards")
    hidden = buried(folder)
    for commit in list_commits(folder):
        if commit.shard_sha256:
            yield from group_samples(folder, commit, hidden)


def group_samples(
    folder: Path, commit: Commit, hidden: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Members]]:
    """Yield (key, members) of one committed group, less the sources in `hidden`."""
    rows = read_rows(folder / commit.index)
    with ShardReader(folder / commit.shard) as reader:
        for row in rows:
            if str(row["source_sha256"]) not in hidden:
                yield str(row["key"]), reader.read(entry_of(row))


def clips_in(folder: Path) -> Iterator[Clip]:
    """Yield every committed clip of a folder; see `samples_in`."""
    for key, members in samples_in(folder):
        yield clip_from_members(key, members)


def tokens_in(folder: Path) -> Iterator[TokenSample]:
    """Yield every committed token sample of a folder; see `samples_in`."""
    for key, members in samples_in(folder):
        yield token_from_members(key, members)

"""The tokenize job: committed clip shards to token shards with index, on Ray Data.

One group of clips becomes one group of tokens. A group is done when its commit is there, so
a killed job goes on where it stopped, and its shards have the bytes of an undisturbed run.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import ray.data
import torch
from tqdm import tqdm

from avatarmill.infra.cluster import check_reservation, start_ray
from avatarmill.infra.exits import end_for_certain
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.clip import Clip, clip_from_members
from avatarmill.records.commit import (
    Commit,
    drop_commit,
    list_commits,
    merge,
    read_commit,
    sweep,
    write_group,
)
from avatarmill.records.fingerprint import fingerprint
from avatarmill.records.index import load_table
from avatarmill.records.ledger import InputState, check_ledger
from avatarmill.records.reader import group_samples
from avatarmill.records.runs import write_config
from avatarmill.records.store import Store
from avatarmill.records.token import TOKEN_INDEX, TokenMeta, TokenSample, token_record
from avatarmill.records.tombstones import buried
from avatarmill.tokenize.frames import ReferenceFrames, face_thumbnail
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.tokenize.visibility import RULE

logger = logging.getLogger(__name__)

STEP_VERSION = "tokenize-3"
"""Raised when the code of this step changes what it writes."""


@dataclass(frozen=True, slots=True)
class TokenizeConfig:
    """Settings of the tokenize job."""

    clips: Path
    """Folder of clip shards, as written by curate."""
    out: Path
    """Folder for token shards; the same command goes on where it was interrupted."""
    weights: Path | None = None
    """Tokenizer weights; the nano weights of the package by default."""
    workers: int = 1
    """Groups tokenized at once, each on one core; at most the machine's CPUs minus one."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}, at least 1 is needed")
        if self.clips.resolve() == self.out.resolve():
            raise ValueError(f"out must not be the clips folder {self.clips}; give another one")


def run(config: TokenizeConfig) -> int:
    """Tokenize every committed clip group that has no up-to-date token group; exit status."""
    if not Store.of(config.clips).exists():
        raise ValueError(f"clips: no folder {config.clips}; `avatarmill curate` writes one")
    tokenizer = Tokenizer.load(config.weights)
    write_config(config.out, "tokenize", config)
    clip_commits = [commit for commit in list_commits(config.clips) if commit.keys]
    prints = {
        commit.group: group_fingerprint(config.clips, commit, tokenizer.fingerprint)
        for commit in clip_commits
    }
    _drop_stale(config.out, prints)
    todo = [group for group in prints if read_commit(config.out, group) is None]
    logger.info("%d groups of clips, %d to tokenize", len(prints), len(todo))
    if todo:
        _tokenize_groups(config, [(group, prints[group]) for group in todo])
    sweep(config.out)
    states = [state for commit in list_commits(config.out) for state in commit.inputs]
    hidden = buried(config.clips)
    listed = [key for commit in clip_commits for key in _visible_keys(config.clips, commit, hidden)]
    counts = check_ledger(states, listed)
    samples = merge(config.out, TOKEN_INDEX)
    summary = {"clips": len(listed), "samples": samples, "tokenizer": tokenizer.fingerprint}
    write_bytes(config.out / "summary.json", json_bytes(summary) + b"\n")
    logger.info("%d token samples from %d clips", samples, counts["kept"])
    return 0


class GroupTokenizer:
    """Ray actor: holds the tokenizer and turns one group a call into a committed group."""

    def __init__(self, config: TokenizeConfig) -> None:
        end_for_certain()
        # One thread a worker: sums in another order would change the last bits.
        torch.set_num_threads(1)
        self.config = config
        self.tokenizer = Tokenizer.load(config.weights)

    def __call__(self, row: dict[str, str]) -> dict[str, object]:
        """Tokenize the group named in the row; return what was written and how fast."""
        started = time.perf_counter()
        commit = tokenize_group(
            self.tokenizer, self.config.clips, self.config.out, row["group"], row["fingerprint"]
        )
        seconds = time.perf_counter() - started
        return {"group": commit.group, "samples": len(commit.keys), "seconds": seconds}


def tokenize_group(
    tokenizer: Tokenizer, clips: Path, out: Path, group: str, group_fingerprint: str
) -> Commit:
    """Write the token group of one committed clip group; the commit comes last."""
    source = read_commit(clips, group)
    if source is None:
        raise ValueError(f"{clips} has no committed group {group!r}; rerun `avatarmill curate`")
    records, states = [], []
    for key, members in group_samples(clips, source, buried(clips)):
        clip = clip_from_members(key, members)
        records.append(token_record(tokenize_clip(tokenizer, clip)))
        states.append(InputState(key, clip.meta.source_sha256, "kept", samples=1))
    return write_group(
        out, group, records, schema=TOKEN_INDEX, fingerprint=group_fingerprint, inputs=states
    )


def tokenize_clip(tokenizer: Tokenizer, clip: Clip) -> TokenSample:
    """Encode the references of one clip, carrying its words and provenance along."""
    token_set = tokenizer.encode(ReferenceFrames.from_clip(clip))
    meta = clip.meta
    return TokenSample(
        key=clip.key,
        latent=token_set.latent.numpy(),
        visibility=token_set.visibility.numpy(),
        shape=token_set.shape.numpy(),
        face_crop=face_thumbnail(clip),
        meta=TokenMeta(
            clip_key=clip.key,
            source_sha256=meta.source_sha256,
            licence=meta.licence,
            tokenizer=tokenizer.fingerprint,
            captions=meta.captions,
            attributes=meta.attributes,
            scores=meta.scores,
            visibility_rule=RULE,
        ),
    )


def group_fingerprint(clips: Path, commit: Commit, tokenizer: str) -> str:
    """Return what decides the tokens of one group of clips.

    That is the bytes of the clips that may be seen, not those of their shard: taking one source out
    of a run leaves the tokens of all others as they are.
    """
    names = ["key", "sha256", "source_sha256"]
    table = load_table(clips / commit.index, columns=names)
    hidden = buried(clips)
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    seen = [(key, sha256) for key, sha256, source in rows if source not in hidden]
    return fingerprint([STEP_VERSION, tokenizer, seen])


def _drop_stale(out: Path, prints: dict[str, str]) -> None:
    """Make groups unfinished whose clips, weights or code have changed or gone."""
    for commit in list_commits(out):
        if prints.get(commit.group) != commit.fingerprint:
            logger.info("group %s is out of date", commit.group)
            drop_commit(out, commit.group)


def _visible_keys(clips: Path, commit: Commit, hidden: frozenset[str]) -> list[str]:
    return [key for key, _ in group_samples(clips, commit, hidden)]


def _tokenize_groups(config: TokenizeConfig, todo: list[tuple[str, str]]) -> None:
    workers = min(config.workers, len(todo))
    start_ray()
    check_reservation({"tokenize": workers})
    rows = [{"group": group, "fingerprint": print_} for group, print_ in todo]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        GroupTokenizer,
        fn_constructor_args=(config,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    with tqdm(total=len(rows), desc="tokenize", unit="group") as bar:
        for row in done.iter_rows():
            bar.update()
            facts = row["group"], row["samples"], row["seconds"]
            logger.info("group %s: %d samples in %.1f s", *facts)

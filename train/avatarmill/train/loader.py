"""Token shards -> batches: a webdataset pipeline that is a pure function of seed and position."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import webdataset as wds
from torch import Tensor
from webdataset.tariterators import group_by_keys, tar_file_expander

from avatarmill.records.commit import COMMITS, list_commits, read_commit
from avatarmill.records.index import read_rows
from avatarmill.records.store import Store, open_file
from avatarmill.records.token import TokenSample, token_from_members
from avatarmill.records.tombstones import Tombstones, buried

TOKENS = "tokens"
SHUFFLE_BUFFER = 4096
"""Samples held while shuffling; about 18 KB each at nano size."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One committed shard and the samples in it that may be seen."""

    path: Path
    keys: tuple[str, ...]
    """In file order, without forgotten sources."""
    tokenizers: frozenset[str]
    """Fingerprints of the tokenizers that wrote them."""
    sources: frozenset[str] = frozenset()
    """sha256 of the source of each sample."""
    group: str = ""
    """Whose commit names the shard; another one, once a source was forgotten."""

    def present_path(self) -> Path | None:
        """Where the group's samples are now; None where none is left."""
        commit = read_commit(self.path.parent, self.group)
        return self.path.parent / commit.shard if commit and commit.shard_sha256 else None


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """B token samples of one length."""

    keys: tuple[str, ...]
    latent: Tensor
    """[B, T, C] float32, unit variance a channel over the training set of the tokenizer."""
    visibility: Tensor
    """[B, T] uint8 scores."""
    shape: Tensor
    """[B, 20] float32."""
    captions: tuple[Mapping[str, str], ...]
    """Length name to caption, one mapping a sample."""

    def __post_init__(self) -> None:
        size = len(self.keys)
        if not size == len(self.latent) == len(self.visibility) == len(self.shape):
            raise ValueError(f"{size} keys for latents {tuple(self.latent.shape)}")


def list_shards(folder: Path) -> list[Shard]:
    """The committed shards of a folder, in order of their groups; tombstones honoured.

    `folder` may also be a run's whole output, which holds them in tokens/.

    Raises:
        ValueError: no visible sample at all.
    """
    store = Store.of(folder)
    if not store.files(COMMITS) and store.files(f"{TOKENS}/{COMMITS}"):
        folder, store = folder / TOKENS, store.child(TOKENS)
    hidden = buried(folder)
    shards = []
    for commit in list_commits(folder):
        rows = read_rows(store.path(commit.index))
        seen = [row for row in rows if str(row["source_sha256"]) not in hidden]
        if seen:
            keys = tuple(str(row["key"]) for row in seen)
            tokenizers = frozenset(str(row["fingerprint"]) for row in seen)
            sources = frozenset(str(row["source_sha256"]) for row in seen)
            path = store.path(commit.shard)
            path = path.resolve() if store.local else path
            shards.append(Shard(path, keys, tokenizers, sources, commit.group))
    if not shards:
        raise ValueError(f"{folder} holds no committed token samples: run avatarmill tokenize")
    return shards


def tokenizer_of(shards: Sequence[Shard]) -> str:
    """Fingerprint of the one tokenizer that wrote the shards.

    Raises:
        ValueError: they come from several, whose latents do not mix.
    """
    found = sorted(frozenset[str]().union(*(shard.tokenizers for shard in shards)))
    if len(found) != 1:
        short = ", ".join(name[:12] for name in found)
        raise ValueError(f"token shards of {len(found)} tokenizers ({short}): tokenize them anew")
    return found[0]


@dataclass(frozen=True, slots=True)
class TokenLoader:
    """An endless stream of batches for one rank.

    In each epoch the shards are shuffled by (seed, epoch), their samples numbered through, and
    each rank takes one equal block, so that a rank opens only its own shards. Up to world_size - 1
    samples sit out an epoch, other ones each time. Batches run across the end of an epoch, so a
    handful of samples trains as well as a million. The position in the stream is one number.
    """

    shards: Sequence[Shard]
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.num_samples < self.world_size:
            raise ValueError(f"{self.num_samples} samples for {self.world_size} ranks")

    @property
    def num_samples(self) -> int:
        """Samples of all shards."""
        return sum(len(shard.keys) for shard in self.shards)

    @property
    def samples_per_epoch(self) -> int:
        """Samples this rank sees in one epoch."""
        return self.num_samples // self.world_size

    def batches(self, position: int = 0) -> Iterator[TokenBatch]:
        """Batches from `position`, the number of samples this rank has already taken."""
        held: list[TokenSample] = []
        for sample in self.samples(position):
            held.append(sample)
            if len(held) == self.batch_size:
                yield collate(held)
                held = []

    def samples(self, position: int = 0) -> Iterator[TokenSample]:
        """Decoded samples from `position` on, without end."""
        epoch, skip = divmod(position, self.samples_per_epoch)
        while True:
            empty = True
            for sample in self._pipeline(epoch, skip):
                empty = False
                yield sample
            if empty and not skip:
                raise ValueError("no sample is left: their sources were all forgotten")
            epoch, skip = epoch + 1, 0

    def _pipeline(self, epoch: int, skip: int) -> Iterable[TokenSample]:
        pipeline: Iterable[TokenSample] = wds.DataPipeline(
            partial(self._sources, epoch),
            tar_file_expander,
            group_by_keys,
            partial(self._block, epoch),
            # Bytes are shuffled and skipped, then decoded: a resumed run pays for what it uses.
            wds.shuffle(SHUFFLE_BUFFER, initial=SHUFFLE_BUFFER, rng=self._random(epoch, "samples")),
            wds.slice(skip, None),
            wds.map(decode),
            self._visible,
        )
        return pipeline

    def _visible(self, samples: Iterable[TokenSample]) -> Iterator[TokenSample]:
        """Less the sources that were forgotten while the run was under way."""
        tombstones = {folder: Tombstones(folder) for folder in {s.path.parent for s in self.shards}}
        for sample in samples:
            source = sample.meta.source_sha256
            if not any(source in graves.now() for graves in tombstones.values()):
                yield sample

    def _random(self, epoch: int, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{epoch}/{purpose}")

    def _plan(self, epoch: int) -> list[tuple[Shard, frozenset[str]]]:
        """This rank's shards in order, with the keys it takes from each."""
        order = list(self.shards)
        self._random(epoch, "shards").shuffle(order)
        start = self.rank * self.samples_per_epoch
        stop, first, plan = start + self.samples_per_epoch, 0, []
        for shard in order:
            last = first + len(shard.keys)
            keys = shard.keys[max(start - first, 0) : max(stop - first, 0)]
            if first < stop and last > start:
                plan.append((shard, frozenset(keys)))
            first = last
        return plan

    def _sources(self, epoch: int) -> Iterator[dict[str, object]]:
        # Opened here, not by webdataset: it leaves files open and runs "pipe:..." as a command.
        for shard, _ in self._plan(epoch):
            # A source that was forgotten since the run began has moved its group to another file.
            path = shard.present_path() if shard.group else shard.path
            if path is not None:
                with open_file(path) as stream:
                    yield {"url": str(shard.path), "stream": stream}

    def _block(
        self, epoch: int, samples: Iterable[dict[str, object]]
    ) -> Iterator[dict[str, object]]:
        wanted = {str(shard.path): keys for shard, keys in self._plan(epoch)}
        return (sample for sample in samples if sample["__key__"] in wanted[str(sample["__url__"])])


def decode(sample: Mapping[str, object]) -> TokenSample:
    """A webdataset sample (member name to bytes) as a token sample.

    Only the members of the token format are accepted and nothing is unpickled: webdataset's own
    decoder, which would, is not used. Raises ShardError for anything else.
    """
    members = {
        name: value
        for name, value in sample.items()
        if not name.startswith("__") and isinstance(value, bytes)
    }
    return token_from_members(str(sample["__key__"]), members)


def collate(samples: Sequence[TokenSample]) -> TokenBatch:
    """Stack samples. Raises ValueError where their numbers of tokens differ."""
    lengths = {len(sample.latent) for sample in samples}
    if len(lengths) > 1:
        raise ValueError(f"samples of {sorted(lengths)} tokens do not stack")
    return TokenBatch(
        keys=tuple(sample.key for sample in samples),
        latent=torch.stack([torch.from_numpy(sample.latent).float() for sample in samples]),
        visibility=torch.stack([torch.from_numpy(sample.visibility) for sample in samples]),
        shape=torch.stack([torch.from_numpy(sample.shape) for sample in samples]),
        captions=tuple(sample.meta.captions for sample in samples),
    )

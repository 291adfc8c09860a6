"""The loader shows every committed sample exactly once an epoch, and resumes anywhere."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.records.commit import drop_commit
from avatarmill.records.forget import forget_source
from avatarmill.records.index import load_table
from avatarmill.records.reader import tokens_in
from avatarmill.records.tarshard import ShardError, write_tar
from avatarmill.records.tombstones import bury
from avatarmill.train.loader import TokenLoader, decode, list_shards, tokenizer_of
from avatarmill.train.seen import record_sources

ShardWriter = Callable[..., Path]


def keys_of(loader: TokenLoader, num: int, position: int = 0) -> list[str]:
    return [sample.key for sample in islice(loader.samples(position), num)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_ranks_share_an_epoch_without_overlap(write_shards: ShardWriter, world_size: int) -> None:
    shards = list_shards(write_shards(sizes=(5, 7, 1, 8)))
    seen: list[str] = []
    for rank in range(world_size):
        loader = TokenLoader(shards, 4, seed=3, rank=rank, world_size=world_size)
        seen += keys_of(loader, loader.samples_per_epoch)
    assert max(Counter(seen).values()) == 1
    assert len(seen) == 21 - 21 % world_size


def test_each_epoch_has_every_sample_in_another_order(write_shards: ShardWriter) -> None:
    loader = TokenLoader(list_shards(write_shards()), 4, seed=0)
    first, second = keys_of(loader, 12), keys_of(loader, 12, position=12)
    assert sorted(first) == sorted(second) and len(set(first)) == 12
    assert first != second != sorted(second)


def test_order_is_a_function_of_the_seed(write_shards: ShardWriter) -> None:
    shards = list_shards(write_shards())
    same = [keys_of(TokenLoader(shards, 4, seed=7), 30) for _ in range(2)]
    assert same[0] == same[1] != keys_of(TokenLoader(shards, 4, seed=8), 30)


@pytest.mark.parametrize("position", [0, 3, 11, 12, 13, 25])
def test_any_position_continues_the_same_stream(write_shards: ShardWriter, position: int) -> None:
    loader = TokenLoader(list_shards(write_shards()), 4, seed=0)
    assert keys_of(loader, 40)[position:] == keys_of(loader, 40 - position, position)


def test_batches_run_across_epochs(write_shards: ShardWriter) -> None:
    loader = TokenLoader(list_shards(write_shards(sizes=(3,))), 8, seed=0)
    batch = next(loader.batches())
    assert Counter(Counter(batch.keys).values()).keys() <= {2, 3}
    assert batch.latent.shape == (8, 1024, 8) and batch.latent.dtype == torch.float32


def test_batch_holds_the_bytes_of_the_shard(write_shards: ShardWriter) -> None:
    folder = write_shards()
    batch = next(TokenLoader(list_shards(folder), 4, seed=0).batches())
    truth = {sample.key: sample for sample in tokens_in(folder)}
    for row, key in enumerate(batch.keys):
        np.testing.assert_array_equal(batch.latent[row].numpy(), truth[key].latent)
        np.testing.assert_array_equal(batch.visibility[row].numpy(), truth[key].visibility)
        np.testing.assert_array_equal(batch.shape[row].numpy(), truth[key].shape)
        assert batch.captions[row] == truth[key].meta.captions


def test_shards_without_a_commit_are_not_seen(write_shards: ShardWriter) -> None:
    folder = write_shards()
    drop_commit(folder, "g00001")
    assert TokenLoader(list_shards(folder), 1, seed=0).num_samples == 5


def test_forgotten_sources_are_not_seen(write_shards: ShardWriter) -> None:
    folder = write_shards()
    gone = next(iter(tokens_in(folder)))
    bury(folder, gone.meta.source_sha256, reason="asked to")
    loader = TokenLoader(list_shards(folder), 1, seed=0)
    assert loader.num_samples == 11
    assert gone.key not in keys_of(loader, 11)


def test_a_source_forgotten_during_the_run_is_not_seen_again(write_shards: ShardWriter) -> None:
    folder = write_shards()
    loader = TokenLoader(list_shards(folder), 1, seed=0)
    stream = loader.samples()
    first = next(stream)
    gone = next(s for s in tokens_in(folder) if s.key != first.key).meta.source_sha256
    bury(folder, gone, reason="asked to")
    # The buffer of the shuffle still holds the sample; nobody gets to see it.
    assert len([s for s in islice(stream, 10) if s.meta.source_sha256 == gone]) == 0
    # The group's shard then has another name, which the running loader follows.
    forget_source(folder, gone, reason="asked to")
    assert len({s.key for s in islice(stream, 22)}) == 11


def test_a_run_whose_sources_are_all_forgotten_ends(write_shards: ShardWriter) -> None:
    folder = write_shards(sizes=(2,))
    loader = TokenLoader(list_shards(folder), 1, seed=0)
    for sample in list(tokens_in(folder)):
        forget_source(folder, sample.meta.source_sha256, reason="asked to")
    with pytest.raises(ValueError, match="their sources were all forgotten"):
        next(loader.samples())


def test_what_a_run_draws_from_is_written_down(write_shards: ShardWriter, tmp_path: Path) -> None:
    folder = write_shards()
    for _ in range(2):
        record_sources(tmp_path / "out", list_shards(folder))
    (path,) = (tmp_path / "out/seen").iterdir()
    found = load_table(path)["source_sha256"].to_pylist()
    assert found == sorted(sample.meta.source_sha256 for sample in tokens_in(folder))


def test_a_pickle_in_a_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"unknown members evil\.pkl"):
        decode({"__key__": "k", "__url__": "x", "evil.pkl": b"cos\nsystem\n."})
    with pytest.raises(ShardError, match=r"member 'evil\.pkl' is refused"):
        write_tar(tmp_path / "x.tar", [("k", {"evil.pkl": b""})])


def test_an_object_array_is_refused(write_shards: ShardWriter) -> None:
    sample = next(iter(tokens_in(write_shards())))
    header = b"\x93NUMPY\x01\x00" + (70).to_bytes(2, "little")
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1024, 8), }".ljust(69) + b"\n"
    members = {"latent.npy": header + text, "visibility.npy": b"", "shape.npy": b"", "json": b"{}"}
    with pytest.raises(ShardError, match="npy of dtype object"):
        decode({"__key__": sample.key, **members})


def test_empty_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run avatarmill tokenize"):
        list_shards(tmp_path)


def test_tokens_of_two_tokenizers_are_refused(write_shards: ShardWriter) -> None:
    mixed = list_shards(write_shards(name="a")) + list_shards(
        write_shards(name="b", tokenizer="u" * 64)
    )
    with pytest.raises(ValueError, match="token shards of 2 tokenizers"):
        tokenizer_of(mixed)
    assert tokenizer_of(mixed[:2]) == "t" * 64


def test_more_ranks_than_samples_is_refused(write_shards: ShardWriter) -> None:
    with pytest.raises(ValueError, match="3 samples for 4 ranks"):
        TokenLoader(list_shards(write_shards(sizes=(3,))), 1, seed=0, world_size=4)

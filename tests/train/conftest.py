"""Random token shards in the real layout, and a process left as the test found it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatarmill.records.commit import write_group
from avatarmill.records.token import TOKEN_INDEX, TokenMeta, TokenSample, token_record

NUM_TOKENS = 1024

ShardWriter = Callable[..., Path]


def random_sample(index: int, tokenizer: str, seed: int) -> TokenSample:
    """A sample whose latents are noise and whose caption names a colour; a third is unseen."""
    rng = np.random.default_rng([seed, index])
    colour = ("red", "blue", "green")[index % 3]
    seen = rng.random(NUM_TOKENS) < 0.67
    return TokenSample(
        key=f"{index:012x}-000000000-00",
        latent=rng.standard_normal((NUM_TOKENS, 8)).astype(np.float16),
        visibility=np.where(seen, rng.integers(64, 256, NUM_TOKENS), 0).astype(np.uint8),
        shape=rng.standard_normal(20).astype(np.float32),
        meta=TokenMeta(
            clip_key=f"clip-{index}",
            source_sha256=f"{index:064x}",
            licence="CC0-1.0",
            tokenizer=tokenizer,
            captions={"short": f"a person in {colour}", "medium": f"a person in a {colour} top"},
        ),
    )


@pytest.fixture
def write_shards(tmp_path: Path) -> ShardWriter:
    """write_shards(sizes=(5, 7), tokenizer="t" * 64, seed=0) -> folder of committed shards."""

    def write(
        *, sizes: tuple[int, ...] = (5, 7), tokenizer: str = "t" * 64, name: str = "tokens"
    ) -> Path:
        folder, first = tmp_path / name, 0
        for group, size in enumerate(sizes):
            samples = [random_sample(first + i, tokenizer, seed=0) for i in range(size)]
            first += size
            records = [token_record(sample) for sample in samples]
            write_group(folder, f"g{group:05d}", records, schema=TOKEN_INDEX, fingerprint="f" * 64)
        return folder

    return write

"""The compressor starts as PCA and stores latents of unit variance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.tokenize.compressor import Compressor, PcaBasis
from avatarmill.tokenize.config import CompressorConfig

TOKENS, WIDTH, CHANNELS = 24, 16, 4


def tokens_of_rank(rank: int, count: int = 60) -> torch.Tensor:
    usual = torch.randn(TOKENS, WIDTH)
    return usual + torch.randn(count, TOKENS, rank) @ torch.randn(rank, WIDTH)


def started(tokens: torch.Tensor, weights: torch.Tensor) -> tuple[Compressor, PcaBasis]:
    compressor = Compressor(CompressorConfig(channels=CHANNELS, hidden=8), TOKENS, WIDTH)
    basis = PcaBasis.fit(tokens, weights, CHANNELS)
    compressor.start_from(basis)
    return compressor, basis


def test_tokens_of_low_rank_survive() -> None:
    tokens = tokens_of_rank(CHANNELS)
    compressor, _ = started(tokens, torch.ones(60, TOKENS))
    again = compressor.decode(compressor.encode(tokens))
    torch.testing.assert_close(again, tokens, atol=2e-3, rtol=1e-3)


def test_the_start_is_exactly_pca() -> None:
    tokens = tokens_of_rank(WIDTH)
    compressor, basis = started(tokens, torch.ones(60, TOKENS))
    torch.testing.assert_close(
        compressor.decode(compressor.encode(tokens)),
        basis.reconstruct(tokens),
        atol=1e-3,
        rtol=1e-3,
    )


def test_latents_start_with_unit_variance() -> None:
    tokens = tokens_of_rank(WIDTH)
    compressor, _ = started(tokens, torch.ones(60, TOKENS))
    spread = compressor.encode(tokens).flatten(0, 1).std(0)
    torch.testing.assert_close(spread, torch.ones(CHANNELS), atol=0.02, rtol=0)


def test_weights_decide_what_is_kept() -> None:
    tokens = tokens_of_rank(WIDTH)
    weights = torch.ones(60, TOKENS)
    weights[:, TOKENS // 2 :] = 0.0
    _, basis = started(tokens, weights)
    _, plain = started(tokens, torch.ones(60, TOKENS))
    half = tokens[:, : TOKENS // 2]

    def error(fitted: PcaBasis) -> float:
        return float((fitted.reconstruct(tokens)[:, : TOKENS // 2] - half).square().mean())

    assert error(basis) < error(plain)


def test_statistics_travel_with_the_weights() -> None:
    compressor = Compressor(CompressorConfig(channels=CHANNELS), TOKENS, WIDTH)
    compressor.set_statistics(torch.full((CHANNELS,), 2.0), torch.full((CHANNELS,), 3.0))
    other = Compressor(CompressorConfig(channels=CHANNELS), TOKENS, WIDTH)
    other.load_state_dict(compressor.state_dict())
    tokens = torch.randn(2, TOKENS, WIDTH)
    torch.testing.assert_close(other.encode(tokens), compressor.encode(tokens))
    torch.testing.assert_close(compressor.encode(tokens) * 3.0 + 2.0, compressor.raw(tokens))


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_a_token_is_compressed_on_its_own(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    compressor = Compressor(CompressorConfig(channels=CHANNELS), TOKENS, WIDTH)
    tokens = torch.randn(1, TOKENS, WIDTH, generator=generator)
    other = tokens.clone()
    other[0, 0] += 1.0
    first, second = compressor.encode(tokens), compressor.encode(other)
    torch.testing.assert_close(first[0, 1:], second[0, 1:])
    assert first.shape == (1, TOKENS, CHANNELS)


def test_too_little_data_is_pca_of_what_there_is() -> None:
    tokens = tokens_of_rank(2, count=3)
    basis = PcaBasis.fit(tokens, torch.ones(3, TOKENS), CHANNELS)
    assert torch.isfinite(basis.reconstruct(tokens)).all()
    assert basis.deviation.shape == (CHANNELS,)
    assert float(basis.deviation[-1]) == pytest.approx(0.0, abs=1e-2)

"""What the shipped tokenizer keeps of people it has never seen, against 8 channels of PCA.

Renders held-out actors (kept in out/bench), encodes each from four frames and renders the others
at 256 x 256: decibels on the person's pixels, canonical and posed, seen and unseen. PCA is fitted
to tokens of some of the actors the tokenizer was trained on. Prints a table and, last, one JSON
object.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path

import torch

from avatarmill.cli.console import say, table
from avatarmill.tokenize.compressor import Compressor, PcaBasis
from avatarmill.tokenize.tokenizer import NANO_WEIGHTS, Tokenizer
from avatarmill.train.actor_set import ActorSet
from avatarmill.train.compressor import CompressorTrainConfig, collect_tokens, token_errors
from avatarmill.train.evaluate_reconstructor import Quality, evaluate
from avatarmill.train.synth_data import ActorSetConfig, build_actor_set

SETS = Path(__file__).parents[1] / "out/bench/actors"
# Seeds 1 and 2 are those of `make weights`: their first actors were trained on, others' were not.
FITTED = (ActorSetConfig("wild", 40, 7, seed=1), ActorSetConfig("studio", 24, 8, seed=2))
HELD_OUT = (ActorSetConfig("wild", 16, 7, seed=1001), ActorSetConfig("studio", 12, 8, seed=1002))


def open_sets(configs: tuple[ActorSetConfig, ...]) -> list[ActorSet]:
    """The sets, rendered when they are not there yet."""
    return [ActorSet.open(build_actor_set(SETS, config)) for config in configs]


def row(qualities: dict[str, Quality]) -> dict[str, float]:
    """Figures of one way to encode, named by the kind of actors."""
    return {
        f"{kind}_{name}": round(value, 2)
        for kind, quality in qualities.items()
        for name, value in asdict(quality).items()
        if math.isfinite(value)
    }


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(2)
    tokenizer = Tokenizer.load()
    held_out = open_sets(HELD_OUT)
    kinds = [config.kind for config in HELD_OUT]
    once = CompressorTrainConfig((SETS,), NANO_WEIGHTS, NANO_WEIGHTS, draws=1)
    bank = collect_tokens(tokenizer, open_sets(FITTED), once)
    channels = tokenizer.config.compressor.channels
    basis = PcaBasis.fit(bank.tokens, bank.weights, channels)
    errors = token_errors(tokenizer.compressor, basis, collect_tokens(tokenizer, held_out, once))

    def measure(latents: str) -> dict[str, float]:
        way = "tokens" if latents == "tokens" else "compressed"
        qualities = (evaluate(tokenizer, actors, latents=way) for actors in held_out)
        return row(dict(zip(kinds, qualities, strict=True)))

    rows = {"tokens": measure("tokens"), "compressor": measure("compressor")}
    tokenizer.compressor = Compressor(
        tokenizer.config.compressor, bank.tokens.shape[1], bank.tokens.shape[2]
    ).eval()
    tokenizer.compressor.start_from(basis)
    rows["pca"] = measure("pca")
    names = list(rows["tokens"])
    table(["figure", *rows], [[name, *(way[name] for way in rows.values())] for name in names])
    figures = {f"{way}_{name}": value for way, row in rows.items() for name, value in row.items()}
    for way, error in errors.items():
        figures[f"token_error_{way}"] = round(error, 4)
    say(json.dumps(figures))


if __name__ == "__main__":
    main()

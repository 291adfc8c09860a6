"""Whether generated people wear the colours that were asked for.

Eleven prompts name each basic colour once for a t-shirt and once for trousers; the median colour
of the decoded torso and thighs must be nearest, in CIELAB, to the term that was asked for. One
wording, one seed each: a smoke test of the shipped weights. Prints a table and, last, one JSON
object.
"""

import json

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.attributes import COLOR_TERMS, nearest_color_term
from avatarmill.avatar.parts import PARTS
from avatarmill.cli.console import say, table
from avatarmill.generate.sample import sample
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.export import PACKAGED_WEIGHTS, load_model
from avatarmill.train.text import TextEncoder

FIRST_SEED, STEPS, GUIDANCE = 100, 32, 2.5
_SOLID = 0.3  # opacity from which a Gaussian's colour is seen


def term_of(colors: NDArray[np.float32]) -> str:
    """The term nearest to the median of colours [N, 3] in 0..1."""
    return nearest_color_term(np.clip(np.median(colors, axis=0), 0, 1).astype(np.float64))


def main() -> None:
    """Measures and prints."""
    torch.set_num_threads(2)
    tokenizer, encoder = Tokenizer.load(), TextEncoder()
    model, _ = load_model(
        PACKAGED_WEIGHTS,
        tokenizer.anchors,
        body=tokenizer.body.fingerprint,
        tokenizer=tokenizer.fingerprint,
    )
    per_token = tokenizer.config.reconstructor.gaussians_per_token
    part = np.repeat([PARTS[i] for i in tokenizer.anchors.part.tolist()], per_token)
    torso, thighs = part == "torso", np.isin(part, ["left_thigh", "right_thigh"])
    rows = []
    for index, top in enumerate(COLOR_TERMS):
        bottom = COLOR_TERMS[(index + 4) % len(COLOR_TERMS)]
        prompt = f"A person with short black hair, in a {top} t-shirt and {bottom} trousers"
        found = sample(
            model, encoder([prompt]), seed=FIRST_SEED + index, steps=STEPS, guidance=GUIDANCE
        )
        rest = tokenizer.decode(found.latent, found.shape).rest()
        colors, solid = rest.colors.numpy(), rest.opacities.numpy() > _SOLID
        rows.append([top, term_of(colors[torso & solid]), bottom, term_of(colors[thighs & solid])])
    table(["t-shirt asked", "found", "trousers asked", "found"], rows)
    figures = {
        "prompts": len(rows),
        "tops_right": sum(row[0] == row[1] for row in rows),
        "trousers_right": sum(row[2] == row[3] for row in rows),
    }
    say(json.dumps(figures))


if __name__ == "__main__":
    main()

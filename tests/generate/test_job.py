"""Prompt to files, end to end, with small random models of the real kinds."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from avatarmill.avatar.ply import read_ply
from avatarmill.generate.job import GenerateConfig, run, slug
from avatarmill.tokenize.config import NANO
from avatarmill.tokenize.tokenizer import Tokenizer, anchors_fingerprint
from avatarmill.train.export import Fingerprints, ModelInfo, save_model
from avatarmill.train.mmdit import TINY, MMDiT


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of an untrained tokenizer and of an untrained diffusion model made for it."""
    from avatarmill.avatar.anchors import load_anchors
    from avatarmill.avatar.body import load_body

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    body = load_body()
    anchors = load_anchors(body, 1024)
    Tokenizer(NANO, body, anchors).save(folder / "tokenizer.safetensors", {})
    tokenizer = Tokenizer.load(folder / "tokenizer.safetensors")
    made_for = Fingerprints(body.fingerprint, anchors_fingerprint(anchors), tokenizer.fingerprint)
    model = MMDiT(TINY, anchors.position, anchors.normal)
    info = ModelInfo(TINY, made_for, recipe="{}", seed=0, steps=0, samples=0, seconds=0.0)
    save_model(folder / "diffusion.safetensors", model.state_dict(), info)
    return folder / "tokenizer.safetensors", folder / "diffusion.safetensors"


def config(out: Path, weights: tuple[Path, Path], **changes: object) -> GenerateConfig:
    fields: dict[str, object] = dict(
        prompt="a woman in a red t-shirt",
        out=out,
        tokenizer=weights[0],
        weights=weights[1],
        steps=2,
        size=64,
        turntable_frames=4,
        seconds=0.2,
    )
    return GenerateConfig(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, weights: tuple[Path, Path]) -> Path:
    """Output of one run, file names starting with `ada`."""
    out = tmp_path_factory.mktemp("generated")
    assert run(config(out, weights, name="ada")) == 0
    return out


def test_a_prompt_becomes_an_avatar(generated: Path) -> None:
    folder = generated / "avatars"
    names = {"ada.ply", "ada.png", "ada.json", "ada_turntable.mp4", "ada_walk.mp4"}
    assert {path.name for path in folder.iterdir()} == names
    gaussians = read_ply(folder / "ada.ply")
    assert len(gaussians) == 1024 * 8 and gaussians.means.isfinite().all()
    picture = np.asarray(Image.open(folder / "ada.png"))
    assert picture.shape == (64, 64, 3) and (picture < 250).any(), "something is drawn"
    assert (picture[0] > 250).all() and (picture[:, 0] > 250).all(), "all of it is in view"
    facts = json.loads((folder / "ada.json").read_text())
    assert facts["prompt"] == "a woman in a red t-shirt" and len(facts["shape"]) == 20
    assert facts["fingerprints"].keys() == {"body", "anchors", "tokenizer"}
    assert (generated / "generate.config.json").is_file()


def test_the_driven_figure_stays_in_the_picture(generated: Path) -> None:
    with av.open(str(generated / "avatars" / "ada_walk.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 5
    for frame in frames:
        rows = np.flatnonzero((frame < 200).any(axis=(1, 2)))
        assert 0 < rows[0] < 16 and 48 < rows[-1] < 63, "head and feet"


def test_the_same_seed_gives_the_same_bytes(
    generated: Path, tmp_path: Path, weights: tuple[Path, Path]
) -> None:
    run(config(tmp_path, weights, name="ada"))
    for ending in (".ply", ".png", "_turntable.mp4", "_walk.mp4"):
        first, second = (out / "avatars" / f"ada{ending}" for out in (generated, tmp_path))
        assert first.read_bytes() == second.read_bytes(), ending


def test_weights_of_another_tokenizer_are_refused(
    tmp_path: Path, weights: tuple[Path, Path]
) -> None:
    other = tmp_path / "other.safetensors"
    tokenizer = Tokenizer.load(weights[0])
    tokenizer.save(other, {"seed": "1"})
    with pytest.raises(ValueError, match=r"was trained for tokenizer .* run `make weights`"):
        run(config(tmp_path, (other, weights[1])))


def test_names_come_from_prompts() -> None:
    made = GenerateConfig(prompt="A tall man, in a RED coat!", out=Path("out"), seed=3)
    assert made.stem == "a-tall-man-in-a-red-coat-3"
    assert len(slug("word " * 40)) <= 48 and slug("!?") == "avatar"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"size": 63}, "size is 63, expected an even number"),
        ({"steps": 0}, "steps is 0"),
        ({"guidance": -1.0}, "guidance is -1.0"),
        ({"name": "../evil"}, r"name is '\.\./evil', expected letters"),
        ({"seconds": 0.0}, "seconds and fps must be positive"),
    ],
)
def test_bad_settings_fail_first(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(Path("out"), (Path("a"), Path("b")), **change)

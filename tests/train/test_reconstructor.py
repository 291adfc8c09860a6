"""The reconstructor's and compressor's trainers on two tiny actors: learning, resume, export."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import load_body
from avatarmill.tokenize.config import TINY
from avatarmill.tokenize.tokenizer import Tokenizer
from avatarmill.train.actor_set import ActorSet
from avatarmill.train.avatar_losses import zoom
from avatarmill.train.compressor import CompressorTrainConfig, train_compressor
from avatarmill.train.evaluate_reconstructor import evaluate
from avatarmill.train.reconstructor import (
    CHECKPOINT,
    WEIGHTS,
    ReconstructorTrainConfig,
    Trainer,
    parameter_groups,
    run,
)
from avatarmill.train.synth_data import ActorSetConfig, build_actor_set, set_folder

ACTORS = ActorSetConfig(
    kind="wild",
    actors=2,
    frames=3,
    seed=3,
    image_size=TINY.reconstructor.image_size,
    face_size=TINY.reconstructor.face_size,
    num_tokens=TINY.reconstructor.num_tokens,
    per_token=TINY.reconstructor.gaussians_per_token,
    render_size=96,
)


@pytest.fixture(scope="module")
def actors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_actor_set(tmp_path_factory.mktemp("actors"), ACTORS, workers=1)


def settings(actors: Path, out: Path, **changes: object) -> ReconstructorTrainConfig:
    usual = ReconstructorTrainConfig(
        actors=actors,
        out=out,
        preset="tiny",
        steps=6,
        targets=1,
        render_size=48,
        max_references=2,
        threads=1,
        # The schedule may depend on the clock only where the budget is tight.
        minutes=1e6,
    )
    return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]


def test_a_set_is_built_once_and_holds_what_is_true(actors: Path) -> None:
    assert build_actor_set(actors.parent, ACTORS, workers=1) == actors
    found = ActorSet.open(actors)
    assert (len(found), found.num_frames) == (2, 3)
    inputs = found.inputs(0, np.array([0, 2]))
    assert inputs.images.shape == (1, 2, 4, 64, 64)
    assert inputs.visibility.max() > 0.5
    views = found.targets(0, np.array([1]))
    assert views.masks.max() == 1.0 and views.known.max() == 1.0
    assert views.images[views.masks == 0.0].max() == 0.0
    # Sites of the truth fall on the person, or the fit would not explain the picture.
    clean = [row for row in range(2) if _mean_mask_at_sites(found, row) > 0.5]
    assert clean


def _mean_mask_at_sites(found: ActorSet, actor: int) -> float:
    inputs = found.inputs(actor, np.arange(3))
    cells = inputs.site_pixels[0].long().clamp(0, 63).flatten(1, 2)
    masks = inputs.images[0, :, 3]
    return float(
        torch.stack([m[c[:, 1], c[:, 0]] for m, c in zip(masks, cells, strict=True)]).mean()
    )


def test_other_settings_are_another_set(tmp_path: Path) -> None:
    assert set_folder(tmp_path, ACTORS) != set_folder(tmp_path, dataclasses.replace(ACTORS, seed=4))
    with pytest.raises(ValueError, match="at least 1 and 2 are needed"):
        dataclasses.replace(ACTORS, frames=1)
    with pytest.raises(ValueError, match="holds no finished actor set"):
        ActorSet.open(tmp_path)


def test_training_on_one_actor_lowers_the_loss(actors: Path, tmp_path: Path) -> None:
    trainer = Trainer(settings(actors, tmp_path, steps=60, warmup_steps=1, learning_rate=2e-3))
    one = {name: array[:1] for name, array in trainer.actors.arrays.items()}
    trainer.actors = dataclasses.replace(trainer.actors, arrays=one)
    losses = []
    for _ in range(16):
        losses.append(float(trainer.step().total(trainer.config.losses).detach()))
        trainer.done += 1
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_a_stopped_run_ends_like_an_undisturbed_one(actors: Path, tmp_path: Path) -> None:
    assert run(settings(actors, tmp_path / "whole")) == 0
    first = Trainer(settings(actors, tmp_path / "parts"))
    for _ in range(3):
        first.step()
        first.done += 1
    (tmp_path / "parts").mkdir(parents=True)
    first._checkpoint()
    assert run(settings(actors, tmp_path / "parts")) == 0
    whole, parts = (Tokenizer.load(tmp_path / name / WEIGHTS) for name in ("whole", "parts"))
    for name, value in whole.reconstructor.state_dict().items():
        torch.testing.assert_close(parts.reconstructor.state_dict()[name], value, msg=name)
    assert whole.metadata["wild.steps"] == "6"


def test_other_settings_do_not_continue(actors: Path, tmp_path: Path) -> None:
    run(settings(actors, tmp_path, steps=1))
    assert (tmp_path / CHECKPOINT).is_file() and (tmp_path / "losses.csv").is_file()
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run(settings(actors, tmp_path, steps=1, seed=5))


def test_studio_starts_from_wild_with_decaying_rates(actors: Path, tmp_path: Path) -> None:
    run(settings(actors, tmp_path / "wild", steps=1))
    start = tmp_path / "wild" / WEIGHTS
    config = settings(actors, tmp_path / "studio", steps=1, phase="studio", start=start)
    trainer = Trainer(config)
    factors = {group["factor"] for group in parameter_groups(trainer.model, config)}
    assert factors == {1.0, 0.65, 0.65**2}
    trainer.train()
    metadata = Tokenizer.load(tmp_path / "studio" / WEIGHTS).metadata
    assert metadata["wild.steps"] == "1" and metadata["studio.steps"] == "1"


def test_the_compressor_beats_its_start(actors: Path, tmp_path: Path) -> None:
    body = load_body()
    torch.manual_seed(1)
    untrained = Tokenizer(TINY, body, load_anchors(body, count=TINY.reconstructor.num_tokens))
    start = tmp_path / "start.safetensors"
    untrained.save(start, {"wild.steps": "0"})
    trained = train_compressor(
        CompressorTrainConfig(
            actors=(actors,),
            start=start,
            out=tmp_path / "out" / "tiny.safetensors",
            draws=4,
            max_references=2,
            token_steps=60,
            render_steps=2,
            render_size=48,
            noise=0.0,
            threads=1,
        )
    )
    facts = Tokenizer.load(tmp_path / "out" / "tiny.safetensors").metadata
    assert facts["wild.steps"] == "0"
    assert float(facts["compressor.token_error"]) < float(facts["compressor.token_error_pca"]) * 1.1
    quality = evaluate(trained, ActorSet.open(actors), references=2)
    assert 5.0 < quality.posed < 60.0 and 0.0 < quality.silhouette <= 1.0


def test_zoom_keeps_projections(actors: Path) -> None:
    views = ActorSet.open(actors).targets(0, np.array([0, 1]))
    whole = zoom(views, 32, np.random.default_rng(0), 0.0)
    assert whole.images.shape == (2, 32, 32, 3)
    torch.testing.assert_close(whole.intrinsics[:, :2] * 2.0, views.intrinsics[:, :2])
    boxes = torch.tensor([[20.0, 10.0, 36.0, 26.0]] * 2)
    close = zoom(dataclasses.replace(views, face_boxes=boxes), 32, np.random.default_rng(0), 1.0)
    centre = torch.tensor([28.0, 18.0, 1.0])
    seen = close.intrinsics[0] @ torch.linalg.inv(views.intrinsics[0]) @ centre
    assert ((seen[:2] > 0) & (seen[:2] < 32)).all()
    assert close.intrinsics[0, 0, 0] > whole.intrinsics[0, 0, 0]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset is 'huge'"):
        settings(tmp_path, tmp_path, preset="huge")
    with pytest.raises(ValueError, match="start: the studio phase needs"):
        settings(tmp_path, tmp_path, phase="studio")
    with pytest.raises(ValueError, match="layer_decay is 2.0"):
        settings(tmp_path, tmp_path, layer_decay=2.0)
    with pytest.raises(ValueError, match="actors: at least one"):
        CompressorTrainConfig(actors=(), start=tmp_path, out=tmp_path)

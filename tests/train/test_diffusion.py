"""The trainer: resumed and undisturbed runs agree exactly, ranks and ZeRO stages agree, and the
export carries what it was made for."""

import shutil
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import load_body
from avatarmill.train.diffusion import (
    CHECKPOINTS,
    LOSS_LOG,
    DiffusionTrainConfig,
    learning_rate,
    run,
)
from avatarmill.train.export import load_model, read_info
from avatarmill.train.losslog import LossLog, LossRow, read_loss_log

ShardWriter = Callable[..., Path]

# DeepSpeed's import reaches deprecated corners of torch.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def tiny(tokens: Path, out: Path, **changes: object) -> DiffusionTrainConfig:
    config = DiffusionTrainConfig(
        tokens=tokens, out=out, size="tiny", steps=6, batch_size=2, warmup=2, checkpoint_every=3
    )
    return replace(config, threads=1, **changes)  # type: ignore[arg-type]


def curve(out: Path) -> list[tuple[float, ...]]:
    """The loss log without its times."""
    return [astuple(row)[:-1] for row in read_loss_log(out / LOSS_LOG)]


def interrupt_after(out: Path, step: int) -> None:
    """Put a finished run back to the checkpoint of `step`, as a kill would have left it."""
    checkpoints = out / CHECKPOINTS
    for folder in checkpoints.glob("step-*"):
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)
    (checkpoints / "latest").write_text(f"step-{step:07d}")
    (out / "diffusion.safetensors").unlink()


def test_resumed_run_has_the_same_curve_and_the_same_weights(
    write_shards: ShardWriter, tmp_path: Path
) -> None:
    tokens = write_shards()
    undisturbed, resumed = tmp_path / "undisturbed", tmp_path / "resumed"
    assert run(tiny(tokens, undisturbed)) == 0
    shutil.copytree(undisturbed, resumed)
    interrupt_after(resumed, 3)
    assert run(tiny(tokens, resumed)) == 0
    assert len(curve(undisturbed)) == 6
    assert curve(resumed) == curve(undisturbed)
    first = load_file(undisturbed / "diffusion.safetensors")
    second = load_file(resumed / "diffusion.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run(tiny(tokens, resumed, learning_rate=0.5))


@pytest.mark.slow
def test_two_ranks_under_torchrun_share_the_epoch(
    write_shards: ShardWriter, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    config = tiny(write_shards(), out, zero_stage=2, steps=4)
    assert run(replace(config, ranks=2)) == 0
    assert [row[0] for row in curve(out)] == [1, 2, 3, 4]
    assert read_info(out / "diffusion.safetensors").samples == 16
    with pytest.raises(ValueError, match=r"written by 2 ranks, now 1: .* --nproc_per_node 2"):
        run(config)


def test_zero_3_and_bf16_train_and_export(write_shards: ShardWriter, tmp_path: Path) -> None:
    tokens = write_shards()
    assert run(tiny(tokens, tmp_path / "plain", zero_stage=0)) == 0
    assert run(tiny(tokens, tmp_path / "three", zero_stage=3)) == 0
    assert run(tiny(tokens, tmp_path / "bf16", zero_stage=2, precision="bf16")) == 0
    plain = load_file(tmp_path / "plain" / "diffusion.safetensors")
    three = load_file(tmp_path / "three" / "diffusion.safetensors")
    assert plain.keys() == three.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], three[name], rtol=0, atol=2e-3)
    losses = [row[1] for row in curve(tmp_path / "plain")]
    rough = [row[1] for row in curve(tmp_path / "bf16")]
    assert rough == pytest.approx(losses, rel=0.05) and rough != losses


def test_export_belongs_to_its_body_anchors_and_tokenizer(
    write_shards: ShardWriter, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert run(tiny(write_shards(), out, steps=1)) == 0
    path = out / "diffusion.safetensors"
    body = load_body()
    anchors = load_anchors(body, 1024)
    model, info = load_model(path, anchors, body=body.fingerprint, tokenizer="t" * 64)
    assert not model.training and info.steps == 1 and info.samples == 2
    assert '"learning_rate":0.0015' in info.recipe
    with pytest.raises(ValueError, match=r"trained for tokenizer tttttttttttt, .*`make weights`"):
        load_model(path, anchors, body=body.fingerprint, tokenizer="u" * 64)
    with pytest.raises(ValueError, match=r"trained for body .*`make weights`"):
        load_model(path, anchors, body="b" * 64, tokenizer="t" * 64)
    with pytest.raises(ValueError, match=r"trained for tokenizer tttt.* found uuuu"):
        # Going on from weights of another tokenizer is refused before the first step.
        other = write_shards(name="other", tokenizer="u" * 64)
        run(tiny(other, tmp_path / "more", start_from=str(path)))
    again = write_shards(name="again")
    assert run(tiny(again, tmp_path / "go-on", steps=1, start_from=str(path))) == 0


def test_learning_overfits_one_sample(write_shards: ShardWriter, tmp_path: Path) -> None:
    config = tiny(write_shards(sizes=(1,)), tmp_path, steps=40, learning_rate=5e-3)
    assert run(replace(config, batch_size=4, checkpoint_every=40)) == 0
    losses = [row[1] for row in curve(tmp_path)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no diffusion weights at .*`make weights`"):
        read_info(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"text_drop": 1.0}, r"text_drop is 1.0, expected in \[0, 1\)"),
        ({"visibility_threshold": 0}, "visibility_threshold is 0, expected from 1"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected above 0"),
        ({"ranks": 0}, "ranks is 0, expected at least 1"),
        ({"size": "huge"}, "size is 'huge', expected one of tiny, nano, base"),
    ],
)
def test_bad_settings_fail_first(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(Path("tokens"), Path("out"), **change)


def test_learning_rate_warms_up_and_comes_down() -> None:
    config = tiny(Path("tokens"), Path("out"), steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert max(rates) == rates[9] and rates[-1] == pytest.approx(0.02)
    assert all(a >= b for a, b in zip(rates[9:-1], rates[10:], strict=True))


def test_loss_log_forgets_steps_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    rows = [LossRow(step, 1 / step, 0.1, 0.2, 0.5, 1e-3, 2.0) for step in range(1, 6)]
    log = LossLog(path, 0)
    for row in rows:
        log.append(row)
    log.close()
    with path.open("a") as file:
        file.write("6,0.1")  # a line that a kill cut off
    again = LossLog(path, 3)
    again.append(rows[3])
    again.close()
    assert read_loss_log(path) == rows[:4]

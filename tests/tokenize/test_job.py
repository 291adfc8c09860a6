"""The tokenize job on Ray: one sample a clip, deterministic bytes, exact resume."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from avatarmill.records.clip import CLIP_INDEX, Clip, clip_record
from avatarmill.records.commit import drop_commit, list_commits, verify, write_group
from avatarmill.records.fingerprint import sha256_file
from avatarmill.records.ledger import InputState
from avatarmill.records.reader import tokens_in
from avatarmill.tokenize.job import TokenizeConfig, run, tokenize_group
from avatarmill.tokenize.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def weights(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    tokenizer.save(path, {})
    return path


@pytest.fixture(scope="module")
def clips(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups, of two clips and one."""
    folder = tmp_path_factory.mktemp("clips")
    for group, seconds in (("group-0", (0, 1)), ("group-1", (2,))):
        records = [
            clip_record(dataclasses.replace(clip, key=f"0123456789ab-{1000 * s:09d}-00"))
            for s in seconds
        ]
        state = InputState(f"{group}.mp4", clip.meta.source_sha256, "kept", samples=len(records))
        write_group(folder, group, records, schema=CLIP_INDEX, fingerprint="test", inputs=[state])
    return folder


@pytest.fixture(scope="module")
def done(clips: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("job") / "tokens"
    assert run(TokenizeConfig(clips=clips, out=out, weights=weights)) == 0
    return out


def shards(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*.tar"))}


def test_one_sample_a_clip_with_its_provenance(done: Path, weights: Path, clip: Clip) -> None:
    samples = list(tokens_in(done))
    assert [sample.key[-12:] for sample in samples] == [
        "000000000-00",
        "000001000-00",
        "000002000-00",
    ]
    first = samples[0]
    assert first.latent.shape == (128, 8) and first.visibility.max() > 100
    assert first.face_crop is not None
    assert first.meta.source_sha256 == clip.meta.source_sha256
    assert first.meta.captions == {"short": "a person"}
    assert first.meta.tokenizer == Tokenizer.load(weights).fingerprint
    np.testing.assert_allclose(first.shape, clip.shape, atol=1e-6)
    assert verify(done) == []
    assert (done / "index.parquet").is_file()
    assert (done / "tokenize.config.json").is_file()


def test_a_second_run_does_nothing_and_a_lost_group_comes_back(
    done: Path, clips: Path, weights: Path
) -> None:
    before = shards(done)
    kept = (done / "group-0.tar").stat().st_mtime_ns
    drop_commit(done, "group-1")
    assert run(TokenizeConfig(clips=clips, out=done, weights=weights)) == 0
    assert shards(done) == before
    assert (done / "group-0.tar").stat().st_mtime_ns == kept


def test_without_ray_the_bytes_are_the_same(
    done: Path, clips: Path, weights: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(weights)
    for commit in list_commits(clips):
        tokenize_group(tokenizer, clips, tmp_path, commit.group, "test")
    assert shards(tmp_path) == shards(done)


def test_groups_of_clips_that_are_gone_go_too(
    done: Path, clips: Path, weights: Path, tmp_path: Path
) -> None:
    fewer, out = tmp_path / "clips", tmp_path / "tokens"
    shutil.copytree(clips, fewer)
    shutil.copytree(done, out)
    drop_commit(fewer, "group-1")
    assert run(TokenizeConfig(clips=fewer, out=out, weights=weights)) == 0
    assert [commit.group for commit in list_commits(out)] == ["group-0"]
    assert not (out / "group-1.tar").exists()


def test_mistakes_are_named(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        TokenizeConfig(clips=tmp_path, out=tmp_path / "out", workers=0)
    with pytest.raises(ValueError, match="out must not be the clips folder"):
        TokenizeConfig(clips=tmp_path, out=tmp_path)
    missing = TokenizeConfig(clips=tmp_path / "none", out=tmp_path / "out", weights=weights)
    with pytest.raises(ValueError, match="avatarmill curate"):
        run(missing)


def test_a_group_without_commit_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no committed group 'nowhere'"):
        tokenize_group(tokenizer, tmp_path, tmp_path / "out", "nowhere", "test")

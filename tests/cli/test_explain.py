"""A key leads back to the frames it was made from, or says clearly why it cannot."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatarmill.cli.explain import ExplainConfig, run
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.explain import decode_again, known_keys, locate, psnr
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.select import SelectConfig
from avatarmill.pipeline.settings import decode_settings, stage_settings
from avatarmill.pipeline.stages import step_fingerprints
from avatarmill.records.commit import drop_commit
from avatarmill.records.runs import write_config
from avatarmill.records.tarshard import ShardError
from avatarmill.records.tombstones import bury

FILMS = {
    "plain.mp4": ("-f", "lavfi", "-i", "testsrc2=s=192x144:r=25:d=2", "-pix_fmt", "yuv420p"),
    "turned.mp4": (
        *("-display_rotation", "90", "-f", "lavfi", "-i", "testsrc2=s=192x144:r=30:d=2"),
        *("-pix_fmt", "yuv420p"),
    ),
    "wide_pixels.mp4": (
        *("-f", "lavfi", "-i", "testsrc2=s=144x144:r=25:d=2", "-vf", "setsar=4/3"),
        *("-pix_fmt", "yuv420p"),
    ),
    "uneven.mkv": (
        *("-f", "lavfi", "-i", "testsrc2=s=192x144:r=25:d=2", "-pix_fmt", "yuv420p"),
        *("-vf", "select='not(eq(mod(n,5),3))'", "-fps_mode", "passthrough"),
    ),
    "late.ts": (
        *("-f", "lavfi", "-i", "testsrc2=s=192x144:r=25:d=2", "-pix_fmt", "yuv420p"),
        *("-output_ts_offset", "100"),
    ),
}


@pytest.mark.parametrize("name", FILMS)
def test_decoding_again_gives_the_stored_frames(
    name: str, make_film: Callable[..., Path], make_run: Callable[..., Any]
) -> None:
    film = make_film(name, *FILMS[name])
    made = make_run(film)
    checks = decode_again(made.clip, film)
    assert [check.name for check in checks] == ["ref_00", "ref_01", "target_00"]
    assert all(check.psnr_db == float("inf") for check in checks), "the crops never were a JPEG"


def test_the_story_of_a_key(
    film: Path, make_run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(film)
    sheet = tmp_path / "sheet.png"
    assert run(ExplainConfig(made.key, made.folder, decode=True, sheet=sheet)) == 0
    told = capsys.readouterr().out
    meta = made.clip.meta
    for words in (
        meta.source_sha256,
        str(film),
        "licence          CC0-1.0",
        "stream           0",
        "0.000 to 2.000 s",
        "target_00",
        "-20",
        "a moving test picture",
        "visibility rule  a rule",
        "1024 of 8 channels",
        "e" * 64,
        "another file than the packaged weights",
        "no configuration beside the clips",
        "sha256 is the clip's; decoded again",
    ):
        assert words in told, words
    assert told.count("the same") == 3
    with Image.open(sheet) as picture:
        assert picture.size == (3 * 256, 20 + 3 * 256)


def test_one_folder_of_shards_is_enough(
    film: Path, make_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(film)
    assert run(ExplainConfig(made.key, made.folder / "tokens")) == 0
    assert "its folder of clips says where it came from" in capsys.readouterr().out
    with pytest.raises(ValueError, match="so no crop to compare"):
        run(ExplainConfig(made.key, made.folder / "tokens", decode=True))
    assert run(ExplainConfig(made.key, made.folder / "clips")) == 0


def test_another_frame_is_noticed(
    film: Path, make_run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(film, pts_seconds=(0.0, 0.8, 1.0))
    config = ExplainConfig(made.key, made.folder, decode=True, sheet=tmp_path / "s.png")
    assert run(config) == 1
    assert "differs, limit 30" in capsys.readouterr().out


def test_what_cannot_be_decoded_is_said(
    film: Path, make_run: Callable[..., Any], tmp_path: Path
) -> None:
    clip = make_run(film).clip
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(film.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"the clip was made from [0-9a-f]{64}; the file has"):
        decode_again(clip, changed)
    with pytest.raises(ValueError, match="gone.mp4' of .* is not there; .*--source FILE"):
        decode_again(clip, tmp_path / "gone.mp4")
    other = dataclasses.replace(clip.meta, frame_size=(100, 80))
    with pytest.raises(ValueError, match="decodes to 100x75 pixels, .* was cut from 100x80"):
        decode_again(dataclasses.replace(clip, meta=other), film)
    between = dataclasses.replace(clip.meta, pts_seconds=(0.013, 0.8, 1.0))
    with pytest.raises(ValueError, match="has no frame at 0.013000 s, the next is at 0.0"):
        decode_again(dataclasses.replace(clip, meta=between), film)
    old = dataclasses.replace(
        clip.meta, version=1, crops=(), residuals_px=(), frame_size=(), stream=0
    )
    with pytest.raises(ValueError, match="before crops were recorded; curate it again"):
        decode_again(dataclasses.replace(clip, meta=old), film)


def test_unknown_keys_name_those_of_the_same_film(film: Path, make_run: Callable[..., Any]) -> None:
    made = make_run(film)
    like = made.key[:12] + "-000009999-00"
    with pytest.raises(ValueError, match=f"no sample '{like}'; it has {made.key}$"):
        run(ExplainConfig(like, made.folder))
    with pytest.raises(ValueError, match="has neither clips nor tokens"):
        run(ExplainConfig(made.key, made.folder.parent))
    with pytest.raises(ValueError, match="source: only --decode reads the source"):
        ExplainConfig(made.key, made.folder, source=film)


def test_a_forgotten_key_says_so_before_and_after_its_shard_is_gone(
    film: Path, make_run: Callable[..., Any]
) -> None:
    made = make_run(film)
    clips = made.folder / "clips"
    bury(clips, made.clip.meta.source_sha256, reason="asked for")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"was forgotten; .*tombstones.* says why"):
            run(ExplainConfig(made.key, made.folder))
        assert known_keys(clips) == []
        drop_commit(clips, "clips-000000")


def test_damaged_bytes_are_not_explained(film: Path, make_run: Callable[..., Any]) -> None:
    made = make_run(film)
    shard = made.folder / "clips" / "clips-000000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ShardError, match="sha256 of .* is not the index's"):
        locate(made.folder / "clips", made.key)


def test_settings_of_a_run_are_read_back(
    film: Path, make_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_run(film)
    config = CurateConfig(
        film, made.folder, decode=DecodeConfig(fps=7.5), select=SelectConfig(num_references=3)
    )
    write_config(made.folder, "curate", config)
    settings = stage_settings(made.folder)
    # Where measured shots are remembered is no setting of a stage.
    assert settings == replace(config.stages(), analysis=config.analysis)
    assert settings is not None and step_fingerprints(settings) == step_fingerprints(
        config.stages()
    )
    assert decode_settings(made.folder) == config.decode
    assert run(ExplainConfig(made.key, made.folder)) == 0
    assert "another one than this code's" in capsys.readouterr().out
    path = made.folder / "curate.config.json"
    path.write_text(path.read_text().replace('"fps":', '"frames":'))
    with pytest.raises(ValueError, match="curate.config.json is of another version of the code"):
        decode_settings(made.folder)
    assert run(ExplainConfig(made.key, made.folder)) == 0
    assert stage_settings(made.folder.parent) is None


def test_a_remote_source_that_cannot_be_had_is_named(
    film: Path, make_run: Callable[..., Any]
) -> None:
    made = make_run(film, source_uri="http://127.0.0.1:9/film.mp4")
    with pytest.raises(ValueError, match="forbidden_address.*--source FILE names a copy"):
        run(ExplainConfig(made.key, made.folder, decode=True))


def test_psnr() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)

"""`avatarmill explain KEY`: everything a sample was made from, back to the frames of its source."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import tyro

from avatarmill.cli.console import printable, say, table
from avatarmill.cli.pages import contact_sheet, png
from avatarmill.pipeline.explain import (
    SAME_PSNR_DB,
    FrameCheck,
    Located,
    decode_again,
    known_keys,
    locate,
)
from avatarmill.pipeline.fetch import FetchConfig, fetch, local_path
from avatarmill.pipeline.settings import decode_settings, stage_settings
from avatarmill.pipeline.stages import STEP_VERSIONS, step_fingerprints
from avatarmill.pipeline.types import Reject
from avatarmill.pipeline.uris import is_remote
from avatarmill.records.atomic import write_bytes
from avatarmill.records.clip import Clip, clip_from_members, frame_names
from avatarmill.records.commit import COMMITS
from avatarmill.records.fingerprint import fingerprint, sha256_file
from avatarmill.records.token import TokenSample, token_from_members

_SIDE = 256
"""Pixels of a picture in the sheet of decoded frames."""
_GAIN = 8
"""Differences are drawn this much larger, around grey."""


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """Which sample to explain."""

    key: Annotated[str, tyro.conf.Positional]
    """Key of a clip or token sample."""
    run: Path
    """The run's folder, with clips and tokens in it, or one folder of shards."""
    decode: bool = False
    """Decode the frames again from the source, whose sha256 is checked first, and compare."""
    source: Path | None = None
    """Where the source lies now; where it lay when it was curated without it."""
    sheet: Path | None = None
    """Where --decode draws stored, decoded and differing pixels; KEY.png without it."""

    def __post_init__(self) -> None:
        if not self.run.is_dir():
            raise ValueError(f"run: {self.run} is not a folder; give the OUT of a curate run")
        for name in ("source", "sheet"):
            if getattr(self, name) is not None and not self.decode:
                raise ValueError(f"{name}: only --decode reads the source; add --decode")


def run(config: ExplainConfig) -> int:
    """Prints the story of one sample.

    Returns:
        0; 1 when a decoded frame is not the stored one.
    """
    folders = _folders(config.run)
    found = {name: locate(folder, config.key) for name, folder in folders.items()}
    located = {name: sample for name, sample in found.items() if sample is not None}
    if not located:
        raise ValueError(_unknown(config, folders))
    clip: Clip | None = None
    for name, sample in located.items():
        _say_place(name, sample)
        if "latent.npy" in sample.members:
            _say_token(token_from_members(config.key, sample.members), config.run)
        else:
            clip = clip_from_members(config.key, sample.members)
            _say_clip(clip, folders[name].parent)
    if clip is None:
        say(f"\nno clip {config.key} in {config.run}; its folder of clips says where it came from")
        return _no_decoding(config)
    return _decode(clip, config, folders) if config.decode else 0


def _folders(run: Path) -> dict[str, Path]:
    """Folders of shards in a run, clips first: their tombstones count for tokens too."""
    if (run / COMMITS).is_dir():
        return {run.name: run}
    folders = {name: run / name for name in ("clips", "tokens") if (run / name / COMMITS).is_dir()}
    if not folders:
        raise ValueError(f"run: {run} has neither clips nor tokens; give the OUT of a curate run")
    return folders


def _unknown(config: ExplainConfig, folders: Mapping[str, Path]) -> str:
    keys = sorted({key for folder in folders.values() for key in known_keys(folder)})
    start = config.key.split("-")[0]
    like = [key for key in keys if start and key.startswith(start)] or keys
    shown = ", ".join(like[:5]) or "none"
    more = f" and {len(like) - 5} more" if len(like) > 5 else ""
    return f"key: {config.run} has no sample {config.key!r}; it has {shown}{more}"


def _no_decoding(config: ExplainConfig) -> int:
    if config.decode:
        raise ValueError(f"decode: {config.run} has no clip {config.key}, so no crop to compare")
    return 0


def _say_place(name: str, sample: Located) -> None:
    row = sample.row
    say(f"\n{name}")
    _facts(
        {
            "shard": sample.shard,
            "bytes": f"{row['offset']} to {int(str(row['offset'])) + int(str(row['length']))}",
            "sha256": f"{row['sha256']}, checked",
            "members": len(sample.members),
        }
    )


def _facts(facts: Mapping[str, object]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"  {printable(name).ljust(width)}  {printable(str(value))}")


def _say_clip(clip: Clip, run: Path) -> None:
    meta = clip.meta
    known = meta.version > 1
    _facts(
        {
            "source": meta.source_uri,
            "source sha256": meta.source_sha256,
            "licence": meta.licence or "not stated",
            "consent": meta.consent or "not stated",
            **{f"listed {name}": value for name, value in sorted(meta.listed.items())},
            "stream": meta.stream if known else "not recorded",
            "shot": f"{meta.start_seconds:.3f} to {meta.stop_seconds:.3f} s",
            "track": meta.track,
            "decoded frame": "x".join(map(str, meta.frame_size)) or "not recorded",
            "crops of": f"{clip.images.shape[1]} px",
            **{f"caption, {length}": words for length, words in meta.captions.items()},
        }
    )
    say()
    table(
        ("frame", "seconds", "x0", "y0", "side", "residual px", "confidence"),
        list(_frame_rows(clip)),
    )
    say()
    table(("score", "value"), [(name, f"{v:.4g}") for name, v in sorted(meta.scores.items())])
    say()
    table(("attribute", "value"), sorted(meta.attributes.items()))
    say()
    table(("step", "fingerprint", "version"), list(_steps(meta.fingerprints, run)))


def _frame_rows(clip: Clip) -> Iterator[tuple[object, ...]]:
    meta = clip.meta
    count = clip.num_frames
    crops = meta.crops or (("", "", ""),) * count
    residuals = [f"{value:.2f}" for value in meta.residuals_px] or [""] * count
    for row, name in enumerate(frame_names(count, clip.num_references)):
        seen = f"{clip.confidence[row].mean():.2f}"
        yield (name, f"{meta.pts_seconds[row]:.6f}", *crops[row], residuals[row], seen)


def _steps(made_by: Mapping[str, str], run: Path) -> Iterator[tuple[str, str, str]]:
    """Each step with its fingerprint, and whether this code and the run's settings give it too."""
    try:
        settings = stage_settings(run)
        present = step_fingerprints(settings) if settings else {}
        doubt = "no configuration beside the clips to compare with"
    except ValueError as error:
        present, doubt = {}, str(error)
    for step, print_ in made_by.items():
        version = STEP_VERSIONS.get(step)
        if not present:
            words = doubt
        elif present.get(step) == print_:
            words = f"{version}, as this code makes it"
        else:
            words = f"another one than this code's {version}, or an earlier step was"
        yield step, print_, words


def _say_token(sample: TokenSample, run: Path) -> None:
    meta = sample.meta
    _facts(
        {
            "of clip": meta.clip_key,
            "source sha256": meta.source_sha256,
            "licence": meta.licence or "not stated",
            "tokens": f"{len(sample.latent)} of {sample.latent.shape[1]} channels",
            "visible": f"{100 * sample.visible_fraction:.1f} % have a score of 128 or more",
            "visibility rule": meta.visibility_rule or "not recorded",
            "tokenizer": meta.tokenizer,
            "weights": _weights(meta.tokenizer, run),
        }
    )


def _weights(tokenizer: str, run: Path) -> str:
    """Which file of weights has the fingerprint that the sample names."""
    from avatarmill.tokenize.tokenizer import FORMAT, NANO_WEIGHTS

    paths = [NANO_WEIGHTS]
    for folder in (run / "tokens", run):
        path = folder / "tokenize.config.json"
        given = json.loads(path.read_bytes())["config"]["weights"] if path.is_file() else None
        paths += [Path(given)] if given else []
    for path in paths:
        if path.is_file():
            sha256 = sha256_file(path)
            if fingerprint([FORMAT, sha256]) == tokenizer:
                return f"{path}, sha256 {sha256}"
    return "another file than the packaged weights and those the run's configuration names"


def _decode(clip: Clip, config: ExplainConfig, folders: Mapping[str, Path]) -> int:
    settings = decode_settings(next(iter(folders.values())).parent)
    with TemporaryDirectory() as scratch:
        path = config.source or _source_file(clip.meta.source_uri, Path(scratch))
        checks = decode_again(clip, path, settings)
    sheet = config.sheet or Path(f"{config.key}.png")
    write_bytes(sheet, png(_sheet(checks)))
    uri = config.source or clip.meta.source_uri
    say()
    say(printable(f"{uri}: sha256 is the clip's; decoded again"))
    table(
        ("frame", "seconds", "PSNR dB", "verdict"),
        [(c.name, f"{c.pts_seconds:.6f}", f"{c.psnr_db:.1f}", _verdict(c)) for c in checks],
    )
    say(f"stored, decoded and {_GAIN} times their difference: {sheet}")
    return 0 if all(_same(check) for check in checks) else 1


def _source_file(uri: str, folder: Path) -> Path:
    """Where the source lies, fetched into `folder` if it is remote."""
    if not is_remote(uri):
        return local_path(uri)
    found = fetch(uri, FetchConfig(), folder)
    if isinstance(found, Reject):
        raise ValueError(
            f"source {uri!r}: {found.reason}, {found.evidence}; --source FILE names a copy of it"
        )
    return found.path


def _same(check: FrameCheck) -> bool:
    return check.psnr_db >= SAME_PSNR_DB


def _verdict(check: FrameCheck) -> str:
    return "the same" if _same(check) else f"differs, limit {SAME_PSNR_DB:g}"


def _sheet(checks: list[FrameCheck]) -> np.ndarray:
    """One row a frame: stored, decoded, difference."""
    rows = []
    for check in checks:
        difference = check.decoded.astype(np.int16) - check.stored
        drawn = (128 + _GAIN * difference).clip(0, 255).astype(np.uint8)
        rows.append([check.stored, check.decoded, drawn])
    return contact_sheet(rows, ["stored", "decoded again", f"{_GAIN} x difference"], _SIDE)

"""`avatarmill forget`: one source out of clips and tokens, with a proof and who has seen it."""

import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from avatarmill.cli.console import say, table
from avatarmill.records.canonical import json_bytes
from avatarmill.records.commit import COMMITS, Commit, list_commits, read_commit
from avatarmill.records.forget import Forgotten, Proof, forget_source, prove
from avatarmill.records.index import load_table
from avatarmill.records.store import Store
from avatarmill.records.tombstones import bury

PROOFS = "forgotten"
"""FOLDER/forgotten/SHA256.json: what the last scan after forgetting that source found."""
TOKEN_CONFIG = "tokenize.config.json"


@dataclass(frozen=True, slots=True)
class ForgetConfig:
    """Which source, and the runs it is taken out of. No job may be running on them."""

    run: tuple[Path, ...]
    """Folders of clips or tokens, or the --out folders that hold them, local or s3:// and gs://."""
    source: str
    """URI as in the list, or the sha256 of the bytes."""
    reason: str = "asked to be forgotten"
    """Kept with the tombstone and in the reject table."""
    checkpoints: tuple[Path, ...] = ()
    """More folders in which to look for training runs that saw the source."""

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("run: no folder given; name the runs to take the source out of")


@dataclass(frozen=True, slots=True)
class SeenBy:
    """A training run that drew from the source."""

    out: Path
    checkpoints: tuple[str, ...]
    weights: str
    """Where its weights were exported to, as its configuration says."""


def run(config: ForgetConfig) -> int:
    """Forget the source in all runs; 0 when a scan of every shard finds nothing of it.

    Raises:
        ValueError: no shards, an unknown source, a running job, or tokens without their clips.
    """
    folders = [folder for place in config.run for folder in shard_folders(place)]
    sources = find_source(config.source, folders)
    _check_clips(folders)
    for folder in folders:
        # Everywhere first: from here on no reader shows it, whatever happens next.
        for sha256 in sources:
            bury(folder, sha256, reason=config.reason)
    _refuse_running(folders)
    clean = True
    for sha256 in sources:
        say(f"source {sha256}")
        rows = [(folder, *_forget(folder, sha256, config.reason)) for folder in folders]
        _print(rows)
        clean &= not any(proof.problems for _, _, proof in rows)
        _print_seen(find_seen([*config.run, *config.checkpoints], sha256))
    return 0 if clean else 1


def shard_folders(place: Path) -> list[Path]:
    """Folders of committed shards at a place or right below it, clips before tokens.

    Raises:
        ValueError: there are none.
    """
    store = Store.of(place)
    if store.files(COMMITS):
        return [place]
    found = [name for name in store.folders() if store.files(f"{name}/{COMMITS}")]
    if not found:
        raise ValueError(f"run: {place} holds no committed shards")
    return [place / name for name in sorted(found, key=lambda name: (name != "clips", name))]


def find_source(source: str, folders: list[Path]) -> list[str]:
    """The sha256 that a source of some runs had; several when its bytes changed between runs.

    Raises:
        ValueError: no run knows the URI.
    """
    if re.fullmatch(r"[0-9a-f]{64}", source):
        return [source]
    from avatarmill.pipeline.ingest import as_place
    from avatarmill.pipeline.uris import public_uri

    names = {source, public_uri(as_place(source)), str(Path(source).absolute())}
    found: set[str] = set()
    for folder in folders:
        for commit in list_commits(folder):
            found |= {state.sha256 for state in commit.inputs if state.uri in names}
        for name in ("sources.parquet", "plan.parquet", "ledger.parquet"):
            if Store.of(folder).exists(name):
                rows = load_table(Store.of(folder).path(name), columns=["uri", "sha256"])
                pairs = zip(rows["uri"].to_pylist(), rows["sha256"].to_pylist(), strict=True)
                found |= {sha256 for uri, sha256 in pairs if uri in names}
    if not found - {""}:
        raise ValueError(
            f"source: none of the runs has read {source!r}; give the URI as in the list, or the "
            "sha256 of the bytes"
        )
    return sorted(found - {""})


def _check_clips(folders: list[Path]) -> None:
    """Refuse tokens alone: the next `tokenize` would make them again from the clips."""
    for folder in folders:
        clips = _clips_of(folder)
        if clips and Store.of(clips).exists() and not _among(clips, folders):
            raise ValueError(f"run: the tokens in {folder} are made from {clips}; give both")


def _clips_of(folder: Path) -> Path | None:
    """The clips of a folder of tokens, as its configuration says."""
    store = Store.of(folder)
    if not store.exists(TOKEN_CONFIG):
        return None
    return Path(json.loads(store.read(TOKEN_CONFIG))["config"]["clips"])


def _among(folder: Path, folders: list[Path]) -> bool:
    if Store.of(folder).local is None:
        return Store.of(folder) in [Store.of(other) for other in folders]
    return folder.resolve() in [other.resolve() for other in folders]


def _refuse_running(folders: list[Path]) -> None:
    from avatarmill.pipeline.status import alive, read_status

    for folder in folders:
        status = read_status(folder.parent)
        if status is not None and alive(status):
            raise ValueError(
                f"run: a job is running on {folder.parent}; the tombstone is set and readers do "
                "not show the source any more. Stop the job, then run the same command again"
            )


def _forget(folder: Path, sha256: str, reason: str) -> tuple[Forgotten, Proof]:
    from avatarmill.pipeline.forgotten import (
        forget_in_ledger,
        forget_scans,
        forget_shots,
        near_copies,
    )

    for uri in near_copies(folder, sha256):
        say(f"  listed as well, a copy of it by its pictures: {uri}")
    forgotten = forget_source(folder, sha256, reason=reason, fingerprints=_fingerprints(folder))
    forget_scans(folder, sha256)
    forget_shots(folder, sha256)
    forget_in_ledger(folder, sha256)
    proof = prove(folder, sha256)
    Store.of(folder).put_atomic(f"{PROOFS}/{sha256}.json", json_bytes(asdict(proof)))
    return forgotten, proof


def _fingerprints(folder: Path) -> "partial[str] | None":
    """What a group of tokens is made from now, so that the next `tokenize` finds it up to date."""
    clips = _clips_of(folder)
    commits = list_commits(folder)
    if clips is None or not Store.of(clips).exists() or not commits:
        return None
    rows = load_table(Store.of(folder).path(commits[0].index), columns=["fingerprint"])
    tokenizers = rows["fingerprint"].to_pylist()
    return partial(_token_fingerprint, clips, tokenizers[0]) if tokenizers else None


def _token_fingerprint(clips: Path, tokenizer: str, commit: Commit) -> str:
    from avatarmill.tokenize.job import group_fingerprint

    source = read_commit(clips, commit.group)
    return commit.fingerprint if source is None else group_fingerprint(clips, source, tokenizer)


def find_seen(places: list[Path], sha256: str) -> list[SeenBy]:
    """Training runs in some local folders, at any depth, that wrote down that they saw a source."""
    found: dict[Path, SeenBy] = {}
    for place in places:
        for record in sorted(place.rglob("seen/*.parquet")) if Store.of(place).local else ():
            out = record.parent.parent.resolve()
            names = load_table(record, columns=["source_sha256"])
            if out not in found and sha256 in names["source_sha256"].to_pylist():
                found[out] = _seen_by(out)
    return list(found.values())


def _seen_by(out: Path) -> SeenBy:
    steps = sorted(path.name for path in out.glob("checkpoints/step-*"))
    weights = ""
    for path in sorted(out.glob("*.config.json")):
        weights = str(json.loads(path.read_bytes())["config"].get("weights") or weights)
    return SeenBy(out, tuple(steps), weights)


def _print(rows: list[tuple[Path, Forgotten, Proof]]) -> None:
    table(
        ("folder", "groups written again", "samples taken out", "groups untouched"),
        [(str(p), str(len(f.groups)), str(f.samples), str(f.unchanged)) for p, f, _ in rows],
    )
    for folder, _, proof in rows:
        found = "; ".join(proof.problems) or "nothing of it found"
        say(
            f"proof: {folder}: {proof.shards} shards, {proof.samples} samples, "
            f"{proof.num_bytes:,} bytes read: {found}"
        )


def _print_seen(seen: list[SeenBy]) -> None:
    if not seen:
        say("no training run was found that saw it (--checkpoints names more folders)")
        return
    say("training runs that saw it: their weights still hold what they learned from it")
    table(
        ("run", "checkpoints", "weights"),
        [(str(run.out), " ".join(run.checkpoints) or "none", run.weights or "-") for run in seen],
    )

"""Local files of remote sources, shared by the workers of a machine and gone after use.

A source is fetched once for all workers of a machine that are busy with it: the first fetches
under a lock, the others wait and read. A worker lets go of its file when it turns to another
source, and the last one to let go deletes it, so there are at most as many files as workers.
What a killed worker left is removed by the next one that starts.
"""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from avatarmill.pipeline.fetch import FetchConfig, LocalSource, fetch
from avatarmill.pipeline.partial import STAGE
from avatarmill.pipeline.types import Reason, Reject, Source
from avatarmill.pipeline.uris import is_remote

LOCK = ".lock"


class Spool:
    """The one source of this worker that is on the local disk."""

    def __init__(self, config: FetchConfig) -> None:
        self._config = config
        self._folder = config.spool or _default_folder()
        self._held: tuple[str, int] | None = None
        """Key of the source and the open handle of its lock, shared with other workers."""
        if self._folder.is_dir():
            for lock in self._folder.glob(f"*{LOCK}"):
                self._remove_unless_used(lock)

    @contextmanager
    def local(self, source: Source) -> Iterator[Source | Reject]:
        """The source with a local path, its sha256 and its size; or why it cannot be had.

        A local file is hashed unless its sha256 is known. A file that was fetched has the sha256
        that the source was listed with, else the reject is SOURCE_CHANGED.
        """
        if is_remote(source.path):
            found = self._fetched(source)
        elif source.sha256:
            found = source
        else:
            found = _with_bytes(source, fetch(source.path, self._config, self._folder))
        if isinstance(found, Source) and source.sha256 and found.sha256 != source.sha256:
            words = f"sha256 {found.sha256[:12]}, it was {source.sha256[:12]}"
            found = Reject(Reason.SOURCE_CHANGED, words, STAGE)
        yield found

    def close(self) -> None:
        """Let go of the file."""
        if self._held is not None:
            key, handle = self._held
            self._held = None
            os.close(handle)
            self._remove_unless_used(self._folder / f"{key}{LOCK}")

    def _fetched(self, source: Source) -> Source | Reject:
        key = hashlib.sha256(source.path.encode()).hexdigest()[:32]
        if self._held is None or self._held[0] != key:
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held = key, _locked(self._folder / f"{key}{LOCK}")
        handle = self._held[1]
        facts = os.pread(handle, 4096, 0)
        if facts:
            return _with_bytes(source, LocalSource(self._folder / key, **json.loads(facts)))
        # Nobody else has the lock as long as it names no file: see `_locked`.
        local = fetch(source.path, self._config, self._folder)
        if isinstance(local, Reject):
            self.close()
            return local
        local.path.replace(self._folder / key)
        words = {"sha256": local.sha256, "size_bytes": local.size_bytes, "temporary": True}
        os.pwrite(handle, json.dumps(words).encode(), 0)
        fcntl.flock(handle, fcntl.LOCK_SH)
        return _with_bytes(source, replace(local, path=self._folder / key))

    def _remove_unless_used(self, lock: Path) -> None:
        try:
            handle = os.open(lock, os.O_RDWR)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_suffix("").unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        except BlockingIOError:
            return  # another worker reads it
        finally:
            os.close(handle)


def _locked(lock: Path) -> int:
    """A handle of the lock: shared where the file is there, exclusive where it must be fetched."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        # Shared first: another handle of this very process may hold the file.
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not os.fstat(handle).st_size:
            fcntl.flock(handle, fcntl.LOCK_UN)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_size:
                fcntl.flock(handle, fcntl.LOCK_SH)
        # The one that waited may hold a lock that its last user has just deleted.
        try:
            if os.fstat(handle).st_ino == lock.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _with_bytes(source: Source, local: LocalSource | Reject) -> Source | Reject:
    if isinstance(local, Reject):
        return local
    return replace(source, path=str(local.path), sha256=local.sha256, size_bytes=local.size_bytes)


def _default_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"avatarmill-spool-{os.getuid()}"

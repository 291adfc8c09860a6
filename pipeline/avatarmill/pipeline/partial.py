"""A download under way: a bounded temporary file that is hashed as it grows."""

import hashlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from avatarmill.pipeline.types import Reason, Reject

STAGE = "fetch"


class Refused(Exception):
    """The source is rejected; another attempt would end the same way."""

    def __init__(self, reason: Reason, evidence: str) -> None:
        super().__init__(evidence)
        self.reject = Reject(reason, evidence, STAGE)


class Passing(Exception):
    """An attempt failed for a reason that may pass."""

    def __init__(self, evidence: str, wait_seconds: float = 0.0) -> None:
        super().__init__(evidence)
        self.wait_seconds = wait_seconds
        """How long the server asked to be left alone."""


class Partial:
    """The bytes fetched so far. Leaving the block removes the file unless `keep` was called."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The name owes nothing to the URL: that could hold slashes, secrets or 300 characters.
        handle, name = tempfile.mkstemp(prefix="fetch-", suffix=".part", dir=folder)
        self.path = Path(name)
        self._file = os.fdopen(handle, "wb")
        self._max_bytes = max_bytes
        self._kept = False
        self._digest = hashlib.sha256()
        self.size = 0
        self.total: int | None = None
        """Bytes the server declared."""
        self.validator = ""
        """What names this version of the bytes, so that a later attempt adds to the same ones."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if not self._kept:
            self.path.unlink(missing_ok=True)

    def expect(self, total: int | None) -> None:
        """Take note of the declared length. Raises Refused above the limit, Passing on a change."""
        if total is not None and total > self._max_bytes:
            raise Refused(Reason.TOO_LARGE, f"{total} bytes declared, limit {self._max_bytes}")
        if self.size and self.total is not None and total != self.total:
            before = self.total
            self.reset()
            raise Passing(f"the length changed from {before} to {total} bytes")
        self.total = total

    def add(self, block: bytes) -> None:
        """Append. Raises Refused above the limit: the declared length may be missing or wrong."""
        if self.size + len(block) > self._max_bytes:
            raise Refused(Reason.TOO_LARGE, f"more than the limit of {self._max_bytes} bytes")
        self._file.write(block)
        self._digest.update(block)
        self.size += len(block)

    def reset(self) -> None:
        """Start over."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.size, self.total, self.validator = 0, None, ""

    def keep(self) -> str:
        """Finish the file, which now outlives the block; return its sha256."""
        self._file.flush()
        self._kept = True
        return self._digest.hexdigest()

    @property
    def progress(self) -> str:
        """How far it came, for evidence."""
        total = "?" if self.total is None else str(self.total)
        return f"{self.size} of {total} bytes"

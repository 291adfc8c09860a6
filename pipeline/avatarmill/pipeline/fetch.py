"""Brings one listed source to a local file, with its sha256, or says why it cannot be had.

ffmpeg and PyAV never get a URL. What is remote is fetched here, bounded in size, time and
redirects, into a temporary file that its owner deletes after use.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from avatarmill.pipeline.addresses import parse_networks
from avatarmill.pipeline.partial import Partial, Passing, Refused
from avatarmill.pipeline.regular import NotRegularError, open_regular
from avatarmill.pipeline.retry import attempts, retriable
from avatarmill.pipeline.types import Reason, Reject
from avatarmill.pipeline.uris import WEB, can_fetch, protocol_of, public_uri
from avatarmill.pipeline.web import WebLimits, download
from avatarmill.records.store import OBJECT_STORES, file_system

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_OBJECT_BLOCK = 8 << 20
_GAIN = 1 << 20
"""An attempt that brought so many bytes does not count: a long film may break off often."""
_MAX_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """Limits of bringing one source to a local file."""

    max_bytes: int = 16 << 30
    deadline_seconds: float = 3600.0
    """For one source, all attempts together."""
    stall_seconds: float = 30.0
    """Without a byte from the server, then the attempt has failed."""
    attempts: int = 5
    """In a row without progress, for errors that may pass."""
    pause_seconds: float = 0.5
    """After the first failed attempt, twice as long after each further one."""
    max_redirects: int = 5
    allow_networks: tuple[str, ...] = ()
    """Networks such as 10.0.0.0/8 that may be fetched from though they are not public."""
    spool: Path | None = None
    """Folder of fetched files on each machine; by default one in the folder for temporary files.
    It holds one source a worker."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "deadline_seconds", "stall_seconds", "attempts"):
            if getattr(self, name) <= 0:
                raise ValueError(f"fetch.{name}: {getattr(self, name)} must be above 0")
        for name in ("pause_seconds", "max_redirects"):
            if getattr(self, name) < 0:
                raise ValueError(f"fetch.{name}: {getattr(self, name)} must not be negative")
        parse_networks(self.allow_networks)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """The bytes of a source on this machine."""

    path: Path
    sha256: str
    size_bytes: int
    temporary: bool
    """A copy of ours, which `delete` removes."""

    def delete(self) -> None:
        """Remove the copy; a file of the user stays."""
        if self.temporary:
            self.path.unlink(missing_ok=True)


def fetch(uri: str, config: FetchConfig, folder: Path) -> LocalSource | Reject:
    """Return the local bytes of `uri`, fetched into `folder` where they are remote.

    Rejects: NOT_FOUND, ACCESS_DENIED, FORBIDDEN_ADDRESS, UNREACHABLE, TOO_LARGE, TIMED_OUT, and
    UNREADABLE for a local path that is no regular file. Evidence and log name no secrets. Raises
    OSError where this machine is at fault, as with a full disk.
    """
    protocol = protocol_of(uri)
    try:
        if not protocol:
            return attempts(lambda: _local(local_path(uri), config), public_uri(uri))
        if not can_fetch(protocol):
            raise Refused(
                Reason.UNREACHABLE,
                f"protocol {protocol!r}, known are http, https, {', '.join(sorted(OBJECT_STORES))}",
            )
        with Partial(folder, config.max_bytes) as part:
            _transfer(uri, protocol, part, config)
            sha256 = part.keep()
        return LocalSource(part.path, sha256, part.size, temporary=True)
    except Refused as refused:
        return refused.reject


def _transfer(uri: str, protocol: str, part: Partial, config: FetchConfig) -> None:
    """Attempt after attempt until `part` is whole. Raises Refused when they are used up."""
    deadline = time.monotonic() + config.deadline_seconds
    attempt: Callable[[], None]
    if protocol in WEB:
        allowed = parse_networks(config.allow_networks)
        limits = WebLimits(deadline, config.stall_seconds, config.max_redirects, allowed)
        attempt = lambda: download(uri, part, limits)  # noqa: E731
    else:
        attempt = lambda: _object(uri, protocol, part, deadline)  # noqa: E731
    failed = 0
    while True:
        before = part.size
        try:
            return attempt()
        except Passing as passing:
            failed = 1 if part.size - before >= _GAIN else failed + 1
            if failed >= config.attempts:
                words = f"{failed} attempts without progress, the last: {passing}"
                raise Refused(Reason.UNREACHABLE, words) from passing
            pause = min(_MAX_PAUSE, config.pause_seconds * 2 ** (failed - 1))
            pause = max(pause, passing.wait_seconds)
            if time.monotonic() + pause >= deadline:
                words = f"{part.progress} in {config.deadline_seconds:g} s, the limit; {passing}"
                raise Refused(Reason.TIMED_OUT, words) from passing
            logger.warning("%s: %s; again in %g s", public_uri(uri), passing, pause)
            time.sleep(pause)


def _object(uri: str, protocol: str, part: Partial, deadline: float) -> None:
    """One attempt to fetch what `part` lacks of an object in a store."""
    files = file_system(protocol)
    path = uri.partition("://")[2]
    try:
        facts = _facts(files, path)
        if facts.validator != part.validator:
            part.reset()
        part.expect(facts.size)
        part.validator = facts.validator
        while part.size < facts.size:
            stop = min(facts.size, part.size + _OBJECT_BLOCK)
            block = files.cat_file(path, start=part.size, end=stop)
            if not block:
                raise Passing(f"nothing at {part.progress}")
            part.add(block)
            if time.monotonic() > deadline:
                raise Passing("out of time")
        if _facts(files, path) != facts:
            part.reset()
            raise Passing("the object changed while it was read")
    except FileNotFoundError as error:
        raise Refused(Reason.NOT_FOUND, "no such object") from error
    except PermissionError as error:
        raise Refused(Reason.ACCESS_DENIED, "the store does not allow it") from error
    except _client_errors() as error:
        raise Passing(f"{type(error).__name__} at {part.progress}") from error
    except OSError as error:
        if not retriable(error):
            raise
        raise Passing(f"{type(error).__name__} at {part.progress}") from error


@dataclass(frozen=True, slots=True)
class _Facts:
    size: int
    validator: str


def _facts(files: Any, path: str) -> _Facts:
    info = files.info(path)
    if info["type"] != "file":
        raise Refused(Reason.NOT_FOUND, f"a {info['type']}, not an object")
    named = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "updated"))
    return _Facts(int(info["size"]), next((str(value) for value in named if value), ""))


def _client_errors() -> tuple[type[Exception], ...]:
    """Errors of the network in the clients of s3fs and gcsfs, which are no OSErrors."""
    found: list[type[Exception]] = [TimeoutError, ConnectionError]
    with suppress(ImportError):
        from botocore.exceptions import HTTPClientError

        found.append(HTTPClientError)
    with suppress(ImportError):
        from aiohttp import ClientError

        found.append(ClientError)
    return tuple(found)


def local_path(uri: str) -> Path:
    """The path of a local place, given as a path or as file://."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)


def _local(path: Path, config: FetchConfig) -> LocalSource:
    try:
        with open_regular(path) as file:
            facts = os.fstat(file.fileno())
            if facts.st_size > config.max_bytes:
                words = f"{facts.st_size} bytes, limit {config.max_bytes}"
                raise Refused(Reason.TOO_LARGE, words)
            digest, size = hashlib.sha256(), 0
            while block := file.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refused(Reason.NOT_FOUND, "no such file") from error
    except PermissionError as error:
        raise Refused(Reason.ACCESS_DENIED, "permission denied") from error
    except NotRegularError as error:
        raise Refused(Reason.UNREADABLE, str(error)) from error
    return LocalSource(path, digest.hexdigest(), size, temporary=False)

"""Opening an input: a regular file and nothing else, so that no read can wait or have an effect."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class NotRegularError(OSError):
    """A pipe, a device, a folder or a loop of links stands where a file should be."""


def open_regular(path: str | Path) -> BinaryIO:
    """The file, open for reading; links to a file are followed.

    Opening a named pipe waits for somebody to write, opening a device may do anything, and a path
    that was a file when it was listed can be either by now.

    Raises:
        NotRegularError: it is something else, with what it is.
        FileNotFoundError: it is not there.
    """
    try:
        _check(os.stat(path).st_mode, path)
        # Without waiting, should it have been replaced since.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegularError(f"{os.fspath(path)!r} is a loop of symbolic links") from error
        raise
    with os.fdopen(descriptor, "rb"):
        _check(os.fstat(descriptor).st_mode, path)
        os.set_blocking(descriptor, True)
        return os.fdopen(os.dup(descriptor), "rb")


def _check(mode: int, path: str | Path) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no file")
        raise NotRegularError(f"{os.fspath(path)!r} is {kind}; an input must be a regular file")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}

"""The errors worth another try, by name, and how often they get one."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from avatarmill.pipeline.children.supervise import ChildKilled, ChildNotStarted

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
PAUSE_SECONDS = 0.5
"""Before the second attempt; twice as long before the third."""

PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.EIO,
        errno.ENFILE,
        errno.EMFILE,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EBUSY,
    }
)
"""What a network folder or a busy machine says once and not twice. A full disk is not among them:
it stays full while we try."""


def retriable(error: Exception) -> bool:
    """Whether the error says nothing about the item it met."""
    if isinstance(error, ChildKilled | ChildNotStarted | ConnectionError):
        return True
    return isinstance(error, OSError) and error.errno in PASSING


def attempts(call: Callable[[], T], what: str) -> T:
    """The result of `call`, tried again after retriable errors; the last error otherwise."""
    pause = PAUSE_SECONDS
    for left in reversed(range(ATTEMPTS)):
        try:
            return call()
        except (ChildKilled, ChildNotStarted, OSError) as error:
            if not left or not retriable(error):
                raise
            logger.warning("%s: %s; trying again in %g s", what, error, pause)
            time.sleep(pause)
            pause *= 2
    raise AssertionError("the last attempt returns or raises")

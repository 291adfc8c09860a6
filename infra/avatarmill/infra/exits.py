"""Worker processes that end for certain, whatever their libraries do on the way out."""

import atexit
import signal

EXIT_SECONDS = 30
"""For putting away what a worker holds; what takes longer does not end at all."""


def end_for_certain(seconds: int = EXIT_SECONDS) -> None:
    """Gives this process so many seconds from the moment Python begins to exit.

    Ray 2.60 may lock itself out in a destructor that runs after Python has gone (its
    `CoreWorkerProcess::HandleAtExit` waits for a lock it holds): a worker that lost its cluster
    then stays for ever, with all its memory. Nothing of Python runs by then, but the kernel's
    alarm clock does, and ends the process by SIGALRM.
    """
    atexit.register(_set_alarm, seconds)


def _set_alarm(seconds: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)

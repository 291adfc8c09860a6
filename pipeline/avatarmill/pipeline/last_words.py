"""Says how to go on when the driver of a job ends without a word, killed or with all of Ray."""

import subprocess
from contextlib import suppress

_SHELL = ("/bin/sh", "-c", 'read -r end || printf "%s\\n" "$1" >&2', "sh")


class LastWords:
    """A shell that outlives this process and writes one line to its standard error.

    When Ray's raylet dies, Ray ends the driver from its C++ part: no Python runs any more. The
    shell waits at a pipe that closes with this process, whatever ends it.
    """

    def __init__(self, words: str) -> None:
        self._shell = subprocess.Popen(
            [*_SHELL, words],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # An interrupt at the terminal is for the job alone.
            start_new_session=True,
            bufsize=0,
        )

    def withdraw(self) -> None:
        """Nothing is to be said: the job has ended by itself."""
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):  # somebody killed the shell
            self._shell.stdin.write(b"well\n")
        self._shell.stdin.close()
        self._shell.wait()

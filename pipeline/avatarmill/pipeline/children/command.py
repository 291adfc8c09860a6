"""One run of a native command as a supervised child, its output through a pipe."""

import contextlib
import fcntl
import os
import resource
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.memory import take_memory
from avatarmill.pipeline.children.supervise import (
    ChildCrashed,
    ChildKilled,
    ChildOutOfMemory,
    Watch,
    kill,
    spawn,
)

_PIPE_BYTES = 1 << 20
"""What the kernel grants without privileges; 64 KiB by default."""
_CHUNK = 1 << 20
_POLL_SECONDS = 0.02
_CHECK_BYTES = 16 << 20
_MAX_STDERR_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a finished command left."""

    status: int
    output: NDArray[np.uint8]
    """[N] bytes, in memory of their own."""
    stderr: str


def run_command(
    command: Sequence[str],
    *,
    deadline_seconds: float,
    memory_limit_bytes: int,
    max_output_bytes: int,
    stdin: int = subprocess.DEVNULL,
) -> CommandResult:
    """Runs a command and collects its output.

    Args:
        max_output_bytes: it may write so much.
        stdin: a file descriptor that it reads, nothing by default.

    Raises ChildTimeout, ChildOutOfMemory, ChildKilled when somebody else kills it, or ChildCrashed
    when it dies of another signal or writes more than `max_output_bytes`. An exit status other
    than 0 is for the caller to read.
    """
    with tempfile.TemporaryFile() as stderr:
        process = spawn(command, memory_limit_bytes=memory_limit_bytes, stdin=stdin, stderr=stderr)
        _limit_cpu(process.pid, deadline_seconds)
        try:
            watch = Watch(process.pid, deadline_seconds, memory_limit_bytes)
            output = _collect(process, watch, max_output_bytes)
            status = _reap(process, watch)
        finally:
            kill(process)
        stderr.seek(0)
        text = stderr.read(_MAX_STDERR_BYTES).decode(errors="replace")
    if status == -signal.SIGKILL:
        raise ChildKilled(f"{command[0].rsplit('/', 1)[-1]} was killed from outside (signal 9)")
    if status < 0:
        raise ChildCrashed(f"{command[0].rsplit('/', 1)[-1]} died of signal {-status}")
    if "Cannot allocate memory" in text:
        raise ChildOutOfMemory(f"allocation refused, limit {memory_limit_bytes >> 20} MiB")
    return CommandResult(status, output, text)


def _limit_cpu(pid: int, deadline_seconds: float) -> None:
    """Ends the process by itself, should its parent be killed while it hangs in a loop."""
    seconds = int(deadline_seconds * (os.cpu_count() or 1)) + 10
    try:
        # The soft limit is lower, so that the signal is not the SIGKILL of somebody else.
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds + 10))
    except ProcessLookupError:
        return


def _collect(process: subprocess.Popen[bytes], watch: Watch, limit: int) -> NDArray[np.uint8]:
    """Everything the process writes, read into its final place: no copy after the pipe's."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    # A larger pipe is only faster; some sandboxes refuse.
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    memory = take_memory(limit + 1)
    done = checked = 0
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            # Looking at the process costs as much as reading from it: not for every chunk.
            while not selector.select(_POLL_SECONDS) or done - checked >= _CHECK_BYTES:
                watch.check()
                checked = done
            count = os.readv(descriptor, [memory[done : done + _CHUNK].data])
            if not count:
                return memory[:done]
            done += count
            if done > limit:
                raise ChildCrashed(f"wrote more than the {limit} bytes it was asked for")


def _reap(process: subprocess.Popen[bytes], watch: Watch) -> int:
    """Exit status once the output has closed."""
    while True:
        try:
            return process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            watch.check()

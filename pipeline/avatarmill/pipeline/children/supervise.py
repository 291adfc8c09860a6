"""Child processes with one item in flight, a deadline and a memory limit; killed and replaced.

    ChildFailure
    ├── ChildTimeout       the item passed its deadline
    ├── ChildOutOfMemory   resident memory passed the limit
    │   └── ChildGpuOutOfMemory   the GPU has no room: a smaller part of the item may fit
    └── ChildCrashed       the process died, or answered nonsense
    ChildKilled            somebody else killed it: says nothing of the item, worth another try
    ChildNotStarted        it never became ready: says nothing of the item either

Memory is held in two ways. The resident size is polled while the parent waits, because the address
space of MediaPipe or a threaded decoder says little about what it uses; and RLIMIT_AS, set a fixed
headroom above the limit, stops an allocation too sudden for the poll.
"""

import contextlib
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from avatarmill.pipeline.children.protocol import (
    GPU_OUT_OF_MEMORY_EXIT,
    OUT_OF_MEMORY_EXIT,
    Message,
    ProtocolError,
    decode,
    encode,
)
from avatarmill.pipeline.types import Reason, Reject

ADDRESS_SPACE_HEADROOM = 6 << 30
"""Bytes of address space above the resident limit: thread arenas, mapped models and libraries."""
_POLL_SECONDS = 0.02
_STDERR_TAIL = 800
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CHUNK = 1 << 20


class ChildFailure(RuntimeError):
    """Why an item was lost with its child. `reason` is its row in the reject table."""

    reason = Reason.CRASHED

    def reject(self, stage: str) -> Reject:
        """The reject row of the item that was in flight."""
        return Reject(self.reason, str(self), stage)


class ChildTimeout(ChildFailure):
    """The item passed its deadline."""

    reason = Reason.TIMED_OUT


class ChildOutOfMemory(ChildFailure):
    """The child passed its memory limit."""

    reason = Reason.OUT_OF_MEMORY


class ChildGpuOutOfMemory(ChildOutOfMemory):
    """The child's GPU has no room for the item."""


class ChildCrashed(ChildFailure):
    """The child died or answered nonsense."""


class ChildKilled(RuntimeError):
    """SIGKILL from outside: the kernel short of memory, an operator, a dying node.

    Not a ChildFailure: no reject row may blame the item for it before it was tried again.
    """


class ChildNotStarted(RuntimeError):
    """The child died, hung or grew too large before it had an item: an environment is broken, or
    the machine far too busy.

    Not a ChildFailure: every item of a list would be rejected for it.
    """


class Watch:
    """Deadline and memory of one process while somebody waits for its bytes."""

    def __init__(self, pid: int, deadline_seconds: float, memory_limit_bytes: int) -> None:
        self._pid = pid
        self._seconds = deadline_seconds
        self._end = time.monotonic() + deadline_seconds
        self._limit = memory_limit_bytes

    def wait(self, selector: selectors.BaseSelector) -> None:
        """Returns when a registered file is ready.

        Raises ChildTimeout or ChildOutOfMemory when a limit breaks first.
        """
        while True:
            self.check()
            if selector.select(_POLL_SECONDS):
                return

    def check(self) -> None:
        """Raises ChildTimeout or ChildOutOfMemory when a limit is broken."""
        if time.monotonic() > self._end:
            raise ChildTimeout(f"no answer within {self._seconds:.1f} s")
        size = resident_bytes(self._pid)
        if size > self._limit:
            raise ChildOutOfMemory(f"{size >> 20} MiB resident, limit {self._limit >> 20} MiB")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def spawn(
    command: Sequence[str],
    *,
    memory_limit_bytes: int,
    stdin: int,
    stderr: IO[bytes],
    env: Mapping[str, str] | None = None,
    inherit: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own with its address space limited; stdout is a pipe.

    It has the descriptors of `inherit` under the same numbers, and no other of this process.
    """
    process = subprocess.Popen(
        list(command),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, **(env or {})},
        start_new_session=True,
        pass_fds=inherit,
        bufsize=0,
    )
    limit = memory_limit_bytes + ADDRESS_SPACE_HEADROOM
    # Set from outside: a pre-exec hook is unsafe in a parent with threads, as Ray's workers are.
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a process with everything it started, and reaps it."""
    # The group first: its id stays taken until the leader has been reaped.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def tail(stderr: IO[bytes], limit: int = _STDERR_TAIL) -> str:
    """The end of what a process wrote to standard error, on one line."""
    stderr.flush()
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - limit))
    return " | ".join(stderr.read().decode(errors="replace").split("\n")).strip(" |")


class Child:
    """A process that answers messages, started on first use and replaced after every failure.

    Not thread-safe, on purpose: one item is in flight.

        with Child([sys.executable, "-m", module], memory_limit_bytes=2 << 30) as child:
            reply = child.call(Message({"call": "probe", "path": path}), deadline_seconds=10)
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        memory_limit_bytes: int,
        env: Mapping[str, str] | None = None,
        start_seconds: float = 120.0,
        inherit: Sequence[int] = (),
    ) -> None:
        self._command = tuple(command)
        self._memory_limit = memory_limit_bytes
        self._env = dict(env or {})
        self._start_seconds = start_seconds
        self._inherit = tuple(inherit)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the running child, None before the first call and after a failure."""
        return None if self._process is None else self._process.pid

    def call(self, request: Message, *, deadline_seconds: float) -> Message:
        """Sends one request and waits for its reply; the start of a fresh child is not counted.

        Raises ChildTimeout, ChildOutOfMemory, ChildCrashed, ChildKilled or ChildNotStarted; the
        child is gone then and the next call starts another.
        """
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        watch = Watch(process.pid, deadline_seconds, self._memory_limit)
        try:
            _write(process, request, watch)
            return _read(process, watch)
        except (ChildTimeout, ChildOutOfMemory):
            self.close()
            raise
        except (EOFError, BrokenPipeError, ProtocolError) as error:
            raise self._died(error) from error

    def close(self) -> None:
        """Kills the child, if one runs."""
        if self._process is not None:
            kill(self._process)
            self._process = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()
        self._process = spawn(
            self._command,
            memory_limit_bytes=self._memory_limit,
            stdin=subprocess.PIPE,
            stderr=self._stderr,
            env=self._env,
            inherit=self._inherit,
        )
        watch = Watch(self._process.pid, self._start_seconds, self._memory_limit)
        try:
            _read(self._process, watch)
        except (ChildTimeout, ChildOutOfMemory) as failure:
            self.close()
            raise ChildNotStarted(self._not_started(failure)) from failure
        except (EOFError, BrokenPipeError, ProtocolError) as error:
            died = self._died(error)
            if isinstance(died, ChildKilled):
                raise died from error
            raise ChildNotStarted(self._not_started(died)) from error

    def _not_started(self, why: Exception) -> str:
        return f"{' '.join(self._command[-2:])} did not start: {why}"

    def _died(self, error: Exception) -> ChildFailure | ChildKilled:
        """Closes the child and says how it ended."""
        assert self._process is not None and self._stderr is not None
        try:
            status = self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            status = None
        evidence = f"exit status {status}: {tail(self._stderr) or repr(error)}"
        self.close()
        if status == -signal.SIGKILL:
            return ChildKilled("the child was killed from outside (signal 9)")
        if status == OUT_OF_MEMORY_EXIT:
            return ChildOutOfMemory(f"{evidence}, limit {self._memory_limit >> 20} MiB")
        if status == GPU_OUT_OF_MEMORY_EXIT:
            return ChildGpuOutOfMemory(f"no room on the GPU: {evidence}")
        return ChildCrashed(evidence)


def _write(process: subprocess.Popen[bytes], message: Message, watch: Watch) -> None:
    assert process.stdin is not None
    descriptor = process.stdin.fileno()
    os.set_blocking(descriptor, False)
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_WRITE)
        for buffer in encode(message):
            done = 0
            while done < len(buffer):
                watch.wait(selector)
                done += os.write(descriptor, buffer[done : done + _CHUNK])


def _read(process: subprocess.Popen[bytes], watch: Watch) -> Message:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)

        def read_exactly(view: memoryview) -> None:
            done = 0
            while done < len(view):
                watch.wait(selector)
                count = os.readv(descriptor, [view[done : done + _CHUNK]])
                if count == 0:
                    raise EOFError("the child closed its output")
                done += count

        return decode(read_exactly)


def python_module(module: str, python: Path | None = None) -> list[str]:
    """Command line of a child that is a module of ours; `python` defaults to this interpreter."""
    # -P: the current folder is not put on the path, where a `tokenize/` would shadow the
    # standard library's module.
    return [str(python or sys.executable), "-P", "-m", module]

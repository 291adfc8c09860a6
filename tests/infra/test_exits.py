"""A worker whose libraries never let it go is ended all the same."""

import signal
import subprocess
import sys

STUCK = """
import ctypes
from avatarmill.infra.exits import end_for_certain

# What Ray does at times: a destructor of the process waits, when Python has gone, for ever.
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.pause, ctypes.c_void_p), None, None)
{guard}
print("leaving", flush=True)
"""


def _leave(guard: str) -> "subprocess.Popen[str]":
    """A process that has just begun to exit, and will not without help."""
    code = STUCK.format(guard=guard)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "leaving\n"
    return process


def test_a_process_stuck_in_a_destructor_is_ended_by_the_kernel() -> None:
    with _leave("end_for_certain(1)") as guarded, _leave("") as bare:
        assert guarded.wait(20) == -signal.SIGALRM
        still_there = bare.poll() is None
        bare.kill()
    assert still_there, "the fault of this test is none: the process ended by itself"


def test_a_process_that_exits_in_time_keeps_its_status() -> None:
    code = "from avatarmill.infra.exits import end_for_certain; end_for_certain(); exit(3)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 3

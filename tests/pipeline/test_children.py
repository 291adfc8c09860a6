"""Children die of deadlines, memory and crashes; the parent says why and carries on."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from avatarmill.pipeline.children.command import run_command
from avatarmill.pipeline.children.protocol import Message, ProtocolError, decode, encode
from avatarmill.pipeline.children.supervise import (
    Child,
    ChildCrashed,
    ChildFailure,
    ChildGpuOutOfMemory,
    ChildKilled,
    ChildNotStarted,
    ChildOutOfMemory,
    ChildTimeout,
    resident_bytes,
)
from avatarmill.pipeline.children.venv import mediapipe_python
from avatarmill.pipeline.retry import retriable
from avatarmill.pipeline.types import Reason

CHILD = """
import os, signal, time
import numpy as np
from avatarmill.pipeline.children.protocol import Message, serve

def echo(request):
    os.write(1, b"noise of a native library\\n")
    print("noise of ours")
    return Message({**request.values, "pid": os.getpid()}, request.arrays)

def hang(request):
    time.sleep(60)

def crash(request):
    os.kill(os.getpid(), signal.SIGSEGV)

def raises(request):
    raise KeyError("the handler's own mistake")

def swell(request):
    held = []
    while True:
        held.append(np.ones(4 << 20))

def gpu(request):
    # As torch.cuda.OutOfMemoryError: a RuntimeError of this name.
    raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")

def babble(request):
    os._exit(0)

serve({"echo": echo, "hang": hang, "crash": crash, "raises": raises, "swell": swell,
       "babble": babble, "gpu": gpu})
"""


@pytest.fixture()
def child(tmp_path: Path) -> Child:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return Child([sys.executable, "-P", str(script)], memory_limit_bytes=300 << 20)


def buffer_of(message: Message) -> bytes:
    return b"".join(bytes(view) for view in encode(message))


def message_of(data: bytes) -> Message:
    stream = io.BytesIO(data)

    def read_exactly(view: memoryview) -> None:
        if stream.readinto(view) != len(view):
            raise EOFError

    return decode(read_exactly)


ARRAYS = hnp.arrays(
    st.sampled_from([np.uint8, np.int64, np.float32, np.float64, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.booleans(), max_size=3),
    st.dictionaries(st.text(max_size=5), ARRAYS, max_size=3),
)
def test_messages_survive_the_wire(values: dict[str, object], arrays: dict[str, object]) -> None:
    back = message_of(buffer_of(Message(values, arrays)))  # type: ignore[arg-type]
    assert back.values == values
    assert back.arrays.keys() == arrays.keys()
    for name, array in back.arrays.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == np.asarray(arrays[name]).dtype


def test_objects_do_not_travel() -> None:
    with pytest.raises(ValueError, match="dtype object"):
        buffer_of(Message({}, {"a": np.array([{}], object)}))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[]", "malformed header"),
        (b'{"values": {}, "arrays": [{"name": "a"}]}', "malformed header"),
        (b'{"values": {}, "arrays": [{"name": "a", "dtype": "O", "shape": [1]}]}', "dtype 'O'"),
        (b'{"values": {}, "arrays": [{"name": "a", "dtype": "uint8", "shape": [-1]}]}', "shape"),
        (
            b'{"values": {}, "arrays": [{"name": "a", "dtype": "uint8", "shape": [99999999999]}]}',
            "larger than",
        ),
    ],
)
def test_a_lying_header_reserves_nothing(header: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        message_of(len(header).to_bytes(8, "big") + header)


def test_a_huge_header_is_refused() -> None:
    with pytest.raises(ProtocolError, match="header of"):
        message_of((1 << 40).to_bytes(8, "big"))


def test_a_child_answers_again_and_again(child: Child) -> None:
    frames = np.arange(3 << 20, dtype=np.uint8).reshape(3, 1024, 1024)
    with child:
        first = child.call(Message({"call": "echo"}, {"a": frames}), deadline_seconds=20)
        second = child.call(Message({"call": "echo"}), deadline_seconds=20)
    np.testing.assert_array_equal(first.arrays["a"], frames)
    assert first.values["pid"] == second.values["pid"]


@pytest.mark.parametrize(
    ("call", "failure", "reason", "evidence"),
    [
        ("hang", ChildTimeout, Reason.TIMED_OUT, "no answer within 0.5 s"),
        ("crash", ChildCrashed, Reason.CRASHED, f"exit status {-signal.SIGSEGV}"),
        ("raises", ChildCrashed, Reason.CRASHED, "the handler's own mistake"),
        ("swell", ChildOutOfMemory, Reason.OUT_OF_MEMORY, "limit 300 MiB"),
        ("babble", ChildCrashed, Reason.CRASHED, "exit status 0"),
    ],
)
def test_a_failed_child_is_named_and_replaced(
    child: Child, call: str, failure: type[Exception], reason: Reason, evidence: str
) -> None:
    with child:
        before = child.call(Message({"call": "echo"}), deadline_seconds=20).values["pid"]
        with pytest.raises(failure, match=evidence) as caught:
            child.call(Message({"call": call}), deadline_seconds=0.5 if call == "hang" else 20)
        row = caught.value.reject("probe")  # type: ignore[attr-defined]
        assert (row.reason, row.stage) == (reason, "probe")
        assert resident_bytes(before) == 0
        after = child.call(Message({"call": "echo"}), deadline_seconds=20).values["pid"]
    assert after != before


def test_a_kill_from_outside_blames_nobody(child: Child) -> None:
    with child:
        pid = child.call(Message({"call": "echo"}), deadline_seconds=20).values["pid"]
        Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(ChildKilled, match="killed from outside"):
            child.call(Message({"call": "hang"}), deadline_seconds=20)
        assert child.call(Message({"call": "echo"}), deadline_seconds=20).values["pid"] != pid


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ImportError('no such library')", "no such library"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
    ],
)
def test_a_child_that_cannot_start_blames_no_item(code: str, why: str) -> None:
    command = [sys.executable, "-c", code]
    broken = Child(command, memory_limit_bytes=1 << 30, start_seconds=0.5 if "60" in code else 20)
    with broken, pytest.raises(ChildNotStarted, match=f"did not start: .*{why}") as caught:
        broken.call(Message({"call": "echo"}), deadline_seconds=20)
    assert not isinstance(caught.value, ChildFailure)
    assert retriable(caught.value)


def test_a_full_gpu_is_told_from_a_full_machine(child: Child) -> None:
    with child, pytest.raises(ChildGpuOutOfMemory, match="no room on the GPU"):
        child.call(Message({"call": "gpu"}), deadline_seconds=20)


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    parent = f"""
import sys
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child
child = Child([sys.executable, "-P", {str(script)!r}], memory_limit_bytes=300 << 20)
print(child.call(Message({{"call": "echo"}}), deadline_seconds=20).values["pid"], flush=True)
child.call(Message({{"call": "hang"}}), deadline_seconds=100)
"""
    with subprocess.Popen([sys.executable, "-P", "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        end = time.monotonic() + 10
        while resident_bytes(pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert resident_bytes(pid) == 0


def test_a_command_is_stopped_at_each_limit() -> None:
    def run(code: str, **limits: float) -> object:
        arguments = {"deadline_seconds": 20, "memory_limit_bytes": 200 << 20} | limits
        command = [sys.executable, "-c", code]
        return run_command(command, max_output_bytes=1000, **arguments)  # type: ignore[arg-type]

    with pytest.raises(ChildTimeout, match="within 0.5 s"):
        run("import time; time.sleep(60)", deadline_seconds=0.5)
    with pytest.raises(ChildCrashed, match="more than the 1000 bytes"):
        run("print('x' * 10**6)")
    with pytest.raises(ChildCrashed, match="signal 6"):
        run("import os; os.abort()")
    with pytest.raises(ChildOutOfMemory, match="limit 200 MiB"):
        run("import time; held = b'x' * (400 << 20); time.sleep(9)")


def test_a_command_finds_its_input_closed() -> None:
    result = run_command(
        [sys.executable, "-c", "import sys; sys.stdout.write(repr(sys.stdin.read())); sys.exit(3)"],
        deadline_seconds=20,
        memory_limit_bytes=200 << 20,
        max_output_bytes=100,
    )
    assert (bytes(result.output), result.status) == (b"''", 3)


def test_a_missing_mediapipe_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="make setup"):
        mediapipe_python(Path("/nowhere/python"))
    monkeypatch.setenv("AVATARMILL_MEDIAPIPE_PYTHON", os.devnull + "/python")
    with pytest.raises(ValueError, match="AVATARMILL_MEDIAPIPE_PYTHON"):
        mediapipe_python()

"""Every frame of many films, decoded in supervised children and read from memory shared with them.

    from avatarmill.pipeline.frames import FilmEnd, read_frames

    for item in read_frames("films/"):
        if isinstance(item, FilmEnd):
            print(item.source.uri, item.num_frames, item.reject or "sound")
        else:
            use(item.frames.images)  # [F, H, W, 3] RGB uint8, gone when the next item is taken

A film can break in the middle, when frames of it have been handed out already: what was made of
them counts only when its `FilmEnd` has no reject.
"""

import math
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import (
    Child,
    ChildCrashed,
    ChildFailure,
    ChildKilled,
    python_module,
)
from avatarmill.pipeline.decode import output_size
from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.ingest import Inputs, read_list
from avatarmill.pipeline.probe import ProbeConfig, probe
from avatarmill.pipeline.shots import broken_file
from avatarmill.pipeline.spool import Spool
from avatarmill.pipeline.types import Frames, Reason, Reject, Source

_SLOTS = 3
"""Batches of a child: one it fills, one that waits, one with the consumer."""
_STAGE = "frames"


@dataclass(frozen=True, slots=True)
class FramesConfig:
    """Size of the frames, number of decoders, limits."""

    decoders: int = 0
    """Child processes, each with one film in hand; 0 for one a core."""
    max_side: int = 0
    """Longer side of the frames, pixels; 0 keeps the size of each film."""
    batch_bytes: int = 32 << 20
    """Memory of one batch of frames. Each decoder has three."""
    batch_seconds: float = 120.0
    """Deadline of one batch."""
    missing_seconds: float = 0.5
    """See `ShotConfig`."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)

    def __post_init__(self) -> None:
        if min(self.decoders, self.max_side) < 0:
            raise ValueError(
                f"FramesConfig: decoders {self.decoders} and max_side {self.max_side} must not be "
                "negative"
            )
        if self.batch_bytes < mmap.PAGESIZE or self.batch_seconds <= 0:
            raise ValueError(
                f"FramesConfig: batch_bytes {self.batch_bytes} must be at least {mmap.PAGESIZE}, "
                f"batch_seconds {self.batch_seconds} positive"
            )


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of one film that follow on those of its batch before."""

    source: Source
    frames: Frames
    """Upright, with square pixels. The images lie in shared memory and are overwritten once the
    next item is taken: copy what is to stay."""


@dataclass(frozen=True, slots=True)
class FilmEnd:
    """A film has no more frames: the verdict on it."""

    source: Source
    num_frames: int
    reject: Reject | None
    """Why none of its frames should be used; None for a film that is sound to its end."""


Item = FrameBatch | FilmEnd


def read_frames(inputs: Inputs, config: FramesConfig | None = None) -> Iterator[Item]:
    """Batches of frames and ends of films as they come, films mixed with each other.

    Takes what `read_list` takes. Each film ends in exactly one `FilmEnd`; whatever a file does to
    its decoder costs that film alone. Frames of one film come in order.

    Raises:
        ValueError: an input does not exist.
    """
    with FrameReader(config) as reader:
        yield from reader.read(inputs)


class FrameReader:
    """`read_frames` for many lists: the decoders stay between them."""

    def __init__(self, config: FramesConfig | None = None) -> None:
        self._config = config or FramesConfig()
        self._decoders: list[_Decoder] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the decoders."""
        for decoder in self._decoders:
            decoder.close()
        self._decoders.clear()

    def read(self, inputs: Inputs) -> Iterator[Item]:
        """As `read_frames`. One list at a time."""
        # The largest first: at the end no decoder is busy for long while the others wait.
        listed = read_list(inputs, self._config.fetch)
        waiting = deque(sorted(listed, key=lambda s: (-_size(s), s.uri)))
        items: _Items = SimpleQueue()
        count = min(self._config.decoders or os.cpu_count() or 1, len(waiting))
        while len(self._decoders) < count:
            self._decoders.append(_Decoder(self._config))
        used = self._decoders[:count]
        whole = False
        try:
            with ThreadPoolExecutor(max(1, count)) as pool:
                runs = [pool.submit(decoder.run, waiting, items) for decoder in used]
                try:
                    yield from _handed_out(items, count)
                    whole = True
                finally:
                    waiting.clear()
                    for decoder in [] if whole else used:
                        decoder.stop()
                for run in runs:
                    run.result()
        finally:
            if not whole:
                self.close()  # those that were stopped stay stopped


def _size(source: Source) -> int:
    try:
        return source.size_bytes or os.stat(source.path).st_size
    except OSError:
        return 0


def _handed_out(items: "_Items", running: int) -> Iterator[Item]:
    """Items until every decoder is done; the memory of a batch is free when the next is taken."""
    while running:
        found = items.get()
        if found is None:
            running -= 1
            continue
        item, release = found
        yield item
        release()


class _Decoder:
    """A child, the memory it shares with this process, and the thread that talks to it."""

    def __init__(self, config: FramesConfig) -> None:
        self._config = config
        self._items: _Items = SimpleQueue()
        self._stopped = False
        self._free: SimpleQueue[int] = SimpleQueue()
        for slot in range(_SLOTS):
            self._free.put(slot)
        size = config.batch_bytes
        self._descriptor = os.memfd_create("avatarmill-frames")
        os.ftruncate(self._descriptor, _SLOTS * size)
        memory = mmap.mmap(self._descriptor, _SLOTS * size)
        self._memory = np.frombuffer(memory, np.uint8).reshape(_SLOTS, size)
        self._child = Child(
            python_module("avatarmill.pipeline.children.frames_child"),
            # What it shares counts as its own.
            memory_limit_bytes=config.probe.memory_limit_bytes + _SLOTS * size,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            inherit=(self._descriptor,),
        )
        self._shared: int | None = None
        """Process id of the child that has mapped the memory."""

    def stop(self) -> None:
        """Nobody takes items any more: `run` ends after the batch it waits for, for good."""
        self._stopped = True
        self._free.put(0)

    def close(self) -> None:
        """Ends the child; only when `run` is over."""
        self._child.close()
        os.close(self._descriptor)

    def run(self, waiting: deque[Source], items: "_Items") -> None:
        """Decodes films into `items` until none is waiting."""
        self._items = items
        spool = Spool(self._config.fetch)
        try:
            while waiting and not self._stopped:
                try:
                    source = waiting.popleft()
                except IndexError:
                    return  # another decoder was faster
                with spool.local(source) as local:
                    end = self._film(local, source)
                self._items.put((end, _nothing))
        finally:
            self._items.put(None)
            spool.close()

    def _film(self, local: Source | Reject, source: Source) -> FilmEnd:
        if isinstance(local, Reject):
            return FilmEnd(source, 0, local)
        times: list[NDArray[np.float64]] = []
        try:
            reject = self._batches(local, times)
        except ChildFailure as failure:
            reject = failure.reject(_STAGE)
        except ChildKilled as killed:
            reject = Reject(Reason.CRASHED, str(killed), _STAGE)
        return FilmEnd(local, sum(map(len, times)), reject)

    def _batches(self, source: Source, times: list[NDArray[np.float64]]) -> Reject | None:
        """Hands out the frames of a film and returns the verdict on it; `times` gets theirs."""
        # This child begins with a film when it is asked for its facts.
        facts = probe(self._child, source, self._config.probe)
        if isinstance(facts, Reject):
            return facts
        side = self._config.max_side or max(facts.width, facts.height)
        width, height = output_size(facts.width, facts.height, side)
        most = self._config.batch_bytes // (3 * width * height)
        if not most:
            limit = f"FramesConfig.batch_bytes is {self._config.batch_bytes}"
            return Reject(Reason.TOO_LARGE, f"a frame of {width}x{height}, {limit}", _STAGE)
        self._share()
        place = {"width": width, "height": height, "rotation": facts.rotation, "most": most}
        while not self._stopped:
            counts = self._batch(source, place, times)
            if counts["done"]:
                pts = np.concatenate(times)
                limit_seconds = self._config.missing_seconds
                broken = broken_file(pts, counts, facts, limit_seconds)
                return None if broken is None else replace(broken, stage=_STAGE)
        return None

    def _share(self) -> None:
        """Makes a fresh child map the memory."""
        if self._child.pid != self._shared:
            size = self._config.batch_bytes
            self._call("share", fd=self._descriptor, slots=_SLOTS, slot_bytes=size)
            self._shared = self._child.pid

    def _batch(
        self, source: Source, place: dict[str, int], times: list[NDArray[np.float64]]
    ) -> dict[str, Any]:
        """Hands out the next frames of the film; returns the child's counts."""
        slot = self._free.get()
        used = False
        try:
            reply = self._call("fill", slot=slot, **place)
            pts = np.asarray(reply.arrays["pts_seconds"], np.float64)
            if len(pts) > place["most"]:
                raise ChildCrashed(f"{len(pts)} frames where {place['most']} were asked for")
            times.append(pts)
            if len(pts):
                shape = (len(pts), place["height"], place["width"], 3)
                images = self._memory[slot, : math.prod(shape)].reshape(shape)
                batch = FrameBatch(source, Frames(images, pts))
                self._items.put((batch, lambda: self._free.put(slot)))
                used = True
        finally:
            if not used:
                self._free.put(slot)
        return reply.values

    def _call(self, name: str, **values: object) -> Message:
        request = Message({"call": name, **values})
        return self._child.call(request, deadline_seconds=self._config.batch_seconds)


def _nothing() -> None:
    """The end of a film holds no memory."""


_Items = SimpleQueue[tuple[Item, Callable[[], None]] | None]
"""What decoders hand out, each with what is to be called after it; None from one that is done."""

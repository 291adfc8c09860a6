"""The body fit of a track in a supervised child: what it costs is bounded, whatever comes in."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, ChildFailure, python_module
from avatarmill.pipeline.fit import FitConfig
from avatarmill.pipeline.plain import from_plain
from avatarmill.pipeline.types import Fit, Reason, Reject, Track
from avatarmill.records.fingerprint import describe

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class FitterConfig:
    """Limits of the child that fits bodies."""

    deadline_base_seconds: float = 60.0
    deadline_per_frame: float = 3.0
    """Deadline of a track: the base, and this much for each of its frames."""
    memory_limit_bytes: int = 3 << 30

    def __post_init__(self) -> None:
        for name in ("deadline_base_seconds", "deadline_per_frame", "memory_limit_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"FitterConfig.{name} is {getattr(self, name)}, must be positive")


class Fitter:
    """Fits tracks one at a time, in a child of its own."""

    def __init__(self, config: FitConfig, limits: FitterConfig | None = None) -> None:
        self._limits = limits or FitterConfig()
        self._plain = describe(config)
        self.child = Child(
            python_module("avatarmill.pipeline.children.fit_child"),
            memory_limit_bytes=self._limits.memory_limit_bytes,
            # Numba and BLAS on one thread: the sums keep their order, and cores are not shared.
            env=dict.fromkeys(_THREADS, "1"),
        )

    def fit(
        self,
        track: Track,
        pts_seconds: NDArray[np.float64],
        *,
        width: int,
        height: int,
        focal_35mm: float = 0.0,
    ) -> Fit | Reject:
        """The fit of a track with frames at `pts_seconds` [T] of `width` x `height` pixels.

        `focal_35mm` is what the file says of its lens, 0 for nothing.

        Rejects: FIT_DIVERGED, and the child's TIMED_OUT, CRASHED, OUT_OF_MEMORY.
        """
        request = Message(
            {
                "call": "fit",
                "index": track.index,
                "scores": track.scores,
                "width": width,
                "height": height,
                "focal_35mm": focal_35mm,
                "config": self._plain,
            },
            {
                "frame_indices": track.frame_indices,
                "boxes": track.boxes,
                "pts_seconds": np.asarray(pts_seconds, np.float64),
                **{f.name: getattr(track.landmarks, f.name) for f in fields(track.landmarks)},
            },
        )
        limits = self._limits
        deadline = limits.deadline_base_seconds + limits.deadline_per_frame * len(pts_seconds)
        try:
            reply = self.child.call(request, deadline_seconds=deadline)
        except ChildFailure as failure:
            start, stop = float(pts_seconds[0]), float(pts_seconds[-1])
            return replace(failure.reject("fit"), start_seconds=start, stop_seconds=stop)
        if "reject" in reply.values:
            return _reject(reply.values["reject"])
        return Fit(**reply.arrays)

    def close(self) -> None:
        """Ends the child."""
        self.child.close()


def _reject(plain: dict[str, object]) -> Reject:
    reject = from_plain(Reject, plain)
    return replace(reject, reason=Reason(reject.reason))

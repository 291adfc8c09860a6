"""Hard cuts: frames whose structure no motion carries over from the frame before."""

from dataclasses import dataclass

from avatarmill.pipeline.children.picture import Comparer, Picture

_QUIET_SECONDS = 0.16
"""Around a cut the shots go on calmly for so long: not so in a fast pan, or when somebody passes
close to the camera."""
_CALM = 0.5
"""How unlike neighbouring frames may be there, relative to the two sides of the cut."""
_STILL = 0.08
"""So unlike they may always be: noise, compression."""
_BURST = 0.3
"""Unlikeness of neighbours from which on a cut is looked for."""
_MIXED = 2
"""Longest burst, in steps: a cut with one frame in it that mixes both shots or is broken."""
_FLASH_SECONDS = 0.24
_EMPTY = 0.5
"""Longer bursts are a cut through a flash, if the frames within have lost so much contrast."""


@dataclass(slots=True)
class _Burst:
    """Steps first..last (from frame i - 1 to frame i) that motion does not explain."""

    first: int
    last: int
    before: Picture
    after: Picture
    least_contrast: float
    across: float = 0.0
    """Unlikeness of the frame before it and the frame after it."""


class CutDetector:
    """Takes pictures in order; two of them are in memory, and one number a frame."""

    def __init__(self, comparer: Comparer, fps: float, strength: float) -> None:
        self._comparer = comparer
        self._strength = strength
        # At low rates two frames of calm on each side are all there may be.
        self._quiet = min(6, max(2, round(_QUIET_SECONDS * fps)))
        self._longest = max(_MIXED, round(_FLASH_SECONDS * fps))
        self._steps: list[float] = [0.0]
        self._last: Picture | None = None
        self._open: _Burst | None = None
        self._bursts: list[_Burst] = []

    def push(self, picture: Picture) -> None:
        """Takes the next frame."""
        if self._last is not None:
            step = self._comparer.unlikeness(self._last, picture)
            row = len(self._steps)
            self._steps.append(step)
            if step < _BURST:
                self._close()
            elif self._open is None:
                self._open = _Burst(row, row, self._last, picture, picture.contrast, step)
            else:
                self._open.least_contrast = min(
                    self._open.least_contrast, self._open.after.contrast
                )
                self._open.last, self._open.after = row, picture
        self._last = picture

    def _close(self) -> None:
        burst, self._open = self._open, None
        if burst is None or burst.last - burst.first >= self._longest:
            return
        if burst.last > burst.first:
            burst.across = self._comparer.unlikeness(burst.before, burst.after)
            sides = min(burst.before.contrast, burst.after.contrast)
            long = burst.last - burst.first >= _MIXED
            if long and burst.least_contrast > _EMPTY * sides:
                return
        if burst.across >= self._strength:
            self._bursts.append(burst)

    def rows(self) -> list[tuple[int, int]]:
        """[begin, end) of frames between two shots, in order; begin == end for a plain cut."""
        self._close()
        return [(b.first, b.last) for b in self._bursts if self._calm_around(b)]

    def _calm_around(self, burst: _Burst) -> bool:
        before = self._steps[max(1, burst.first - self._quiet) : burst.first]
        after = self._steps[burst.last + 1 :][: self._quiet]
        return max([_STILL, *before, *after]) <= _CALM * burst.across

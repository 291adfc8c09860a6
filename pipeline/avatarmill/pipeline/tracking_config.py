"""Settings of the trackers."""

from dataclasses import dataclass

from avatarmill.pipeline.trails import CLOSE


@dataclass(frozen=True, slots=True)
class TrackingConfig:
    """How often to look for new people, and when two figures are one."""

    detect_seconds: float = 0.5
    """Between searches of the whole frame while nobody is missing; else every frame."""
    tile_seconds: float = 2.0
    """Between searches for small people, in tiles of the frame."""
    search_seconds: float = 2.5
    """How long somebody lost is searched for in every frame, where they ought to be."""
    max_people: int = 6
    """Followed at a time; each costs a tracker's time and 170 MB in the child."""
    same_figure: float = 0.5
    """Similarity of two bodies in one frame above which they are one, followed twice."""
    max_motion: float = 0.9
    """Displacement of the trunk within 0.1 s, in body sizes: above it another figure."""
    max_change: float = 0.6
    """Difference of colours from those before, 0..1, beyond that of the whole frame: above it
    another figure. One person stays below 0.53, whatever comes in front of them."""

    def __post_init__(self) -> None:
        for name in (
            "detect_seconds",
            "tile_seconds",
            "search_seconds",
            "max_motion",
            "max_change",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        if not 1 <= self.max_people <= 16:
            raise ValueError(f"max_people is {self.max_people}, must be 1..16")
        if not CLOSE < self.same_figure <= 1:
            raise ValueError(f"same_figure is {self.same_figure}, must be {CLOSE}..1")


def allowed_motion(gap_seconds: float, max_motion: float) -> float:
    """Displacement of the trunk in body sizes that a gap between frames allows."""
    # Motion grows with time between frames; a slow source is allowed more.
    return float(max_motion * max(gap_seconds / 0.1, 1.0) ** 0.5)

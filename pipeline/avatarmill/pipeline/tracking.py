"""Following everybody through a shot: detection now and then, one tracker per person in between.

A tracker may slide from a person to another who walks in front. That is not decided here: trails
end where a figure is lost, jumps, or is followed twice, and `identities` puts them together later,
when both sides of a crossing are known.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from avatarmill.pipeline.appearance import Appearance, difference, light_change, look_at
from avatarmill.pipeline.figures import (
    Array,
    Detection,
    Figure,
    distance,
    join,
    shoulder_distance,
    similarity,
)
from avatarmill.pipeline.missing import Missing, looks_like, missing_people, painted
from avatarmill.pipeline.sight import Sight, Window, tiles
from avatarmill.pipeline.steadiness import core_motion
from avatarmill.pipeline.tracking_config import TrackingConfig, allowed_motion
from avatarmill.pipeline.trails import CLOSE, RECENT, Trail, misfit, place_at
from avatarmill.pipeline.types import Bytes


def follow_people(
    sight: Sight, images: Bytes, times: NDArray[np.float64], config: TrackingConfig
) -> list[Trail]:
    """Trails of all figures in a shot, in the order they began.

    Args:
        sight: on the same frames.
        images: [F, H, W, 3], for the colours of the figures.
        times: [F] seconds.
        config: see there.
    """
    watch = _Watch(sight, images, times, config)
    for row in range(len(times)):
        watch.step(row)
    return watch.trails()


_EXPLAINED = 0.6
"""Distance of a detection from a figure in body sizes, below which it is that figure."""
_OFF = 0.3
"""Distance from which the figure is looked for again where it was detected."""
_ONE_NECK = 0.3
"""Distance of shoulders, in body sizes, below which two figures share them: one is a chimera of
two people, or both are one."""
_NEIGHBOURS = 0.9
"""Distance of two trunks, in body sizes, below which trackers are watched by the detector."""


_APART = 1.3
"""The same distance from which they no longer are in each other's way."""
_CLOSE_UP = 3.6
"""Side of a closer look, in body sizes."""
Found = tuple[Detection, Missing | None]
"""Somebody detected, and who it was that was looked for."""


def _one_detection(first: Detection, second: Detection) -> bool:
    apart = np.linalg.norm(first.torso - second.torso, axis=-1).mean()
    length = max(float(np.linalg.norm(d.torso[0] - d.torso[1])) for d in (first, second))
    return bool(apart < _EXPLAINED * length)


class _Watch:
    """The trackers at work."""

    def __init__(
        self, sight: Sight, images: Bytes, times: NDArray[np.float64], config: TrackingConfig
    ) -> None:
        self._sight = sight
        self._images = images
        self._times = times
        self._config = config
        self._live: list[Trail] = []
        self._done: list[Trail] = []
        self._detected_row = -1
        self._tiled = -np.inf
        self._missing: list[Missing] = []
        self._behind: dict[int, Appearance] = {}
        """Slots whose person was found behind others, and is followed with these painted out."""

    def trails(self) -> list[Trail]:
        """Everything seen so far."""
        return sorted(self._done + self._live, key=lambda trail: (trail.rows[0], trail.slot))

    def step(self, row: int) -> None:
        """The next frame."""
        # Those in front first: they are painted out of the pictures of the others.
        for trail in sorted(self._live, key=lambda trail: trail.slot in self._behind):
            self._advance(trail, row)
        self._drop_doubles(row)
        self._missing = missing_people(
            self._live,
            self._done,
            self._times,
            float(self._times[row]),
            self._config.search_seconds,
        )
        if self._must_search(row):
            self._compare(row, self._detect(row))
            self._detected_row = row

    def _must_search(self, row: int) -> bool:
        """Every so often; and in every frame in which a tracker may err."""
        now = float(self._times[row])
        if not self._live or self._missing:
            return True
        since = now - float(self._times[max(self._detected_row, 0)])
        return since >= self._config.detect_seconds - 1e-6 or bool(self._close_ups(row))

    def _follow(self, slot: int, row: int, region: Array, *, fresh: bool) -> Figure | None:
        """The person of a slot in a region of a frame, without those in front of them."""
        picture = None
        if slot in self._behind:
            look = self._behind[slot]
            picture = painted(self._images[row], self._others(slot, row), look)
        return self._sight.follow(slot, row, region, fresh=fresh, picture=picture)

    def _others(self, slot: int, row: int) -> list[tuple[Figure, Appearance]]:
        """Everybody else who is followed in a row."""
        return [
            (figure, trail.recent_look())
            for trail in self._live
            if trail.slot != slot
            for figure in trail.figures[_slice_at(trail, row)]
        ]

    def _compare(self, row: int, detections: list[Found]) -> None:
        """Puts trackers right that are beside what is detected, and begins new ones."""
        live = list(self._live)
        cost = np.array(
            [[distance(trail.figures[-1], found) for trail in live] for found, _ in detections]
        ).reshape(len(detections), len(live))
        pairs = zip(*linear_sum_assignment(np.minimum(cost, 10.0)), strict=True)
        matched = {int(d): int(t) for d, t in pairs if cost[d, t] < _EXPLAINED}
        for number, (detection, missing) in enumerate(detections):
            off = number in matched and cost[number, matched[number]] > _OFF
            if number not in matched or (off and missing is not None):
                self._begin(row, detection, missing)
            elif off:
                self._correct(row, live[matched[number]], detection)

    def _correct(self, row: int, trail: Trail, detection: Detection) -> None:
        """Looks again for a figure where it was detected, and believes what is nearer to that."""
        figure = self._follow(trail.slot, row, detection.region, fresh=False)
        last = trail.figures[-1]
        if figure is None or distance(figure, detection) >= distance(last, detection):
            return
        if len(trail.rows) > 1 and self._jumped(trail.figures[-2], figure, row - 1, row):
            return
        trail.drop_last()
        trail.add(row, figure, look_at(self._images[row], figure))

    def _advance(self, trail: Trail, row: int) -> None:
        last = trail.figures[-1]
        if trail.slot in self._behind and self._alone(trail, row):
            del self._behind[trail.slot]
        figure = self._follow(trail.slot, row, last.region, fresh=False)
        if figure is None:
            self._end(trail)
            return
        look = look_at(self._images[row], figure)
        if self._changed(trail, look, row) or self._jumped(last, figure, row - 1, row):
            self._end(trail)
            trail = Trail(trail.slot)
            self._live.append(trail)
        trail.add(row, figure, look)

    def _changed(self, trail: Trail, look: Appearance, row: int) -> bool:
        """Whether a figure wears other clothes than before, and not only in another light."""
        changed = difference(trail.recent_look(), look) or 0.0
        limit = self._config.max_change
        return changed > limit and changed > limit + light_change(self._images, row, RECENT)

    def _jumped(self, last: Figure, figure: Figure, row: int, next_row: int) -> bool:
        gap = abs(float(self._times[next_row] - self._times[row]))
        motion = float(core_motion(join([last, figure]).body)[0])
        return motion > allowed_motion(gap, self._config.max_motion)

    def _end(self, trail: Trail) -> None:
        self._live.remove(trail)
        if trail.rows:
            self._done.append(trail)

    def _drop_doubles(self, row: int) -> None:
        """Of two trackers on one figure, the one whose own past it does not fit lets go."""
        for first in list(self._live):
            for second in list(self._live):
                if first.slot >= second.slot or first not in self._live or second not in self._live:
                    continue
                bodies = first.figures[-1].body, second.figures[-1].body
                if similarity(*bodies) > self._config.same_figure:
                    loser = max((first, second), key=lambda trail: self._misfit(trail, row))
                    loser.drop_last()
                    self._end(loser)

    def _misfit(self, trail: Trail, row: int) -> tuple[float, int]:
        """How little the last figure of a trail continues what came before the others were close;
        between equals, the younger trail."""
        clean = self._clean(trail)
        if not clean.rows:
            return np.inf, trail.rows[0]
        changed = difference(clean.look(), trail.looks[-1])
        place = place_at(clean, self._times, float(self._times[row]), end=-1)
        strayed = np.linalg.norm(place - trail.figures[-1].torso, axis=-1).mean() / clean.size
        gap = float(self._times[row] - self._times[clean.rows[-1]])
        return misfit(float(strayed), gap, changed), trail.rows[0]

    def _clean(self, trail: Trail) -> Trail:
        """The trail up to where others came close for the last time."""
        others = {
            row: figure
            for other in self._live
            if other is not trail
            for row, figure in zip(other.rows, other.figures, strict=True)
        }
        stop = len(trail.rows)
        while stop:
            other = others.get(trail.rows[stop - 1])
            if other is None or similarity(other.body, trail.figures[stop - 1].body) <= CLOSE:
                break
            stop -= 1
        return trail.part(0, stop)

    def _detect(self, row: int) -> list[Found]:
        """Everybody, each once: seen best from near, so the closer looks come first."""
        height, width = self._images.shape[1:3]
        windows = self._close_ups(row)
        windows.append((0, 0, width, height))
        now = float(self._times[row])
        if now - self._tiled >= self._config.tile_seconds - 1e-6:
            self._tiled = now
            windows += tiles(width, height)
        every = self._where_missing(row)
        every += [(new, None) for window in windows for new in self._sight.detect(row, window)]
        found: list[Found] = []
        for new, missing in every:
            if not any(_one_detection(new, known) for known, _ in found):
                found.append((new, missing))
        return found

    def _where_missing(self, row: int) -> list[Found]:
        """Who is found where somebody is missed once the others are painted out."""
        height, width = self._images.shape[1:3]
        found: list[Found] = []
        for missing in self._missing:
            middle = missing.place.mean(0)
            if (middle > 0).all() and (middle < (width, height)).all():
                x0, y0, x1, y1 = window = self._square(middle, _CLOSE_UP * missing.size)
                picture = painted(self._images[row], self._others(-1, row), missing.look)
                every = self._sight.detect(row, window, picture[y0:y1, x0:x1])
                found += [(detection, missing) for detection in every]
        return found

    def _close_ups(self, row: int) -> list[Window]:
        """Windows around figures that others are near to, or ought to be: in the whole frame the
        detector takes two people for one."""
        now = float(self._times[row])
        live = [trail.figures[-1] for trail in self._live]
        places = [figure.torso for figure in live]
        for trail in self._done:
            if now - float(self._times[trail.rows[-1]]) <= self._config.search_seconds:
                places.append(place_at(trail, self._times, now, end=-1))
        windows: list[Window] = []
        middles: list[Array] = []
        for number, figure in enumerate(live):
            middle = figure.torso.mean(0)
            near = any(
                np.linalg.norm(middle - place.mean(0)) < _NEIGHBOURS * figure.size
                for other, place in enumerate(places)
                if other != number
            )
            known = any(np.linalg.norm(middle - m) < _NEIGHBOURS * figure.size for m in middles)
            if near and not known:
                middles.append(middle)
                windows.append(self._square(middle, _CLOSE_UP * figure.size))
        return windows

    def _square(self, middle: Array, side: float) -> Window:
        """A square around a point, moved into the frame."""
        height, width = self._images.shape[1:3]
        pixels = min(round(side), height, width)
        x = int(np.clip(middle[0] - side / 2, 0, width - pixels))
        y = int(np.clip(middle[1] - side / 2, 0, height - pixels))
        return x, y, x + pixels, y + pixels

    def _begin(self, row: int, detection: Detection, missing: Missing | None) -> None:
        """A trail of somebody detected whom nobody follows yet."""
        if self._shared_neck(detection.torso):
            return
        slot = self._free_slot()
        if slot is None:
            return
        self._behind.pop(slot, None)
        if missing is not None:
            self._behind[slot] = missing.look
        figure = self._follow(slot, row, detection.region, fresh=True)
        if figure is None or distance(figure, detection) > _EXPLAINED:
            return
        if self._shared_neck(figure.torso) or self._taken(figure, row):
            return
        if missing is not None and not looks_like(missing, self._images[row], figure):
            return
        earlier = self._before(slot, row, figure)
        if earlier:
            again = self._follow(slot, row, detection.region, fresh=True)
            figure = again or figure
        trail = Trail(slot)
        for before, seen in [*reversed(earlier), (row, figure)]:
            trail.add(before, seen, look_at(self._images[before], seen))
        self._live.append(trail)

    def _alone(self, trail: Trail, row: int) -> bool:
        """Whether nobody is near a trail any more."""
        figure = trail.figures[-1]
        middle = figure.torso.mean(0)
        return all(
            np.linalg.norm(middle - other.torso.mean(0)) > _APART * figure.size
            for other, _ in self._others(trail.slot, row)
        )

    def _shared_neck(self, torso: Array) -> bool:
        """Whether somebody who is followed has these shoulders."""
        return any(shoulder_distance(trail.figures[-1], torso) < _ONE_NECK for trail in self._live)

    def _before(self, slot: int, row: int, figure: Figure) -> list[tuple[int, Figure]]:
        """The new figure followed back to the last search, latest row first."""
        found: list[tuple[int, Figure]] = []
        for earlier in range(row - 1, self._detected_row, -1):
            seen = self._follow(slot, earlier, figure.region, fresh=False)
            if seen is None or self._jumped(figure, seen, earlier + 1, earlier):
                break
            if self._taken(seen, earlier):
                break
            found.append((earlier, seen))
            figure = seen
        return found

    def _taken(self, figure: Figure, row: int) -> bool:
        """Whether somebody is followed there already."""
        return any(
            similarity(theirs.body, figure.body) > self._config.same_figure
            for trail in self._done + self._live
            for theirs in trail.figures[_slice_at(trail, row)]
        )

    def _free_slot(self) -> int | None:
        used = {trail.slot for trail in self._live}
        free = [slot for slot in range(self._config.max_people) if slot not in used]
        return free[0] if free else None


def _slice_at(trail: Trail, row: int) -> slice:
    at = row - trail.rows[0]
    return slice(at, at + 1) if 0 <= at < len(trail.rows) else slice(0, 0)

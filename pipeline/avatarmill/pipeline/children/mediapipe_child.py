"""The child that holds MediaPipe: everybody in a frame, and one person through frames.

Runs in the MediaPipe environment (`python -m avatarmill.pipeline.children.mediapipe_child`). It
never sees a file: frames arrive decoded, once a shot, with `open`. What follows is answered from
those frames. Graphs are reset for each new person, so the result depends on the shot alone and not
on what came before it.
"""

from collections.abc import Iterable
from typing import Any

import mediapipe
import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.mediapipe_graphs import Graph, detector, person, rect, region
from avatarmill.pipeline.children.protocol import Message, serve

NUM_BODY, NUM_HAND, NUM_FACE = 33, 21, 478

_PARTS = (
    ("body", NUM_BODY, 4),
    ("body_world", NUM_BODY, 3),
    ("left_hand", NUM_HAND, 3),
    ("right_hand", NUM_HAND, 3),
    ("face", NUM_FACE, 3),
)

_SWAPS = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((i, i + 1) for i in range(11, 33, 2)))
_MIRRORED = np.arange(NUM_BODY)
"""Row of the landmark that takes each landmark's place in a mirror."""
for _left, _right in _SWAPS:
    _MIRRORED[[_left, _right]] = _right, _left

_REGION_SCALE = 1.25
"""Side of the region around a detection over the diameter of its circle, as MediaPipe has it."""


class PeopleModel:
    """The graphs, and the frames of the shot that is looked at."""

    def __init__(self) -> None:
        self._images = np.zeros((0, 1, 1, 3), np.uint8)
        self._settings: tuple[int, float, float] | None = None
        self._detector: Graph | None = None
        self._mirror: Graph | None = None
        self._people: dict[int, Graph] = {}
        self._seconds = 0.0

    def open(self, request: Message) -> Message:
        """Takes `images` [F, H, W, 3] of a shot, which `detect` and `follow` are then about.

        Values: `model_complexity`, `detection_confidence`, `tracking_confidence`.
        """
        settings = (
            int(request.values["model_complexity"]),
            float(request.values["detection_confidence"]),
            float(request.values["tracking_confidence"]),
        )
        self._images = request.arrays["images"]
        # Read-only frames are handed to the graphs without a copy.
        self._images.flags.writeable = False
        if settings != self._settings:
            self._seconds = self._spent()
            self._settings = settings
            self._people.clear()
            self._detector, self._mirror = detector(settings[1]), None
        return Message()

    def detect(self, request: Message) -> Message:
        """Everybody in a `window` [4] (x0, y0, x1, y1) of frame `row`, the most certain first.

        A `picture` of the window's size is looked at instead of the frame, when there is one.
        Replies with `scores` [D], `regions` [D, 5] to follow them from, `torsos` [D, 2, 2] (the
        middle of the hips and of the shoulders), all in pixels of the frame.
        """
        assert self._detector is not None, "detect before open"
        x0, y0, x1, y1 = (int(v) for v in request.arrays["window"])
        image = self._images[int(request.values["row"])]
        if "picture" in request.arrays:
            image = _contiguous(request.arrays["picture"])
        elif (x0, y0, x1, y1) != (0, 0, image.shape[1], image.shape[0]):
            image = _contiguous(image[y0:y1, x0:x1])
        scores, points = _detections(self._detector(image=image).found, x1 - x0, y1 - y0)
        points = points + np.array([x0, y0])
        return Message(
            {}, {"scores": scores, "regions": _regions(points), "torsos": points[:, [0, 2]]}
        )

    def follow(self, request: Message) -> Message:
        """One person in frame `row`, or in a `picture` in its place, looked for in `region` [5].

        `slot` names the person; `fresh` makes it another one, of whom nothing is known. Replies
        with `found`, and then `body` [33, 4], `body_world` [33, 3], `left_hand` and `right_hand`
        [21, 3], `face` [478, 3] (pixels, z in pixels of width; metres for `body_world`; NaN where a
        part was not found), `region` [5] to look at in the next frame, and `mask` [h, w] uint8, 0
        outside: the segmentation's 0..1 as 0..255, its first pixel at `corner` [2] (x, y).
        """
        image = self._images[int(request.values["row"])]
        if "picture" in request.arrays:
            image = _contiguous(request.arrays["picture"])
        height, width = image.shape[:2]
        graph = self._slot(int(request.values["slot"]), bool(request.values["fresh"]))
        where = request.arrays["region"]
        found = graph(image=image, region=rect(where, width, height))
        if found.body is None:
            return Message({"found": False})
        pixels = np.array([width, height, width, 1], np.float32)
        arrays: dict[str, NDArray[Any]] = {}
        for name, count, size in _PARTS:
            points = getattr(found, name)
            scale = 1 if name == "body_world" else pixels[:size]
            table = np.full((count, size), np.nan, np.float32)
            arrays[name] = table if points is None else _table(points.landmark, count, size) * scale
        arrays["region"] = region(found.next_region, width, height)
        arrays["mask"], arrays["corner"] = _cut(found.mask, where, width, height)
        return Message({"found": True}, arrays)

    def second_look(self, request: Message) -> Message:
        """The body found afresh in mirrored frames: nothing known from other frames.

        `rows` [L], `boxes` [L, 4] int64 (x0, y0, x1, y1) to cut out and `torsos` [L, 2, 2], the
        middle of hips and shoulders of the person meant: the detection nearest to it is looked at.
        Replies with `body` [L, 33, 2] in pixels, mirrored back, left and right exchanged back; NaN
        where none was found.
        """
        assert self._detector is not None and self._settings is not None, "second_look before open"
        if self._mirror is None:
            complexity, confidence, _ = self._settings
            self._mirror = person(complexity, confidence, detailed=False)
        rows, boxes = request.arrays["rows"], request.arrays["boxes"]
        torsos = request.arrays["torsos"]
        body = np.full((len(rows), NUM_BODY, 2), np.nan, np.float32)
        for look, (row, (x0, y0, x1, y1)) in enumerate(zip(rows, boxes, strict=True)):
            image = _contiguous(self._images[row, y0:y1, x0:x1][:, ::-1])
            width, height = int(x1 - x0), int(y1 - y0)
            _, points = _detections(self._detector(image=image).found, width, height)
            if len(points) == 0:
                continue
            meant = np.array([x1, y0]) * (1, -1) + torsos[look] * (-1, 1)
            nearest = int(np.linalg.norm(points[:, [0, 2]] - meant, axis=-1).sum(1).argmin())
            where = rect(_regions(points)[nearest], width, height)
            found = self._mirror(image=image, region=where)
            if found.body is not None:
                mirrored = _table(found.body.landmark, NUM_BODY, 2)[_MIRRORED]
                mirrored[:, 0] = 1 - mirrored[:, 0]
                body[look] = mirrored * (width, height) + (x0, y0)
        return Message({}, {"body": body})

    def spent(self, request: Message) -> Message:
        """`seconds` inside MediaPipe since this process began."""
        return Message({"seconds": self._spent()})

    def _slot(self, slot: int, fresh: bool) -> Graph:
        assert self._settings is not None, "follow before open"
        graph = self._people.get(slot)
        if graph is None:
            complexity, _, confidence = self._settings
            graph = self._people[slot] = person(complexity, confidence, detailed=True)
        elif fresh:
            graph.reset()
        return graph

    def _spent(self) -> float:
        graphs = [self._detector, self._mirror, *self._people.values()]
        return self._seconds + sum(graph.seconds for graph in graphs if graph is not None)


def holistic(request: Message) -> Message:
    """Landmarks of the one person MediaPipe's own holistic solution follows through `images`.

    `images` [F, H, W, 3]; values as for `open`, and `smooth_segmentation`. Replies with the parts
    of `PeopleModel.follow` over F frames and `masks` [F, H, W].
    """
    images = request.arrays["images"]
    num_frames, height, width = images.shape[:3]
    arrays: dict[str, NDArray[Any]] = {
        name: np.full((num_frames, count, size), np.nan, np.float32) for name, count, size in _PARTS
    }
    masks = np.zeros((num_frames, height, width), np.uint8)
    pixels = np.array([width, height, width, 1], np.float32)
    with mediapipe.solutions.holistic.Holistic(
        static_image_mode=False,
        model_complexity=int(request.values["model_complexity"]),
        smooth_landmarks=True,
        enable_segmentation=True,
        smooth_segmentation=bool(request.values.get("smooth_segmentation", False)),
        refine_face_landmarks=True,
        min_detection_confidence=float(request.values["detection_confidence"]),
        min_tracking_confidence=float(request.values["tracking_confidence"]),
    ) as model:
        for row, image in enumerate(images):
            found = model.process(image)
            for name, count, size in _PARTS:
                points = getattr(found, f"{name.replace('body', 'pose')}_landmarks")
                if points is not None:
                    scale = 1 if name == "body_world" else pixels[:size]
                    arrays[name][row] = _table(points.landmark, count, size) * scale
            if found.segmentation_mask is not None:
                masks[row] = np.rint(np.clip(found.segmentation_mask, 0, 1) * 255)
    return Message({}, {**arrays, "masks": masks})


def _contiguous(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    copy = np.ascontiguousarray(image)
    copy.flags.writeable = False
    return copy


def _detections(
    found: list[Any] | None, width: int, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores [D] and points [D, 4, 2] in pixels of what the detector reports.

    The points: middle of the hips, a point of the circle around the whole body, middle of the
    shoulders, a point of the circle around the upper body.
    """
    scores = np.array([detection.score[0] for detection in found or ()], np.float64)
    points = [
        [(p.x * width, p.y * height) for p in detection.location_data.relative_keypoints]
        for detection in found or ()
    ]
    return scores, np.array(points, np.float64).reshape(len(scores), 4, 2)


def _regions(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[D, 5] regions of detections [D, 4, 2], as MediaPipe's own PoseDetectionToRoi gives them."""
    spoke = points[:, 1] - points[:, 0]
    side = 2 * _REGION_SCALE * np.hypot(spoke[:, 0], spoke[:, 1])
    turn = np.pi / 2 - np.arctan2(-spoke[:, 1], spoke[:, 0])
    turn = turn - 2 * np.pi * np.floor((turn + np.pi) / (2 * np.pi))
    return np.column_stack([points[:, 0], side, side, turn])


def _cut(
    mask: NDArray[np.float32], where: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part of a mask [H, W] that a region can reach, as bytes, and its corner."""
    reach = 0.5 * float(np.hypot(where[2], where[3])) + 1
    x0, y0 = (max(0, int(v - reach)) for v in where[:2])
    x1, y1 = min(width, int(where[0] + reach) + 1), min(height, int(where[1] + reach) + 1)
    part = mask[y0 : max(y1, y0), x0 : max(x1, x0)]
    return (np.clip(part, 0, 1) * 255 + 0.5).astype(np.uint8), np.array([x0, y0], np.int64)


def _table(landmarks: Iterable[Any], count: int, size: int) -> NDArray[np.float32]:
    """[count, size] of x, y, z and, as fourth column, visibility."""
    rows = [(p.x, p.y, p.z, p.visibility)[:size] for p in landmarks]
    table = np.array(rows, np.float32)
    if table.shape != (count, size):
        raise ValueError(f"MediaPipe gave {table.shape} landmarks, expected {(count, size)}")
    return table


if __name__ == "__main__":
    model = PeopleModel()
    serve(
        {
            "open": model.open,
            "detect": model.detect,
            "follow": model.follow,
            "second_look": model.second_look,
            "spent": model.spent,
            "holistic": holistic,
        }
    )

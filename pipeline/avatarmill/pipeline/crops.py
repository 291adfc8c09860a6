"""Square crops around the person, with cameras, masks and boxes to match."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.avatar.camera import crop_intrinsics
from avatarmill.pipeline.overlay import fit_vertices
from avatarmill.pipeline.types import Bytes, Fit, Float, Frames, Selection, Track

PADDING = 127
"""Grey of what lies outside the frame: flat, so that no edge is invented."""

MARGIN = 0.1
"""Space around the person, as a fraction of its larger extent."""

_HAND_JOINTS = ((20, 25, 40), (21, 40, 55))
"""Wrist, first and past-the-last finger joint of the left and right hand."""
_MIN_CONFIDENCE = 0.25
"""Joint confidence below which a face or hand has no box."""


@dataclass(frozen=True, slots=True)
class Crops:
    """What the frames of a clip hold, references first; the arrays `records.clip.Clip` wants."""

    images: Bytes
    """[F, S, S, 3]."""
    masks: Bytes
    """[F, S, S]."""
    intrinsics: Float
    """[F, 3, 3]."""
    pose: Float
    """[F, 55, 3]."""
    shape: Float
    """[20]."""
    expression: Float
    """[F, 52]."""
    translation: Float
    """[F, 3]."""
    confidence: Float
    """[F, 55]."""
    face_boxes: Float
    """[F, 4] x0, y0, x1, y1 in crop pixels; zeros where no face is seen."""
    hand_boxes: Float
    """[F, 2, 4]."""
    pts_seconds: tuple[float, ...]
    """[F]."""
    squares: tuple[tuple[int, int, int], ...]
    """[F] x0, y0, side in pixels of the decoded frames."""


@dataclass(frozen=True, slots=True)
class Square:
    """A square of whole pixels of the frame; may reach beyond it."""

    x0: int
    y0: int
    side: int


def crop_clip(
    frames: Frames,
    track: Track,
    masks: Bytes,
    fit: Fit,
    selection: Selection,
    body: Body,
    *,
    size: int = 512,
    margin: float = MARGIN,
) -> Crops:
    """Cut the selected frames of a track.

    The body parameters stay as fitted; only the intrinsics move with the crop, so projecting
    them with the crop's camera (identity extrinsics) lands on the person.

    Args:
        frames: of the shot.
        track: whose rows are cut.
        masks: [T, H, W] 0..255 over the rows of the track.
        fit: of the track.
        selection: rows of the track, references then targets.
        body: for where the fitted body projects.
        size: side of the crops, pixels.
        margin: space around the person, as a fraction of its larger extent.
    """
    rows = [*selection.references, *selection.targets]
    vertices = fit_vertices(body, fit, rows)
    cut: list[tuple[Bytes, Bytes, Float]] = []
    squares: list[tuple[int, int, int]] = []
    boxes = np.zeros((len(rows), 3, 4), np.float32)
    for index, row in enumerate(rows):
        image = frames.images[track.frame_indices[row]]
        square = person_square(masks[row], project(vertices[index], fit.intrinsics), margin)
        squares.append((square.x0, square.y0, square.side))
        scale = size / square.side
        camera = crop_intrinsics(fit.intrinsics, square.x0, square.y0, scale)
        cut.append((cut_square(image, square, size), _cut_mask(masks[row], square, size), camera))
        boxes[index] = _part_boxes(track, fit, row, square, size)
    return Crops(
        images=np.stack([image for image, _, _ in cut]),
        masks=np.stack([mask for _, mask, _ in cut]),
        intrinsics=np.stack([camera for _, _, camera in cut]).astype(np.float32),
        pose=fit.pose[rows],
        shape=fit.shape,
        expression=fit.expression[rows],
        translation=fit.translation[rows],
        confidence=fit.confidence[rows],
        face_boxes=boxes[:, 0],
        hand_boxes=boxes[:, 1:],
        pts_seconds=tuple(float(frames.pts_seconds[track.frame_indices[row]]) for row in rows),
        squares=tuple(squares),
    )


def person_square(mask: Bytes, projected: Float, margin: float) -> Square:
    """The square around a mask [H, W] and the body points [n, 2] that lie inside the image."""
    height, width = mask.shape
    inside = ((projected >= 0) & (projected < (width, height))).all(-1)
    ys, xs = np.nonzero(mask > 127)
    points = np.concatenate([projected[inside], np.stack([xs, ys], -1) + 0.5])
    if not len(points):
        raise ValueError("neither the mask nor the fitted body lies inside the image")
    low, high = points.min(0), points.max(0)
    side = max(8, int(np.ceil((high - low).max() * (1 + 2 * margin))))
    x0, y0 = np.round((low + high) / 2 - side / 2).astype(int)
    return Square(int(x0), int(y0), side)


def cut_square(image: Bytes, square: Square, size: int, *, padding: int = PADDING) -> Bytes:
    """The square of an image [H, W, ...], resized to `size`; `padding` beyond the frame."""
    height, width = image.shape[:2]
    left, right = np.clip((square.x0, square.x0 + square.side), 0, width)
    top, bottom = np.clip((square.y0, square.y0 + square.side), 0, height)
    part = np.full((square.side, square.side, *image.shape[2:]), padding, np.uint8)
    if left < right and top < bottom:
        rows = slice(top - square.y0, bottom - square.y0)
        columns = slice(left - square.x0, right - square.x0)
        part[rows, columns] = image[top:bottom, left:right]
    # Area averaging does not alias; a cubic filter would ring along the mask and the padding.
    how = cv2.INTER_AREA if size < square.side else cv2.INTER_LINEAR
    resized: Bytes = cv2.resize(part, (size, size), interpolation=how)
    return resized


def _cut_mask(mask: Bytes, square: Square, size: int) -> Bytes:
    return cut_square(mask, square, size, padding=0)


def project(points: Float, intrinsics: Float) -> Float:
    """Pixels [n, 2] of camera-space points [n, 3]; far outside where behind the camera."""
    pixels = points @ intrinsics.T
    depth = np.where(pixels[:, 2:] > 0.05, pixels[:, 2:], np.inf)
    return np.where(np.isfinite(depth), pixels[:, :2] / depth, -1e6).astype(np.float32)


def _part_boxes(track: Track, fit: Fit, row: int, square: Square, size: int) -> Float:
    """Face, left-hand and right-hand boxes [3, 4] in crop pixels."""
    landmarks, confidence = track.landmarks, fit.confidence[row]
    boxes = np.zeros((3, 4), np.float32)
    parts = (
        (landmarks.face[row], confidence[22], 0.15),
        (landmarks.left_hand[row], confidence[_HAND_JOINTS[0][1]], 0.25),
        (landmarks.right_hand[row], confidence[_HAND_JOINTS[1][1]], 0.25),
    )
    for box, (points, trust, margin) in zip(boxes, parts, strict=True):
        if trust >= _MIN_CONFIDENCE and np.isfinite(points[:, 0]).all():
            box[:] = _box(points[:, :2], square, size, margin)
    return boxes


def _box(points: NDArray[np.float32], square: Square, size: int, margin: float) -> Float:
    """Bounding box [4] of frame pixels, widened by `margin`, in the pixels of the crop."""
    low, high = points.min(0), points.max(0)
    grow = margin * (high - low).max()
    corners = np.stack([low - grow, high + grow]) - (square.x0, square.y0)
    return np.clip(corners * (size / square.side), 0, size).reshape(4).astype(np.float32)

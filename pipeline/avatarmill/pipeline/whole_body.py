"""Landmarks of tracks by an ONNX whole-body model, in place of MediaPipe's where it is sure.

The model gives the 133 keypoints of COCO-WholeBody in the picture: body 0-16, feet 17-22, face
23-90, left hand 91-111, right hand 112-132. What it does not give is kept from MediaPipe: depth,
metres, and most of the face mesh.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child, python_module
from avatarmill.pipeline.people_config import PeopleConfig
from avatarmill.pipeline.types import Bytes, Float, Landmarks, Track

NUM_KEYPOINTS = 133
_LEFT_HAND, _RIGHT_HAND = slice(91, 112), slice(112, 133)
_FACE = 23

BODY_KEYPOINTS = {
    0: 0, 2: 1, 5: 2, 7: 3, 8: 4, 11: 5, 12: 6, 13: 7, 14: 8, 15: 9, 16: 10,
    23: 11, 24: 12, 25: 13, 26: 14, 27: 15, 28: 16,
    31: 17, 29: 19, 32: 20, 30: 22,
    1: _FACE + 42, 3: _FACE + 45, 4: _FACE + 39, 6: _FACE + 36, 9: _FACE + 54, 10: _FACE + 48,
    17: 91 + 17, 19: 91 + 5, 21: 91 + 2, 18: 112 + 17, 20: 112 + 5, 22: 112 + 2,
}  # fmt: skip
"""MediaPipe's body landmark to the keypoint that is the same place: all 33 have one."""
_FACE_MESH = (
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 1, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips, outside
    78, 82, 13, 312, 308, 317, 14, 87,  # lips, inside
)  # fmt: skip
"""Points of the face mesh that are face keypoints 17-67; the jaw line (0-16) is none of its."""


def whole_body_child(config: PeopleConfig) -> Child | None:
    """The child that holds the configured model, None without one; closed by its owner.

    Raises ValueError when the file is missing or onnxruntime is not installed.
    """
    if config.whole_body is None:
        return None
    if not config.whole_body.is_file():
        raise ValueError(f"no ONNX model at {config.whole_body} (PeopleConfig.whole_body)")
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "PeopleConfig.whole_body needs onnxruntime: pip install 'avatarmill[onnx]'"
        ) from error
    return Child(
        python_module("avatarmill.pipeline.children.onnx_child"),
        memory_limit_bytes=config.memory_limit_bytes,
        env={"OMP_NUM_THREADS": "1"},
    )


def look_closer(child: Child, images: Bytes, track: Track, config: PeopleConfig) -> Track:
    """The track with the model's landmarks.

    Args:
        child: see `whole_body_child`.
        images: [F, H, W, 3] of the shot.
        track: of the shot.
        config: names the model.

    Raises:
        ChildFailure: the child failed.
        ValueError: the model has not the 133 keypoints of COCO-WholeBody.
    """
    request: dict[str, Any] = {
        "call": "keypoints",
        "model": str(config.whole_body),
        "providers": list(config.whole_body_providers),
    }
    arrays: dict[str, NDArray[Any]] = {"images": images[track.frame_indices], "boxes": track.boxes}
    deadline = config.deadline_base_seconds + config.deadline_per_frame * len(track.boxes)
    reply = child.call(Message(request, arrays), deadline_seconds=deadline)
    points, scores = reply.arrays["points"], reply.arrays["scores"]
    if points.shape[1] != NUM_KEYPOINTS:
        raise ValueError(
            f"{config.whole_body} has {points.shape[1]} keypoints, not the {NUM_KEYPOINTS} of "
            "COCO-WholeBody"
        )
    landmarks = merge(track.landmarks, points, scores, least=config.whole_body_confidence)
    return replace(track, landmarks=landmarks)


def merge(landmarks: Landmarks, points: Float, scores: Float, *, least: float) -> Landmarks:
    """MediaPipe's landmarks with keypoints [T, 133, 2] put in where scores [T, 133] reach `least`.

    A hand is replaced as a whole, by its mean score, and made where MediaPipe found none; a face is
    never made, as the keypoints are too few for a mesh.
    """
    sure = scores >= least
    body = landmarks.body.copy()
    own, theirs = np.array(list(BODY_KEYPOINTS)), np.array(list(BODY_KEYPOINTS.values()))
    body[:, own, :2] = np.where(sure[:, theirs, None], points[:, theirs], body[:, own, :2])
    body[:, own, 3] = np.where(sure[:, theirs], scores[:, theirs].clip(0, 1), body[:, own, 3])
    face = landmarks.face.copy()
    mesh, marks = np.array(_FACE_MESH), np.arange(_FACE + 17, _FACE + 68)
    known = sure[:, marks] & np.isfinite(face[:, mesh, 0])
    face[:, mesh, :2] = np.where(known[..., None], points[:, marks], face[:, mesh, :2])
    return Landmarks(
        body,
        landmarks.body_world,
        _hand(landmarks.left_hand, points[:, _LEFT_HAND], scores[:, _LEFT_HAND], least),
        _hand(landmarks.right_hand, points[:, _RIGHT_HAND], scores[:, _RIGHT_HAND], least),
        face,
    )


def _hand(hand: Float, points: Float, scores: Float, least: float) -> Float:
    """[T, 21, 3] with new places where the keypoints are sure, and no depth where none was."""
    flat = np.concatenate([points, np.nan_to_num(hand[..., 2:])], axis=-1)
    sure = (scores.mean(1) >= least)[:, None, None]
    merged: Float = np.where(sure, flat, hand).astype(np.float32)
    return merged

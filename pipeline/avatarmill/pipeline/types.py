"""The records that travel between the curation stages: frozen, validated, numpy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from avatarmill.records.rejects import Level

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Reason(StrEnum):
    """Why an input, a shot or a track is not kept: the closed list of the reject table."""

    NOT_FOUND = "not_found"
    """The listed file, page or object is not there."""
    ACCESS_DENIED = "access_denied"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The URL, or one it redirects to, leads to an address that may not be fetched from."""
    UNREACHABLE = "unreachable"
    """All attempts to fetch it failed."""
    SOURCE_CHANGED = "source_changed"
    """Fetched again, it had other bytes than those that were scanned."""
    FORGOTTEN = "forgotten"
    """Somebody asked for it to be taken out, and for it to stay out."""
    EMPTY_FILE = "empty_file"
    FORBIDDEN_FORMAT = "forbidden_format"
    """Not one of the whitelisted containers: text, playlists, concat scripts, images."""
    UNREADABLE = "unreadable"
    """A whitelisted container that cannot be opened or has no decodable frame."""
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED = "truncated"
    """Fewer frames decode than the container declares, or errors were concealed."""
    TOO_LARGE = "too_large"
    """Resolution, duration or bytes above the configured limit."""
    TOO_SHORT = "too_short"
    """The shot has fewer frames than a clip needs."""
    NO_PERSON = "no_person"
    TRACK_TOO_SHORT = "track_too_short"
    LANDMARKS_DISAGREE = "landmarks_disagree"
    """Detections that are not one steady, human-shaped body: flicker, jumps, impossible limbs."""
    PERSON_TOO_SMALL = "person_too_small"
    MASK_DISAGREES = "mask_disagrees"
    FIT_DIVERGED = "fit_diverged"
    BLURRED = "blurred"
    BADLY_EXPOSED = "badly_exposed"
    """Too dark, or burnt out."""
    TRUNCATED_PERSON = "truncated_person"
    """Too little of the body is inside the image."""
    OCCLUDED = "occluded"
    """Something stands in front of too much of the person."""
    OVERLAID = "overlaid"
    """Burnt-in text lies over the person."""
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    """The child process that held the item died."""
    INTERNAL_ERROR = "internal_error"
    """Our own code raised on it; the run log has the traceback."""


@dataclass(frozen=True, slots=True)
class Reject:
    """One row of the reject table."""

    reason: Reason
    evidence: str
    """The measured value and the limit it broke, for a person to check."""
    stage: str
    start_seconds: float = 0.0
    stop_seconds: float = 0.0
    level: Level = "source"
    """What is rejected: the whole source, one shot of it, or one person of a shot."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input file, as listed."""

    uri: str
    """Names the source in every table; without passwords, signatures and tokens."""
    path: str
    """Local path the bytes are read from, or the URL they are fetched from. Never written down."""
    sha256: str
    """Of the bytes; empty as long as nobody has read them."""
    size_bytes: int
    licence: str = ""
    consent: str = ""
    modified_ns: int = 0
    """When a local file was changed, to see whether it is still the one that was scanned."""
    listed: dict[str, str] = field(default_factory=dict)
    """Other columns of the list, such as the language; they travel with every clip."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the container says about the video stream, after rotation and sample aspect."""

    duration_seconds: float
    fps: float
    num_frames: int
    """Declared frames; 0 where the container does not say."""
    width: int
    height: int
    rotation: int
    codec: str
    format: str
    start_seconds: float
    stream: int = 0
    """Index of the video stream among all streams of the container."""
    focal_35mm: float = 0.0
    """35 mm equivalent focal length by the metadata, millimetres; 0 where they do not say."""
    interlaced_frames: int = 0
    """Frames woven of two instants, as counted by the pass over the whole file."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A span without a cut, [start, stop) in seconds of presentation time."""

    start_seconds: float
    stop_seconds: float


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one shot."""

    images: Bytes
    """[F, H, W, 3] sRGB."""
    pts_seconds: NDArray[np.float64]
    """[F] presentation time of each frame in the source."""

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[-1] != 3:
            raise ValueError(f"images must be [F, H, W, 3], got {self.images.shape}")
        if self.pts_seconds.shape != (len(self.images),):
            raise ValueError(f"{self.pts_seconds.shape} times for {len(self.images)} frames")


@dataclass(frozen=True, slots=True)
class Landmarks:
    """MediaPipe holistic landmarks of one person over F frames; pixels of the decoded frame.

    A part that was not found in a frame is NaN there.
    """

    body: Float
    """[F, 33, 4]: x, y in pixels, MediaPipe's relative z in pixels, visibility 0..1."""
    body_world: Float
    """[F, 33, 3]: metres, hip-centred, MediaPipe's axes (x right, y down, z away)."""
    left_hand: Float
    """[F, 21, 3]: x, y in pixels, relative z. The person's own left."""
    right_hand: Float
    """[F, 21, 3]."""
    face: Float
    """[F, 478, 3]."""


@dataclass(frozen=True, slots=True)
class Track:
    """One person in one shot."""

    index: int
    frame_indices: NDArray[np.int64]
    """[T] rows of the shot's frames in which the person is seen, rising."""
    boxes: Float
    """[T, 4] x0, y0, x1, y1 in pixels of the decoded frame."""
    landmarks: Landmarks
    """Over the T frames of the track."""
    scores: dict[str, float] = field(default_factory=dict)
    """How well the person could be followed: see `people.track_scores`."""


@dataclass(frozen=True, slots=True)
class Fit:
    """SMPL-X parameters of a track in camera space (OpenCV: x right, y down, z forward)."""

    pose: Float
    """[T, 55, 3] axis-angle; joint 0 is the global orientation in camera space."""
    shape: Float
    """[20], shared by the track."""
    expression: Float
    """[T, 52]."""
    translation: Float
    """[T, 3] metres."""
    intrinsics: Float
    """[3, 3] of the decoded frame, pixels."""
    confidence: Float
    """[T, 55] per joint, 0..1: how far the frame's landmarks support the joint."""
    residual_px: Float
    """[T] median reprojection error of confident body landmarks, pixels."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a track become the clip, and its scores."""

    references: tuple[int, ...]
    targets: tuple[int, ...]
    scores: dict[str, float] = field(default_factory=dict)

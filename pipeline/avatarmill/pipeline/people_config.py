"""Settings of the people stage: what is followed, and what counts as a person."""

from dataclasses import dataclass, field
from pathlib import Path

from avatarmill.pipeline.tracking_config import TrackingConfig


@dataclass(frozen=True, slots=True)
class PeopleConfig:
    """What counts as a person. Measured on people and on false persons: see the README."""

    min_frames: int = 5
    min_seconds: float = 0.7
    """Of the longest run of frames; tracks without one are TRACK_TOO_SHORT. Both must hold."""
    min_run: int = 3
    """Shorter runs of a track, before and after the person was hidden, are left out."""
    max_gap_seconds: float = 0.35
    """A figure unseen for longer ends a run."""
    min_size: float = 0.06
    """Body size over the shorter image side: below it PERSON_TOO_SMALL."""
    max_limb_deviation: float = 0.14
    max_limb_asymmetry: float = 0.4
    max_face_distance: float = 0.1
    max_plane_residual: float = 0.2
    min_mask_support: float = 0.6
    min_core_visibility: float = 0.6
    """Limits of the measures of steadiness: broken by one, LANDMARKS_DISAGREE."""
    second_looks: int = 8
    """Frames of a track that are looked at again, mirrored and without tracking."""
    min_confirmed: float = 0.5
    """Share of second looks that must find the same body, else LANDMARKS_DISAGREE."""
    max_tracks: int = 4
    """The longest tracks of a shot that are kept."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    model_complexity: int = 1
    detection_confidence: float = 0.5
    tracking_confidence: float = 0.5
    python: Path | None = None
    """Interpreter of the MediaPipe environment; found by itself when None."""
    whole_body: Path | None = None
    """ONNX model (RTMPose or DWPose, 133 keypoints) whose landmarks replace MediaPipe's."""
    whole_body_confidence: float = 0.3
    """Score from which one of its keypoints is believed."""
    whole_body_providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """onnxruntime's, in order of preference."""
    deadline_base_seconds: float = 60.0
    deadline_per_frame: float = 3.0
    """Deadline of a shot: the base, and this much for each frame. A frame takes 0.1 to 0.2 s: there
    is room for a machine with ten times too much to do."""
    memory_limit_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if self.min_frames < 2:
            raise ValueError(f"PeopleConfig.min_frames is {self.min_frames}, at least 2")
        if self.min_run < 1:
            raise ValueError(f"PeopleConfig.min_run is {self.min_run}, at least 1")
        if not 0 <= self.whole_body_confidence <= 1:
            raise ValueError(
                f"PeopleConfig.whole_body_confidence is {self.whole_body_confidence}, must be 0..1"
            )
        if not self.whole_body_providers:
            raise ValueError("PeopleConfig.whole_body_providers is empty, name one at least")
        if self.model_complexity not in (0, 1, 2):
            raise ValueError(f"PeopleConfig.model_complexity is {self.model_complexity}, 0, 1 or 2")

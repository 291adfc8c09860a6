"""Settings of the mask stage."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """How masks are made."""

    sam2_checkpoint: Path | None = None
    """Weights of `sam2`; None for the refined MediaPipe mask."""
    sam2_model: str = "configs/sam2.1/sam2.1_hiera_t.yaml"
    """The network of the weights: a configuration of the package, or the path of a .yaml file."""
    sam2_image_size: int = 1024
    sam2_device: str = "cpu"
    sam2_window_frames: int = 64
    """Frames the predictor holds at once: what bounds its memory on long clips."""
    sam2_overlap_frames: int = 8
    """Frames a window shares with the one before, over which the person is handed over."""
    sam2_prompts: int = 3
    """Times a window is prompted anew where its masks drift off the person."""
    sam2_deadline_per_frame: float = 20.0
    sam2_memory_limit_bytes: int = 12 << 30
    working_side: int = 512
    """Longer side, pixels, at which borders are found; larger people get theirs from it by a guided
    filter at full size."""
    border_width: float = 0.016
    """How far the border may lie from the raw one, of the person's longer side."""
    local_colour_weight: float = 1.0
    """Of the log ratio of person and background colours nearby."""
    colour_weight: float = 0.5
    """Of the same over the whole track."""
    limb_weight: float = 2.0
    """Log odds added on the bones between visible landmarks."""

    def __post_init__(self) -> None:
        if self.sam2_checkpoint is not None and not self.sam2_checkpoint.is_file():
            raise ValueError(f"MaskConfig.sam2_checkpoint {self.sam2_checkpoint} does not exist")
        if self.sam2_image_size <= 0 or self.sam2_image_size % 64:
            raise ValueError(
                f"MaskConfig.sam2_image_size is {self.sam2_image_size}, must be a multiple of 64"
            )
        if not 1 <= self.sam2_overlap_frames < self.sam2_window_frames:
            raise ValueError(
                f"MaskConfig.sam2_overlap_frames is {self.sam2_overlap_frames}, must be at least 1"
                f" and below sam2_window_frames, {self.sam2_window_frames}"
            )
        if self.sam2_prompts < 0:
            raise ValueError(f"MaskConfig.sam2_prompts is {self.sam2_prompts}, must be >= 0")
        if self.working_side < 64:
            raise ValueError(f"MaskConfig.working_side is {self.working_side}, at least 64")
        if not 0 < self.border_width <= 0.1:
            raise ValueError(f"MaskConfig.border_width is {self.border_width}, must be in (0, 0.1]")
        for name in ("local_colour_weight", "colour_weight", "limb_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"MaskConfig.{name} is {getattr(self, name)}, must be >= 0")

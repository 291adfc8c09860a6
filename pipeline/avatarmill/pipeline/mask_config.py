"""Settings of the mask stage."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MaskConfig:
    """How masks are made."""

    sam2_checkpoint: Path | None = None
    """Weights of `sam2`; None for the refined MediaPipe mask."""
    sam2_model: str = "configs/sam2.1/sam2.1_hiera_t.yaml"
    sam2_image_size: int = 1024
    sam2_device: str = "cpu"
    sam2_deadline_per_frame: float = 20.0
    sam2_memory_limit_bytes: int = 12 << 30
    colour_weight: float = 0.8
    """Of the log ratio of person and background colours, where the raw mask is unsure."""
    limb_weight: float = 2.0
    """Log odds added on the bones between visible landmarks."""
    edge_radius: float = 0.012
    """Window of the guided filter, of the person's longer side."""
    edge_epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.sam2_checkpoint is not None and not self.sam2_checkpoint.is_file():
            raise ValueError(f"MaskConfig.sam2_checkpoint {self.sam2_checkpoint} does not exist")
        if self.sam2_image_size <= 0 or self.sam2_image_size % 64:
            raise ValueError(
                f"MaskConfig.sam2_image_size is {self.sam2_image_size}, must be a multiple of 64"
            )

"""The generate job: a prompt to an avatar, as splats, a turntable, a walk and a picture."""

import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from avatarmill.avatar.body import NUM_EXPRESSION
from avatarmill.avatar.ply import write_ply
from avatarmill.generate.motion import WALK, Motion, UpAxis, load_motion, upright
from avatarmill.generate.render import driven, turntable
from avatarmill.generate.sample import sample
from avatarmill.generate.video import write_video
from avatarmill.records.atomic import write_bytes
from avatarmill.records.canonical import json_bytes
from avatarmill.records.runs import write_config
from avatarmill.tokenize.tokenizer import CanonicalAvatar, Tokenizer
from avatarmill.train.export import load_model
from avatarmill.train.text import TextEncoder

logger = logging.getLogger(__name__)

AVATARS = "avatars"
TURN_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """One avatar from words."""

    prompt: str
    """What the person looks like: build, hair, garments and their colours."""
    out: Path
    """Receives avatars/NAME.ply, .png, .json, NAME_turntable.mp4 and NAME_walk.mp4."""
    name: str = ""
    """File name without ending; made from prompt and seed when empty."""
    seed: int = 0
    steps: int = 32
    """Euler steps."""
    guidance: float = 2.5
    """Classifier-free guidance; 1 is the plain conditional model."""
    weights: Path | None = None
    """Diffusion weights; None is the packaged nano model."""
    tokenizer: Path | None = None
    """Tokenizer weights; None is the packaged nano model."""
    motion: Path | None = None
    """AMASS-style .npz that drives the avatar; None is the walk we ship."""
    motion_up: UpAxis = "z"
    """Up axis of that file's world; AMASS is z up."""
    size: int = 384
    """Side of the pictures, pixels; even."""
    turntable_frames: int = 48
    seconds: float = 4.0
    """Longest driven video."""
    fps: float = 24.0
    """Highest frame rate of the videos."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("prompt is empty, expected a description of a person")
        if self.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"name is {self.name!r}, expected letters, digits, '-' and '_'")
        if self.size < 16 or self.size % 2:
            raise ValueError(f"size is {self.size}, expected an even number from 16")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1")
        if self.guidance < 0:
            raise ValueError(f"guidance is {self.guidance}, expected at least 0")
        if self.turntable_frames < 1 or self.seconds <= 0 or self.fps <= 0:
            raise ValueError("turntable_frames, seconds and fps must be positive")

    @property
    def stem(self) -> str:
        """File name of everything written for this avatar."""
        return self.name or f"{slug(self.prompt)}-{self.seed}"


def slug(prompt: str) -> str:
    """The prompt as a short file name.

    >>> slug("A tall man, in a RED coat!")
    'a-tall-man-in-a-red-coat'
    """
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:48].rstrip("-") or "avatar"


def run(config: GenerateConfig) -> int:
    """Generate one avatar; exit status.

    Raises:
        ValueError: weights that do not belong together, or an unreadable motion.
    """
    write_config(config.out, "generate", config)
    tokenizer = Tokenizer.load(config.tokenizer)
    # Read before anything is spent: a bad motion file should fail at once.
    motion = load_motion(config.motion or WALK).at_most(config.fps, config.seconds)
    model, info = load_model(
        config.weights,
        tokenizer.anchors,
        body=tokenizer.body.fingerprint,
        tokenizer=tokenizer.fingerprint,
    )
    sampled = sample(
        model,
        TextEncoder()([config.prompt]),
        seed=config.seed,
        steps=config.steps,
        guidance=config.guidance,
    )
    avatar = tokenizer.decode(sampled.latent, sampled.shape)
    if config.motion is not None and config.motion_up == "z":
        motion = upright(motion, _pelvis(avatar))
    write_avatar(config, avatar, motion)
    facts = {
        "prompt": config.prompt,
        "seed": config.seed,
        "steps": config.steps,
        "guidance": config.guidance,
        "shape": sampled.shape.tolist(),
        "trained_steps": info.steps,
        "fingerprints": asdict(info.fingerprints),
    }
    # Last: who finds the JSON finds the rest.
    write_bytes(config.out / AVATARS / f"{config.stem}.json", json_bytes(facts) + b"\n")
    return 0


def _pelvis(avatar: CanonicalAvatar) -> Tensor:
    _, joints = avatar.tokenizer.body.rest(avatar.shape, torch.zeros(NUM_EXPRESSION))
    return joints[0]


def write_avatar(config: GenerateConfig, avatar: CanonicalAvatar, motion: Motion) -> None:
    """Write the rest-pose splats, a picture, a turntable and the driven motion."""
    folder = config.out / AVATARS
    folder.mkdir(parents=True, exist_ok=True)
    write_ply(folder / f"{config.stem}.ply", avatar.rest())
    front, *rest = turntable(avatar, num_frames=config.turntable_frames, size=config.size)
    Image.fromarray(front).save(folder / f"{config.stem}.png")
    # One turn in four seconds, whatever the number of frames.
    rate = config.turntable_frames / TURN_SECONDS
    write_video(folder / f"{config.stem}_turntable.mp4", [front, *rest], fps=rate)
    frames = driven(avatar, motion, size=config.size)
    write_video(folder / f"{config.stem}_walk.mp4", frames, fps=motion.fps)
    logger.info("wrote %s", folder / config.stem)

"""Rendered actors in memory, with everything that is true about them: the data models train on."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from avatarmill.avatar.attributes import describe
from avatarmill.synth.actor import Actor, free_body, sample_actor
from avatarmill.synth.clock import Clock, perform
from avatarmill.synth.motion import Motion, MotionKind
from avatarmill.synth.render import RenderConfig, View, render_frames
from avatarmill.synth.scenery import Scene, SceneKind, sample_scene
from avatarmill.synth.staging import Framing, studio_views, wild_views

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SynthFrames:
    """Frames of one actor with exact truth; body parameters are in each frame's camera space."""

    images: Bytes
    """[F, H, W, 3] sRGB."""
    masks: Bytes
    """[F, H, W] 0 or 255."""
    intrinsics: Float
    """[F, 3, 3] pixels."""
    world_to_camera: Float
    """[F, 4, 4]"""
    pose: Float
    """[F, 55, 3] axis-angle; joint 0 turns the body into camera space."""
    shape: Float
    """[20]"""
    expression: Float
    """[F, 52]"""
    translation: Float
    """[F, 3] camera space, metres."""
    pts_seconds: tuple[float, ...]
    attributes: dict[str, str]
    captions: dict[str, str]
    """"short", "medium", "long"."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True)
class WildConfig:
    """One moving camera."""

    num_frames: int = 96
    fps: float = 24.0
    width: int = 512
    height: int = 512
    framing: Framing = "mixed"
    """full: head to shoes; half: head to hips; mixed: one clip in four is half."""
    motions: tuple[MotionKind, ...] = get_args(MotionKind)
    places: tuple[SceneKind, ...] = ("room", "hall", "street", "park")
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.fps <= 0:
            raise ValueError(f"num_frames {self.num_frames} must be >= 1, fps {self.fps} > 0")
        if min(self.width, self.height) < 16:
            raise ValueError(f"width {self.width} and height {self.height} must be >= 16")
        if self.framing not in get_args(Framing):
            raise ValueError(f"framing {self.framing!r} is not one of {get_args(Framing)}")
        if not self.motions or not self.places:
            raise ValueError("motions and places need at least one kind each")


@dataclass(frozen=True, slots=True)
class StudioConfig:
    """Many calibrated cameras around an actor in front of a plain backdrop."""

    num_views: int = 10
    num_instants: int = 1
    """Frames are instant-major: all views of the first instant, then of the second, ..."""
    fps: float = 2.0
    """Instants a second."""
    size: int = 256
    motions: tuple[MotionKind, ...] = ("walk", "turn", "gesture", "idle", "dance")
    """Kinds that stay inside the ring of cameras for a while."""
    render: RenderConfig = field(default_factory=RenderConfig)

    def __post_init__(self) -> None:
        if self.num_views < 1 or self.num_instants < 1 or self.fps <= 0:
            raise ValueError(
                f"num_views {self.num_views} and num_instants {self.num_instants} must be >= 1,"
                f" fps {self.fps} > 0"
            )
        if self.size < 16:
            raise ValueError(f"size {self.size} must be >= 16")


def synth_wild(seed: int, config: WildConfig | None = None) -> SynthFrames:
    """A random actor filmed by one moving camera; the seed reproduces it bit for bit."""
    config = config or WildConfig()
    rng = np.random.default_rng([seed, 1])
    actor = sample_actor(rng)
    motion = perform(rng, actor, config.motions, Clock.even(config.num_frames, config.fps))
    framing: Literal["full", "half"] = "full"
    if config.framing == "half" or (config.framing == "mixed" and rng.random() < 0.25):
        framing = "half"
    views = wild_views(
        rng, actor, motion, framing=framing, width=config.width, height=config.height
    )
    place = config.places[int(rng.integers(len(config.places)))]
    scene = sample_scene(rng, place, extent=camera_extent(views))
    images, masks = render_frames(free_body(), actor, motion, views, scene, config.render)
    return _frames(actor, motion, views, images, masks)


def synth_studio(seed: int, config: StudioConfig | None = None) -> SynthFrames:
    """A random actor seen by calibrated cameras at one or several instants.

    The frames are [instant, view] flattened; parameters are repeated in each view's camera space,
    so they read like the frames of one camera.
    """
    config = config or StudioConfig()
    stage = stage_studio(seed, config)
    images, masks = stage.render(config.render)
    frames = _frames(stage.actor, stage.motion, stage.views, images, masks)
    instants = np.repeat(np.arange(config.num_instants) / config.fps, config.num_views)
    return replace(frames, pts_seconds=tuple(instants.tolist()))


@dataclass(frozen=True, slots=True)
class StudioStage:
    """A studio before it is filmed; frames are [instant, view] flattened."""

    actor: Actor
    motion: Motion
    """Every instant repeated for each view."""
    views: list[View]
    scene: Scene

    def render(self, config: RenderConfig) -> tuple[Bytes, Bytes]:
        """Images [F, H, W, 3] and masks [F, H, W]."""
        return render_frames(free_body(), self.actor, self.motion, self.views, self.scene, config)


def stage_studio(seed: int, config: StudioConfig) -> StudioStage:
    """The actor, motion, cameras and light that `synth_studio` renders."""
    rng = np.random.default_rng([seed, 2])
    actor = sample_actor(rng)
    clock = Clock.even(config.num_instants, config.fps)
    motion = perform(rng, actor, config.motions, clock)
    ring = studio_views(rng, actor, motion, count=config.num_views, size=config.size)
    scene = sample_scene(rng, "studio")
    spread = motion.take(np.repeat(np.arange(config.num_instants), config.num_views))
    return StudioStage(actor, spread, ring * config.num_instants, scene)


def camera_extent(views: list[View]) -> float:
    """How far from the origin the camera comes, metres."""
    eyes = np.stack([-v.world_to_camera[:3, :3].T @ v.world_to_camera[:3, 3] for v in views])
    return float(np.abs(eyes[:, [0, 2]]).max())


def _frames(
    actor: Actor, motion: Motion, views: list[View], images: Bytes, masks: Bytes
) -> SynthFrames:
    pose, translation = to_camera(actor, motion, views)
    return SynthFrames(
        images=images,
        masks=masks,
        intrinsics=np.stack([view.intrinsics for view in views]).astype(np.float32),
        world_to_camera=np.stack([view.world_to_camera for view in views]).astype(np.float32),
        pose=pose,
        shape=actor.shape,
        expression=motion.expression,
        translation=translation,
        pts_seconds=tuple((np.arange(len(views)) / motion.fps).tolist()),
        attributes=actor.attributes,
        captions=describe(actor.attributes),
    )


def to_camera(actor: Actor, motion: Motion, views: list[View]) -> tuple[Float, Float]:
    """Pose [F, 55, 3] and translation [F, 3] of a world motion, in each view's camera space.

    SMPL-X turns the body about its pelvis joint p before it moves it: with x' = R x + t,
    the root becomes R root and the translation R (p + translation) + t - p.
    """
    matrices = np.stack([view.world_to_camera for view in views])
    rotation = Rotation.from_matrix(matrices[:, :3, :3])
    pelvis = _expressed_pelvis(actor, motion)
    pose = motion.pose.copy()
    pose[:, 0] = (rotation * Rotation.from_rotvec(motion.pose[:, 0])).as_rotvec()
    moved = rotation.apply(pelvis + motion.translation) + matrices[:, :3, 3] - pelvis
    return pose, moved.astype(np.float32)


def _expressed_pelvis(actor: Actor, motion: Motion) -> NDArray[np.float64]:
    """Rest pelvis [F, 3]; expressions may move regressed joints a little."""
    body = free_body()
    shift = motion.expression @ body.joint_dirs[0, :, 20:].numpy().T
    pelvis: NDArray[np.float64] = actor.skeleton.joints[0] + shift
    return pelvis


def synth_camera_crops(
    frames: SynthFrames, size: int = 256, *, margin: float = 0.12
) -> SynthFrames:
    """Square crops around the person of every frame, intrinsics adapted.

    Args:
        frames: any frames; those without a person keep their middle.
        size: side of the crops in pixels.
        margin: border around the mask's box, as a share of its longer side.
    """
    images, masks, lenses = [], [], []
    for image, mask, lens in zip(frames.images, frames.masks, frames.intrinsics, strict=True):
        x0, y0, side = _square(mask, margin)
        images.append(_resized(image, x0, y0, side, size, Image.Resampling.BOX))
        soft = _resized(mask, x0, y0, side, size, Image.Resampling.BOX)
        masks.append(np.where(soft >= 128, 255, 0).astype(np.uint8))
        scale = size / side
        shift = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale], [0, 0, 1]])
        lenses.append((shift @ lens).astype(np.float32))
    return replace(
        frames, images=np.stack(images), masks=np.stack(masks), intrinsics=np.stack(lenses)
    )


def _square(mask: Bytes, margin: float) -> tuple[int, int, int]:
    """Left, top and side of the square around a mask, possibly beyond the image."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        rows, columns = np.arange(mask.shape[0]), np.arange(mask.shape[1])
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(8, round(max(bottom - top, right - left) * (1 + 2 * margin)))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def _resized(image: Bytes, x0: int, y0: int, side: int, size: int, how: Image.Resampling) -> Bytes:
    height, width = image.shape[:2]
    rows = np.clip(np.arange(y0, y0 + side), 0, height - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, width - 1)
    crop = image[rows[:, None], columns]
    if image.ndim == 2:  # a mask does not go on beyond the picture
        inside = (np.arange(y0, y0 + side) == rows)[:, None] & (np.arange(x0, x0 + side) == columns)
        crop = np.where(inside, crop, 0)
    return np.asarray(Image.fromarray(crop).resize((size, size), how))

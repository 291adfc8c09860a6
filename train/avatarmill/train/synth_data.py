"""Actor sets for the reconstructor: synth actors rendered once, kept by fingerprint.

Every frame is stored as the network takes it: masked crop, face crop, and where the fit puts
each site. The fit is the truth for half of the actors; the others get errors like those of a
real one (joints, place, shape, mask border), so that the network learns to look past them.
"""

import inspect
import logging
import multiprocessing
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avatarmill.avatar.anchors import Anchors, load_anchors
from avatarmill.avatar.body import Body, BodyParams, load_body
from avatarmill.avatar.parts import part_ids
from avatarmill.records.fingerprint import fingerprint, sha256_file
from avatarmill.synth.frames import (
    StudioConfig,
    SynthFrames,
    WildConfig,
    synth_camera_crops,
    synth_studio,
    synth_wild,
)
from avatarmill.tokenize.config import NANO
from avatarmill.tokenize.features import prepare, project
from avatarmill.tokenize.frames import ReferenceFrames
from avatarmill.tokenize.sites import Sites
from avatarmill.tokenize.tokenizer import anchors_fingerprint
from avatarmill.train.actor_set import create_arrays, finish, is_finished, write_actor

logger = logging.getLogger(__name__)

DATA_VERSION = "actors-1"
"""Raised when this file changes what is stored; synth is known by its source."""

Rows = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class ActorSetConfig:
    """What a set of rendered actors is made of."""

    kind: Literal["wild", "studio"]
    actors: int
    frames: int
    """Moments of one shot (wild) or cameras around one instant (studio)."""
    seed: int
    image_size: int = NANO.reconstructor.image_size
    face_size: int = NANO.reconstructor.face_size
    num_tokens: int = NANO.reconstructor.num_tokens
    per_token: int = NANO.reconstructor.gaussians_per_token
    render_size: int = 320
    """Side of the rendered pictures and of the crops that faces are cut from, in pixels."""
    wild_fps: float = 2.0
    """Moments a second: half a second apart, a walk shows its phases and a turn its sides."""
    noisy_share: float = 0.5
    """Share of actors whose fit is disturbed."""

    def __post_init__(self) -> None:
        if self.actors < 1 or self.frames < 2:
            raise ValueError(
                f"{self.actors} actors with {self.frames} frames: at least 1 and 2 are needed"
            )


@dataclass(frozen=True, slots=True)
class FitNoise:
    """Standard deviations of a disturbed fit, like the residuals of real ones."""

    joint_radians: float = 0.06
    root_radians: float = 0.04
    lateral_metres: float = 0.012
    depth_metres: float = 0.04
    shape: float = 0.3
    mask_pixels: int = 2


@dataclass(frozen=True, slots=True)
class Stage:
    """The body and what hangs on it, loaded once a process."""

    body: Body
    anchors: Anchors
    sites: Sites


def set_folder(root: Path, config: ActorSetConfig) -> Path:
    """Where a set lives: its name tells code version, configuration, body and anchors."""
    stage = _stage(config.num_tokens, config.per_token)
    made_of = [stage.body.fingerprint, anchors_fingerprint(stage.anchors), _synth_code()]
    return root / f"{config.kind}-{fingerprint([DATA_VERSION, config, made_of])[:12]}"


def _synth_code() -> str:
    """Fingerprint of synth's source files: their order, names and bytes."""
    files = sorted(Path(inspect.getfile(synth_wild)).parent.glob("*.py"))
    return fingerprint([(file.name, sha256_file(file)) for file in files])


def build_actor_set(root: Path, config: ActorSetConfig, workers: int = 2) -> Path:
    """Render a set with `workers` processes unless it is there already; return its folder."""
    folder = set_folder(root, config)
    if is_finished(folder):
        return folder
    started = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    # Threads of numba and torch do not survive a fork, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        rows = pool.map(_actor_rows, [config] * config.actors, range(config.actors), chunksize=4)
        for actor, row in enumerate(rows):
            if actor == 0:
                create_arrays(folder, config.actors, row)
            write_actor(folder, actor, row)
            if (actor + 1) % 50 == 0:
                logger.info("%d of %d %s actors", actor + 1, config.actors, config.kind)
    seconds = round(time.perf_counter() - started, 1)
    finish(folder, config.image_size, config.per_token, {"seconds": seconds})
    return folder


def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def _stage(num_tokens: int, per_token: int) -> Stage:
    body = load_body()
    anchors = load_anchors(body, count=num_tokens)
    return Stage(body, anchors, Sites.around(body, anchors, per_token))


def _actor_rows(config: ActorSetConfig, actor: int) -> Rows:
    rng = np.random.default_rng([config.seed, actor])
    seed = int(rng.integers(2**31))
    frames = _rendered(config, seed)
    crops = synth_camera_crops(frames, config.render_size)
    stage = _stage(config.num_tokens, config.per_token)
    noise = FitNoise() if rng.random() < config.noisy_share else None
    windows = image_windows(frames, crops) * (config.image_size / config.render_size)
    return {**actor_rows(crops, stage, config, rng, noise), "windows": windows}


def _rendered(config: ActorSetConfig, seed: int) -> SynthFrames:
    size = config.render_size
    if config.kind == "studio":
        return synth_studio(seed, StudioConfig(num_views=config.frames, size=size))
    return synth_wild(
        seed, WildConfig(num_frames=config.frames, fps=config.wild_fps, width=size, height=size)
    )


def image_windows(frames: SynthFrames, crops: SynthFrames) -> NDArray[np.float32]:
    """Where the picture lies in each crop: x0, y0, x1, y1 [F, 4] in pixels of the crop.

    Beyond it nothing is known of the person, so nothing may be learnt there.
    """
    height, width = frames.masks.shape[1:]
    scale = crops.intrinsics[:, 0, 0] / frames.intrinsics[:, 0, 0]
    shift = crops.intrinsics[:, :2, 2] - frames.intrinsics[:, :2, 2] * scale[:, None]
    corner = np.stack([width * scale, height * scale], axis=1) + shift
    windows: NDArray[np.float32] = np.concatenate([shift, corner], axis=1).astype(np.float32)
    return windows


def actor_rows(
    crops: SynthFrames,
    stage: Stage,
    config: ActorSetConfig,
    rng: np.random.Generator,
    noise: FitNoise | None,
) -> Rows:
    """Arrays [F, ...] of one actor from square crops with their truth."""
    truth = _params(crops)
    masks = torch.from_numpy(crops.masks).float() / 255.0
    intrinsics = torch.from_numpy(crops.intrinsics).float()
    boxes = face_boxes(stage.body, truth, intrinsics, crops.masks.shape[-1])
    frames = ReferenceFrames(
        images=torch.from_numpy(crops.images).permute(0, 3, 1, 2).float() / 255.0,
        masks=masks,
        intrinsics=intrinsics,
        params=truth,
        confidence=_confidence(stage.body, truth, intrinsics, crops.masks.shape[-1]),
        face_boxes=boxes,
    )
    sizes = {"image_size": config.image_size, "face_size": config.face_size}
    if noise is not None:
        frames = disturb(frames, noise, rng)
    inputs = prepare(frames, stage.body, stage.anchors, stage.sites, **sizes)
    # Targets keep the true mask and place, whatever the references are told.
    given = frames.resized(config.image_size).masks
    clean = replace(frames, masks=masks, params=truth).resized(config.image_size)
    return {
        "images": _bytes(torch.cat([clean.images, clean.masks[:, None], given[:, None]], dim=1)),
        "faces": _bytes(inputs.faces[0]),
        "face_valid": _bytes(inputs.face_valid[0] / 255.0),
        "site_pixels": inputs.site_pixels[0].flatten(1, 2).numpy(),
        "visibility": _bytes(inputs.visibility[0]),
        "intrinsics": clean.intrinsics.numpy(),
        "pose": truth.pose.numpy(),
        "shape": truth.shape.numpy(),
        "expression": truth.expression.numpy(),
        "translation": truth.translation.numpy(),
        "face_boxes": clean.face_boxes.numpy(),
    }


def disturb(frames: ReferenceFrames, noise: FitNoise, rng: np.random.Generator) -> ReferenceFrames:
    """The same images with the parameters and masks that an imperfect fit would give."""
    params = frames.params
    count = len(frames)

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(rng.standard_normal(shape)).float()

    # Part of an error stays through the shot, part changes from frame to frame.
    turn = 0.7 * normal(1, 55, 3) + 0.7 * normal(count, 55, 3)
    turn[:, 0] *= noise.root_radians / noise.joint_radians
    scale = torch.tensor([noise.lateral_metres, noise.lateral_metres, noise.depth_metres])
    shift = (0.7 * normal(1, 3) + 0.7 * normal(count, 3)) * scale
    disturbed = BodyParams(
        pose=params.pose + noise.joint_radians * turn,
        shape=params.shape + noise.shape * normal(1, 20),
        expression=params.expression,
        translation=params.translation + shift,
    )
    return replace(frames, params=disturbed, masks=_shifted_border(frames.masks, noise, rng))


def _shifted_border(masks: Tensor, noise: FitNoise, rng: np.random.Generator) -> Tensor:
    """Masks grown or shrunk by up to `mask_pixels`, one way for all frames."""
    reach = int(rng.integers(-noise.mask_pixels, noise.mask_pixels + 1))
    window = 2 * abs(reach) + 1
    signed = masks if reach >= 0 else 1.0 - masks
    grown = F.max_pool2d(signed[:, None], window, stride=1, padding=abs(reach))[:, 0]
    return grown if reach >= 0 else 1.0 - grown


def face_boxes(body: Body, params: BodyParams, intrinsics: Tensor, size: int) -> Tensor:
    """Square boxes [N, 4] around faces turned towards the camera; zeros for the others."""
    ids = torch.where(body.vertex_part == part_ids("face")[0])[0]
    points = body.vertices_subset(params, ids)
    joints, transforms = body.transforms(params)
    # The head's own forward axis, +z at rest, points back at the camera when it is seen.
    forward = transforms[:, 15, :3, 2]
    facing = -(F.normalize(joints[:, 15], dim=-1) * forward).sum(-1) > 0.2
    pixels = project(points, intrinsics)
    low, high = pixels.amin(1), pixels.amax(1)
    centre, half = (low + high) / 2, (high - low).amax(1, keepdim=True) * 0.75
    inside = ((centre > 0) & (centre < size)).all(1)
    box = torch.cat([centre - half, centre + half], dim=1)
    return box * (facing & inside)[:, None]


def _confidence(body: Body, params: BodyParams, intrinsics: Tensor, size: int) -> Tensor:
    """Joints inside the picture count as seen, the others hardly: [N, 55]."""
    joints, _ = body.transforms(params)
    pixels = project(joints, intrinsics)
    inside = ((pixels > 0) & (pixels < size)).all(-1)
    return torch.where(inside, 1.0, 0.1)


def _params(crops: SynthFrames) -> BodyParams:
    count = len(crops.images)
    shape = torch.from_numpy(np.asarray(crops.shape, np.float32))
    return BodyParams(
        pose=torch.from_numpy(np.asarray(crops.pose, np.float32)),
        shape=shape.expand(count, -1).clone(),
        expression=torch.from_numpy(np.asarray(crops.expression, np.float32)),
        translation=torch.from_numpy(np.asarray(crops.translation, np.float32)),
    )


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return (values * 255.0).round().clamp(0, 255).to(torch.uint8).numpy()

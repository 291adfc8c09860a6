"""From posed actors to pixels: skinning, z-buffer, shadow map, shading and anti-aliasing."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.synth.actor import Actor, ActorMesh
from avatarmill.synth.backdrop import paint_backdrop, soften
from avatarmill.synth.compose import compose
from avatarmill.synth.motion import Motion
from avatarmill.synth.scenery import Scene
from avatarmill.synth.surfaces import Float, accumulate_normals, skin

Array = NDArray[np.float64]
_LIGHT_DISTANCE = 40.0  # metres: far enough for shadows to be parallel


@dataclass(frozen=True, slots=True)
class View:
    """One frame's camera (OpenCV, pixel centres +0.5)."""

    intrinsics: Array
    """[3, 3] pixels."""
    world_to_camera: Array
    """[4, 4] rigid."""
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """Quality against time."""

    supersample: int = 2
    """Sub-pixels along each side of a pixel."""
    shadow_size: int = 320
    """Side of the shadow map in texels; 0 for no shadows."""
    backdrop_step: int = 2
    """One backdrop ray every so many pixels, interpolated in between: a soft focus."""

    def __post_init__(self) -> None:
        if not 1 <= self.supersample <= 4:
            raise ValueError(f"supersample {self.supersample} must be 1..4")
        if not 1 <= self.backdrop_step <= 8:
            raise ValueError(f"backdrop_step {self.backdrop_step} must be 1..8")
        if self.shadow_size < 0:
            raise ValueError(f"shadow_size {self.shadow_size} must be >= 0 (0: no shadows)")


def pose_actor(body: Body, actor: Actor, motion: Motion) -> Float:
    """Skinning transforms [F, 55, 3, 4] of every frame of a motion, in the world."""
    frames = len(motion.pose)
    params = BodyParams(
        torch.from_numpy(motion.pose),
        torch.from_numpy(actor.shape).expand(frames, -1),
        torch.from_numpy(motion.expression),
        torch.from_numpy(motion.translation),
    )
    with torch.no_grad():
        _, transforms = body.transforms(params)
    posed: Float = np.ascontiguousarray(transforms[:, :, :3].numpy())
    return posed


def actor_points(mesh: ActorMesh, transforms: Float, expression: Float) -> Float:
    """World points [V, 3] of one frame: expression, then linear blend skinning."""
    rest = mesh.rest.copy()
    rest[mesh.moving] += (mesh.moves @ expression).reshape(-1, 3)
    points = np.empty_like(rest)
    skin(rest, mesh.starts, mesh.joints, mesh.values, transforms, points)
    return points


def shadow_map(
    points: Float, faces: NDArray[np.int32], towards: Array, size: int
) -> tuple[Array, Float]:
    """The light's camera [3, 4] (pixels times depth) and its z-buffer [S, S] around an actor."""
    if size == 0:
        return np.eye(3, 4), np.zeros((0, 0), np.float32)
    low, high = points.min(0), points.max(0)
    middle = 0.5 * (low + high).astype(np.float64)
    span = float(np.linalg.norm(high - low)) * 1.04
    right = np.cross([0.0, 1.0, 0.0], towards)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(-towards, right), -towards])
    offset = -rotation @ (middle + _LIGHT_DISTANCE * towards)
    focal = size * _LIGHT_DISTANCE / span
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    buffer = mesh_zbuffer(points @ rotation.T + offset, faces, intrinsics, size, size)
    return intrinsics @ np.column_stack([rotation, offset]), buffer.depth


def render_frame(
    mesh: ActorMesh, points: Float, view: View, scene: Scene, config: RenderConfig
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One image [H, W, 3] sRGB and the actor's mask [H, W], 255 where it covers half a pixel.

    Args:
        mesh: the actor.
        points: [V, 3] its posed points in the world.
        view: camera.
        scene: what is behind, and the light.
    """
    s = config.supersample
    rotation, offset = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    normals = np.empty_like(points)
    accumulate_normals(points, mesh.faces, normals)
    fine = view.intrinsics * np.array([[s], [s], [1.0]])
    seen = points @ rotation.T.astype(np.float32) + offset.astype(np.float32)
    buffer = mesh_zbuffer(seen, mesh.faces, fine, s * view.width, s * view.height)
    light = scene.light.packed()
    light_view, depth = shadow_map(points, mesh.faces, scene.light.direction, config.shadow_size)
    camera = (
        -rotation.T @ offset,
        np.ascontiguousarray(rotation.T),
        np.linalg.inv(view.intrinsics),
    )
    step = config.backdrop_step
    behind = np.empty(((view.height - 1) // step + 2, (view.width - 1) // step + 2, 3), np.float32)
    place = (scene.kind, scene.size, scene.surfaces, scene.boxes, scene.balls, light)
    paint_backdrop(camera, place, (light_view, depth), step, behind)
    soft = np.empty_like(behind)
    soften(behind, soft)
    image = np.empty((view.height, view.width, 3), np.uint8)
    mask = np.empty((view.height, view.width), np.uint8)
    # How much cloth a pixel covers: what patterns are blurred by.
    away = float(np.linalg.norm(camera[0] - points.mean(0)))
    compose(
        (buffer.face, buffer.barycentric, buffer.depth, s),
        (mesh.faces, points, normals, mesh.rest, mesh.paint, mesh.material, mesh.zone),
        (mesh.axes, mesh.cloth, mesh.head),
        (camera[0], 0.6 * away / float(view.intrinsics[0, 0])),
        light,
        (light_view, depth),
        (soft, step),
        image,
        mask,
    )
    return image, mask


def render_frames(
    body: Body,
    actor: Actor,
    motion: Motion,
    views: list[View],
    scene: Scene,
    config: RenderConfig | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [F, H, W, 3] and masks [F, H, W] of a motion, one view a frame.

    Raises:
        ValueError: as many views as frames are needed.
    """
    if len(views) != len(motion.pose):
        raise ValueError(f"{len(views)} views do not fit {len(motion.pose)} frames")
    config = config or RenderConfig()
    transforms = pose_actor(body, actor, motion)
    rendered = [
        render_frame(
            actor.mesh,
            actor_points(actor.mesh, transform, expression),
            view,
            scene,
            config,
        )
        for transform, expression, view in zip(transforms, motion.expression, views, strict=True)
    ]
    images, masks = zip(*rendered, strict=True)
    return np.stack(images), np.stack(masks)

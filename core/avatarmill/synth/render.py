"""From posed actors to pixels: skinning, z-buffer, shadow map, shading and anti-aliasing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.avatar.body import Body
from avatarmill.avatar.zbuffer import draw_faces
from avatarmill.synth.actor import Actor
from avatarmill.synth.backdrop import paint_backdrop, soften
from avatarmill.synth.cast import Cast, Props, merge_cast
from avatarmill.synth.compose import compose
from avatarmill.synth.motion import Motion
from avatarmill.synth.scenery import Scene
from avatarmill.synth.surfaces import Float, accumulate_normals

__all__ = ["Props", "RenderConfig", "Rendered", "View", "posed_meshes", "render_cast"]

Array = NDArray[np.float64]
Bytes = NDArray[np.uint8]
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

    @property
    def eye(self) -> Array:
        """[3] where it stands in the world."""
        eye: Array = -self.turn @ self.world_to_camera[:3, 3]
        return eye

    @property
    def turn(self) -> Array:
        """[3, 3] world from camera rotation."""
        return np.ascontiguousarray(self.world_to_camera[:3, :3].T)


@dataclass(frozen=True, slots=True)
class RenderConfig:
    """Quality against time."""

    supersample: int = 2
    """Sub-pixels along each side of a pixel."""
    shadow_size: int = 320
    """Side of the shadow map in texels; 0 for no shadows."""
    backdrop_step: int = 3
    """One backdrop ray every so many pixels, interpolated in between: a soft focus."""

    def __post_init__(self) -> None:
        if not 1 <= self.supersample <= 4:
            raise ValueError(f"supersample {self.supersample} must be 1..4")
        if not 1 <= self.backdrop_step <= 8:
            raise ValueError(f"backdrop_step {self.backdrop_step} must be 1..8")
        if self.shadow_size < 0:
            raise ValueError(f"shadow_size {self.shadow_size} must be >= 0 (0: no shadows)")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Pictures of a clip."""

    images: Bytes
    """[F, H, W, 3] sRGB."""
    masks: Bytes
    """[F, P, H, W] 255 where a person is seen, else 0; see `render_cast`."""


def shadow_map(
    points: Float, faces: NDArray[np.int32], towards: Array, size: int
) -> tuple[Array, Float]:
    """The light's camera [3, 4] (pixels times depth) and its closeness [S, S] of a mesh."""
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
    drawn = draw_faces(points @ rotation.T + offset, faces, intrinsics, size, size)
    return intrinsics @ np.column_stack([rotation, offset]), drawn.closeness


@dataclass(frozen=True, slots=True)
class _Posed:
    """What all views of one instant share."""

    vertices: Float
    """[V, 12] world point, unit normal, rest point, paint: together what shading reads."""
    shadow: tuple[Array, Float]
    """`shadow_map`."""
    feet: Float
    """`Cast.feet`."""


def _pose(cast: Cast, frame: int, scene: Scene, config: RenderConfig) -> _Posed:
    points = cast.points(frame)
    normals = np.empty_like(points)
    accumulate_normals(points, cast.faces, normals)
    shadow = shadow_map(points, cast.faces, scene.light.direction, config.shadow_size)
    vertices = np.concatenate([points, normals, cast.rest, cast.paint], axis=1)
    return _Posed(vertices, shadow, cast.feet(frame))


def _backdrop(view: View, scene: Scene, posed: _Posed, step: int) -> Float:
    """Linear colours [h, w, 3] behind the cast, one every `step` pixels."""
    behind = np.empty(((view.height - 1) // step + 2, (view.width - 1) // step + 2, 3), np.float32)
    place = (
        scene.kind,
        scene.size,
        scene.surfaces,
        scene.boxes,
        scene.balls,
        scene.light.packed(),
        posed.feet,
    )
    lens = np.linalg.inv(view.intrinsics)
    paint_backdrop((view.eye, view.turn, lens), place, posed.shadow, step, behind)
    soft = np.empty_like(behind)
    soften(behind, soft)
    return soft


def _render_frame(
    cast: Cast,
    faces: NDArray[np.int32],
    posed: _Posed,
    view: View,
    scene: Scene,
    config: RenderConfig,
) -> tuple[Bytes, Bytes]:
    """One image [H, W, 3] sRGB and the masks [P, H, W] of its people."""
    s = config.supersample
    rotation, offset = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    seen = posed.vertices[:, :3] @ rotation.T.astype(np.float32) + offset.astype(np.float32)
    drawn = draw_faces(
        seen,
        cast.faces,
        view.intrinsics * np.array([[s], [s], [1.0]]),
        s * view.width,
        s * view.height,
        align=s,
    )
    image = np.empty((view.height, view.width, 3), np.uint8)
    masks = np.zeros((cast.people, view.height, view.width), np.uint8)
    compose(
        (drawn.face, drawn.closeness, drawn.planes, drawn.left, drawn.top, s),
        faces,
        posed.vertices,
        (cast.axes, cast.cloth, cast.head),
        # How much cloth a pixel covers a metre away: what patterns are blurred by.
        (view.eye, 0.6 / float(view.intrinsics[0, 0])),
        scene.light.packed(),
        posed.shadow,
        (_backdrop(view, scene, posed, config.backdrop_step), config.backdrop_step),
        image,
        masks,
    )
    return image, masks


def render_cast(
    actors: Sequence[Actor],
    motions: Sequence[Motion],
    views: list[View],
    scene: Scene,
    config: RenderConfig | None = None,
    *,
    props: Props | None = None,
    body: Body | None = None,
) -> Rendered:
    """Pictures of people and things who hide and shade each other, one view a frame.

    A pixel is somebody's when people cover at least half of its sub-samples, and then his who
    covers most of them (the first of equals): masks never overlap, and props are in none.

    Args:
        actors: at least one.
        motions: one an actor, all of one length.
        views: one a frame.
        scene: the place and its light.
        config: quality.
        props: things that are nobody.
        body: what the actors were dressed on, the packaged body by default.

    Raises:
        ValueError: counts or lengths do not fit.
    """
    cast = merge_cast(actors, motions, props, body=body)
    if len(views) != len(cast):
        raise ValueError(f"{len(views)} views do not fit {len(cast)} frames")
    config = config or RenderConfig()
    rendered = []
    # What shading reads of a face lies together.
    labels = np.stack([cast.material, cast.zone, cast.owner], axis=1, dtype=np.int32)
    faces = np.concatenate([cast.faces, labels], axis=1)
    posed: _Posed | None = None
    for frame, view in enumerate(views):
        if posed is None or not cast.still(frame):
            posed = _pose(cast, frame, scene, config)
        rendered.append(_render_frame(cast, faces, posed, view, scene, config))
    images, masks = zip(*rendered, strict=True)
    return Rendered(np.stack(images), np.stack(masks))


def render_frames(
    body: Body,
    actor: Actor,
    motion: Motion,
    views: list[View],
    scene: Scene,
    config: RenderConfig | None = None,
) -> tuple[Bytes, Bytes]:
    """Images [F, H, W, 3] and masks [F, H, W] of one actor's motion, one view a frame.

    Raises:
        ValueError: as many views as frames are needed.
    """
    rendered = render_cast([actor], [motion], views, scene, config, body=body)
    return rendered.images, rendered.masks[:, 0]


def posed_meshes(
    actors: Sequence[Actor], motions: Sequence[Motion], frame: int, props: Props | None = None
) -> tuple[Float, NDArray[np.int32], NDArray[np.int8]]:
    """The mesh that is rendered in one frame; for many frames use `merge_cast` once.

    Returns:
        World points [V, 3], faces [F, 3] and the owner [F] of each face, -1 for props.
    """
    cast = merge_cast(actors, motions, props)
    return cast.points(frame), cast.faces, cast.owner

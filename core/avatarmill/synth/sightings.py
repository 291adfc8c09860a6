"""What of each person a shot shows: body parameters in camera space, and which anchors are seen."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.anchors import Anchors, load_anchors
from avatarmill.avatar.body import BodyParams
from avatarmill.synth.actor import Actor, free_body
from avatarmill.synth.cast import merge_cast
from avatarmill.synth.defects import Format
from avatarmill.synth.frames import to_camera
from avatarmill.synth.motion import Motion
from avatarmill.synth.render import View
from avatarmill.synth.takes import Take
from avatarmill.synth.visibility import anchor_visibility, cover_anchors

Float = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_CHUNK = 16  # frames at once: vertices of all frames would not be small


@dataclass(frozen=True, slots=True)
class Sighting:
    """One person in the K frames that belong to one shot; fields as in `PersonTruth`."""

    frames: NDArray[np.int64]
    pose: Float
    expression: Float
    translation: Float
    intrinsics: Float
    world_to_camera: Float
    opacity: Float
    in_image: Float
    packed_visibility: Bytes


def sightings(take: Take, form: Format, shares: Float, num_anchors: int) -> list[Sighting]:
    """What the frames of a shot show of each of its people.

    Args:
        take: the shot.
        form: format of the clip.
        shares: [F] share of the shot in every frame of the clip.
        num_anchors: for which visibility is cast; 0 for none.
    """
    frames = np.arange(take.shot.first, take.shot.last + 1)
    # Of an interlaced frame, the first field.
    instants = (frames - take.shot.begin) * form.fields
    views = [take.views[instant] for instant in instants]
    lenses = np.stack([view.intrinsics for view in views])
    if form.letterbox is not None:
        lenses[:, :2, 2] += [form.letterbox.left, form.letterbox.top]
    matrices = np.stack([view.world_to_camera for view in views]).astype(np.float32)
    motions = [motion.take(instants) for motion in take.motions]
    visible = _visibility(take, motions, views, instants, num_anchors)
    found = []
    for person, (actor, motion) in enumerate(zip(take.actors, motions, strict=True)):
        pose, translation = to_camera(actor, motion, views)
        found.append(
            Sighting(
                frames=frames.astype(np.int64),
                pose=pose,
                expression=motion.expression,
                translation=translation,
                intrinsics=lenses.astype(np.float32),
                world_to_camera=matrices,
                opacity=shares[frames],
                in_image=share_in_image(actor, motion, views),
                packed_visibility=np.packbits(visible[:, person], axis=-1),
            )
        )
    return found


@lru_cache(maxsize=2)
def first_anchors(count: int) -> Anchors:
    """The first `count` anchors of the packaged body."""
    return load_anchors(free_body(), count)


# A second pass over the poses, so that the renderer needs to know nothing of anchors.
def _visibility(
    take: Take,
    motions: list[Motion],
    views: list[View],
    instants: NDArray[np.int64],
    num_anchors: int,
) -> NDArray[np.bool_]:
    """[K, P, T] anchors seen."""
    visible = np.zeros((len(views), len(motions), num_anchors), np.bool_)
    if not num_anchors:
        return visible
    props = None if take.occluder is None else take.occluder.at(instants).props
    covers = [cover_anchors(actor, first_anchors(num_anchors)) for actor in take.actors]
    cast = merge_cast(take.actors, motions, props)
    for frame, view in enumerate(views):
        mesh = (cast.points(frame), cast.faces, cast.owner)
        for person, cover in enumerate(covers):
            visible[frame, person] = anchor_visibility(cover, mesh, person, view)
    return visible


@lru_cache(maxsize=1)
def _vertex_shares() -> NDArray[np.float64]:
    """Share of the body's surface around each vertex, at rest, what lies inside left out."""
    body = free_body()
    faces, points = body.faces.numpy(), body.template.numpy().astype(np.float64)
    edges = points[faces[:, 1:]] - points[faces[:, :1]]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    shares = np.bincount(faces.ravel(), np.repeat(area, 3), len(points))
    shares[body.vertex_inner.numpy()] = 0
    normed: NDArray[np.float64] = shares / shares.sum()
    return normed


def share_in_image(actor: Actor, motion: Motion, views: list[View]) -> Float:
    """Share [F] of the bare body's surface that projects into the picture, hidden or not."""
    shares, body = _vertex_shares(), free_body()
    found = np.zeros(len(views), np.float32)
    for start in range(0, len(views), _CHUNK):
        part = motion.take(np.arange(start, min(start + _CHUNK, len(views))))
        params = BodyParams(
            torch.from_numpy(part.pose),
            torch.from_numpy(actor.shape).expand(len(part.pose), -1),
            torch.from_numpy(part.expression),
            torch.from_numpy(part.translation),
        )
        with torch.no_grad():
            vertices = body(params).vertices.numpy()
        for row, points in enumerate(vertices):
            view = views[start + row]
            matrix = view.intrinsics @ view.world_to_camera[:3]
            x, y, depth = matrix[:, :3] @ points.T + matrix[:, 3:]
            inside = (depth > 0) & (x >= 0) & (x < view.width * depth)
            inside &= (y >= 0) & (y < view.height * depth)
            found[start + row] = shares[inside].sum()
    return found

"""Everything that moves in a picture as one skinned mesh: several actors and rigid props."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.synth.actor import Actor, ActorMesh, free_body
from avatarmill.synth.drape import Drape, settle_cloth
from avatarmill.synth.motion import Motion
from avatarmill.synth.shading import PROP
from avatarmill.synth.surfaces import Float, skin

Array = NDArray[np.float64]
_JOINTS = 55
_FEET = (7, 8, 10, 11)


@dataclass(frozen=True, slots=True)
class Props:
    """Rigid things in front of or beside people, in the world; they occlude and cast shadows."""

    points: Float
    """[V, 3] metres."""
    faces: NDArray[np.int32]
    """[F, 3], both sides seen, flat shaded."""
    color: Float
    """[V, 3] linear albedo."""
    transforms: Float | None = None
    """[frames, 4, 4] world from prop, one a frame; None: they stand still."""

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise ValueError(f"points of props must be [V, 3], got {self.points.shape}")
        if self.color.shape != self.points.shape:
            raise ValueError(
                f"color {self.color.shape} of props must fit their points {self.points.shape}"
            )
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"faces of props must be [F, 3], got {self.faces.shape}")
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < len(self.points):
            raise ValueError(
                f"faces of props name points {self.faces.min()}..{self.faces.max()}"
                f" of {len(self.points)}"
            )
        if self.transforms is not None and self.transforms.shape[1:] != (4, 4):
            raise ValueError(
                f"transforms of props must be [frames, 4, 4], got {self.transforms.shape}"
            )


@dataclass(frozen=True, slots=True)
class Cast:
    """Merged meshes of actors, then props, with their skinning transforms over a clip."""

    rest: Float
    """[V, 3] rest points; of props, points in their own frame."""
    faces: NDArray[np.int32]
    """[F, 3]"""
    owner: NDArray[np.int8]
    """[F] index of the actor, -1 for props."""
    starts: NDArray[np.int32]
    joints: NDArray[np.int32]
    values: Float
    """Skinning weights as compressed rows; actor p's joint j is 55 p + j, props come last."""
    material: NDArray[np.uint8]
    """[F]"""
    zone: NDArray[np.uint8]
    """[F]"""
    paint: Float
    """[V, 3]"""
    axes: Array
    cloth: Array
    head: Array
    """[P, ...] the looks: `ActorMesh.axes`, `cloth` and `head` of every actor."""
    transforms: Float
    """[frames, 55 P + 1, 3, 4] world from rest."""
    ankles: Float
    """[P, 4, 3] rest joints of ankles and balls of the feet."""
    moving: tuple[NDArray[np.int64], ...]
    moves: tuple[Float, ...]
    expressions: tuple[Float, ...]
    """For every actor: moving vertices, `ActorMesh.moves`, and expressions [frames, 52]."""
    drapes: tuple[tuple[int, Drape], ...]
    """Hanging cloth: the actor who wears it, and its rings in the merged mesh."""

    def __len__(self) -> int:
        return len(self.transforms)

    @property
    def people(self) -> int:
        """How many actors there are."""
        return len(self.moving)

    def still(self, frame: int) -> bool:
        """Whether nothing has moved since the frame before, as between views of one instant."""
        return frame > 0 and all(
            np.array_equal(track[frame], track[frame - 1])
            for track in (self.transforms, *self.expressions)
        )

    def feet(self, frame: int) -> Float:
        """World places [4 P, 3] of ankles and balls of the feet, where the ground is darker."""
        own = self.transforms[frame, :-1].reshape(self.people, _JOINTS, 3, 4)[:, _FEET]
        feet: Float = np.einsum("pjrc,pjc->pjr", own[..., :3], self.ankles) + own[..., 3]
        return feet.reshape(-1, 3)

    def points(self, frame: int) -> Float:
        """World points [V, 3] of one frame: expressions, linear blend skinning, then cloth."""
        rest = self.rest.copy()
        for moving, moves, track in zip(self.moving, self.moves, self.expressions, strict=True):
            rest[moving] += (moves @ track[frame]).reshape(-1, 3)
        posed = np.empty_like(rest)
        skin(rest, self.starts, self.joints, self.values, self.transforms[frame], posed)
        for p, drape in self.drapes:
            own = self.transforms[frame, _JOINTS * p : _JOINTS * (p + 1)]
            settle_cloth(posed, drape, own)
        return posed


@dataclass(frozen=True, slots=True)
class _Part:
    """What one actor or the props bring to the merged mesh; fields as in `Cast`."""

    rest: Float
    faces: NDArray[np.int32]
    starts: NDArray[np.int32]
    joints: NDArray[np.int32]
    values: Float
    material: NDArray[np.uint8]
    zone: NDArray[np.uint8]
    paint: Float

    @classmethod
    def of(cls, mesh: ActorMesh) -> "_Part":
        joints = mesh.joints.astype(np.int32)
        weights = (mesh.starts, joints, mesh.values)
        return cls(mesh.rest, mesh.faces, *weights, mesh.material, mesh.zone, mesh.paint)

    @classmethod
    def of_props(cls, props: Props) -> "_Part":
        points, faces = len(props.points), len(props.faces)
        starts = np.arange(points + 1, dtype=np.int32)
        weights = (starts, np.zeros(points, np.int32), np.ones(points, np.float32))
        material, zone = np.full(faces, PROP, np.uint8), np.zeros(faces, np.uint8)
        return cls(props.points, props.faces, *weights, material, zone, props.color)


def merge_cast(
    actors: Sequence[Actor],
    motions: Sequence[Motion],
    props: Props | None = None,
    *,
    body: Body | None = None,
) -> Cast:
    """Put actors, each with its motion, and props into one mesh.

    Args:
        actors: at least one.
        motions: one an actor, all of one length.
        props: things that are nobody.
        body: what the actors were dressed on, the packaged body by default.

    Raises:
        ValueError: counts or lengths do not fit.
    """
    _check_lengths(actors, motions, props)
    body = body or free_body()
    parts = [_Part.of(actor.mesh) for actor in actors] + ([_Part.of_props(props)] if props else [])
    points = np.cumsum([0, *(len(part.rest) for part in parts)])
    weights = np.cumsum([0, *(len(part.values) for part in parts)])
    places = list(enumerate(parts))
    people = range(len(actors))
    return Cast(
        rest=np.concatenate([part.rest for part in parts]).astype(np.float32),
        faces=np.concatenate([part.faces + points[p] for p, part in places]).astype(np.int32),
        owner=np.concatenate(
            [np.full(len(part.faces), p if p in people else -1, np.int8) for p, part in places]
        ),
        starts=np.concatenate(
            [part.starts[:-1] + weights[p] for p, part in places] + [weights[-1:]]
        ).astype(np.int32),
        joints=np.concatenate([part.joints + np.int32(_JOINTS * p) for p, part in places]),
        values=np.concatenate([part.values for part in parts]),
        material=np.concatenate([part.material for part in parts]),
        zone=np.concatenate([part.zone for part in parts]),
        paint=np.concatenate([part.paint for part in parts]).astype(np.float32),
        axes=np.stack([actor.mesh.axes for actor in actors]),
        cloth=np.stack([actor.mesh.cloth for actor in actors]),
        head=np.stack([actor.mesh.head for actor in actors]),
        transforms=_transforms(body, actors, motions, props),
        ankles=np.stack([actor.skeleton.joints[list(_FEET)] for actor in actors]).astype(
            np.float32
        ),
        moving=tuple(actors[p].mesh.moving + points[p] for p in people),
        moves=tuple(actor.mesh.moves for actor in actors),
        expressions=tuple(motion.expression for motion in motions),
        drapes=tuple(
            (p, drape.shifted(int(points[p])))
            for p, drape in enumerate(actor.mesh.drape for actor in actors)
            if drape is not None
        ),
    )


def _check_lengths(actors: Sequence[Actor], motions: Sequence[Motion], props: Props | None) -> None:
    if not actors or len(actors) != len(motions):
        raise ValueError(f"need one motion an actor, got {len(actors)} and {len(motions)}")
    lengths = {len(motion.pose) for motion in motions}
    if props is not None and props.transforms is not None:
        lengths.add(len(props.transforms))
    if len(lengths) > 1:
        raise ValueError(f"motions and props have {sorted(lengths)} frames; they must agree")


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


def _transforms(
    body: Body, actors: Sequence[Actor], motions: Sequence[Motion], props: Props | None
) -> Float:
    frames = len(motions[0].pose)
    rigid = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    if props is not None and props.transforms is not None:
        rigid = props.transforms.astype(np.float32)
    posed = [pose_actor(body, actor, motion) for actor, motion in zip(actors, motions, strict=True)]
    merged: Float = np.concatenate([*posed, rigid[:, None, :3]], axis=1)
    return merged

"""An actor: a body shape, a look and the merged, skinned mesh of body, clothes and hair."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.attributes import (
    lab_to_srgb,
    nearest_color_term,
    nearest_hair_color,
    srgb_to_lab,
)
from avatarmill.avatar.body import Body, load_body
from avatarmill.synth.appearance import PATTERNS, Cloth, Look, sample_look
from avatarmill.synth.drape import Drape
from avatarmill.synth.gait import Skeleton
from avatarmill.synth.garments import Figure
from avatarmill.synth.gestures import measure_girth
from avatarmill.synth.hair import head_centre
from avatarmill.synth.outfit import Outfit, dress
from avatarmill.synth.paint import paint_skin, to_linear
from avatarmill.synth.shading import CLOTH_FIELDS, cloth_sample
from avatarmill.synth.surfaces import Float, Material, sparse_weights
from avatarmill.synth.teeth import ENAMEL, teeth

EYES = (23, 24)
_TALLEST = 1.95  # metres; the shape space goes on


@dataclass(frozen=True, slots=True)
class ActorMesh:
    """Everything the renderer needs of one actor, in the layout its kernels read."""

    rest: Float
    """[V, 3] rest points of body, clothes and hair."""
    faces: NDArray[np.int32]
    """[F, 3]"""
    starts: NDArray[np.int32]
    joints: NDArray[np.uint8]
    values: Float
    """Skinning weights as compressed rows: `starts` [V + 1], `joints` and `values`."""
    material: NDArray[np.uint8]
    """[F]"""
    zone: NDArray[np.uint8]
    """[F]"""
    paint: Float
    """[V, 3] linear vertex colour, used by skin and the inside of the mouth."""
    moving: NDArray[np.int64]
    """[E] vertices that expressions move."""
    moves: Float
    """[E * 3, 52] how far, metres at full activation."""
    axes: NDArray[np.float64]
    """[5, 4] axis point and unrolling radius of each pattern zone."""
    cloth: NDArray[np.float64]
    """[7, CLOTH_FIELDS] what each material from `Material.TOP` to `Material.SHIRT` is painted."""
    head: NDArray[np.float64]
    """[9, 3] eye centres (left, right), iris, hair, crown, (eye radius, iris size, lid darkness),
    (brow rise, brow thickness, 0), brow colour, (curl, wrinkles, 0)."""
    drape: Drape | None
    """Hanging cloth, which `settle_cloth` keeps off the legs."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A person made up by us."""

    shape: Float
    """[20]"""
    look: Look
    attributes: dict[str, str]
    """Values of `avatar.attributes.VOCABULARY`, colours measured on the dressed mesh."""
    skeleton: Skeleton
    mesh: ActorMesh


@lru_cache(maxsize=1)
def free_body() -> Body:
    """The packaged body, loaded once a process."""
    return load_body()


def figure_of(body: Body, shape: Float) -> Figure:
    """The undressed rest pose of one shape [20]."""
    with torch.no_grad():
        points, joints = body.rest(torch.from_numpy(shape), torch.zeros(52))
    faces = body.faces.numpy()
    return Figure(
        points.numpy(), joints.numpy(), faces, body.weights.numpy(), _outer_faces(body, faces)
    )


@lru_cache(maxsize=1)
def _inner_vertices(body: Body) -> NDArray[np.bool_]:
    """Eyeballs, tongue and whatever the body file says lies inside."""
    weights = body.weights.numpy()
    return np.asarray(body.vertex_inner.numpy() | (weights[:, EYES].max(1) > 0.9), np.bool_)


def _outer_faces(body: Body, faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(~_inner_vertices(body)[faces].any(1), np.bool_)


def sample_shape(rng: np.random.Generator) -> Float:
    """Shape coefficients [20] of a plausible person."""
    return np.clip(rng.normal(0, 1, 20), -2.2, 2.2).astype(np.float32)


def age_of(figure: Figure, grey: bool) -> str:
    """ "child" by height, "older" by hair."""
    if figure.height < 1.42:
        return "child"
    return "older" if grey else "adult"


def build_of(figure: Figure) -> str:
    """ "slim", "average" or "heavy" by the girth of the trunk against height."""
    trunk = np.abs(figure.points[:, 0]) < 0.3 * figure.height / 1.7
    belly = np.abs(figure.points[:, 1] - figure.joints[3, 1]) < 0.03
    slab = figure.points[trunk & belly]
    girth = float(np.ptp(slab[:, 0]) + np.ptp(slab[:, 2])) / figure.height
    return "slim" if girth < 0.285 else ("heavy" if girth > 0.345 else "average")


def sample_actor(rng: np.random.Generator, body: Body | None = None) -> Actor:
    """A random, fully dressed actor; the same state of `rng` gives the same one.

    Args:
        rng: consumed.
        body: the body to dress, the packaged one by default.
    """
    body = body or free_body()
    shape = sample_shape(rng)
    figure = figure_of(body, shape)
    while figure.height > _TALLEST:
        shape = sample_shape(rng)
        figure = figure_of(body, shape)
    grey = bool(rng.random() < 0.16) and figure.height > 1.5
    look = sample_look(rng, "older" if grey else age_of(figure, False))
    return build_actor(body, shape, look, older=grey)


def build_actor(body: Body, shape: Float, look: Look, *, older: bool = False) -> Actor:
    """Dress a body shape [20] in a look and measure its attributes."""
    figure = figure_of(body, shape)
    outfit = dress(figure, look, np.random.default_rng(look.detail))
    mesh = _merge(body, figure, look, outfit)
    girth = measure_girth(figure.points, figure.weights, figure.joints)
    skeleton = Skeleton(figure.joints.astype(np.float64), figure.sole - 0.014, girth)
    attributes = _attributes(figure, look, mesh, older=older)
    return Actor(shape, look, attributes, skeleton, mesh)


def _merge(body: Body, figure: Figure, look: Look, outfit: Outfit) -> ActorMesh:
    """Concatenate the visible skin and all garment surfaces, skin vertices first."""
    skin_faces = figure.faces[~outfit.hidden[figure.faces].all(1)]
    used, flat = np.unique(skin_faces, return_inverse=True)
    surfaces = [teeth(body, figure), *outfit.surfaces]
    counts = [len(used), *(len(surface.points) for surface in surfaces)]
    offsets = np.cumsum(counts)
    faces = [flat.reshape(-1, 3)]
    faces += [surface.faces + at for surface, at in zip(surfaces, offsets, strict=False)]
    worn = [np.full(len(surface.faces), surface.material, np.uint8) for surface in surfaces]
    weights = np.concatenate([figure.weights[used], *(surface.weights for surface in surfaces)])
    starts, joints, values = sparse_weights(weights)
    directions = body.exprdirs.numpy()[used]
    moving = np.flatnonzero(np.abs(directions).max((1, 2)) > 1e-5)
    paint = np.zeros((len(weights), 3), np.float32)
    paint[: len(used)] = paint_skin(body, figure, look)[used]
    paint[len(used) : offsets[1]] = ENAMEL
    drapes = [drape.shifted(int(offsets[at + 1])) for at, drape in outfit.drapes]
    points = np.concatenate([figure.points[used], *(surface.points for surface in surfaces)])
    zones = [np.zeros(len(skin_faces), np.uint8), *(surface.zone for surface in surfaces)]
    return ActorMesh(
        rest=np.ascontiguousarray(points, np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        starts=starts,
        joints=joints,
        values=values,
        material=np.concatenate([_skin_material(body, figure, skin_faces), *worn]),
        zone=np.concatenate(zones),
        paint=paint,
        moving=moving,
        moves=np.ascontiguousarray(directions[moving].reshape(-1, 52)),
        axes=_axes(figure),
        cloth=_pack_cloths(figure, look, outfit),
        head=_pack_head(figure, look),
        drape=drapes[0] if drapes else None,
    )


def _skin_material(body: Body, figure: Figure, faces: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Skin, eyeballs and the inside of the mouth, [F]."""
    eyes = figure.weights[:, EYES].max(1) > 0.9
    inner = _inner_vertices(body) & ~eyes
    material = np.full(len(faces), Material.SKIN, np.uint8)
    material[eyes[faces].all(1)] = Material.EYE
    material[inner[faces].all(1)] = Material.MOUTH
    return material


def _pack_cloths(figure: Figure, look: Look, outfit: Outfit) -> NDArray[np.float64]:
    """Rows of `ActorMesh.cloth` in the order of materials."""
    chest = float(figure.joints[9, 1]) - 0.03
    closed = look.top == "coat" and not look.open_coat
    none = np.zeros(CLOTH_FIELDS)
    frame = _pack_cloth(look.frame_cloth, -9.0)
    if look.glasses == "sunglasses":
        frame[:6] = 0.012
    return np.stack(
        [
            _pack_cloth(look.top_cloth, outfit.top_hem, closure=closed, logo=chest),
            _pack_cloth(look.bottom_cloth, outfit.bottom_hem),
            _pack_cloth(look.shoes_cloth, figure.sole + 0.012),
            frame,
            _pack_cloth(look.hat_cloth, -9.0),
            none,  # props have their own paint
            _pack_cloth(look.shirt_cloth, -9.0, logo=chest),
        ]
    )


def _axes(figure: Figure) -> NDArray[np.float64]:
    joints, scale = figure.joints.astype(np.float64), figure.height / 1.7
    trunk = [*joints[3], 0.17 * scale]
    arms = [[*joints[16], 0.065 * scale], [*joints[17], 0.065 * scale]]
    legs = [
        [*(joints[1] + joints[4]) / 2, 0.09 * scale],
        [*(joints[2] + joints[5]) / 2, 0.09 * scale],
    ]
    return np.array([trunk, *arms, *legs])


def _pack_cloth(
    cloth: Cloth, hem: float, *, closure: bool = False, logo: float = 0.0
) -> NDArray[np.float64]:
    packed = np.zeros(CLOTH_FIELDS)
    packed[:3], packed[3:6] = to_linear(cloth.color), to_linear(cloth.second)
    packed[6], packed[7], packed[8] = PATTERNS.index(cloth.pattern), cloth.period, cloth.phase
    packed[9], packed[10], packed[11] = hem, closure, logo
    return packed


def _pack_head(figure: Figure, look: Look) -> NDArray[np.float64]:
    eyes = figure.weights[:, EYES[0]] > 0.9
    ball = figure.points[eyes].astype(np.float64)
    centre = 0.5 * (ball.min(0) + ball.max(0))
    radius = 0.5 * float(np.ptp(ball[:, 0]))
    brow = look.hair * 0.62 if srgb_to_lab(look.hair)[0] > 30 else look.hair * 0.85
    dark = 0.35 if srgb_to_lab(look.skin)[0] > 55 else 0.25
    return np.array(
        [
            centre,
            centre * [-1, 1, 1],
            to_linear(look.iris),
            to_linear(look.hair),
            head_centre(figure) + [0, 0.1, -0.02],
            [radius, 0.50, dark],
            [1.45 * radius, 0.27 * radius, 0],
            to_linear(np.asarray(brow)),
            [float(look.hair_style == "curly"), look.wrinkles, 0],
        ]
    )


def _attributes(figure: Figure, look: Look, mesh: ActorMesh, *, older: bool) -> dict[str, str]:
    def color(material: Material) -> str:
        return nearest_color_term(mean_albedo(mesh, material))

    attributes = {
        "top": look.top,
        "top_color": color(Material.TOP),
        "top_pattern": look.top_cloth.pattern,
        "bottom": look.bottom,
        "shoes": look.shoes,
        "shoes_color": color(Material.SHOES),
        "hair": look.hair_style,
        "glasses": look.glasses,
        "hat": look.hat,
        "build": build_of(figure),
        "age": age_of(figure, older),
    }
    if (mesh.material == Material.BOTTOM).any() and look.bottom != "none":
        attributes["bottom_color"] = color(Material.BOTTOM)
    if look.hat != "none":
        attributes["hat_color"] = color(Material.HAT)
    if look.hair_style != "bald":
        attributes["hair_color"] = nearest_hair_color(look.hair)
    return attributes


def mean_albedo(mesh: ActorMesh, material: Material, *, samples: int = 4000) -> NDArray[np.float64]:
    """Mean sRGB colour [3] of a garment over its surface, patterns included.

    Averaged in CIELAB over area-weighted random points, so that it is the colour one would name.
    """
    faces = np.flatnonzero(mesh.material == material)
    corners = mesh.rest[mesh.faces[faces]].astype(np.float64)
    edges = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(faces), samples, p=area / area.sum())
    weights = rng.dirichlet((1, 1, 1), samples)
    points = (corners[chosen] * weights[..., None]).sum(1)
    slot = int(material) - int(Material.TOP)
    linear = cloth_sample(points, mesh.zone[faces[chosen]], mesh.axes, mesh.cloth[slot])
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    mean: NDArray[np.float64] = lab_to_srgb(srgb_to_lab(srgb).mean(0))
    return mean

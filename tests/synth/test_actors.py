"""Actors: what they wear is what is drawn and told, skirts hold legs, seeds reproduce them."""

import time
from dataclasses import replace

import numpy as np
import pytest

from avatarmill.avatar.attributes import (
    check_attributes,
    describe,
    lab_to_srgb,
    nearest_color_term,
    srgb_to_lab,
)
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.synth.accessories import tube
from avatarmill.synth.actor import Actor, build_actor, free_body, mean_albedo, sample_actor
from avatarmill.synth.appearance import Cloth, Look
from avatarmill.synth.cast import merge_cast
from avatarmill.synth.drape import settle_cloth
from avatarmill.synth.motion import Motion, sample_motion
from avatarmill.synth.render import RenderConfig, View, render_frames
from avatarmill.synth.scenery import Light, sample_scene
from avatarmill.synth.staging import look_at, pinhole
from avatarmill.synth.surfaces import Material, loft
from avatarmill.synth.trims import border_loops

WIDTH, HEIGHT = 112, 224
LEGS = (1, 2, 4, 5, 7, 8)


@pytest.fixture(scope="module")
def actors() -> list[Actor]:
    return [sample_actor(np.random.default_rng(seed)) for seed in range(24)]


def worn(actor: Actor, **changes: object) -> Actor:
    """The same person with other things on."""
    return build_actor(free_body(), actor.shape, replace(actor.look, **changes))  # type: ignore[arg-type]


def standing(actor: Actor) -> Motion:
    rng = np.random.default_rng(0)
    return sample_motion(rng, 1, 30.0, "idle", actor.skeleton, lively=0.0)


def facing(actor: Actor) -> View:
    tall = float(actor.mesh.rest[:, 1].max()) - actor.skeleton.sole
    focal = 3.0 * HEIGHT
    target = np.array([0, 0.5 * tall, 0.0])
    eye = target + [0, 0.02, focal * 1.1 * tall / HEIGHT]
    return View(pinhole(focal, WIDTH, HEIGHT), look_at(eye, target), WIDTH, HEIGHT)


def region_color(actor: Actor, material: Material) -> np.ndarray:
    """Mean sRGB colour [3] of what a picture in white light shows of a garment."""
    white = Light(np.array([0.0, 1.0, 0.0]), np.zeros(3), np.ones(3), np.ones(3))
    scene = replace(sample_scene(np.random.default_rng(0), "studio"), light=white)
    motion, view = standing(actor), facing(actor)
    config = RenderConfig(supersample=1, shadow_size=0)
    image = render_frames(free_body(), actor, motion, [view], scene, config)[0][0]
    cast = merge_cast([actor], [motion])
    turn, shift = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    seen = cast.points(0) @ turn.T + shift
    face = mesh_zbuffer(seen, cast.faces, view.intrinsics, WIDTH, HEIGHT).face
    region = (face >= 0) & (cast.material[np.maximum(face, 0)] == material)
    assert region.sum() > 40
    return np.asarray(lab_to_srgb(srgb_to_lab(image[region] / 255).mean(0)))


def test_the_picture_shows_the_color_that_the_truth_names(actors: list[Actor]) -> None:
    """In white light the mean colour of each garment's pixels has the term of its attribute."""
    agree, distance = [], []
    for actor in actors:
        for slot, material in (("top", Material.TOP), ("bottom", Material.BOTTOM)):
            # A print is on the front only: a view sees more of it than the garment has.
            if f"{slot}_color" in actor.attributes and actor.look.top_cloth.pattern != "printed":
                color = region_color(actor, material)
                told = mean_albedo(actor.mesh, material)
                agree.append(nearest_color_term(color) == actor.attributes[f"{slot}_color"])
                distance.append(np.linalg.norm(srgb_to_lab(color) - srgb_to_lab(told)))
    assert len(agree) > 24 and np.mean(agree) > 0.9
    assert np.median(distance) < 6


def test_every_kind_is_drawn_and_told(actors: list[Actor]) -> None:
    """What an attribute names has faces of its own, and nothing is drawn that is not named."""
    for actor in actors:
        check_attributes(actor.attributes)
        drawn = set(np.unique(actor.mesh.material).tolist())
        told = actor.attributes
        assert (Material.GLASSES in drawn) == (told["glasses"] != "none")
        assert (Material.HAT in drawn) == (told["hat"] != "none") == ("hat_color" in told)
        assert (Material.HAIR in drawn) == (told["hair"] != "bald")
        assert (Material.BOTTOM in drawn) == (told["bottom"] != "none")
        assert (Material.SHIRT in drawn) == (actor.look.open_coat and told["top"] == "coat")
        assert (actor.mesh.drape is not None) == (
            told["top"] in ("dress", "coat") or told["bottom"] == "skirt"
        )
    assert len({actor.attributes["hair"] for actor in actors}) >= 5


def plain(rgb: tuple[float, float, float]) -> Cloth:
    return Cloth(np.array(rgb), np.array([1.0, 1.0, 1.0]), "plain", 0.05, 0.0)


def test_an_open_coat_is_told_apart_from_its_shirt(actors: list[Actor]) -> None:
    red, blue = plain((0.75, 0.1, 0.1)), plain((0.1, 0.25, 0.7))
    coat = worn(
        actors[0], top="coat", bottom="trousers", open_coat=True, top_cloth=red, shirt_cloth=blue
    )
    assert coat.attributes["top"] == "coat" and coat.attributes["top_color"] == "red"
    assert nearest_color_term(region_color(coat, Material.TOP)) == "red"
    assert nearest_color_term(region_color(coat, Material.SHIRT)) == "blue"
    closed = worn(actors[0], top="coat", bottom="trousers", open_coat=False, top_cloth=red)
    assert not (closed.mesh.material == Material.SHIRT).any()


def test_a_pattern_counts_by_the_area_it_covers() -> None:
    actor = sample_actor(np.random.default_rng(3))
    cloth = Cloth(np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.1, 0.9]), "striped", 0.06, 0.2)
    striped = worn(actor, top="t-shirt", bottom="trousers", top_cloth=cloth)
    lab = srgb_to_lab(mean_albedo(striped.mesh, Material.TOP))
    first, second = srgb_to_lab(cloth.color), srgb_to_lab(cloth.second)
    share = (lab - first) @ (second - first) / ((second - first) @ (second - first))
    # Stripes are 0.34 of a period wide; seams and weave darken a little.
    assert share == pytest.approx(0.34, abs=0.06)


def test_a_seed_reproduces_an_actor() -> None:
    for seed in (2, 21):
        first, again = (sample_actor(np.random.default_rng(seed)) for _ in range(2))
        assert first.attributes == again.attributes
        for name in ("rest", "faces", "values", "paint", "cloth", "head"):
            one, other = getattr(first.mesh, name), getattr(again.mesh, name)
            assert one.tobytes() == other.tobytes(), name


def test_building_an_actor_is_cheap(actors: list[Actor]) -> None:
    start = time.process_time()
    for seed in range(4):
        sample_actor(np.random.default_rng(seed))
    assert (time.process_time() - start) / 4 < 0.5


def leg_faces(actor: Actor) -> np.ndarray:
    """Skin faces that legs carry, [F]."""
    mesh = actor.mesh
    carried = np.isin(mesh.joints, LEGS) * mesh.values
    share = np.add.reduceat(carried, mesh.starts[:-1])
    return np.asarray((mesh.material == Material.SKIN) & (share[mesh.faces].min(1) > 0.5))


def poking(actor: Actor, *, frames: int = 4) -> tuple[int, int]:
    """Leg pixels in front of the outside of hanging cloth, and pixels of that outside."""
    motion = sample_motion(np.random.default_rng(5), 36, 30.0, "walk", actor.skeleton)
    cast, legs = merge_cast([actor], [motion]), leg_faces(actor)
    drape = actor.mesh.drape
    assert drape is not None
    outside = np.zeros(len(actor.mesh.rest), np.bool_)
    outside[drape.rings[drape.twin == np.arange(len(drape.twin))]] = True
    cloth = np.flatnonzero(outside[actor.mesh.faces].all(1))
    pierced = total = 0
    for frame in np.linspace(0, 35, frames).astype(int):
        points = cast.points(int(frame))
        for azimuth in (0.0, 1.6, 3.1, 4.7):
            target = points.mean(0).astype(np.float64)
            eye = target + 4 * np.array([np.sin(azimuth), 0, np.cos(azimuth)])
            pose = look_at(eye, target)
            seen = points @ pose[:3, :3].T + pose[:3, 3]
            lens = pinhole(300, 160, 160)
            alone = mesh_zbuffer(seen, actor.mesh.faces[cloth], lens, 160, 160).face
            full = mesh_zbuffer(seen, actor.mesh.faces, lens, 160, 160).face
            corner = seen[actor.mesh.faces[cloth[np.maximum(alone, 0)]]]
            normal = np.cross(
                corner[..., 1, :] - corner[..., 0, :], corner[..., 2, :] - corner[..., 0, :]
            )
            outer = (alone >= 0) & ((normal * corner[..., 0, :]).sum(-1) < 0)
            pierced += int((outer & (full >= 0) & legs[np.maximum(full, 0)]).sum())
            total += int(outer.sum())
    return pierced, total


def test_legs_stay_inside_skirts(actors: list[Actor]) -> None:
    """Over walks, hardly a pixel of a skirt's outside shows the leg under it."""
    skirted = [a for a in actors if a.attributes["bottom"] in ("skirt", "none")][:4]
    pierced, total = np.sum([poking(actor) for actor in skirted], axis=0)
    assert total > 15_000 and pierced / total < 2e-4


def test_settling_moves_cloth_only(actors: list[Actor]) -> None:
    actor = next(a for a in actors if a.mesh.drape is not None)
    drape = actor.mesh.drape
    assert drape is not None
    motion = sample_motion(np.random.default_rng(1), 12, 30.0, "walk", actor.skeleton)
    cast = merge_cast([actor], [motion])
    skinned = replace(cast, drapes=()).points(8)
    settled = skinned.copy()
    settle_cloth(settled, drape, cast.transforms[8])
    moved = np.flatnonzero(np.abs(settled - skinned).max(1) > 0)
    assert np.isin(moved, drape.rings).all()
    start = time.process_time()
    for _ in range(50):
        settle_cloth(settled, drape, cast.transforms[8])
    assert (time.process_time() - start) / 50 < 0.004


@pytest.mark.parametrize("kind", ["cap", "beanie", "brimmed hat"])
def test_hats_cover_the_crown(actors: list[Actor], kind: str) -> None:
    actor = worn(actors[1], hat=kind, hair_style="short")
    mesh = actor.mesh
    hat, hair = (mesh.rest[mesh.faces[mesh.material == m]] for m in (Material.HAT, Material.HAIR))
    assert hat[..., 1].max() > hair[..., 1].max()
    assert actor.attributes["hat"] == kind
    assert kind in describe(actor.attributes)["short"]


def test_glasses_sit_before_the_eyes(actors: list[Actor]) -> None:
    for kind in ("glasses", "sunglasses"):
        actor = worn(actors[2], glasses=kind)
        mesh = actor.mesh
        frame = mesh.rest[np.unique(mesh.faces[mesh.material == Material.GLASSES])]
        eyes = mesh.rest[np.unique(mesh.faces[mesh.material == Material.EYE])]
        assert frame[:, 2].max() > eyes[:, 2].max()
        assert frame[:, 1].min() < eyes[:, 1].mean() < frame[:, 1].max()
        assert f"and {kind}" in describe(actor.attributes)["medium"]


def test_borders_are_closed_loops() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.sin(angles), 0 * angles, np.cos(angles)], axis=-1)
    _, faces = loft(np.stack([ring, ring + [0, 1, 0], ring + [0, 2, 0]]), closed=True)
    loops = border_loops(faces)
    assert [len(loop) for loop in loops] == [12, 12]
    assert set(np.concatenate(loops)) == {*range(12), *range(24, 36)}


def test_a_wire_has_its_radius() -> None:
    path = np.stack([np.linspace(0, 1, 9), np.zeros(9), np.linspace(0, 0.5, 9)], axis=-1)
    points, _ = tube(path, 0.01, closed=False)
    away = np.linalg.norm(points.reshape(9, 6, 3) - path[:, None], axis=-1)
    np.testing.assert_allclose(away, 0.01, rtol=1e-5)


def test_looks_are_frozen(actors: list[Actor]) -> None:
    look: Look = actors[0].look
    with pytest.raises(AttributeError, match="cannot assign to field"):
        look.top = "coat"  # type: ignore[misc]

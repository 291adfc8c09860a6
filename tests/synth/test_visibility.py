"""Visibility of anchors: equal to brute force, and right where the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from avatarmill.avatar.anchors import Anchors, load_anchors
from avatarmill.avatar.parts import part_ids
from avatarmill.synth.actor import Actor, build_actor, free_body
from avatarmill.synth.appearance import sample_look
from avatarmill.synth.cast import Props, merge_cast
from avatarmill.synth.motion import Motion, sample_motion
from avatarmill.synth.render import View
from avatarmill.synth.staging import look_at, pinhole
from avatarmill.synth.visibility import (
    REACH,
    TOLERANCE,
    anchor_visibility,
    cast_visibility,
    cover_anchors,
)


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    return load_anchors(free_body(), 1024)


def dressed(top: str, bottom: str) -> Actor:
    """The average adult in given clothes."""
    for seed in range(400):
        look = sample_look(np.random.default_rng(seed), "adult")
        if (look.top, look.bottom) == (top, bottom) and look.hair_style == "short":
            return build_actor(free_body(), np.zeros(20, np.float32), look)
    raise AssertionError(f"no look with {top} and {bottom}")


@pytest.fixture(scope="module")
def sporty() -> Actor:
    return dressed("t-shirt", "shorts")


def standing(actor: Actor, frames: int = 1) -> Motion:
    """Upright, arms held out a little, facing +z at the origin."""
    pose = np.zeros((frames, 55, 3), np.float32)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0, 1.0
    place = np.zeros((frames, 3), np.float32)
    place[:, 1] = -actor.skeleton.sole
    still = np.ones((frames, 2), bool)
    action = np.zeros((frames, 52), np.float32)
    return Motion(pose, place, action, still, 30.0, actor.skeleton.joints[0])


def camera(azimuth: float = 0.0, *, distance: float = 4.0, size: int = 256) -> View:
    eye = distance * np.array([np.sin(azimuth), 0.0, np.cos(azimuth)]) + [0, 1.0, 0]
    lens = pinhole(1.3 * size * distance / 4, size, size)
    return View(lens, look_at(eye, np.array([0.0, 0.9, 0.0])), size, size)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Props:
    """An axis-aligned box between two corners."""
    ends = np.array([low, high], np.float32)
    corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    points = np.stack([ends[corner[:, axis], axis] for axis in range(3)], axis=-1)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [tri for a, b, c, d in quads for tri in ((a, b, c), (a, c, d))]
    return Props(points, np.array(faces, np.int32), np.full((8, 3), 0.5, np.float32))


def of_parts(anchors: Anchors, *names: str) -> NDArray[np.bool_]:
    return np.isin(anchors.part.numpy(), part_ids(*names))


def by_brute_force(
    points: NDArray[np.floating],
    faces: NDArray[np.integer],
    targets: NDArray[np.floating],
    normals: NDArray[np.floating],
    view: View,
) -> NDArray[np.bool_]:
    """Every ray against every triangle (Moller and Trumbore 1997), in world space."""
    matrix = view.world_to_camera
    eye = -matrix[:3, :3].T @ matrix[:3, 3]
    a, b, c = points[faces].astype(np.float64).transpose(1, 0, 2)
    e1, e2 = b - a, c - a
    visible = np.zeros(len(targets), bool)
    for i, target in enumerate(targets):
        x, y, z = matrix[:3, :3] @ target + matrix[:3, 3]
        u, v, _ = view.intrinsics @ [x / z, y / z, 1]
        if not (z > 0.01 and 0 <= u < view.width and 0 <= v < view.height):
            continue
        way = target - eye
        if normals[i] @ way >= 0:
            continue
        side = np.cross(way, e2)
        volume = (e1 * side).sum(1)
        safe = np.where(volume == 0, 1, volume)
        offset = eye - a
        first = (offset * side).sum(1) / safe
        cross = np.cross(offset, e1)
        second = (cross @ way) / safe
        away = (e2 * cross).sum(1) / safe
        hit = (volume != 0) & (first >= 0) & (second >= 0) & (first + second <= 1)
        nearer = (away > 0) & (away < 1 - TOLERANCE / np.linalg.norm(way))
        visible[i] = not (hit & nearer).any()
    return visible


@pytest.mark.parametrize("azimuth", [0.3, 2.0])
def test_rays_agree_exactly_with_brute_force(sporty: Actor, azimuth: float) -> None:
    few = load_anchors(free_body(), 300)
    other = dressed("coat", "trousers")
    motions = [
        sample_motion(np.random.default_rng(seed), 1, 30, "walk", actor.skeleton).placed(x, z, seed)
        for seed, (actor, x, z) in enumerate([(sporty, 0.0, 0.0), (other, 0.25, 0.6)])
    ]
    cast = merge_cast([sporty, other], motions, box((-0.4, 0.0, 0.9), (0.0, 0.8, 1.2)))
    points, view = cast.points(0), camera(azimuth)
    for person, actor in enumerate((sporty, other)):
        covers = cover_anchors(actor, few)
        found = anchor_visibility(covers, (points, cast.faces, cast.owner), person, view)
        drawn = covers.face >= 0
        corners = points[cast.faces[cast.owner == person][covers.face[drawn]]].astype(np.float64)
        targets = (corners * covers.barycentric[drawn, :, None]).sum(1)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals *= covers.outward[drawn, None]
        expected = by_brute_force(points, cast.faces, targets, normals, view)
        np.testing.assert_array_equal(found[drawn], expected)
        assert not found[~drawn].any()
        assert 10 < found.sum() < 200


def test_front_is_seen_from_the_front_and_back_from_the_back(
    sporty: Actor, anchors: Anchors
) -> None:
    views = [camera(0.0), camera(np.pi)]
    front, back = cast_visibility([sporty], [standing(sporty, 2)], views, anchors)[:, 0]
    normal = anchors.normal.numpy()[:, 2]
    face = of_parts(anchors, "face")
    assert front[face & (normal > 0.5)].mean() > 0.97
    assert not front[normal < -0.3].any() and not back[normal > 0.5].any()
    torso = of_parts(anchors, "torso")
    assert back[torso & (normal < -0.6)].mean() > 0.95
    assert not (front & back)[np.abs(normal) > 0.4].any()


def test_a_box_in_front_hides_what_is_behind_it(sporty: Actor, anchors: Anchors) -> None:
    view, motion = camera(), standing(sporty)
    free = cast_visibility([sporty], [motion], [view], anchors)[0, 0]
    wall = cast_visibility(
        [sporty], [motion], [view], anchors, props=box((-2, 0, 1.0), (2, 3, 1.1))
    )
    assert not wall.any()
    behind = box((-2, 0, -1.1), (2, 3, -1.0))
    same = cast_visibility([sporty], [motion], [view], anchors, props=behind)[0, 0]
    np.testing.assert_array_equal(same, free)
    low = box((-2, 0, 1.0), (2, 0.75, 1.1))
    half = cast_visibility([sporty], [motion], [view], anchors, props=low)[0, 0]
    legs = of_parts(anchors, "left_shin", "right_shin", "left_foot", "right_foot")
    head = of_parts(anchors, "head", "face", "scalp", "neck", "torso")
    assert not half[legs].any()
    np.testing.assert_array_equal(half[head], free[head])


def test_only_what_is_inside_the_image_is_seen(sporty: Actor, anchors: Anchors) -> None:
    whole, motion = camera(size=256), standing(sporty)
    top = View(whole.intrinsics, whole.world_to_camera, 256, 100)
    seen, cropped = (
        cast_visibility([sporty], [motion], [view], anchors)[0, 0] for view in (whole, top)
    )
    assert (cropped <= seen).all()
    assert not cropped[of_parts(anchors, "left_shin", "right_foot")].any()
    face = of_parts(anchors, "face")
    np.testing.assert_array_equal(cropped[face], seen[face])
    turned = np.diag([-1.0, 1.0, -1.0, 1.0]) @ whole.world_to_camera  # looks the other way
    away = View(whole.intrinsics, turned, 256, 256)
    assert not cast_visibility([sporty], [motion], [away], anchors).any()


def test_a_person_hides_another(sporty: Actor, anchors: Anchors) -> None:
    back, front = standing(sporty), standing(sporty).placed(0.0, 0.8, 0.0)
    view = camera()
    alone = cast_visibility([sporty], [back], [view], anchors)[0, 0]
    pair = cast_visibility([sporty, sporty], [back, front], [view], anchors)[0]
    swapped = cast_visibility([sporty, sporty], [front, back], [view], anchors)[0]
    np.testing.assert_array_equal(pair, swapped[::-1])
    torso = of_parts(anchors, "torso", "hips")
    assert (pair[0] <= alone).all()
    assert not pair[0][torso].any() and alone[torso].any()
    in_front = cast_visibility([sporty], [front], [view], anchors)[0, 0]
    np.testing.assert_array_equal(pair[1], in_front)


@pytest.mark.parametrize(("top", "bottom"), [("t-shirt", "skirt"), ("coat", "trousers")])
def test_wide_clothes_stand_for_the_body_below(top: str, bottom: str, anchors: Anchors) -> None:
    actor = dressed(top, bottom)
    covers = cover_anchors(actor, anchors)
    seen = cast_visibility([actor], [standing(actor)], [camera()], anchors)[0, 0]
    normal = anchors.normal.numpy()
    upper = anchors.position.numpy()[:, 1] > anchors.position.numpy()[:, 1].min() + 0.75
    thighs = of_parts(anchors, "left_thigh", "right_thigh") & (normal[:, 2] > 0.7) & upper
    assert seen[thighs].mean() > 0.75  # a coat may part in front of them
    # The cover really lies on the cloth, away from the body but within reach.
    rest = actor.mesh.rest[actor.mesh.faces[covers.face]].astype(np.float64)
    lifted = (rest * covers.barycentric[..., None]).sum(1)
    with torch.no_grad():
        vertices, _ = free_body().rest(torch.zeros(20), torch.zeros(52))
    away = ((lifted - anchors.points(vertices).numpy()) * normal).sum(1)[covers.face >= 0]
    assert -0.0101 < away.min() and away.max() <= REACH + 1e-6
    assert 0.002 < np.median(away[thighs[covers.face >= 0]])


def test_skin_under_a_skirt_is_never_seen_through_it(anchors: Anchors) -> None:
    actor = dressed("t-shirt", "skirt")
    views = [camera(angle) for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False)]
    shown = cast_visibility([actor], [standing(actor, 8)], views, anchors)[:, 0]
    seen = np.asarray(shown.any(axis=0))
    normal, height = anchors.normal.numpy(), anchors.position.numpy()[:, 1]
    inner = of_parts(anchors, "left_thigh", "right_thigh")
    inner &= normal[:, 0] * np.sign(anchors.position.numpy()[:, 0]) < -0.8
    inner &= height > height.min() + 0.7
    assert inner.sum() > 5 and seen[inner].mean() < 0.1


def test_misfits_are_refused(sporty: Actor, anchors: Anchors) -> None:
    covers = cover_anchors(sporty, anchors)
    cast = merge_cast([sporty], [standing(sporty)])
    with pytest.raises(ValueError, match="0 faces of person 1"):
        anchor_visibility(covers, (cast.points(0), cast.faces, cast.owner), 1, camera())
    with pytest.raises(ValueError, match="1 views do not fit 2 frames"):
        cast_visibility([sporty], [standing(sporty, 2)], [camera()], anchors)
    foreign = replace(anchors, fingerprint="else")
    with pytest.raises(ValueError, match="do not lie on the actors' body"):
        cover_anchors(sporty, foreign)

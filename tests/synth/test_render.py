"""Several people and props in one picture: who hides whom, whose shadow falls where."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numba import get_num_threads, set_num_threads
from numpy.typing import NDArray

from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.synth.actor import Actor, free_body, sample_actor
from avatarmill.synth.motion import Motion, sample_motion
from avatarmill.synth.render import (
    Props,
    RenderConfig,
    Rendered,
    View,
    posed_meshes,
    render_cast,
    render_frames,
)
from avatarmill.synth.scenery import Scene, sample_scene
from avatarmill.synth.shading import noise, noise_pair
from avatarmill.synth.staging import look_at, pinhole

SIDE = 96
ROUGH = RenderConfig(supersample=2, shadow_size=256)


@lru_cache(maxsize=2)
def performer(seed: int) -> tuple[Actor, Motion]:
    """A person who idles at the origin for two frames."""
    rng = np.random.default_rng(seed)
    actor = sample_actor(rng)
    return actor, sample_motion(rng, 2, 4.0, "idle", actor.skeleton)


def pair(gap: float) -> tuple[list[Actor], list[Motion]]:
    """Two people behind each other as the camera sees them, the second one nearer and aside."""
    (one, first), (two, second) = performer(1), performer(2)
    return [one, two], [first.placed(0.0, -gap, 0.0), second.placed(0.25, gap, 0.4)]


def views(count: int = 2) -> list[View]:
    """A camera in front, on the +z side."""
    eye, target = np.array([0.0, 1.2, 4.2]), np.array([0.0, 0.9, 0.0])
    return [View(pinhole(1.3 * SIDE, SIDE, SIDE), look_at(eye, target), SIDE, SIDE)] * count


def place() -> Scene:
    """A plain studio."""
    return sample_scene(np.random.default_rng(5), "studio")


def board(x: float, z: float) -> Props:
    """An upright red board across the picture at hip height."""
    corners = [(x - 0.5, 0.6, z), (x + 0.5, 0.6, z), (x + 0.5, 1.1, z), (x - 0.5, 1.1, z)]
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    color = np.tile(np.array([0.7, 0.02, 0.02], np.float32), (4, 1))
    return Props(np.array(corners, np.float32), faces, color)


def silhouette(points: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    """Share [H, W] of 2x2 sub-samples that a mesh in the world covers."""
    view = views(1)[0]
    seen = points @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    lens = view.intrinsics * np.array([[2], [2], [1]])
    covered = mesh_zbuffer(seen, faces, lens, 2 * SIDE, 2 * SIDE).face >= 0
    share: NDArray[np.float64] = covered.reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    return share


@lru_cache(maxsize=1)
def together() -> Rendered:
    actors, motions = pair(0.5)
    return render_cast(actors, motions, views(), place(), ROUGH)


def test_masks_share_out_the_silhouette_and_the_nearer_one_wins() -> None:
    actors, motions = pair(0.5)
    masks = together().masks > 0
    assert masks.shape == (2, 2, SIDE, SIDE)
    assert not (masks[:, 0] & masks[:, 1]).any()
    for frame in range(2):
        points, faces, owner = posed_meshes(actors, motions, frame)
        np.testing.assert_array_equal(masks[frame].any(0), silhouette(points, faces) >= 0.5)
        near = silhouette(points, faces[owner == 1])
        far = silhouette(points, faces[owner == 0])
        assert ((near == 1) & (far == 1)).sum() > 100  # they do overlap
        assert masks[frame, 1][near == 1].all()
        assert masks[frame, 0][(near == 0) & (far == 1)].all()


def test_who_comes_first_in_the_cast_does_not_matter() -> None:
    actors, motions = pair(0.5)
    turned = render_cast(actors[::-1], motions[::-1], views(), place(), ROUGH)
    same = (turned.images == together().images).all(-1)
    assert same.mean() > 0.999  # rounding of the sums of positions aside
    assert (
        turned.masks[:, ::-1] == together().masks
    ).mean() > 0.998  # but for pixels shared equally


def test_a_prop_hides_and_is_nobody() -> None:
    actors, motions = pair(0.5)
    hidden = render_cast(actors, motions, views(), place(), ROUGH, props=board(0.0, 1.4))
    points, faces, owner = posed_meshes(actors, motions, 0, board(0.0, 1.4))
    covers = silhouette(points, faces[owner == -1]) == 1
    assert covers.sum() > 500
    assert not hidden.masks[0][:, covers].any()
    assert (together().masks[0] > 0)[:, covers].any()
    # Red, whatever is behind.
    red = hidden.images[0][covers].astype(int)
    assert (red[:, 0] > red[:, 1] + 60).all()


def test_a_prop_behind_changes_no_mask() -> None:
    actors, motions = pair(0.5)
    behind = render_cast(actors, motions, views(), place(), ROUGH, props=board(0.3, -1.5))
    np.testing.assert_array_equal(behind.masks, together().masks)
    assert (behind.images != together().images).any()


def test_moving_props_move() -> None:
    actors, motions = pair(0.5)
    away = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    away[1, 1, 3] = -50.0
    moving = replace(board(0.0, 1.4), transforms=away)
    masks = render_cast(actors, motions, views(), place(), ROUGH, props=moving).masks
    assert masks[0].sum() < 0.95 * together().masks[0].sum()
    np.testing.assert_array_equal(masks[1], together().masks[1])


def test_shadows_fall_from_one_on_the_other() -> None:
    """Between a person and a low lamp stands another."""
    actors, motions = pair(0.0)
    scene = place()
    towards = np.array([0.8, 0.15, 1.0])
    light = replace(scene.light, direction=towards / np.linalg.norm(towards))
    motions = [motions[0].placed(0, 0, 0), motions[1].placed(0.8, 1.0, 0)]
    close = [replace(view, intrinsics=pinhole(3.0 * SIDE, SIDE, SIDE)) for view in views()]
    lit = replace(scene, light=light)
    alone = render_cast(actors[:1], motions[:1], close, lit, ROUGH)
    both = render_cast(actors, motions, close, lit, ROUGH)
    own = (both.masks[0, 0] > 0) & (alone.masks[0, 0] > 0)
    darker = alone.images[0][own].mean(-1) - both.images[0][own].mean(-1)
    assert own.sum() > 300
    assert (darker > 10).mean() > 0.15
    off = RenderConfig(supersample=2, shadow_size=0)
    bright = render_cast(actors, motions, close, lit, off)
    assert bright.images[0][own].mean() > both.images[0][own].mean()


def test_one_actor_is_the_case_render_frames_has() -> None:
    actor, motion = performer(1)
    scene = sample_scene(np.random.default_rng(3), "street")
    images, masks = render_frames(free_body(), actor, motion, views(), scene)
    cast = render_cast([actor], [motion], views(), scene)
    np.testing.assert_array_equal(cast.images, images)
    np.testing.assert_array_equal(cast.masks[:, 0], masks)
    assert set(np.unique(masks)) == {0, 255}


def test_the_number_of_threads_does_not_matter() -> None:
    actors, motions = pair(0.5)
    scene = sample_scene(np.random.default_rng(8), "room")
    before = get_num_threads()
    try:
        pictures = []
        for threads in (1, before):
            set_num_threads(threads)
            pictures.append(render_cast(actors, motions, views(), scene, props=board(0.4, 1)))
    finally:
        set_num_threads(before)
    np.testing.assert_array_equal(pictures[0].images, pictures[1].images)
    np.testing.assert_array_equal(pictures[0].masks, pictures[1].masks)


def test_two_noises_at_once_are_two_noises() -> None:
    places = np.random.default_rng(0).uniform(-20, 20, (500, 3))
    pairs = np.array([noise_pair(*place) for place in places])
    np.testing.assert_allclose(pairs[:, 0], [noise(*place) for place in places], atol=1e-12)
    assert pairs.min() >= 0 and pairs.max() <= 1
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.15


def test_what_does_not_fit_is_refused() -> None:
    actor, motion = performer(1)
    with pytest.raises(ValueError, match="one motion an actor, got 1 and 2"):
        render_cast([actor], [motion, motion], views(), place())
    with pytest.raises(ValueError, match="3 views do not fit 2 frames"):
        render_cast([actor], [motion], views(3), place())
    with pytest.raises(ValueError, match=r"\[1, 2\] frames; they must agree"):
        render_cast([actor, actor], [motion, motion.take(np.arange(1))], views(), place())
    prop = board(0, 0)
    with pytest.raises(ValueError, match=r"name points 0\.\.3 of 3"):
        replace(prop, points=prop.points[:3], color=prop.color[:3])
    with pytest.raises(ValueError, match=r"transforms of props must be \[frames, 4, 4\]"):
        replace(prop, transforms=np.eye(4, dtype=np.float32)[:3])

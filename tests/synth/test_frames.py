"""Rendered frames and their truth: reproducible, consistent, measured."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.avatar.attributes import VOCABULARY, nearest_color_term
from avatarmill.avatar.body import BodyParams
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.synth.actor import free_body, mean_albedo, sample_actor
from avatarmill.synth.frames import (
    StudioConfig,
    SynthFrames,
    WildConfig,
    synth_camera_crops,
    synth_studio,
    synth_wild,
)
from avatarmill.synth.render import RenderConfig
from avatarmill.synth.surfaces import Material

SMALL = WildConfig(num_frames=3, fps=4, width=160, height=192, framing="full")
STUDIO = StudioConfig(num_views=4, num_instants=2, size=128)


@pytest.fixture(scope="module")
def wild() -> SynthFrames:
    return synth_wild(21, SMALL)


@pytest.fixture(scope="module")
def studio() -> SynthFrames:
    return synth_studio(4, STUDIO)


def camera_vertices(frames: SynthFrames) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [F, V, 3] and joints [F, 55, 3] in camera space, from the truth alone."""
    count = len(frames)
    params = BodyParams(
        torch.from_numpy(frames.pose),
        torch.from_numpy(frames.shape).expand(count, -1),
        torch.from_numpy(frames.expression),
        torch.from_numpy(frames.translation),
    )
    mesh = free_body()(params)
    return mesh.vertices.numpy(), mesh.joints.numpy()


def pixels(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    seen = points @ intrinsics.T
    return np.asarray(seen[:, :2] / seen[:, 2:])


def test_the_seed_reproduces_every_bit(wild: SynthFrames) -> None:
    again = synth_wild(21, SMALL)
    for name in ("images", "masks", "pose", "translation", "expression", "shape", "intrinsics"):
        np.testing.assert_array_equal(getattr(wild, name), getattr(again, name))
    assert wild.attributes == again.attributes and wild.captions == again.captions
    other = synth_wild(22, SMALL)
    assert (other.images != wild.images).any()


@pytest.mark.parametrize("kind", ["wild", "studio"])
def test_joints_project_into_the_mask(kind: str, request: pytest.FixtureRequest) -> None:
    frames: SynthFrames = request.getfixturevalue(kind)
    _, joints = camera_vertices(frames)
    inside = total = 0
    for mask, joint, lens in zip(frames.masks, joints, frames.intrinsics, strict=True):
        at = np.floor(pixels(joint[:22], lens)).astype(int)
        height, width = mask.shape
        seen = ((at >= 0) & (at < [width, height])).all(1)
        inside += (mask[at[seen, 1], at[seen, 0]] > 0).sum()
        total += seen.sum()
    assert total > 15 * len(frames) and inside / total > 0.97


@pytest.mark.parametrize("kind", ["wild", "studio"])
def test_bare_body_lies_inside_the_mask(kind: str, request: pytest.FixtureRequest) -> None:
    frames: SynthFrames = request.getfixturevalue(kind)
    vertices, _ = camera_vertices(frames)
    faces = free_body().faces.numpy()
    for mask, points, lens in zip(frames.masks, vertices, frames.intrinsics, strict=True):
        buffer = mesh_zbuffer(points, faces, lens, mask.shape[1], mask.shape[0])
        body = buffer.face >= 0
        # Clothes and hair only add; feet are lengthened by soles, never shortened.
        assert (mask[body] > 0).mean() > 0.985
        assert body.sum() > 0.5 * (mask > 0).sum()


def test_mask_is_what_the_mesh_covers_and_image_changes_only_there() -> None:
    plain = StudioConfig(
        num_views=2, size=128, render=RenderConfig(supersample=1, shadow_size=0, backdrop_step=1)
    )
    frames = synth_studio(9, plain)
    assert set(np.unique(frames.masks)) == {0, 255}
    share = (frames.masks > 0).mean((1, 2))
    assert (share > 0.03).all() and (share < 0.5).all()
    # The studio's backdrop is smooth: strong edges belong to the actor.
    step = np.abs(np.diff(frames.images.astype(int), axis=2)).max(-1)
    edges = step > 40
    near = frames.masks[:, :, 1:] | frames.masks[:, :, :-1]
    assert (near[edges] > 0).mean() > 0.95


def test_studio_views_share_one_body_in_the_world(studio: SynthFrames) -> None:
    _, joints = camera_vertices(studio)
    turn, shift = studio.world_to_camera[:, :3, :3], studio.world_to_camera[:, :3, 3]
    world = np.einsum("fji,fkj->fki", turn, joints - shift[:, None])
    for instant in (0, 1):
        views = world[4 * instant : 4 * instant + 4]
        assert np.abs(views - views[0]).max() < 1e-4
    assert studio.pts_seconds == (0.0,) * 4 + (0.5,) * 4


def test_attributes_use_the_vocabulary_and_measured_colors() -> None:
    for seed in range(6):
        actor = sample_actor(np.random.default_rng(seed))
        for name, value in actor.attributes.items():
            assert value in VOCABULARY[name]
        slots = {"top": Material.TOP, "bottom": Material.BOTTOM, "shoes": Material.SHOES}
        for slot, material in slots.items():
            if f"{slot}_color" in actor.attributes:
                measured = nearest_color_term(mean_albedo(actor.mesh, material))
                assert actor.attributes[f"{slot}_color"] == measured


def test_plain_garments_look_like_their_color_in_the_picture() -> None:
    """What a viewer sees of a plain garment has the hue that the truth names."""
    actor = sample_actor(np.random.default_rng(3))
    albedo = mean_albedo(actor.mesh, Material.TOP)
    assert np.abs(albedo - actor.look.top_cloth.color).max() < 0.25


def test_crops_keep_projections(wild: SynthFrames) -> None:
    crops = synth_camera_crops(wild, 96)
    assert crops.images.shape == (3, 96, 96, 3) and crops.masks.shape == (3, 96, 96)
    _, joints = camera_vertices(crops)
    for mask, joint, lens in zip(crops.masks, joints, crops.intrinsics, strict=True):
        at = np.floor(pixels(joint[:22], lens)).astype(int)
        assert ((at >= 0) & (at < 96)).all()
        assert (mask[at[:, 1], at[:, 0]] > 0).mean() > 0.9
        rows = np.flatnonzero(mask.any(1))
        assert 60 < rows[-1] - rows[0] < 90 or mask.any(0).sum() > 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WildConfig(num_frames=0), "num_frames 0 must be >= 1"),
        (lambda: WildConfig(width=8), "width 8 and height 512 must be >= 16"),
        (lambda: WildConfig(framing="wide"), "framing 'wide' is not one of"),  # type: ignore[arg-type]
        (lambda: WildConfig(motions=()), "at least one kind"),
        (lambda: StudioConfig(num_views=0), "num_views 0"),
        (lambda: StudioConfig(size=2), "size 2 must be >= 16"),
        (lambda: RenderConfig(supersample=9), "supersample 9 must be 1..4"),
        (lambda: RenderConfig(backdrop_step=0), "backdrop_step 0 must be 1..8"),
        (lambda: RenderConfig(shadow_size=-1), "shadow_size -1 must be >= 0"),
    ],
)
def test_bad_configurations_name_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_the_package_needs_no_files_but_the_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(synth_wild(0, WildConfig(num_frames=1, width=32, height=32))) == 1

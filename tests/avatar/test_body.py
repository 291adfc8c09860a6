"""The free body: its file contract, equality with the `smplx` package, and which way is left."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avatarmill.avatar.body import (
    FREE_BODY,
    JOINT_NAMES,
    NUM_EXPRESSION,
    NUM_JOINTS,
    NUM_SHAPE,
    Body,
    BodyParams,
    load_body,
)
from avatarmill.avatar.parts import HEAD_PARTS, PARTS, part_ids
from avatarmill.avatar.rotations import axis_angle_to_matrix

JOINT = {name: index for index, name in enumerate(JOINT_NAMES)}
TOLERANCE = 1e-5  # metres, the promise of design.md


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def random_params(count: int, seed: int = 0) -> BodyParams:
    random = torch.Generator().manual_seed(seed)
    return BodyParams(
        pose=0.5 * torch.randn(count, NUM_JOINTS, 3, generator=random),
        shape=torch.randn(count, NUM_SHAPE, generator=random),
        expression=torch.rand(count, NUM_EXPRESSION, generator=random),
        translation=torch.randn(count, 3, generator=random),
    )


def posed(**rotations: tuple[float, float, float]) -> BodyParams:
    params = BodyParams.rest()
    for name, rotation in rotations.items():
        params.pose[0, JOINT[name]] = torch.tensor(rotation)
    return params


def smplx_output(params: BodyParams) -> tuple[Tensor, Tensor]:
    smplx = pytest.importorskip("smplx")
    count = len(params.pose)
    model = smplx.create(
        str(FREE_BODY.parents[1]),
        model_type="smplx",
        gender="neutral",
        ext="npz",
        use_pca=False,
        flat_hand_mean=True,
        num_betas=NUM_SHAPE,
        num_expression_coeffs=NUM_EXPRESSION,
        use_face_contour=True,
        batch_size=count,
    )
    with torch.no_grad():
        output = model(
            betas=params.shape,
            expression=params.expression,
            global_orient=params.pose[:, 0],
            body_pose=params.pose[:, 1:22].flatten(1),
            jaw_pose=params.pose[:, 22],
            leye_pose=params.pose[:, 23],
            reye_pose=params.pose[:, 24],
            left_hand_pose=params.pose[:, 25:40].flatten(1),
            right_hand_pose=params.pose[:, 40:].flatten(1),
            transl=params.translation,
        )
    return output.vertices, output.joints


def test_same_vertices_and_joints_as_the_smplx_package(body: Body) -> None:
    params = random_params(4)
    vertices, joints = smplx_output(params)
    mesh = body(params)
    torch.testing.assert_close(mesh.vertices, vertices, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(mesh.joints, joints[:, :NUM_JOINTS], atol=TOLERANCE, rtol=0)


def test_package_landmarks_are_where_they_should_be() -> None:
    # The order of the package's joints after the 55: nose, eyes, ears, feet, fingertips.
    _, joints = smplx_output(BodyParams.rest())
    nose, right_eye, left_eye, right_ear, left_ear, left_toe = joints[0, 55:61]
    assert nose[2] > left_eye[2] > left_ear[2] and nose[0].abs() < 1e-3
    assert left_ear[0] > left_eye[0] > 0 > right_eye[0] > right_ear[0]
    assert left_toe[0] > 0 and left_toe[2] > joints[0, JOINT["left_foot"], 2]
    right_index_tip, left_index_tip = joints[0, 72], joints[0, 67]
    assert left_index_tip[0] > joints[0, JOINT["left_index3"], 0]
    assert right_index_tip[0] < joints[0, JOINT["right_index3"], 0]
    brows, chin = joints[0, 76:86], joints[0, 76 + 51 + 8]
    assert (brows[:, 1] > left_eye[1]).all() and brows[0, 0] < 0 < brows[-1, 0]
    assert chin[1] < nose[1] and chin[0].abs() < 0.01


def test_rest_pose_is_a_t_pose_facing_z(body: Body) -> None:
    _, joints = body.rest(torch.zeros(NUM_SHAPE), torch.zeros(NUM_EXPRESSION))
    at = {name: joints[index] for name, index in JOINT.items()}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm = at[f"{side}_wrist"] - at[f"{side}_shoulder"]
        assert torch.nn.functional.normalize(arm, dim=0)[0] * sign > 0.999
        # Palm down: the index knuckle lies in front of the little finger's.
        assert at[f"{side}_index1"][2] > at[f"{side}_pinky1"][2] + 0.03
        assert at[f"{side}_foot"][2] > at[f"{side}_ankle"][2] + 0.05  # toes forward
    assert at["head"][1] > at["neck"][1] > at["pelvis"][1] > at["left_knee"][1]
    height = float(body.template[:, 1].max() - body.template[:, 1].min())
    assert 1.6 < height < 1.8


def test_template_is_mirror_symmetric(body: Body) -> None:
    joints = body.joint_template
    for name, index in JOINT.items():
        if name.startswith("left_"):
            mirrored = joints[JOINT["right_" + name[5:]]] * torch.tensor([-1.0, 1.0, 1.0])
            torch.testing.assert_close(joints[index], mirrored, atol=4e-3, rtol=0)


def test_amass_rotations_move_the_limbs_they_name(body: Body) -> None:
    def moved(joint: str, **rotations: tuple[float, float, float]) -> Tensor:
        joints, _ = body.transforms(posed(**rotations))
        at: Tensor = joints[0, JOINT[joint]] - body.joint_template[JOINT[joint]]
        return at

    # As on SMPL-X: -z lifts the right arm, +z the left; -x swings a thigh forward.
    assert moved("right_wrist", right_shoulder=(0.0, 0.0, -1.2))[1] > 0.4
    assert moved("left_wrist", left_shoulder=(0.0, 0.0, 1.2))[1] > 0.4
    assert moved("left_wrist", right_shoulder=(0.0, 0.0, -1.2)).abs().max() < 1e-6
    assert moved("left_knee", left_hip=(-1.0, 0.0, 0.0))[2] > 0.2
    assert moved("left_ankle", left_knee=(1.0, 0.0, 0.0))[2] < -0.2
    assert moved("left_wrist", left_elbow=(0.0, -1.5, 0.0))[2] > 0.15
    assert moved("right_wrist", right_elbow=(0.0, 1.5, 0.0))[2] > 0.15
    assert moved("left_index3", left_index1=(0.0, 0.0, -1.2))[1] < -0.03  # curls down
    assert moved("head", spine1=(0.4, 0.0, 0.0))[2] > 0.1  # bows forward


def test_an_amass_root_keeps_the_body_upright(body: Body) -> None:
    # AMASS is z up: its roots start with a quarter turn about x, which must stand the body on z.
    mesh = body(posed(pelvis=(math.pi / 2, 0.0, 0.0)))
    up = mesh.joints[0, JOINT["head"]] - mesh.joints[0, JOINT["left_ankle"]]
    assert up[2] > 1.3 and up[2] > 5 * up[:2].abs().max()


def test_root_turns_about_the_pelvis_and_translation_comes_last(body: Body) -> None:
    params = random_params(2, seed=4)
    still = BodyParams(
        params.pose * (torch.arange(NUM_JOINTS) > 0)[:, None],
        params.shape,
        params.expression,
        torch.zeros(2, 3),
    )
    pelvis = body(still).joints[:, :1]
    turn = axis_angle_to_matrix(params.pose[:, :1])
    turned = (turn @ (body(still).vertices - pelvis).unsqueeze(-1)).squeeze(-1)
    expected = turned + pelvis + params.translation[:, None]
    torch.testing.assert_close(body(params).vertices, expected, atol=TOLERANCE, rtol=0)


def test_subset_transforms_and_full_pose_agree(body: Body) -> None:
    params, ids = random_params(3, seed=2), torch.tensor([9120, 5, 13717, 5])
    mesh = body(params)
    torch.testing.assert_close(
        body.vertices_subset(params, ids), mesh.vertices[:, ids], atol=1e-6, rtol=0
    )
    joints, transforms = body.transforms(params)
    torch.testing.assert_close(joints, mesh.joints)
    torch.testing.assert_close(transforms, mesh.transforms)


def test_batch_dimensions_are_kept(body: Body) -> None:
    mesh = body(BodyParams.rest((2, 3)))
    assert mesh.vertices.shape == (2, 3, body.num_vertices, 3)
    assert mesh.transforms.shape == (2, 3, NUM_JOINTS, 4, 4)
    torch.testing.assert_close(mesh.vertices[1, 2], body.template, atol=1e-6, rtol=0)
    assert random_params(5)[1:3].batch_shape == (2,)


def test_gradients_reach_every_parameter(body: Body) -> None:
    leaves = BodyParams.rest()
    tensors = (leaves.pose, leaves.shape, leaves.expression, leaves.translation)
    params = BodyParams(*(tensor.requires_grad_() for tensor in tensors))
    body.vertices_subset(params, torch.arange(0, 13_000, 97)).square().sum().backward()
    for tensor in tensors:
        assert tensor.grad is not None and tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_shape_space_spans_children_and_adults(body: Body) -> None:
    shapes = torch.zeros(2, NUM_SHAPE)
    shapes[0, 0], shapes[1, 0] = 2.0, -3.0
    vertices, _ = body.rest(shapes, torch.zeros(2, NUM_EXPRESSION))
    tall, small = (vertices[..., 1].amax(1) - vertices[..., 1].amin(1)).tolist()
    assert tall > 1.8 and small < 1.25


def test_facial_actions_move_only_the_head(body: Body) -> None:
    moving = body.exprdirs.abs().amax((1, 2)) > 1e-4
    parts = {PARTS[part] for part in body.vertex_part[moving].unique().tolist()}
    assert parts <= {*HEAD_PARTS, "neck"}


def test_parts_are_complete_and_sided(body: Body) -> None:
    assert set(body.vertex_part.unique().tolist()) == set(range(len(PARTS)))
    for name in PARTS:
        x = body.template[body.vertex_part == PARTS.index(name), 0]
        if name.startswith("left_"):
            assert x.mean() > 0.05
        if name.startswith("right_"):
            assert x.mean() < -0.05
    with pytest.raises(ValueError, match=r"unknown body parts \['tail'\]"):
        part_ids("face", "tail")


def test_weights_and_texture_are_well_formed(body: Body) -> None:
    torch.testing.assert_close(body.weights.sum(1), torch.ones(body.num_vertices))
    assert (body.weights >= 0).all() and ((body.weights > 0).sum(1) <= 8).all()
    # Some weights are negative, none so large that rounding would move a joint.
    assert body.joint_regressor.abs().max() < 3
    sums = body.joint_regressor.double().sum(1)
    torch.testing.assert_close(sums, torch.ones(NUM_JOINTS).double(), atol=1e-5, rtol=0)
    assert body.texture_faces.max() < len(body.texture_uv)
    assert body.uv.shape == (body.num_vertices, 2) and 0 <= body.uv.min() <= body.uv.max() <= 1


def test_fingerprint_follows_the_arrays(body: Body, tmp_path: Path) -> None:
    with np.load(FREE_BODY) as archive:
        arrays = dict(archive)
    assert load_body().fingerprint == body.fingerprint
    arrays["v_template"][0, 0] += 0.01
    np.savez(tmp_path / "other.npz", **arrays)
    assert load_body(tmp_path / "other.npz").fingerprint != body.fingerprint


def test_file_is_small_and_has_no_pickles() -> None:
    assert FREE_BODY.stat().st_size < 6e6
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        assert archive["shapedirs"].shape == (13718, 3, 400)
        assert not archive["shapedirs"][:, :, NUM_SHAPE:300].any()
        assert len(archive["expression_names"]) == NUM_EXPRESSION


def test_wrong_shapes_name_the_field() -> None:
    rest = BodyParams.rest(2)
    with pytest.raises(ValueError, match=r"shape must be \[2, 20\], got \[2, 10\]"):
        BodyParams(rest.pose, torch.zeros(2, 10), rest.expression, rest.translation)


def test_not_a_body(tmp_path: Path) -> None:
    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    with pytest.raises(ValueError, match="not a body in SMPL-X's npz format"):
        load_body(text)
    np.savez(tmp_path / "part.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="lacks f, weights"):
        load_body(tmp_path / "part.npz")
    with pytest.raises(FileNotFoundError):
        load_body(tmp_path / "missing.npz")


def test_pose_correctives_are_referred_to_the_licensed_loader(tmp_path: Path) -> None:
    with np.load(FREE_BODY) as archive:
        arrays = dict(archive)
    arrays["posedirs"][0, 0, 0] = 1
    np.savez(tmp_path / "licensed.npz", **arrays)
    with pytest.raises(ValueError, match="load_licensed_body"):
        load_body(tmp_path / "licensed.npz")


def test_a_single_body_needs_no_batch_dimension(body: Body) -> None:
    batch = BodyParams.rest(1)
    single = body(batch[0])
    assert single.vertices.shape == (body.num_vertices, 3)
    assert torch.equal(single.vertices, body(batch).vertices[0])

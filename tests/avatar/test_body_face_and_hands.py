"""The free body's facial actions, eyes and fingers move the right part the right way."""

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
from avatarmill.avatar.parts import PARTS

FINGERS = ("thumb", "index", "middle", "ring", "pinky")


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def actions() -> tuple[str, ...]:
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        return tuple(archive["expression_names"].tolist())


@pytest.fixture(scope="module")
def landmarks(body: Body) -> Tensor:
    """[51, 3] iBUG's inner points: brows 0-9, nose 10-18, eyes 19-30, lips 31-50."""
    return _landmarks(body, body.template)


def _landmarks(body: Body, vertices: Tensor) -> Tensor:
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        face = torch.from_numpy(archive["lmk_faces_idx"])
        bary = torch.from_numpy(archive["lmk_bary_coords"])
    return (vertices[body.faces[face]] * bary[..., None]).sum(1)


def moved(body: Body, names: tuple[str, ...], *acting: str) -> Tensor:
    """[51, 3] how far the face's landmarks go under full actions."""
    offset = body.exprdirs[:, :, [names.index(name) for name in acting]].sum(-1)
    return _landmarks(body, body.template + offset) - _landmarks(body, body.template)


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_a_blink_closes_the_eye_of_its_side(
    side: str, body: Body, actions: tuple[str, ...], landmarks: Tensor
) -> None:
    # Upper lids are points 2 and 3 of each eye, lower ones 5 and 6; the right eye comes first.
    right, left = ([20, 21], [24, 23]), ([26, 27], [30, 29])
    (upper, lower), (still, _) = (left, right) if side == "Left" else (right, left)
    shift = moved(body, actions, f"eyeBlink{side}")
    open_gap = (landmarks[upper, 1] - landmarks[lower, 1]).mean()
    gap = open_gap + (shift[upper, 1] - shift[lower, 1]).mean()
    assert open_gap > 0.006 and gap < 0.4 * open_gap
    assert shift[still].abs().max() < 5e-4


def test_brows_rise_and_fall(body: Body, actions: tuple[str, ...]) -> None:
    up = moved(body, actions, "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
    down = moved(body, actions, "browDownLeft", "browDownRight")
    assert up[:10, 1].mean() > 0.004 and down[:10, 1].mean() < -0.003
    assert up[31:].abs().max() < 1e-3


def test_the_jaw_opens_by_action_and_by_joint(body: Body, actions: tuple[str, ...]) -> None:
    lower, upper = [31 + 9, 31 + 18], [31 + 3, 31 + 14]  # outer and inner middle of the lips
    shift = moved(body, actions, "jawOpen")
    assert shift[lower, 1].mean() < -0.015 and shift[upper, 1].abs().max() < 0.004
    params = BodyParams.rest()
    params.pose[0, JOINT_NAMES.index("jaw"), 0] = 0.3
    turned = _landmarks(body, body(params).vertices[0]) - _landmarks(body, body.template)
    assert turned[lower, 1].mean() < -0.008 and turned[:19].abs().max() < 1e-4


def test_a_smile_lifts_and_widens_the_mouth(
    body: Body, actions: tuple[str, ...], landmarks: Tensor
) -> None:
    right, left = 31, 31 + 6
    shift = moved(body, actions, "mouthSmileLeft", "mouthSmileRight")
    assert landmarks[left, 0] > 0 > landmarks[right, 0]
    assert shift[left, 0] > 0.003 and shift[right, 0] < -0.003
    assert (shift[[left, right], 1] > 0.003).all()
    assert moved(body, actions, "mouthSmileLeft")[left].norm() > 3 * (
        moved(body, actions, "mouthSmileLeft")[right].norm()
    )
    frown = moved(body, actions, "mouthFrownLeft", "mouthFrownRight")
    assert (frown[[left, right], 1] < -0.002).all()


def test_a_pucker_narrows_the_mouth_and_pushes_it_out(body: Body, actions: tuple[str, ...]) -> None:
    shift = moved(body, actions, "mouthPucker")
    assert shift[31 + 6, 0] < -0.004 and shift[31, 0] > 0.004
    assert shift[[31 + 3, 31 + 9], 2].mean() > 0.001


def test_no_facial_action_moves_a_joint_of_the_body(body: Body) -> None:
    _, still = body.rest(torch.zeros(NUM_SHAPE), torch.zeros(NUM_EXPRESSION))
    _, joints = body.rest(torch.zeros(NUM_EXPRESSION, NUM_SHAPE), torch.eye(NUM_EXPRESSION))
    assert (joints - still).norm(dim=-1).max() < 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_eyes_turn_in_place(side: str, body: Body) -> None:
    joint = JOINT_NAMES.index(f"{side}_eye")
    ball = body.weights[:, joint] > 0.9
    params = BodyParams.rest()
    params.pose[0, joint, 1] = 0.5  # about y: to the character's left
    vertices = body(params).vertices[0]
    pupil = torch.where(ball, body.template[:, 2], -torch.inf).argmax()
    assert vertices[pupil, 0] - body.template[pupil, 0] > 0.003
    middle = (vertices[ball].amax(0) + vertices[ball].amin(0)) / 2
    before = (body.template[ball].amax(0) + body.template[ball].amin(0)) / 2
    assert (middle - before).norm() < 1.5e-3
    torch.testing.assert_close(
        vertices[~ball & (body.weights[:, joint] == 0)],
        body.template[~ball & (body.weights[:, joint] == 0)],
        atol=1e-5,
        rtol=0,
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("finger", FINGERS)
@pytest.mark.parametrize("phalanx", [1, 2, 3])
def test_every_finger_joint_bends_its_own_finger(
    side: str, finger: str, phalanx: int, body: Body
) -> None:
    joint = JOINT_NAMES.index(f"{side}_{finger}{phalanx}")
    last = JOINT_NAMES.index(f"{side}_{finger}3")
    sign = 1.0 if side == "left" else -1.0
    params = BodyParams.rest()
    # Fingers curl down about z; a thumb swings across the palm about y.
    params.pose[0, joint, 1 if finger == "thumb" else 2] = (
        0.8 * sign * (1.0 if finger == "thumb" else -1.0)
    )
    shift = body(params).vertices[0] - body.template
    tip = body.weights[:, last] > 0.9
    assert shift[tip].norm(dim=1).mean() > 0.005
    if finger != "thumb":
        assert shift[tip, 1].mean() < -0.004
    far = [JOINT_NAMES.index(f"{side}_{other}3") for other in FINGERS if other != finger]
    assert shift[body.weights[:, far].sum(1) > 0.9].abs().max() < 1e-5


def test_the_hand_space_is_a_basis_of_grasps() -> None:
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        arrays = dict(archive)
    mirror = np.tile([1.0, -1.0, -1.0], 15)
    for side in "lr":
        components = arrays[f"hands_components{side}"]
        np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-5)
    np.testing.assert_allclose(arrays["hands_meanr"], arrays["hands_meanl"] * mirror)
    # On average fingers are a little curled, about -z on the left.
    assert (arrays["hands_meanl"].reshape(15, 3)[:12, 2] < -0.1).all()


def test_the_file_has_smplx_shapes_and_types(body: Body) -> None:
    vertices, faces = body.num_vertices, len(body.faces)
    expected = {
        "v_template": ("float32", (vertices, 3)),
        "f": ("uint32", (faces, 3)),
        "shapedirs": ("float32", (vertices, 3, 400)),
        "posedirs": ("float16", (vertices, 3, 486)),
        "J_regressor": ("float32", (NUM_JOINTS, vertices)),
        "weights": ("float32", (vertices, NUM_JOINTS)),
        "kintree_table": ("int64", (2, NUM_JOINTS)),
        "hands_componentsl": ("float32", (45, 45)),
        "hands_meanr": ("float32", (45,)),
        "lmk_faces_idx": ("int64", (51,)),
        "lmk_bary_coords": ("float32", (51, 3)),
        "dynamic_lmk_faces_idx": ("int64", (79, 17)),
        "dynamic_lmk_bary_coords": ("float32", (79, 17, 3)),
        "ft": ("uint32", (faces, 3)),
        "vertex_part": ("uint8", (vertices,)),
    }
    with np.load(FREE_BODY, allow_pickle=False) as archive:
        for name, (dtype, shape) in expected.items():
            assert (archive[name].dtype.name, archive[name].shape) == (dtype, shape), name
            assert archive[name].dtype.kind in "iu" or np.isfinite(archive[name]).all()
        np.testing.assert_allclose(archive["lmk_bary_coords"].sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(archive["dynamic_lmk_bary_coords"].sum(2), 1, atol=1e-5)


def test_the_texture_layout_does_not_fold(body: Body) -> None:
    corners = body.texture_uv[body.texture_faces]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert (area.abs() > 0).float().mean() > 0.99
    # Texture area follows surface area: no part of the body is squeezed to nothing.
    part = body.face_part
    for label, name in enumerate(PARTS):
        assert area[part == label].abs().sum() > 1e-3, name

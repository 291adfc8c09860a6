"""Anchors are nested, cover the visible surface, and belong to one body."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avatarmill.avatar.anchors import MAX_ANCHORS, Anchors, load_anchors
from avatarmill.avatar.body import FREE_BODY, Body, BodyParams, load_body
from avatarmill.avatar.parts import HAND_PARTS, HEAD_PARTS, part_ids
from avatarmill.avatar.skinning import skin_points


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def nano(body: Body) -> Anchors:
    return load_anchors(body, 1024)


def share(anchors: Anchors, names: tuple[str, ...]) -> float:
    labels = torch.tensor(part_ids(*names))
    return float(torch.isin(anchors.part.long(), labels).float().mean())


def test_smaller_sets_are_prefixes(body: Body, nano: Anchors) -> None:
    every = load_anchors(body, MAX_ANCHORS)
    assert len(nano) == 1024 and len(every) == MAX_ANCHORS
    assert torch.equal(every.face[:1024], nano.face)
    assert torch.equal(every.barycentric[:1024], nano.barycentric)
    assert torch.equal(every.weights[:1024], nano.weights)
    assert every.fingerprint == nano.fingerprint == body.fingerprint


@pytest.mark.parametrize("count", [1024, MAX_ANCHORS])
def test_head_gets_a_quarter_and_hands_an_eighth(body: Body, count: int) -> None:
    anchors = load_anchors(body, count)
    assert share(anchors, HEAD_PARTS) == pytest.approx(0.25, abs=0.03)
    assert share(anchors, HAND_PARTS) == pytest.approx(0.12, abs=0.02)


def test_no_anchor_on_inner_surfaces(body: Body) -> None:
    anchors = load_anchors(body, MAX_ANCHORS)
    assert not body.vertex_inner[anchors.triangle].any()


def test_anchors_are_spread(nano: Anchors) -> None:
    special = torch.isin(nano.part.long(), torch.tensor(part_ids(*HEAD_PARTS, *HAND_PARTS)))

    def nearest(points: torch.Tensor) -> torch.Tensor:
        return torch.cdist(points, points).fill_diagonal_(1.0).amin(1)

    # 640 points on about 1.6 m^2: an even spread keeps them some 4 cm apart, but for a few
    # beside the denser head and hands.
    assert nearest(nano.position[~special]).quantile(0.02) > 0.035
    assert nearest(nano.position).amin() > 0.006


def test_position_normal_and_weights_come_from_the_face(body: Body, nano: Anchors) -> None:
    torch.testing.assert_close(nano.points(body.template), nano.position)
    torch.testing.assert_close(nano.normals(body.template), nano.normal)
    torch.testing.assert_close(nano.barycentric.sum(1), torch.ones(len(nano)), atol=1e-5, rtol=0)
    torch.testing.assert_close(nano.weights.sum(1), torch.ones(len(nano)), atol=1e-5, rtol=0)
    # Outward: a step along the normal leaves the torso, whose middle is the y axis.
    front = (nano.part == part_ids("torso")[0]) & (nano.position[:, 2] > 0.1)
    assert (nano.normal[front, 2] > 0).all()


def test_skinned_anchors_stay_close_to_the_posed_surface(body: Body, nano: Anchors) -> None:
    random = torch.Generator().manual_seed(0)
    rest = BodyParams.rest(2)
    pose = rest.pose + 0.3 * torch.randn(rest.pose.shape, generator=random)
    mesh = body(BodyParams(pose, rest.shape, rest.expression, rest.translation))
    surface = nano.points(mesh.vertices)
    skinned = skin_points(nano.position, nano.weights, mesh.transforms)
    assert surface.shape == (2, 1024, 3)
    # Interpolating weights and interpolating skinned corners differ a little at creases.
    assert (surface - skinned).norm(dim=-1).max() < 0.005


def test_another_body_derives_its_own(tmp_path: Path, nano: Anchors) -> None:
    with np.load(FREE_BODY) as archive:
        arrays = dict(archive)
    arrays["v_template"] = arrays["v_template"] * np.float32(1.1)
    np.savez(tmp_path / "other.npz", **arrays)
    other = load_body(tmp_path / "other.npz")
    derived = load_anchors(other, 64)
    assert derived.fingerprint == other.fingerprint != nano.fingerprint
    assert len(derived) == 64 and not other.vertex_inner[derived.triangle].any()


@pytest.mark.parametrize("count", [0, MAX_ANCHORS + 1])
def test_impossible_counts_are_refused(body: Body, count: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 8192, got {count}"):
        load_anchors(body, count)

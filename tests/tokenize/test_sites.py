"""Sites lie on the outer surface, near their anchors, and move with the body."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatarmill.avatar.anchors import load_anchors
from avatarmill.avatar.body import Body, BodyParams
from avatarmill.tokenize.sites import Sites
from avatarmill.tokenize.triangles import closest_barycentric

COUNT, EACH = 256, 8


@pytest.fixture(scope="module")
def sites(body: Body) -> Sites:
    return Sites.around(body, load_anchors(body, count=COUNT), EACH)


def test_sites_stay_near_their_anchor(body: Body, sites: Sites) -> None:
    anchors = load_anchors(body, count=COUNT)
    points = sites.points(body.template).unflatten(0, (COUNT, EACH))
    away = (points - anchors.position[:, None]).norm(dim=-1)
    assert (away < 3.0 * sites.spacing.view(COUNT, EACH) * EACH**0.5).all()


def test_sites_of_one_anchor_are_distinct(body: Body, sites: Sites) -> None:
    points = sites.points(body.template).unflatten(0, (COUNT, EACH))
    gaps = torch.cdist(points, points) + 9.0 * torch.eye(EACH)
    assert (gaps.amin((1, 2)) > 1e-4).float().mean() > 0.98


def test_frames_are_rotations_with_outward_normals(body: Body, sites: Sites) -> None:
    identity = sites.frame.transpose(1, 2) @ sites.frame
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    assert (torch.linalg.det(sites.frame) > 0.99).all()
    anchors = load_anchors(body, count=COUNT)
    own = anchors.normal.repeat_interleave(EACH, 0)
    assert ((sites.frame[..., 2] * own).sum(-1) > 0.0).float().mean() > 0.99


def test_no_site_is_inside_mouth_or_eye_sockets(body: Body, sites: Sites) -> None:
    assert not body.vertex_inner[sites.vertices].any()


def test_mirror_is_an_involution_almost_everywhere(sites: Sites) -> None:
    there_and_back = sites.mirror[sites.mirror]
    same = (there_and_back == torch.arange(COUNT)).float().mean()
    assert same > 0.6


def test_sites_follow_the_shape(body: Body, sites: Sites) -> None:
    params = BodyParams.rest(1)
    shape = params.shape.clone()
    shape[0, 0] = 2.0
    vertices, _ = body.rest(shape, params.expression)
    assert sites.points(vertices).shape == (1, COUNT * EACH, 3)
    assert (sites.points(vertices)[0] - sites.points(body.template)).norm(dim=-1).max() > 0.01


def test_the_same_body_gives_the_same_sites(body: Body, sites: Sites) -> None:
    again = Sites.around(body, load_anchors(body, count=COUNT), EACH)
    assert torch.equal(again.vertices, sites.vertices)
    assert torch.equal(again.barycentric, sites.barycentric)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_closest_point_beats_a_dense_sampling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    triangle, point = rng.normal(size=(1, 1, 3, 3)), rng.normal(size=(1, 3))
    barycentric, distance = closest_barycentric(point, triangle)
    assert (barycentric >= 0).all()
    np.testing.assert_allclose(barycentric.sum(-1), 1.0, atol=1e-12)
    samples = rng.dirichlet(np.ones(3), size=2000) @ triangle[0, 0]
    nearest = np.linalg.norm(samples - point, axis=1).min()
    assert distance[0, 0] <= nearest + 1e-9
    foot = barycentric[0, 0] @ triangle[0, 0]
    np.testing.assert_allclose(np.linalg.norm(foot - point[0]), distance[0, 0], atol=1e-12)

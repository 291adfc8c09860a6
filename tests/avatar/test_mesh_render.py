"""The mesh renderer on scenes whose pixels can be worked out by hand."""

import numba
import numpy as np
import pytest

from avatarmill.avatar.mesh_render import Lamp, Texture, render_mesh, vertex_normals

LENS = np.array([[20.0, 0, 10], [0, 20.0, 10], [0, 0, 1]])
HEAD_ON = Lamp((0, 0, -1), ambient=0.25, directional=0.5)

# A square of 1 m at 2 m that fills the middle 10 x 10 pixels; counter-clockwise for the camera.
SQUARE = np.array([[-0.5, 0.5, 2], [0.5, 0.5, 2], [0.5, -0.5, 2], [-0.5, -0.5, 2]])
FACES = np.array([[0, 2, 1], [0, 3, 2]])[:, ::-1]
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)


def white() -> np.ndarray:
    return np.ones(3, np.float32)


def test_a_head_on_square_has_exact_pixels() -> None:
    image = render_mesh(SQUARE, FACES, LENS, 20, 20, paint=white(), lamp=HEAD_ON)
    expected = np.zeros((20, 20), bool)
    expected[5:15, 5:15] = True
    np.testing.assert_array_equal(image.mask, expected)
    np.testing.assert_allclose(image.color[expected], 0.75, atol=1e-6)
    assert not image.color[~expected].any() and np.isinf(image.depth[~expected]).all()
    np.testing.assert_allclose(image.depth[expected], 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("toward", "brightness"),
    [((0, 0, -3), 0.75), ((1, 0, -1), 0.25 + 0.5 / 2**0.5), ((1, 0, 0), 0.25), ((0, 0, 1), 0.25)],
)
def test_light_falls_by_the_cosine(toward: tuple[float, float, float], brightness: float) -> None:
    lamp = Lamp(toward, ambient=0.25, directional=0.5)
    for faces in (FACES, FACES[:, ::-1]):  # the back of a face is lit like its front
        image = render_mesh(SQUARE, faces, LENS, 20, 20, paint=white(), lamp=lamp)
        np.testing.assert_allclose(image.color[10, 10], brightness, atol=1e-6)


def test_light_comes_from_where_the_lamp_is() -> None:
    # A tent whose left side faces left: lit from the left it is the brighter one.
    tent = np.array([[-0.5, -0.5, 2], [-0.5, 0.5, 2], [0, -0.5, 1.5], [0, 0.5, 1.5],
                     [0, -0.5, 1.5], [0, 0.5, 1.5], [0.5, -0.5, 2], [0.5, 0.5, 2]])  # fmt: skip
    faces = np.array([[0, 1, 2], [2, 1, 3], [4, 5, 6], [6, 5, 7]])
    for side, bright, dark in ((-1, slice(5, 10), 12), (1, slice(10, 15), 7)):
        image = render_mesh(tent, faces, LENS, 20, 20, paint=white(), lamp=Lamp((side, 0, -0.1)))
        cosine = 1.1 / (2 * 1.01) ** 0.5
        np.testing.assert_allclose(image.color[10, bright, 0], 0.35 + 0.65 * cosine, atol=1e-6)
        np.testing.assert_allclose(image.color[10, dark, 0], 0.35, atol=1e-6)


def test_light_never_exceeds_the_colour() -> None:
    lamp = Lamp((0, 0, -1), ambient=0.8, directional=0.9)
    paint = np.array([0.2, 0.4, 0.6], np.float32)
    image = render_mesh(SQUARE, FACES, LENS, 20, 20, paint=paint, lamp=lamp)
    np.testing.assert_allclose(image.color[10, 10], paint, atol=1e-6)


def test_texture_is_upright() -> None:
    # Ten by ten texels on ten by ten pixels: every pixel centre is a texel centre.
    texture = np.random.default_rng(0).random((10, 10, 3), np.float32)
    lamp = Lamp(ambient=1.0, directional=0.0)
    glued = Texture(texture, UV, FACES)
    image = render_mesh(SQUARE, FACES, LENS, 20, 20, paint=glued, lamp=lamp)
    np.testing.assert_allclose(image.color[5:15, 5:15], texture, atol=1e-5)


def test_texture_repeats_and_blends() -> None:
    stripes = np.array([[[0.0] * 3, [1.0] * 3]], np.float32)
    lamp = Lamp(ambient=1.0, directional=0.0)
    glued = Texture(stripes, UV * 2, FACES)
    row = render_mesh(SQUARE, FACES, LENS, 20, 20, paint=glued, lamp=lamp).color[10, 5:15, 0]
    u = (np.arange(10) + 0.5) / 10 * 2
    distance = np.abs((u * 2 - 0.5) % 2 - 1)  # from the middle of a white stripe, in texels
    np.testing.assert_allclose(row, 1 - distance, atol=1e-5)


def test_vertex_colours_are_interpolated_in_perspective() -> None:
    slope = np.array([[-0.5, 0.5, 1.0], [0.5, 0.5, 4], [0.5, -0.5, 4], [-0.5, -0.5, 1]])
    paint = np.repeat(np.array([[0.0], [1], [1], [0]], np.float32), 3, axis=1)
    image = render_mesh(
        slope, FACES, LENS, 20, 20, paint=paint, lamp=Lamp(ambient=1.0, directional=0.0)
    )
    row, columns = image.color[10, :, 0], np.flatnonzero(image.mask[10])
    # Points of the slope satisfy x = s - 0.5, z = 1 + 3 s and 20 x / z + 10 = u.
    ray = (columns + 0.5 - 10) / 20
    np.testing.assert_allclose(row[columns], (ray + 0.5) / (1 - 3 * ray), atol=1e-5)


def test_smooth_normals_weigh_faces_by_area() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 3], [9, 9, 9]])
    normals = vertex_normals(points, np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(normals[0], np.array([3, 0, 1]) / 10**0.5)
    np.testing.assert_allclose(normals[1], [0, 0, 1])
    assert not normals[4].any()


def test_the_same_bits_whatever_the_number_of_threads() -> None:
    generator = np.random.default_rng(1)
    points = generator.normal(size=(60, 3)) * 0.3 + [0, 0, 2]
    faces = generator.integers(0, 60, (200, 3))
    paint = generator.random((60, 3), np.float32)
    threads, images = numba.get_num_threads(), []
    for workers in (1, threads):
        numba.set_num_threads(workers)
        images.append(render_mesh(points, faces, LENS * 2, 40, 40, paint=paint).color)
    np.testing.assert_array_equal(images[0], images[1])


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match=r"paint must be \[3\] or \[4, 3\], got \[5, 3\]"):
        render_mesh(SQUARE, FACES, LENS, 9, 9, paint=np.ones((5, 3), np.float32))
    image = np.ones((2, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"texture faces must be \[2, 3\], got \[1, 3\]"):
        render_mesh(SQUARE, FACES, LENS, 9, 9, paint=Texture(image, UV, FACES[:1]))
    with pytest.raises(ValueError, match=r"name rows 1\.\.4 of 4 uv"):
        Texture(image, UV, FACES + 1)
    with pytest.raises(ValueError, match=r"uv must be \[T, 2\]"):
        Texture(image, UV[:, :1], FACES)
    with pytest.raises(ValueError, match=r"image must be \[h, w, 3\]"):
        Texture(image[0], UV, FACES)
    with pytest.raises(ValueError, match="give the lamp a direction"):
        Lamp((0, 0, 0))
    with pytest.raises(ValueError, match="cannot be negative"):
        Lamp(ambient=-1.0)

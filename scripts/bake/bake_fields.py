"""Derived fields of the baked file: joint regressor, hand poses, inner surfaces, body parts."""

import numpy as np
from bake_joints import JOINT_NAMES
from numpy.typing import NDArray

Array = NDArray[np.float64]

REGRESSOR_DIRECTIONS = 150
# Misfit in metres that is worth a regressor weight of one: keeps weights small and spread.
RIDGE_METRES = 1e-4
# Order of the labels in `avatarmill.avatar.parts`.
PARTS = (
    *("head", "face", "scalp", "neck", "torso", "hips"),
    *("left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm"),
    *("left_hand", "right_hand", "left_thigh", "right_thigh"),
    *("left_shin", "right_shin", "left_foot", "right_foot"),
)


def fit_joint_regressor(
    vertices: Array, joints: Array, expressions: Array, inner: NDArray[np.bool_]
) -> Array:
    """Sparse regressor [55, V] whose rows sum to one; some weights are negative.

    Fitted over bodies `vertices` [N, V, 3] with centres `joints` [N, 55, 3], each joint from
    the nearest outer vertices around it, so that joints follow shape and nothing far away does.
    Facial actions `expressions` [E, V, 3] must not move any joint. Weights of one sign cannot
    follow joints that lie under one side of the skin, as the knees and the upper spine do.
    """
    mean, centres = vertices.mean(0), joints.mean(0)
    usable = np.flatnonzero(~inner)  # the tongue is near the jaw's joint and moves on its own
    regressor = np.zeros((joints.shape[1], vertices.shape[1]))
    for joint, centre in enumerate(centres):
        near = usable[_around(mean[usable], centre)]
        offsets = vertices[:, near] - joints[:, joint, None]
        system = np.vstack(
            (
                offsets.transpose(0, 2, 1).reshape(-1, len(near)) / np.sqrt(len(vertices)),
                expressions[:, near].transpose(0, 2, 1).reshape(-1, len(near)),
                np.ones(len(near)),
            )
        )
        target = np.append(np.zeros(len(system) - 1), 1.0)
        normal = system.T @ system + RIDGE_METRES**2 * np.eye(len(near))
        solution = np.linalg.solve(normal, system.T @ target)
        regressor[joint, near] = solution / solution.sum()
    return regressor


def _around(points: Array, centre: Array) -> NDArray[np.int64]:
    # A joint deep in the body needs support on all sides: in each of many directions the
    # nearest few vertices, besides the nearest ones of all.
    offsets = points - centre
    distance = np.linalg.norm(offsets, axis=1)
    close = np.argsort(distance)[:4000]
    k = np.arange(REGRESSOR_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * k / REGRESSOR_DIRECTIONS, np.pi * (3 - np.sqrt(5)) * k
    radius = np.sqrt(1 - height**2)
    directions = np.stack((radius * np.cos(turn), height, radius * np.sin(turn)), axis=1)
    cosines = (offsets[close] / distance[close, None]) @ directions.T
    score = np.where(cosines > 0.95, distance[close, None], np.inf)
    best = np.argsort(score, axis=0)[:3]
    found = close[best[np.isfinite(np.take_along_axis(score, best, axis=0))]]
    return np.unique(np.concatenate((found, close[:60])))


def hand_space(seed: int, samples: int = 4000) -> tuple[Array, Array, Array, Array]:
    """Hand components [45, 45] and means [45], left then right, from sampled finger flexion.

    SMPL-X keeps a PCA of scanned hands here. Ours is a PCA of a simple grasp model: fingers
    flex together, then apart, with little spread. Joint order: index, middle, pinky, ring, thumb.
    """
    rng = np.random.default_rng(seed)
    together = rng.beta(1.2, 2.5, (samples, 1))
    each = np.clip(together + 0.25 * rng.normal(size=(samples, 5)), 0, 1)
    spread = 0.08 * rng.normal(size=(samples, 5))
    pose = np.zeros((samples, 5, 3, 3))
    # Left arm along +x, palm down: a finger bends about -z, and spreads about y.
    for k, limit in enumerate((1.3, 1.6, 1.1)):
        pose[:, :4, k, 2] = -limit * each[:, :4]
    pose[:, :4, 0, 1] = spread[:, :4]
    # The thumb swings across the palm: mostly about y (towards the fingers), some about x.
    pose[:, 4, 0, 1] = 0.35 * each[:, 4] + spread[:, 4]
    pose[:, 4, 0, 0] = 0.5 * each[:, 4]
    pose[:, 4, 1, 1] = 0.5 * each[:, 4]
    pose[:, 4, 2, 1] = 0.7 * each[:, 4]
    flat = pose.reshape(samples, 45) + 1e-3 * rng.normal(size=(samples, 45))
    mean = np.where(np.abs(flat.mean(0)) < 1e-3, 0, flat.mean(0))
    components = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2]
    components *= np.sign(components.sum(1, keepdims=True))
    mirror = np.tile([1.0, -1.0, -1.0], 15)  # axis-angle mirrored in the x = 0 plane
    return components, components * mirror, mean, mean * mirror


def vertex_parts(
    weights: Array, template: Array, joints: Array, plain: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Part label [V] of each vertex by its skinning weights, the head split by geometry.

    Vertices marked in `plain` [V] (ears, eyeballs, inner surfaces) are neither face nor scalp.
    """
    scores = np.zeros((len(weights), len(PARTS)))
    for joint, name in enumerate(JOINT_NAMES):
        scores[:, PARTS.index(_part_of_joint(name))] += weights[:, joint]
    parts = scores.argmax(1)
    head = parts == PARTS.index("head")
    eyes = joints[[JOINT_NAMES.index("left_eye"), JOINT_NAMES.index("right_eye")]].mean(0)
    x, y, z = template.T
    # Proportions of an upright head: hairline half way from eyes to crown, lower at the
    # temples; the face ends in front of the ears, hair at the nape.
    hairline = eyes[1] + 0.52 * (y[head].max() - eyes[1]) - 0.9 * np.maximum(np.abs(x) - 0.045, 0)
    ears = eyes[2] - 0.42 * (eyes[2] - z[head].min())
    front = (z > ears) & (y <= hairline)
    nape = eyes[1] - 0.055
    parts[head & ~front] = PARTS.index("scalp")
    parts[head & ~front & (y < nape)] = PARTS.index("neck")
    parts[head & front] = PARTS.index("face")
    parts[head & plain] = PARTS.index("head")
    labels: NDArray[np.uint8] = parts.astype(np.uint8)
    return labels


def _part_of_joint(name: str) -> str:
    side, _, rest = name.partition("_")
    limbs = {
        **{"hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "foot"},
        **{"shoulder": "upper_arm", "elbow": "forearm", "wrist": "hand"},
    }
    if rest in limbs:
        return f"{side}_{limbs[rest]}"
    if rest == "eye" or name in ("head", "jaw"):
        return "head"
    if rest == "collar" or name.startswith("spine"):
        return "torso"
    middle = {"pelvis": "hips", "neck": "neck"}
    return middle.get(name, f"{side}_hand")

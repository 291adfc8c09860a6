"""The inner loops of the track fit in numba: posing, and the normal equations of every frame.

Frames are spread over the cores; each is summed by one thread in a fixed order, so results do not
depend on the number of threads. Arithmetic is float64.
"""

import numpy as np
from numba import njit, prange

_TINY = 1e-12


@njit(cache=True, error_model="numpy")
def _rotate(vector, turn, jacobian):  # type: ignore[no-untyped-def]
    """Rotation matrix and left Jacobian of an axis-angle [3] (Barfoot, eq. 7.77)."""
    x, y, z = vector[0], vector[1], vector[2]
    square = x * x + y * y + z * z
    angle = np.sqrt(square)
    if angle < 1e-3:
        # The closed forms cancel near zero; the series are exact to 1e-15.
        sine, cosine = 1 - square / 6, 0.5 - square / 24
        cubic = 1 / 6 - square / 120
    else:
        sine, cosine = np.sin(angle) / angle, (1 - np.cos(angle)) / square
        cubic = (angle - np.sin(angle)) / (square * angle)
    cross = ((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0))
    outer = ((x * x, x * y, x * z), (x * y, y * y, y * z), (x * z, y * z, z * z))
    for i in range(3):
        for j in range(3):
            twice = outer[i][j] - (square if i == j else 0.0)
            same = 1.0 if i == j else 0.0
            turn[i, j] = same + sine * cross[i][j] + cosine * twice
            jacobian[i, j] = same + cosine * cross[i][j] + cubic * twice


@njit(cache=True, parallel=True, error_model="numpy")
def forward(parents, rest, root, pose, place, rotations, positions, axes):  # type: ignore[no-untyped-def]
    """Fills world rotations [T, 55, 3, 3], joints [T, 55, 3] and axes [T, 55, 3, 3].

    Columns of `axes` turn a change of a joint's axis-angle into a world rotation. Joint 0 turns by
    `root` [T, 3, 3] about the rest pelvis; `rest` is [T, 55, 3], `place` [T, 3] metres.
    """
    for t in prange(len(pose)):
        local, jacobian = np.empty((3, 3)), np.empty((3, 3))
        axes[t, 0] = np.eye(3)
        rotations[t, 0] = root[t]
        positions[t, 0] = rest[t, 0] + place[t]
        for joint in range(1, len(parents)):
            up = parents[joint]
            _rotate(pose[t, joint], local, jacobian)
            for i in range(3):
                moved = positions[t, up, i]
                for k in range(3):
                    moved += rotations[t, up, i, k] * (rest[t, joint, k] - rest[t, up, k])
                positions[t, joint, i] = moved
                for j in range(3):
                    turned = axis = 0.0
                    for k in range(3):
                        turned += rotations[t, up, i, k] * local[k, j]
                        axis += rotations[t, up, i, k] * jacobian[k, j]
                    rotations[t, joint, i, j] = turned
                    axes[t, joint, i, j] = axis


@njit(cache=True, error_model="numpy")
def _point(bones, weights, point, rest, rotations, positions, parts):  # type: ignore[no-untyped-def]
    """Posed place [3] of one skinned point; `parts` [K, 3] is how each bone alone moves it."""
    x = y = z = 0.0
    for slot in range(len(bones)):
        weight, bone = weights[slot], bones[slot]
        if weight == 0.0:
            continue
        for i in range(3):
            value = positions[bone, i]
            for k in range(3):
                value += rotations[bone, i, k] * (point[k] - rest[bone, k])
            parts[slot, i] = value
        x += weight * parts[slot, 0]
        y += weight * parts[slot, 1]
        z += weight * parts[slot, 2]
    return x, y, z


@njit(cache=True, error_model="numpy")
def _turn_columns(bones, weights, parts, parents, column, positions, axes, out):  # type: ignore[no-untyped-def]
    """Adds to `out` [3, C] how a point moves with the axis-angles of the joints above it."""
    for slot in range(len(bones)):
        weight, joint = weights[slot], bones[slot]
        if weight == 0.0:
            continue
        while joint >= 0:
            start = column[joint]
            if start >= 0:
                x = weight * (parts[slot, 0] - positions[joint, 0])
                y = weight * (parts[slot, 1] - positions[joint, 1])
                z = weight * (parts[slot, 2] - positions[joint, 2])
                for c in range(3):
                    a0, a1, a2 = axes[joint, 0, c], axes[joint, 1, c], axes[joint, 2, c]
                    out[0, start + c] += a1 * z - a2 * y
                    out[1, start + c] += a2 * x - a0 * z
                    out[2, start + c] += a0 * y - a1 * x
            joint = parents[joint]


@njit(cache=True, error_model="numpy")
def _blend_columns(bones, weights, dirs, joint_dirs, rotations, origins, start, out):  # type: ignore[no-untyped-def]
    """Adds to `out` [3, C], from column `start`, how a point moves with blend coefficients."""
    for slot in range(len(bones)):
        weight, bone = weights[slot], bones[slot]
        if weight == 0.0:
            continue
        for i in range(3):
            for d in range(dirs.shape[1]):
                value = origins[bone, i, d]
                for k in range(3):
                    value += rotations[bone, i, k] * (dirs[k, d] - joint_dirs[bone, k, d])
                out[i, start + d] += weight * value


@njit(cache=True, error_model="numpy")
def _origin_columns(parents, joint_dirs, rotations, origins):  # type: ignore[no-untyped-def]
    """Fills `origins` [55, 3, D]: how the joints move with blend coefficients."""
    origins[0] = joint_dirs[0]
    for joint in range(1, len(parents)):
        up = parents[joint]
        for i in range(3):
            for d in range(joint_dirs.shape[2]):
                value = origins[up, i, d]
                for k in range(3):
                    value += rotations[up, i, k] * (joint_dirs[joint, k, d] - joint_dirs[up, k, d])
                origins[joint, i, d] = value


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _add_row(row, total):  # type: ignore[no-untyped-def]
    """Adds the outer product of `row` [C] to the upper triangle of `total` [C, C]."""
    count = len(row)
    for a in range(count):
        value = row[a]
        if value != 0.0:
            for b in range(a, count):
                total[a, b] += value * row[b]


@njit(cache=True, error_model="numpy")
def _pixel_rows(point, columns, pixel, scale, focal, robust, focal_column, row, total):  # type: ignore[no-untyped-def]
    """Adds both rows of a landmark's reprojection; returns its robust cost.

    `scale` is 1/sigma in 1/pixel. Geman-McClure: half of r^2 / (1 + r^2 / s^2).
    """
    depth = max(point[2], 0.05)
    u, v = point[0] / depth, point[1] / depth
    first = (u * focal - pixel[0]) * scale
    second = (v * focal - pixel[1]) * scale
    square = first * first + second * second
    weight = 1 / (1 + square / (robust * robust))
    if total.shape[0] > 0:
        factor = weight * scale * focal / depth
        last = len(row) - 1
        for axis in range(2):
            plane = u if axis == 0 else v
            for c in range(last):
                row[c] = factor * (columns[axis, c] - plane * columns[2, c])
            if focal_column >= 0:
                row[focal_column] = weight * scale * focal * plane
            row[last] = weight * (first if axis == 0 else second)
            _add_row(row, total)
    return 0.5 * square * weight


@njit(cache=True, error_model="numpy")
def _bone_rows(start, stop, before, after, wanted, scale, robust, row, total):  # type: ignore[no-untyped-def]
    """Adds the three rows of a bone's direction against `wanted` [3]; returns its robust cost."""
    bone = stop - start
    length = max(np.sqrt(bone[0] * bone[0] + bone[1] * bone[1] + bone[2] * bone[2]), 1e-3)
    bone = bone / length
    error = (bone - wanted) * scale
    square = error[0] * error[0] + error[1] * error[1] + error[2] * error[2]
    weight = 1 / (1 + square / (robust * robust))
    if total.shape[0] > 0:
        factor, last = weight * scale / length, len(row) - 1
        for axis in range(3):
            for c in range(last):
                along = 0.0
                for k in range(3):
                    along += bone[k] * (after[k, c] - before[k, c])
                row[c] = factor * (after[axis, c] - before[axis, c] - bone[axis] * along)
            row[last] = weight * error[axis]
            _add_row(row, total)
    return 0.5 * square * weight


@njit(cache=True, error_model="numpy")
def _frame_columns(tree, blend, posed, layout, placed, columns):  # type: ignore[no-untyped-def]
    """Fills the points [L, 3] of one frame and how they move, `columns` [L, 3, C]."""
    parents, bones, weights = tree
    rest, points, joint_dirs, point_dirs = blend
    rotations, positions, axes = posed
    column, place_column, blend_column, _ = layout
    moving, blended = columns.shape[2] > 0, joint_dirs.shape[2] > 0
    parts = np.empty((bones.shape[1], 3))
    origins = np.empty((len(parents), 3, joint_dirs.shape[2]))
    if moving and blended:
        _origin_columns(parents, joint_dirs, rotations, origins)
    for p in range(len(bones)):
        x, y, z = _point(bones[p], weights[p], points[p], rest, rotations, positions, parts)
        placed[p, 0], placed[p, 1], placed[p, 2] = x, y, z
        if not moving:
            continue
        own = columns[p]
        _turn_columns(bones[p], weights[p], parts, parents, column, positions, axes, own)
        if place_column >= 0:
            for i in range(3):
                own[i, place_column + i] = 1.0
        if blended:
            _blend_columns(
                bones[p],
                weights[p],
                point_dirs[p],
                joint_dirs,
                rotations,
                origins,
                blend_column,
                own,
            )


@njit(cache=True, parallel=True, error_model="numpy")
def accumulate(tree, blends, posed, layout, seen, known, lens, totals, costs):  # type: ignore[no-untyped-def]
    """Fills the normal equations of every frame, and the cost of what it shows.

    Args:
        tree: parents [55], bones [L, K], weights [L, K].
        blends: rest joints [T, 55, 3], rest points [T, L, 3], then directions of joints [55, 3, D]
            and points [L, 3, D] in the coefficients that move; D may be 0.
        posed: rotations, positions and axes as of `forward`.
        layout: columns of the joints [55] (-1: fixed), and the first of the place, of the blend
            coefficients and of the focal length (-1: fixed).
        seen: pixels [T, N, 2] of the first N points from the principal point, and [T, N] 1/sigma
            in 1/pixel, 0 where nothing was seen.
        known: pairs of points [B, 2], their directions [T, B, 3], and [T, B] 1/sigma in 1/radian,
            0 where it is not known.
        lens: focal length in pixels, Geman-McClure scale in sigmas.
        totals: [T, C, C] upper triangles of J'J with the residual as last column, added to; C is
            0 when only the cost is wanted.
        costs: [T] filled.
    """
    rest, points, joint_dirs, point_dirs = blends
    rotations, positions, axes = posed
    pixels, pixel_scale = seen
    pairs, directions, direction_scale = known
    focal, robust = lens
    for t in prange(len(costs)):
        size = totals.shape[1]
        row = np.zeros(size)
        placed = np.empty((points.shape[1], 3))
        columns = np.zeros((points.shape[1], 3, max(size - 1, 0)))
        _frame_columns(
            tree,
            (rest[t], points[t], joint_dirs, point_dirs),
            (rotations[t], positions[t], axes[t]),
            layout,
            placed,
            columns,
        )
        cost, total = 0.0, totals[t]
        for p in range(pixels.shape[1]):
            scale = pixel_scale[t, p]
            if scale > 0:
                pixel, own = pixels[t, p], columns[p]
                cost += _pixel_rows(
                    placed[p], own, pixel, scale, focal, robust, layout[3], row, total
                )
        for b in range(len(pairs)):
            scale = direction_scale[t, b]
            if scale > 0:
                first, last = pairs[b, 0], pairs[b, 1]
                start, stop, wanted = placed[first], placed[last], directions[t, b]
                before, after = columns[first], columns[last]
                cost += _bone_rows(start, stop, before, after, wanted, scale, robust, row, total)
        costs[t] = cost

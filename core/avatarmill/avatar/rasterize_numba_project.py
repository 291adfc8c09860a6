"""Projection of Gaussians to screen ellipses in numba, with its exact backward pass.

Notation of both kernels: W = J R (2x3) is the linearised projection times the camera rotation,
M = Q diag(s) the Gaussian's square root covariance, A = W M (2x3), so that the screen covariance is
A A^T and its determinant is |A0 x A1|^2, which is never negative, unlike xx yy - xy^2 in floats.
Arithmetic is float64 on float32 arrays: it costs little here and keeps gradients exact.
"""

import numpy as np
from numba import njit, prange

from avatarmill.avatar.rasterize_rules import (
    ALPHA_THRESHOLD,
    EPS2D,
    FRUSTUM_MARGIN,
    NEAR_PLANE,
    TILE,
)

# Columns of a screen splat.
X, Y, CONIC_XX, CONIC_XY, CONIC_YY, OPACITY, DEPTH, REACH = range(8)
SPLAT_WIDTH = 8


@njit(cache=True, inline="always")
def rotation_matrix(w, x, y, z, out):  # type: ignore[no-untyped-def]
    """Rotation of a unit quaternion wxyz, written to `out` [3, 3]."""
    out[0, 0], out[0, 1], out[0, 2] = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
    )
    out[1, 0], out[1, 1], out[1, 2] = (
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
    )
    out[2, 0], out[2, 1], out[2, 2] = (
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )


@njit(cache=True, error_model="numpy")
def _linearise(mean, rotation, scale, intrinsics, pose, width, height, work):  # type: ignore[no-untyped-def]
    """Fill `work` for one Gaussian; returns camera-space (x, y, z), clamped (u, v), 1 / |q|.

    work[0] = Q, work[1] = M, work[2, :2] = W, work[3, :2] = A.
    """
    x = pose[0, 0] * mean[0] + pose[0, 1] * mean[1] + pose[0, 2] * mean[2] + pose[0, 3]
    y = pose[1, 0] * mean[0] + pose[1, 1] * mean[1] + pose[1, 2] * mean[2] + pose[1, 3]
    z = pose[2, 0] * mean[0] + pose[2, 1] * mean[1] + pose[2, 2] * mean[2] + pose[2, 3]
    q0, q1 = np.float64(rotation[0]), np.float64(rotation[1])
    q2, q3 = np.float64(rotation[2]), np.float64(rotation[3])
    inverse_norm = 1.0 / max(np.sqrt(q0 * q0 + q1 * q1 + q2 * q2 + q3 * q3), 1e-12)
    q0, q1, q2, q3 = q0 * inverse_norm, q1 * inverse_norm, q2 * inverse_norm, q3 * inverse_norm
    rotation_matrix(q0, q1, q2, q3, work[0])
    fx, fy = np.float64(intrinsics[0, 0]), np.float64(intrinsics[1, 1])
    cx, cy = np.float64(intrinsics[0, 2]), np.float64(intrinsics[1, 2])
    inverse_z = 1.0 / z
    margin_x, margin_y = FRUSTUM_MARGIN * width, FRUSTUM_MARGIN * height
    inverse_fx, inverse_fy = 1.0 / fx, 1.0 / fy
    u = min(max(x / z, -(cx + margin_x) * inverse_fx), (width - cx + margin_x) * inverse_fx)
    v = min(max(y / z, -(cy + margin_y) * inverse_fy), (height - cy + margin_y) * inverse_fy)
    for j in range(3):
        work[2, 0, j] = (pose[0, j] - u * pose[2, j]) * (fx * inverse_z)
        work[2, 1, j] = (pose[1, j] - v * pose[2, j]) * (fy * inverse_z)
        for i in range(3):
            work[1, i, j] = work[0, i, j] * scale[j]
    for j in range(3):
        for i in range(2):
            work[3, i, j] = (
                work[2, i, 0] * work[1, 0, j]
                + work[2, i, 1] * work[1, 1, j]
                + work[2, i, 2] * work[1, 2, j]
            )
    return x, y, z, u, v, inverse_norm


@njit(cache=True, error_model="numpy")
def _covariance(work):  # type: ignore[no-untyped-def]
    """(xx, xy, yy, determinant) of A A^T, before blurring."""
    a, b = work[3, 0], work[3, 1]
    xx = a[0] * a[0] + a[1] * a[1] + a[2] * a[2]
    xy = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    yy = b[0] * b[0] + b[1] * b[1] + b[2] * b[2]
    n0 = a[1] * b[2] - a[2] * b[1]
    n1 = a[2] * b[0] - a[0] * b[2]
    n2 = a[0] * b[1] - a[1] * b[0]
    return xx, xy, yy, n0 * n0 + n1 * n1 + n2 * n2


@njit(cache=True, parallel=True, error_model="numpy")
def project_forward(  # type: ignore[no-untyped-def]
    means, rotations, scales, opacities, intrinsics, poses, width, height, workers
):
    """Screen splats [C, N, 8] (columns above) and their half-open tile boxes [C, N, 4].

    The box (tx0, ty0, tx1, ty1) is empty (all zero) for Gaussians that are not drawn. REACH is the
    largest squared Mahalanobis distance with alpha at the threshold, 2 ln(255 opacity).
    """
    cameras, count = poses.shape[0], means.shape[0]
    splats = np.zeros((cameras, count, SPLAT_WIDTH), np.float32)
    boxes = np.zeros((cameras, count, 4), np.int32)
    jobs = cameras * count
    for worker in prange(workers):
        work = np.empty((4, 3, 3))
        for flat in range(jobs * worker // workers, jobs * (worker + 1) // workers):
            c, n = flat // count, flat % count
            pose = poses[c]
            z = pose[2, 0] * means[n, 0] + pose[2, 1] * means[n, 1] + pose[2, 2] * means[n, 2]
            if not z + pose[2, 3] >= NEAR_PLANE:
                continue
            x, y, z, _, _, _ = _linearise(
                means[n], rotations[n], scales[n], intrinsics[c], pose, width, height, work
            )
            xx, xy, yy, det_sharp = _covariance(work)
            det = det_sharp + EPS2D * (xx + yy + EPS2D)
            opacity = opacities[n] * np.sqrt(det_sharp / det)
            if not opacity >= ALPHA_THRESHOLD:
                continue
            reach = 2.0 * np.log(opacity / ALPHA_THRESHOLD)
            px = intrinsics[c, 0, 0] * x / z + intrinsics[c, 0, 2]
            py = intrinsics[c, 1, 1] * y / z + intrinsics[c, 1, 2]
            rx, ry = np.sqrt(reach * (xx + EPS2D)), np.sqrt(reach * (yy + EPS2D))
            # Pixel i is touched where its centre i + 0.5 lies within the ellipse's bounding box.
            x0, x1 = max(np.ceil(px - rx - 0.5), 0.0), min(np.floor(px + rx - 0.5), width - 1.0)
            y0, y1 = max(np.ceil(py - ry - 0.5), 0.0), min(np.floor(py + ry - 0.5), height - 1.0)
            if not (x0 <= x1 and y0 <= y1):
                continue
            boxes[c, n, 0], boxes[c, n, 2] = int(x0) // TILE, int(x1) // TILE + 1
            boxes[c, n, 1], boxes[c, n, 3] = int(y0) // TILE, int(y1) // TILE + 1
            splat = splats[c, n]
            splat[X], splat[Y], splat[DEPTH], splat[OPACITY], splat[REACH] = (
                px,
                py,
                z,
                opacity,
                reach,
            )
            inverse = 1.0 / det
            splat[CONIC_XX], splat[CONIC_XY] = (yy + EPS2D) * inverse, -xy * inverse
            splat[CONIC_YY] = (xx + EPS2D) * inverse
    return splats, boxes


@njit(cache=True, error_model="numpy")
def _conic_backward(work, grad, opacity, grad_a):  # type: ignore[no-untyped-def]
    """Gradient of A into grad_a [2, 3] from a splat's; returns that of the raw opacity."""
    xx, xy, yy, det_sharp = _covariance(work)
    r = 1.0 / (det_sharp + EPS2D * (xx + yy + EPS2D))
    bx, by = xx + EPS2D, yy + EPS2D
    compensation = np.sqrt(det_sharp * r)
    grad_compensation = grad[OPACITY] * opacity
    grad_r = grad[CONIC_XX] * by - grad[CONIC_XY] * xy + grad[CONIC_YY] * bx
    grad_det = -grad_r * r * r - 0.5 * grad_compensation * compensation * r
    # Drawn Gaussians have a compensation above the alpha threshold: no division by zero.
    grad_sharp = 0.5 * grad_compensation * compensation / det_sharp
    grad_xx = grad[CONIC_YY] * r + grad_det * by + grad_sharp * yy
    grad_yy = grad[CONIC_XX] * r + grad_det * bx + grad_sharp * xx
    grad_xy = -grad[CONIC_XY] * r - 2.0 * xy * (grad_det + grad_sharp)
    for j in range(3):
        grad_a[0, j] = 2.0 * grad_xx * work[3, 0, j] + grad_xy * work[3, 1, j]
        grad_a[1, j] = 2.0 * grad_yy * work[3, 1, j] + grad_xy * work[3, 0, j]
    return grad[OPACITY] * compensation


@njit(cache=True, error_model="numpy")
def _quaternion_backward(rotation, inverse_norm, g, out):  # type: ignore[no-untyped-def]
    """Add the gradient of an unnormalised quaternion from the gradient g [3, 3] of its rotation."""
    w, x = rotation[0] * inverse_norm, rotation[1] * inverse_norm
    y, z = rotation[2] * inverse_norm, rotation[3] * inverse_norm
    gw = 2 * (x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]))
    gx = 2 * (y * (g[0, 1] + g[1, 0]) + z * (g[0, 2] + g[2, 0]) + w * (g[2, 1] - g[1, 2]))
    gx -= 4 * x * (g[1, 1] + g[2, 2])
    gy = 2 * (x * (g[0, 1] + g[1, 0]) + z * (g[1, 2] + g[2, 1]) + w * (g[0, 2] - g[2, 0]))
    gy -= 4 * y * (g[0, 0] + g[2, 2])
    gz = 2 * (x * (g[0, 2] + g[2, 0]) + y * (g[1, 2] + g[2, 1]) + w * (g[1, 0] - g[0, 1]))
    gz -= 4 * z * (g[0, 0] + g[1, 1])
    along = gw * w + gx * x + gy * y + gz * z  # lengthening the quaternion changes nothing
    out[0] += (gw - along * w) * inverse_norm
    out[1] += (gx - along * x) * inverse_norm
    out[2] += (gy - along * y) * inverse_norm
    out[3] += (gz - along * z) * inverse_norm


@njit(cache=True, error_model="numpy")
def _camera_backward(grad, grad_w, camera_point, intrinsics, pose, out):  # type: ignore[no-untyped-def]
    """Add the gradient of the world mean through J, the screen position and the depth."""
    x, y, z, u, v = camera_point
    fx, fy = np.float64(intrinsics[0, 0]), np.float64(intrinsics[1, 1])
    # Gradient of J = [[fx / z, 0, -fx u / z], [0, fy / z, -fy v / z]] = W R^T where it is not zero.
    w0, w1, r0, r1, r2 = grad_w[0], grad_w[1], pose[0], pose[1], pose[2]
    j00 = w0[0] * r0[0] + w0[1] * r0[1] + w0[2] * r0[2]
    j11 = w1[0] * r1[0] + w1[1] * r1[1] + w1[2] * r1[2]
    j02 = w0[0] * r2[0] + w0[1] * r2[1] + w0[2] * r2[2]
    j12 = w1[0] * r2[0] + w1[1] * r2[1] + w1[2] * r2[2]
    grad_u, grad_v = -fx / z * j02, -fy / z * j12
    gx = fx / z * grad[X]
    gy = fy / z * grad[Y]
    gz = grad[DEPTH] - (fx * x * grad[X] + fy * y * grad[Y]) / (z * z)
    gz -= (fx * j00 + fy * j11) / (z * z)
    gz += (fx * u * j02 + fy * v * j12) / (z * z)
    if u == x / z:
        gx += grad_u / z
        gz -= grad_u * x / (z * z)
    if v == y / z:
        gy += grad_v / z
        gz -= grad_v * y / (z * z)
    for j in range(3):
        out[j] += pose[0, j] * gx + pose[1, j] * gy + pose[2, j] * gz


@njit(cache=True, error_model="numpy")
def _splat_backward(  # type: ignore[no-untyped-def]
    mean, rotation, scale, opacity, intrinsics, pose, width, height, grad, work, totals
):
    """Add a Gaussian's gradient through one camera to totals (columns as below, 0-10).

    `grad` [7] is the gradient of its splat; `work` [7, 3, 3] is scratch.
    """
    x, y, z, u, v, inverse_norm = _linearise(
        mean, rotation, scale, intrinsics, pose, width, height, work
    )
    grad_a, grad_w, grad_q = work[4], work[5], work[6]
    totals[10] += _conic_backward(work, grad, opacity, grad_a)
    for j in range(3):
        for i in range(2):
            grad_w[i, j] = (
                grad_a[i, 0] * work[1, j, 0]
                + grad_a[i, 1] * work[1, j, 1]
                + grad_a[i, 2] * work[1, j, 2]
            )
        for i in range(3):
            grad_m = work[2, 0, i] * grad_a[0, j] + work[2, 1, i] * grad_a[1, j]
            totals[7 + j] += work[0, i, j] * grad_m
            grad_q[i, j] = grad_m * scale[j]
    _quaternion_backward(rotation, inverse_norm, grad_q, totals[3:7])
    _camera_backward(grad, grad_w, (x, y, z, u, v), intrinsics, pose, totals[0:3])


@njit(cache=True, parallel=True, error_model="numpy")
def project_backward(  # type: ignore[no-untyped-def]
    means, rotations, scales, opacities, intrinsics, poses, width, height, boxes, starts, slots,
    workers,
):  # fmt: skip
    """Gradients of the Gaussians from the per-tile gradients, [N, 11 + D].

    Columns: mean 0-2, rotation 3-6, scale 7-9, opacity 10, then the channels. `slots` [E, 7 + D]
    holds each Gaussian's tiles one after the other from starts[c, n]; they are summed in that order
    and the cameras in theirs, so that the result never depends on threads.
    """
    count, channels = means.shape[0], slots.shape[1] - REACH
    grads = np.empty((count, 11 + channels), np.float32)
    for worker in prange(workers):
        work, grad, totals = np.zeros((7, 3, 3)), np.empty(REACH), np.empty(11 + channels)
        for n in range(count * worker // workers, count * (worker + 1) // workers):
            totals[:] = 0.0
            for c in range(poses.shape[0]):
                box = boxes[c, n]
                tiles = (box[2] - box[0]) * (box[3] - box[1])
                if tiles == 0:
                    continue
                grad[:] = 0.0
                for slot in range(starts[c, n], starts[c, n] + tiles):
                    for k in range(REACH):
                        grad[k] += slots[slot, k]
                    for k in range(channels):
                        totals[11 + k] += slots[slot, REACH + k]
                _splat_backward(
                    means[n], rotations[n], scales[n], opacities[n], intrinsics[c], poses[c],
                    width, height, grad, work, totals,
                )  # fmt: skip
            for k in range(11 + channels):
                grads[n, k] = totals[k]
    return grads

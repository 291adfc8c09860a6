"""What the crops of a clip show of each region of the body: colours, cloth and hair around it."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatarmill.avatar.body import Body, BodyParams
from avatarmill.avatar.zbuffer import mesh_zbuffer
from avatarmill.pipeline.caption_regions import (
    REGIONS,
    SurfaceRegions,
    surface_regions,
    vouching_joints,
)
from avatarmill.pipeline.crops import PADDING, Crops
from avatarmill.pipeline.types import Bytes, Float

SIDE = 256
"""Side the crops are shrunk to: noise averages out and the z-buffer is quick."""
OFFSETS = (0.025, 0.05, 0.09, 0.14)
"""Metres off the skin at which cloth and hair are looked for."""
_MIN_CONFIDENCE = 0.5
"""Confidence of a joint below which what is near it is not believed in that frame."""
_MIN_PIXELS = 24
"""Pixels over all crops below which a region counts as not seen."""
_MIN_POINTS = 6
_GRAZING = 0.55
"""Largest cosine to the line of sight of normals that lead off the body in the picture."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of R regions (`REGIONS`) over the frames of a clip; NaN where not seen."""

    color: Array
    """[R, 3] mean CIELAB of the better lit pixels."""
    mean: Array
    """[R, 3] mean CIELAB of all pixels."""
    spread: Array
    """[R, 3] standard deviation of CIELAB within a frame, over frames."""
    pixels: Array
    """[R] pixels over all frames, 0 where not seen."""
    fill: Array
    """[R, 4] share of the points `OFFSETS` off the body's outline that the mask holds."""
    fill_color: Array
    """[R, 3] mean CIELAB of the masked points 2.5 to 9 cm off the body."""
    scene: Array
    """[5] of the pictures: 5th, 50th, 95th percentile of lightness, median a and b."""
    mass_index: float
    """Mass over squared height of the fitted shape, kg/m2, of the density of water."""
    height: float
    """Height of the fitted shape, metres."""
    head_share: float
    """Height of head and neck over that of the body: it falls with age."""

    def color_of(self, name: str) -> Array:
        """[3] `color` of one region."""
        found: Array = self.color[REGIONS.index(name)]
        return found


def collect(crops: Crops, body: Body) -> Evidence:
    """Look at every frame of a clip.

    Args:
        crops: frames with masks, cameras and body parameters.
        body: the body they were fitted with.
    """
    regions = _cached_regions(body)
    vertices, rest = _bodies(crops, body)
    views = [
        _view(crops, index, vertices[index], body, regions) for index in range(len(crops.images))
    ]
    colors = [_region_colors(view) for view in views]
    beyond = [_beyond(view, mesh, regions) for view, mesh in zip(views, vertices, strict=True)]
    color, mean, spread, pixels = _joined(colors)
    fill, fill_color = _filled(beyond)
    height, head_share = _stature(rest, body)
    return Evidence(
        color=color,
        mean=mean,
        spread=spread,
        pixels=pixels,
        fill=fill,
        fill_color=fill_color,
        scene=np.median([_scene(view) for view in views], axis=0),
        mass_index=mass_index(rest, body.faces.numpy()),
        height=height,
        head_share=head_share,
    )


def mass_index(vertices: NDArray[np.floating], faces: NDArray[np.int64]) -> float:
    """Volume of a closed mesh times the density of water over its squared height, kg/m2."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6
    height = float(np.ptp(vertices[:, 1]))
    return float(1000 * volume / height**2)


@lru_cache(maxsize=2)
def _cached_regions(body: Body) -> SurfaceRegions:
    return surface_regions(body)


@dataclass(frozen=True, slots=True)
class _View:
    """One shrunk crop and where the body lies in it."""

    lab: Float
    """[SIDE, SIDE, 3]."""
    mask: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    """[SIDE, SIDE] where the naked body is."""
    labels: NDArray[np.int64]
    """[SIDE, SIDE] region, -1 beside the body and near the rim of a region."""
    intrinsics: Float
    trusted: NDArray[np.bool_]
    """[R, 2] regions of the left and of the right side that are believed."""
    shown: NDArray[np.bool_]
    """[SIDE, SIDE] what shows the frame and not the padding beyond its edge."""


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_JOINTS = np.array([vouching_joints(name) for name in REGIONS])


def _bodies(crops: Crops, body: Body) -> tuple[Float, Array]:
    """Camera-space vertices [F, V, 3] and those of the T-posed shape [V, 3]."""
    count = len(crops.images)
    shape = torch.from_numpy(crops.shape).expand(count, -1)
    params = BodyParams(
        torch.from_numpy(crops.pose),
        shape,
        torch.from_numpy(crops.expression),
        torch.from_numpy(crops.translation),
    )
    with torch.no_grad():
        vertices = body(params).vertices.numpy()
        rest = body.rest(shape[0], torch.zeros(crops.expression.shape[1]))[0].double().numpy()
    return vertices, rest


def _view(crops: Crops, index: int, vertices: Float, body: Body, regions: SurfaceRegions) -> _View:
    image = crops.images[index]
    small = crops.intrinsics[index].copy()
    small[:2] *= SIDE / len(image)
    face = mesh_zbuffer(vertices, body.faces.numpy(), small, SIDE, SIDE).face
    mask = _shrink(crops.masks[index]) > 160
    trusted = crops.confidence[index][_JOINTS] >= _MIN_CONFIDENCE
    at = np.maximum(face, 0)
    region, right = regions.face_region[at], regions.face_right[at]
    believed = (face >= 0) & (region >= 0) & mask & trusted[region, right]
    labels = np.where(believed, region, -1)
    # The rim of a region is where the fit and the person disagree.
    flat = labels.astype(np.float32)
    inner = cv2.erode(flat, _CROSS) == cv2.dilate(flat, _CROSS)
    return _View(
        lab=_lab(_shrink(image)),
        mask=mask,
        covered=face >= 0,
        labels=np.where(inner, labels, -1),
        intrinsics=small,
        trusted=trusted,
        shown=_shrink(255 * (image != PADDING).any(-1).astype(np.uint8)) > 0,
    )


def _lab(image: Bytes) -> Float:
    """CIELAB (D65) of sRGB bytes [H, W, 3]; OpenCV's is ten times as fast as an exact one."""
    lab: Float = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def _region_colors(view: _View) -> list[Float]:
    """CIELAB pixels [n, 3] of each region."""
    flat, lab = view.labels.ravel(), view.lab.reshape(-1, 3)
    order = np.argsort(flat, kind="stable")
    cuts = np.searchsorted(flat[order], np.arange(len(REGIONS) + 1))
    return [lab[order[a:b]] for a, b in zip(cuts, cuts[1:], strict=False)]


def _joined(frames: list[list[Float]]) -> tuple[Array, Array, Array, Array]:
    """Lit colour [R, 3], mean [R, 3], spread [R, 3] and pixels [R] over all frames."""
    count = len(REGIONS)
    lit, mean, spread = (np.full((count, 3), np.nan) for _ in range(3))
    pixels = np.zeros(count)
    for region in range(count):
        seen = [frame[region] for frame in frames if len(frame[region]) >= _MIN_POINTS]
        if sum(map(len, seen)) < _MIN_PIXELS:
            continue
        joined = np.concatenate(seen).astype(np.float64)
        pixels[region] = len(joined)
        lit[region], mean[region] = typical(joined), joined.mean(0)
        # Within frames: light differs more between frames than along one garment.
        within = np.average([part.var(0) for part in seen], axis=0, weights=[*map(len, seen)])
        spread[region] = np.sqrt(within)
    return lit, mean, spread, pixels


def typical(lab: Array, *, darkest: float = 35, lightest: float = 95) -> Array:
    """The mean colour [3] of CIELAB pixels [n, 3] between two percentiles of lightness.

    The default leaves out shadows and glints.
    """
    low, high = np.percentile(lab[:, 0], (darkest, lightest))
    middle: Array = lab[(lab[:, 0] >= low) & (lab[:, 0] <= high)].mean(axis=0)
    return middle


def _beyond(view: _View, vertices: Float, regions: SurfaceRegions) -> tuple[Array, Array]:
    """Points off the body's outline: counts [R, 4, 2] (seen, masked) and colours [R, 4]."""
    corners = vertices[regions.anchor_triangle]
    points = (corners * regions.anchor_weight[..., None]).sum(1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True).clip(1e-12)
    sight = points / np.linalg.norm(points, axis=-1, keepdims=True).clip(1e-6)
    region, right = regions.anchor_region, regions.anchor_right
    leading = (np.abs((normals * sight).sum(-1)) < _GRAZING) & (region >= 0)
    leading &= view.trusted[region, right]
    counts = np.zeros((len(REGIONS), len(OFFSETS), 2))
    colors = np.zeros((len(REGIONS), 4))
    for column, offset in enumerate(OFFSETS):
        x, y, inside = _pixels(points + offset * normals, view.intrinsics)
        off_body = leading & inside & ~view.covered[y, x] & view.shown[y, x]
        np.add.at(counts[:, column, 0], region[off_body], 1)
        cloth = off_body & view.mask[y, x]
        np.add.at(counts[:, column, 1], region[cloth], 1)
        if column < 3:
            np.add.at(colors[:, :3], region[cloth], view.lab[y, x][cloth])
            np.add.at(colors[:, 3], region[cloth], 1)
    return counts, colors


def _pixels(
    points: Float, intrinsics: Float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Columns, rows (clipped) of camera-space points and whether they are in the picture."""
    projected = points @ intrinsics.T
    depth = projected[:, 2]
    places = np.floor(projected[:, :2] / np.maximum(depth, 0.05)[:, None]).astype(np.int64)
    inside = (depth > 0.05) & ((places >= 0) & (places < SIDE)).all(-1)
    clipped = places.clip(0, SIDE - 1)
    return clipped[:, 0], clipped[:, 1], inside


def _filled(frames: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Filled shares [R, 4] and their colours [R, 3] over all frames."""
    counts = np.sum([frame[0] for frame in frames], axis=0)
    colors = np.sum([frame[1] for frame in frames], axis=0)
    seen = counts[..., 0] >= _MIN_POINTS
    fill = np.where(seen, counts[..., 1] / np.maximum(counts[..., 0], 1), np.nan)
    known = colors[:, 3:] >= _MIN_POINTS
    return fill, np.where(known, colors[:, :3] / np.maximum(colors[:, 3:], 1), np.nan)


def _scene(view: _View) -> Array:
    shown = view.lab[view.shown]
    if not len(shown):
        return np.zeros(5)
    return np.array([*np.percentile(shown[:, 0], (5, 50, 95)), *np.median(shown[:, 1:], axis=0)])


def _stature(rest: Array, body: Body) -> tuple[float, float]:
    """Height of a T-posed shape, metres, and the share of it above the neck's joint."""
    joints = body.joint_regressor.double().numpy() @ rest
    height = float(np.ptp(rest[:, 1]))
    return height, float((rest[:, 1].max() - joints[12, 1]) / height)


def _shrink(image: Bytes) -> Bytes:
    small: Bytes = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small

"""Directions of the body's bones from MediaPipe's landmarks, with how sure they are.

MediaPipe's world landmarks err alike for alike poses: depths are too flat, hips too narrow, hidden
limbs guessed. A small network, trained on rendered people (`scripts/train_lifter`), corrects the
directions of the 21 bones of the body and says a deviation for each. The fit takes them as evidence
beside the pixels.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from avatarmill.pipeline.fit_landmarks import NUM_BODY

NUM_BONES = 21
PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
"""Parent joint of each of the SMPL-X joints 1..21: bone k points from PARENTS[k] to joint k + 1."""
NEIGHBOUR_SECONDS = 0.15
"""How far before and after a frame the network looks."""
SIGMA_RANGE = (-5.0, 0.0)
"""Least and largest logarithm of a deviation in radians."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lifter:
    """The network: two hidden layers with GELU over standardised features."""

    joints: Array
    """[22, 33] linear map of landmarks to joints, which gives the directions to correct."""
    mean: Array
    """[F]"""
    scale: Array
    """[F]"""
    weights: tuple[Array, ...]
    """Matrices [out, in] of the three layers."""
    biases: tuple[Array, ...]

    def __call__(self, features: Array, world: Array) -> tuple[Array, Array]:
        """Unit directions [T, 21, 3] and deviations [T, 21] in radians.

        Args:
            features: [T, F] of `lifter_features`.
            world: [T, 33, 3] MediaPipe's world landmarks, metres.
        """
        value = (features - self.mean) / self.scale
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value = _gelu(value @ weight.T + bias)
        value = value @ self.weights[-1].T + self.biases[-1]
        corrected = self.base(world) + value[:, : 3 * NUM_BONES].reshape(-1, NUM_BONES, 3)
        sigma = np.exp(np.clip(value[:, 3 * NUM_BONES :], *SIGMA_RANGE))
        return unit(corrected), sigma

    def base(self, world: Array) -> Array:
        """[T, 21, 3] directions of the bones before correction."""
        joints = np.einsum("jl,tlc->tjc", self.joints, world)
        return unit(joints[:, 1:] - joints[:, list(PARENTS)])


def lifter_features(
    world: Array, pixels: Array, visibility: Array, trust: Array, seconds: Array
) -> Array:
    """What the network sees of T frames: [T, F].

    Args:
        world: [T, 33, 3] MediaPipe's world landmarks, metres.
        pixels: [T, 33, 2] of the image.
        visibility: [T, 33] MediaPipe's, 0..1.
        trust: [T, 33] visibility inside the image, 0 outside.
        seconds: [T] times of the frames.
    """
    weight = (trust + 1e-6) / (trust + 1e-6).sum(-1, keepdims=True)
    middle = (pixels * weight[..., None]).sum(1, keepdims=True)
    spread = np.sqrt((np.square(pixels - middle).sum(-1) * weight).sum(-1))
    flat = (pixels - middle) / np.maximum(spread, 1e-3)[:, None, None]
    flat = flat * (trust > 0.05)[..., None]
    moved = [
        (_shifted(world, seconds, step) - world).reshape(len(world), -1)
        for step in (-NEIGHBOUR_SECONDS, NEIGHBOUR_SECONDS)
    ]
    parts = (world.reshape(len(world), -1), *moved, flat.reshape(len(world), -1))
    return np.concatenate((*parts, visibility, trust), axis=-1)


def _shifted(values: Array, seconds: Array, step: float) -> Array:
    """`values` [T, ...] as they are `step` seconds later, between frames and up to the ends."""
    place = np.interp(seconds + step, seconds, np.arange(len(seconds), dtype=np.float64))
    low = place.astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    share = (place - low).reshape(-1, *[1] * (values.ndim - 1))
    shifted: Array = values[low] * (1 - share) + values[high] * share
    return shifted


def unit(vectors: Array) -> Array:
    """The vectors [..., 3] at length one."""
    result: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return result


def _gelu(value: Array) -> Array:
    """GELU by tanh (Hendrycks and Gimpel, 2016, section 2), as the network is trained with."""
    inner = np.sqrt(2 / np.pi) * (value + 0.044715 * value**3)
    result: Array = 0.5 * value * (1 + np.tanh(inner))
    return result


def _file() -> bytes:
    return resources.files("avatarmill.pipeline").joinpath("data/lifter.npz").read_bytes()


@cache
def lifter_fingerprint() -> str:
    """sha256 of the packaged weights."""
    return hashlib.sha256(_file()).hexdigest()


@cache
def load_lifter() -> Lifter:
    """The packaged network."""
    path = resources.files("avatarmill.pipeline").joinpath("data/lifter.npz")
    with resources.as_file(path) as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name].astype(np.float64) for name in archive.files}
    if arrays["joints"].shape != (NUM_BONES + 1, NUM_BODY):
        raise ValueError(f"lifter.npz maps {arrays['joints'].shape}, not 33 landmarks to 22 joints")
    return Lifter(
        arrays["joints"],
        arrays["mean"],
        arrays["scale"],
        tuple(arrays[f"weight{layer}"] for layer in range(3)),
        tuple(arrays[f"bias{layer}"] for layer in range(3)),
    )

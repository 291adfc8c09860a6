"""Dressing a figure: which surfaces a look puts on, and which skin they hide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.appearance import Look
from avatarmill.synth.garments import (
    Figure,
    crotch_height,
    leg_level,
    shell,
    shoe,
    skirt,
    top_clearance,
    top_level,
    waist_height,
    widen_legs,
)
from avatarmill.synth.hair import build_hair, hairline_level
from avatarmill.synth.surfaces import Material, Surface

_MARGIN = 0.014  # metres inside a garment's border from which skin is dropped


@dataclass(frozen=True, slots=True)
class Outfit:
    """What a figure wears."""

    surfaces: list[Surface]
    hidden: NDArray[np.bool_]
    """[F] faces of the body that nobody can see."""
    hems: tuple[float, float]
    """Heights where top and bottom end, metres; far below the ground where there is no hem."""


def dress(figure: Figure, look: Look, rng: np.random.Generator) -> Outfit:
    """Put a look on a figure.

    Args:
        rng: draws details that are not part of the look: exact hems, folds, waves of hair.
    """
    hidden = np.zeros(len(figure.points), np.bool_)
    surfaces: list[Surface] = []
    top_hem = _dress_top(figure, look, rng, surfaces, hidden)
    bottom_hem = _dress_bottom(figure, look, rng, surfaces, hidden, top_hem)
    _dress_feet(figure, look, rng, surfaces, hidden)
    if look.hair_style != "bald":
        surfaces += build_hair(figure, look.hair_style, rng)
        hidden |= hairline_level(figure, figure.points) > 5
    unseen = np.asarray(hidden[figure.faces].all(1), np.bool_)
    return Outfit(surfaces, unseen, (top_hem, bottom_hem))


def _between(figure: Figure, share: float) -> float:
    """A height on the leg: 0 at the crotch, 1 at the ankle."""
    return crotch_height(figure) + share * float(figure.joints[7, 1] - crotch_height(figure))


def _dress_top(
    figure: Figure,
    look: Look,
    rng: np.random.Generator,
    surfaces: list[Surface],
    hidden: NDArray[np.bool_],
) -> float:
    waist, crotch = waist_height(figure), crotch_height(figure)
    long = look.top in ("dress", "coat")
    tucked = look.bottom == "skirt"
    hem = waist - 0.03 if long or tucked else crotch + rng.uniform(0.02, 0.09)
    neck = {"coat": -0.015, "tank top": 0.035, "dress": rng.uniform(0.0, 0.05)}.get(
        look.top, rng.uniform(-0.005, 0.02)
    )
    level = top_level(figure, sleeve=look.sleeve, hem=hem, neck=float(neck))
    fit = 0.012 + 0.020 * look.fit + (0.012 if look.top == "coat" else 0.0)
    fit = 0.004 if tucked else fit
    clearance = top_clearance(figure, fit=fit, hem=hem, sleeve=look.sleeve)
    if look.top == "coat":
        clearance = clearance + np.float32(0.006)
    surfaces.append(shell(figure, level, clearance, Material.TOP, steps=16))
    hidden |= level > _MARGIN
    if not long:
        return hem
    share = rng.uniform(0.15, 0.55) if look.top == "coat" else rng.uniform(0.3, 0.85)
    low = _between(figure, share)
    surfaces.append(
        skirt(
            figure,
            Material.TOP,
            waist=hem + 0.03,
            hem=low,
            clearance=0.012 + fit * 0.8,
            flare=rng.uniform(0.08, 0.2) if look.top == "coat" else rng.uniform(0.12, 0.42),
            folds=int(rng.integers(7, 12)),
        )
    )
    trunk = np.abs(figure.points[:, 0]) < 0.3
    hidden |= trunk & (figure.points[:, 1] < hem + 0.02) & (figure.points[:, 1] > low + 0.12)
    return low


def _dress_bottom(
    figure: Figure,
    look: Look,
    rng: np.random.Generator,
    surfaces: list[Surface],
    hidden: NDArray[np.bool_],
    top_hem: float,
) -> float:
    if look.bottom == "none":
        return -9.0
    waist = waist_height(figure)
    if look.bottom == "skirt":
        hem = _between(figure, rng.uniform(0.25, 0.75))
        surfaces.append(
            skirt(
                figure,
                Material.BOTTOM,
                waist=waist + 0.01,
                hem=hem,
                clearance=0.018,
                flare=rng.uniform(0.08, 0.45),
                folds=int(rng.integers(7, 13)),
            )
        )
        height = figure.points[:, 1]
        hidden |= (
            (np.abs(figure.points[:, 0]) < 0.3) & (height < waist - 0.02) & (height > hem + 0.12)
        )
        return hem
    share = rng.uniform(0.3, 0.55) if look.bottom == "shorts" else rng.uniform(0.96, 1.03)
    hem = _between(figure, share)
    # What the top covers is left out, or it would poke through.
    start = min(waist, max(top_hem + 0.05, crotch_height(figure) + 0.05))
    level = leg_level(figure, waist=start, hem=hem)
    clearance = np.full(len(figure.points), 0.008 + 0.004 * look.fit, np.float32)
    surface = shell(figure, level, clearance, Material.BOTTOM, steps=6)
    wide = 0.006 + (0.045 if look.bottom == "trousers" else 0.03) * look.fit**1.5
    points = widen_legs(figure, surface.points, fit=wide)
    surfaces.append(Surface(points, surface.weights, surface.faces, surface.material, surface.zone))
    hidden |= level > _MARGIN
    return hem


def _dress_feet(
    figure: Figure,
    look: Look,
    rng: np.random.Generator,
    surfaces: list[Surface],
    hidden: NDArray[np.bool_],
) -> None:
    ankle = float(figure.joints[7, 1] - figure.sole)
    collar = ankle * rng.uniform(0.95, 1.2)
    surfaces += [shoe(figure, side, collar=collar) for side in (0, 1)]
    hidden |= figure.points[:, 1] < figure.sole + collar - 0.02
    if look.shoes == "boots":
        edge = figure.sole + ankle + rng.uniform(0.10, 0.24) * figure.height / 1.7
        level = leg_level(figure, waist=edge, hem=figure.sole + collar - 0.02)
        clearance = np.full(len(figure.points), 0.009, np.float32)
        surfaces.append(shell(figure, level, clearance, Material.SHOES))
        hidden |= level > _MARGIN

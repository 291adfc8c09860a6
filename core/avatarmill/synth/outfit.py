"""Dressing a figure: which surfaces a look puts on, and which skin they hide."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avatarmill.synth.accessories import glasses, hat
from avatarmill.synth.appearance import Look
from avatarmill.synth.drape import Cut, Drape, belt, skirt
from avatarmill.synth.garments import (
    Figure,
    crotch_height,
    front_opening,
    leg_level,
    shell,
    shoe,
    top_clearance,
    top_level,
    waist_height,
    widen_legs,
)
from avatarmill.synth.hair import build_hair, hairline_level
from avatarmill.synth.surfaces import Float, Material, Surface
from avatarmill.synth.trims import (
    CUFF,
    HEM,
    RIB,
    ROLL,
    STAND,
    Profile,
    band,
    bands,
    border_loops,
    lapels,
    loop_place,
)

_MARGIN = 0.030  # metres inside a garment's border from which skin is dropped


@dataclass(slots=True)
class Outfit:
    """What a figure wears."""

    hidden: NDArray[np.bool_]
    """[V] vertices of the body that nobody can see."""
    surfaces: list[Surface] = field(default_factory=list)
    drapes: list[tuple[int, Drape]] = field(default_factory=list)
    """Hanging cloth: place in `surfaces` and its rings."""
    top_hem: float = -9.0
    bottom_hem: float = -9.0
    """Heights where top and bottom end, metres; far below the ground where there is no hem."""

    def hang(self, piece: tuple[Surface, Drape]) -> None:
        """Add a skirt."""
        self.drapes.append((len(self.surfaces), piece[1]))
        self.surfaces.append(piece[0])


def dress(figure: Figure, look: Look, rng: np.random.Generator) -> Outfit:
    """Put a look on a figure.

    Args:
        rng: draws details that are not part of the look: exact hems, folds, waves of hair.
    """
    outfit = Outfit(np.zeros(len(figure.points), np.bool_))
    _dress_top(figure, look, rng, outfit)
    _dress_bottom(figure, look, rng, outfit)
    _dress_feet(figure, look, rng, outfit)
    if look.hair_style != "bald":
        outfit.surfaces += build_hair(figure, look.hair_style, rng, under_hat=look.hat != "none")
        outfit.hidden |= hairline_level(figure, figure.points) > 5
    if look.hat != "none":
        outfit.surfaces += hat(figure, look.hat, rng)
    if look.glasses != "none":
        outfit.surfaces += glasses(figure, look.glasses, rng)
    return outfit


def _between(figure: Figure, share: float) -> float:
    """A height on the leg: 0 at the crotch, 1 at the ankle."""
    return crotch_height(figure) + share * float(figure.joints[7, 1] - crotch_height(figure))


def _trim_top(figure: Figure, surface: Surface, look: Look, outfit: Outfit, *, hem: bool) -> None:
    """Collar, cuffs and hem of a shirt or of a dress's upper part."""
    profiles: dict[str, Profile] = {"sleeve": CUFF if look.sleeve > 0.8 else HEM}
    if hem:
        profiles["hem"] = HEM
    if look.collar in ("rib", "stand"):
        profiles["neck"] = RIB if look.collar == "rib" else STAND
    outfit.surfaces += bands(figure, surface, profiles)
    if look.collar == "folded":
        for loop in border_loops(surface.faces):
            if loop_place(figure, surface, loop) == "neck":
                outfit.surfaces.append(band(figure, surface, loop, ROLL, peak=0.03, split=0.006))


def _dress_top(figure: Figure, look: Look, rng: np.random.Generator, outfit: Outfit) -> None:
    if look.top == "coat":
        _dress_coat(figure, look, rng, outfit)
        return
    waist, crotch = waist_height(figure), crotch_height(figure)
    tucked = look.bottom == "skirt"
    dressed = look.top == "dress"
    sewn = waist - 0.065 if dressed else waist - 0.03
    hem = sewn if dressed or tucked else crotch + rng.uniform(0.02, 0.09)
    neck = {"tank top": 0.035, "dress": rng.uniform(0.0, 0.05)}.get(
        look.top, rng.uniform(-0.005, 0.02)
    )
    neck = -0.012 if look.collar in ("folded", "stand") else neck
    level = top_level(figure, sleeve=look.sleeve, hem=hem, neck=float(neck))
    fit = 0.004 if tucked else 0.012 + 0.020 * look.fit
    clearance = top_clearance(figure, fit=fit, hem=hem, sleeve=look.sleeve)
    surface = shell(figure, level, clearance, Material.TOP, steps=16 + int(16 * look.fit))
    outfit.surfaces.append(surface)
    outfit.hidden |= level > _MARGIN
    _trim_top(figure, surface, look, outfit, hem=not (tucked or dressed))
    outfit.top_hem = hem
    if dressed:
        flare, low = rng.uniform(0.12, 0.42), _between(figure, rng.uniform(0.3, 0.85))
        _skirt(figure, Material.TOP, rng, outfit, waist, low, 0.012 + 0.8 * fit, flare, surface)
        outfit.top_hem = low


def _dress_coat(figure: Figure, look: Look, rng: np.random.Generator, outfit: Outfit) -> None:
    """A coat: open over a shirt, or closed."""
    waist = waist_height(figure)
    hem = waist - 0.065  # under the belt
    level = top_level(figure, sleeve=look.sleeve, hem=hem, neck=-0.015)
    fit = 0.022 + 0.018 * look.fit
    gap = 0.0
    if look.open_coat:
        low = crotch_height(figure) + 0.01
        shirt = top_level(figure, sleeve=0.1, hem=low, neck=0.005)
        # Close above, so that the coat goes over it; loose below, over the trousers.
        close = top_clearance(figure, fit=0.016, hem=low, sleeve=0.1) - np.float32(0.004)
        under = shell(figure, shirt, close, Material.SHIRT, steps=16)
        outfit.surfaces += [under, *bands(figure, under, {"neck": RIB, "hem": HEM})]
        gap = rng.uniform(0.045, 0.085) * figure.height / 1.7
        level = np.minimum(level, front_opening(figure, gap))
        outfit.hidden |= shirt > _MARGIN
    clearance = top_clearance(figure, fit=fit, hem=hem, sleeve=look.sleeve) + np.float32(0.010)
    surface = shell(figure, level, clearance, Material.TOP, steps=20)
    outfit.surfaces.append(surface)
    outfit.hidden |= level > _MARGIN
    outfit.surfaces += bands(figure, surface, {"sleeve": CUFF, "neck": STAND})
    if look.open_coat:
        outfit.surfaces.append(lapels(figure, surface, low=waist, width=0.085))
    low = _between(figure, rng.uniform(0.15, 0.55))
    front = 0.135 * figure.height / 1.7  # of the belly, seen from the axis
    _skirt(
        figure,
        Material.TOP,
        rng,
        outfit,
        waist,
        low,
        0.016 + 0.8 * fit,
        rng.uniform(0.08, 0.2),
        surface,
        gap=gap / front,
        wide=0.02,
    )
    outfit.top_hem = low


def _skirt(
    figure: Figure,
    material: Material,
    rng: np.random.Generator,
    outfit: Outfit,
    waist: float,
    hem: float,
    clearance: float,
    flare: float,
    above: Surface | None = None,
    *,
    gap: float = 0.0,
    band: float = 0.0,
    wide: float = 0.0,
) -> None:
    """Hang a skirt and drop the skin that it hides from everywhere."""
    cut = Cut(
        waist,
        hem,
        clearance,
        float(flare),
        int(rng.integers(7, 13)),
        rng.uniform(0, 6.28),
        gap=gap,
        band=band,
        wide=wide,
    )
    points: Float | None = None if above is None else above.points
    piece = skirt(figure, material, cut, points)
    outfit.hang(piece)
    if above is not None:
        outfit.surfaces.append(belt(figure, cut, np.concatenate([above.points, piece[0].points])))
    height = figure.points[:, 1]
    trunk = np.abs(figure.points[:, 0]) < 0.3
    if not gap:
        outfit.hidden |= trunk & (height < waist - 0.02) & (height > hem + 0.16)


def _dress_bottom(figure: Figure, look: Look, rng: np.random.Generator, outfit: Outfit) -> None:
    if look.bottom == "none":
        return
    waist = waist_height(figure)
    if look.bottom == "skirt":
        hem = _between(figure, rng.uniform(0.25, 0.75))
        _skirt(
            figure,
            Material.BOTTOM,
            rng,
            outfit,
            waist + 0.01,
            hem,
            0.018,
            rng.uniform(0.08, 0.45),
            band=0.035,
        )
        outfit.bottom_hem = hem
        return
    share = rng.uniform(0.3, 0.55) if look.bottom == "shorts" else rng.uniform(0.96, 1.03)
    hem = _between(figure, share)
    # What the top covers is left out, or it would poke through.
    start = min(waist, max(outfit.top_hem, crotch_height(figure)) + 0.075)
    level = leg_level(figure, waist=start, hem=hem)
    clearance = np.full(len(figure.points), 0.008 + 0.004 * look.fit, np.float32)
    surface = shell(figure, level, clearance, Material.BOTTOM, steps=6)
    wide = 0.006 + (0.045 if look.bottom == "trousers" else 0.03) * look.fit**1.5
    points = widen_legs(figure, surface.points, fit=wide)
    surface = Surface(points, surface.weights, surface.faces, surface.material, surface.zone)
    outfit.surfaces.append(surface)
    for loop in border_loops(surface.faces):
        if surface.points[loop, 1].mean() < crotch_height(figure):
            cuff = CUFF if look.cuffs else HEM
            outfit.surfaces.append(band(figure, surface, loop, cuff))
    outfit.hidden |= level > _MARGIN
    outfit.bottom_hem = hem


def _dress_feet(figure: Figure, look: Look, rng: np.random.Generator, outfit: Outfit) -> None:
    ankle = float(figure.joints[7, 1] - figure.sole)
    collar = ankle * rng.uniform(0.95, 1.2)
    outfit.surfaces += [shoe(figure, side, collar=collar) for side in (0, 1)]
    outfit.hidden |= figure.points[:, 1] < figure.sole + collar - 0.02
    if look.shoes == "boots":
        edge = figure.sole + ankle + rng.uniform(0.10, 0.24) * figure.height / 1.7
        level = leg_level(figure, waist=edge, hem=figure.sole + collar - 0.02)
        clearance = np.full(len(figure.points), 0.009, np.float32)
        boot = shell(figure, level, clearance, Material.SHOES)
        outfit.surfaces.append(boot)
        for loop in border_loops(boot.faces):
            if boot.points[loop, 1].mean() > edge - 0.05:
                outfit.surfaces.append(band(figure, boot, loop, HEM))
        outfit.hidden |= level > _MARGIN

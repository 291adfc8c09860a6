"""The numbers that all rasterizers share: gsplat 1.5's conventions for `antialiased` mode.

numba keeps compiled kernels beside the file that defines them and looks at that file only: after a
change here, or in a helper imported by a kernel, delete the `__pycache__/*.nb?` files.
"""

EPS2D = 0.3
"""Variance in square pixels added to both axes of every projected Gaussian."""

NEAR_PLANE = 0.01
"""Gaussians whose centre is nearer than this many metres are not drawn."""

ALPHA_THRESHOLD = 1.0 / 255.0
"""A Gaussian does not touch pixels where its alpha is below this; its extent follows from it."""

MAX_ALPHA = 0.999
"""Alpha of one Gaussian at one pixel is clamped here, with zero gradient beyond."""

TRANSMITTANCE_THRESHOLD = 1e-4
"""A pixel stops before the Gaussian that would bring its transmittance to this or below."""

FRUSTUM_MARGIN = 0.15
"""Directions are clamped this share of the image beyond its border when the projection is
linearised (gsplat: 0.3 times the tangent of half the field of view)."""

MIN_COVERAGE = 1e-10
"""Expected depth divides by alpha clamped to at least this."""

TILE = 16
"""Side of a tile in pixels."""

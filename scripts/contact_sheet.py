"""Make the contact sheet of rendered actors: eight by three in studio light, as one JPEG.

python scripts/contact_sheet.py [OUT.jpg] [FIRST_SEED]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatarmill.synth.actor import Actor, free_body, sample_actor
from avatarmill.synth.motion import MotionKind, sample_motion
from avatarmill.synth.render import RenderConfig, View, render_frames
from avatarmill.synth.scenery import Light, Scene, sample_scene
from avatarmill.synth.staging import look_at, pinhole

OUT = Path(__file__).parents[1] / "docs/actors.jpg"
COLUMNS, ROWS = 8, 3
FIRST_SEED = 100
WIDTH, HEIGHT = 200, 400
MOST_BYTES = 400_000
FPS = 30.0
# A photographer's studio: a light grey sweep, a soft key from the upper right, much fill.
_BACKDROP = 0.62
_KEY = np.array([0.50, 0.75, 0.70])


def studio() -> Scene:
    """The same place and light for everyone."""
    scene = sample_scene(np.random.default_rng(0), "studio")
    surfaces = scene.surfaces.copy()
    surfaces[:, :6] = _BACKDROP
    direction = _KEY / np.linalg.norm(_KEY)
    light = Light(direction, np.full(3, 0.60), np.full(3, 0.52), np.full(3, 0.36))
    return replace(scene, surfaces=surfaces, light=light)


def portrait(actor: Actor, seed: int, scene: Scene) -> NDArray[np.uint8]:
    """One picture [HEIGHT, WIDTH, 3] of a whole actor, standing or in mid-step."""
    rng = np.random.default_rng(1000 + seed)
    kind: MotionKind = "walk" if seed % 3 == 0 else "idle"
    motion = sample_motion(rng, 24, FPS, kind, actor.skeleton).take(np.array([12]))
    tall = float(actor.mesh.rest[:, 1].max()) - actor.skeleton.sole
    # Nearly one scale for everybody, so that children look like children.
    span, azimuth = 1.0 + 0.56 * tall, rng.uniform(-0.55, 0.55)
    focal = 3.5 * HEIGHT
    pelvis = motion.translation[0].astype(np.float64) + actor.skeleton.joints[0]
    target = np.array([pelvis[0], 0.5 * span - 0.08, pelvis[2]])
    away = focal * span / HEIGHT
    eye = target + away * np.array([np.sin(azimuth), 0.05, np.cos(azimuth)])
    view = View(pinhole(focal, WIDTH, HEIGHT), look_at(eye, target), WIDTH, HEIGHT)
    config = RenderConfig(supersample=4, shadow_size=512, backdrop_step=1)
    picture: NDArray[np.uint8] = render_frames(free_body(), actor, motion, [view], scene, config)[
        0
    ][0]
    return picture


def main(out: Path, first: int) -> int:
    """Render the sheet; quality falls until the file is small enough."""
    scene = studio()
    sheet = np.zeros((ROWS * HEIGHT, COLUMNS * WIDTH, 3), np.uint8)
    for place in range(ROWS * COLUMNS):
        seed = first + place
        row, column = divmod(place, COLUMNS)
        actor = sample_actor(np.random.default_rng(seed))
        rows, columns = slice(row * HEIGHT, None), slice(column * WIDTH, None)
        sheet[rows, columns][:HEIGHT, :WIDTH] = portrait(actor, seed, scene)
    out.parent.mkdir(parents=True, exist_ok=True)
    for quality in (92, 88, 84, 80, 75, 70):
        Image.fromarray(sheet).save(out, quality=quality, optimize=True)
        if out.stat().st_size <= MOST_BYTES:
            return 0
    raise ValueError(f"{out} has {out.stat().st_size} bytes, more than {MOST_BYTES}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    raise SystemExit(
        main(
            Path(arguments[0]) if arguments else OUT,
            int(arguments[1]) if len(arguments) > 1 else FIRST_SEED,
        )
    )

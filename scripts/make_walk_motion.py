"""Make the walk that `avatarmill generate` ships: procedural gait of the average body, no data.

python scripts/make_walk_motion.py [SEED]
"""

import sys
from pathlib import Path

import numpy as np
import torch

from avatarmill.avatar.body import NUM_EXPRESSION, NUM_SHAPE, load_body
from avatarmill.synth.gait import Skeleton
from avatarmill.synth.motion import sample_motion

OUT = Path(__file__).parents[1] / "generate/avatarmill/generate/data/walk.npz"
FPS = 24.0
SECONDS = 4.0


def average_skeleton() -> Skeleton:
    """Rest joints and sole height of the average adult."""
    vertices, joints = load_body().rest(torch.zeros(NUM_SHAPE), torch.zeros(NUM_EXPRESSION))
    return Skeleton(joints.double().numpy(), float(vertices[:, 1].min()))


def main(seed: int) -> int:
    """Write the motion in AMASS's layout, but y up and with our expression coefficients."""
    rng = np.random.default_rng(seed)
    motion = sample_motion(rng, round(SECONDS * FPS), FPS, "walk", average_skeleton(), lively=0.0)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        OUT,
        poses=motion.pose.reshape(len(motion.pose), -1).astype(np.float32),
        trans=motion.translation,
        expression=motion.expression,
        mocap_framerate=np.float64(FPS),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 59))

"""Train the network that corrects bone directions: run with the project's environment.

    .venv/bin/python scripts/train_lifter/train_lifter.py --work lifter_data --out lifter.npz

Renders people of the development seeds 1 to 20 in short clips of five kinds of motion, detects
their landmarks as the pipeline does, and fits the correction to the true bones. Clips stay under
--work, so a second run only trains. The pipeline reads
`pipeline/avatarmill/pipeline/data/lifter.npz`. Needs `.venv-mediapipe`; about 12 minutes on two
quiet cores, 1 of them for training.
"""

import argparse
import logging
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from lifter_training import Samples, join, train

from avatarmill.avatar.body import load_body
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.fit_landmarks import NUM_BODY, point_model
from avatarmill.pipeline.fit_truth import (
    body_joints,
    body_params,
    joints_from_landmarks,
    true_points,
)
from avatarmill.pipeline.people import PeopleConfig, people_child
from avatarmill.pipeline.types import Landmarks
from avatarmill.synth.frames import WildConfig, synth_wild
from avatarmill.synth.motion import MotionKind

logger = logging.getLogger("train_lifter")

SEEDS = range(1, 21)
KINDS: tuple[MotionKind, ...] = ("dance", "gesture", "walk", "turn", "jog", "dance", "gesture")
SIZES = ((400, 400), (300, 480), (480, 320), (400, 400))
RATES = (6.0, 8.0, 5.0)
_TRUTH = ("pose", "shape", "expression", "translation")


def clip_config(seed: int, row: int) -> WildConfig:
    """A short clip: sizes, rates and framings go round; one in six is a half body."""
    width, height = SIZES[(seed + row) % len(SIZES)]
    return WildConfig(
        num_frames=16 - (row > 4),
        fps=RATES[(seed + row) % len(RATES)],
        width=width,
        height=height,
        framing="half" if (seed + 2 * row) % 6 == 0 else "full",
        motions=(KINDS[row],),
    )


def make_clip(child: Child, seed: int, row: int, path: Path, config: PeopleConfig) -> None:
    """Renders one clip, detects the landmarks and writes both."""
    wild = clip_config(seed, row)
    frames = synth_wild(seed, wild)
    values = {
        "call": "holistic",
        "model_complexity": config.model_complexity,
        "detection_confidence": config.detection_confidence,
        "tracking_confidence": config.tracking_confidence,
    }
    reply = child.call(Message(values, {"images": frames.images}), deadline_seconds=600)
    found = {field.name: reply.arrays[field.name] for field in fields(Landmarks)}
    truth = {name: getattr(frames, name) for name in _TRUTH}
    size = np.array([wild.width, wild.height])
    np.savez_compressed(path, **found, **truth, pts=np.array(frames.pts_seconds), size=size)


def load_clip(path: Path) -> Samples:
    """The frames of one clip in which a body was found."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    landmarks = Landmarks(**{field.name: arrays[field.name] for field in fields(Landmarks)})
    joints = body_joints(load_body(), body_params(*(arrays[name] for name in _TRUTH)))
    width, height = (int(side) for side in arrays["size"])
    return Samples.of(landmarks, arrays["pts"], width, height, joints)


def landmark_weights(paths: list[Path]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """[22, 33] the linear map of landmarks without error to joints."""
    body = load_body()
    model, points, joints = point_model(body), [], []
    for path in paths:
        with np.load(path, allow_pickle=False) as archive:
            params = body_params(*(archive[name] for name in _TRUTH))
        points.append(true_points(model, params)[:, :NUM_BODY])
        joints.append(body_joints(body, params))
    return joints_from_landmarks(np.concatenate(points), np.concatenate(joints))


def main() -> None:
    """Command line: where clips are kept and the weights go."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--held-seeds", type=int, default=0, help="last seeds to validate on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    paths = {
        (seed, row): options.work / f"{row}_{seed:02d}.npz"
        for row in range(len(KINDS))
        for seed in SEEDS
    }
    missing = [key for key, path in paths.items() if not path.exists()]
    if missing:
        config = PeopleConfig()
        with people_child(config) as child:
            for seed, row in missing:
                make_clip(child, seed, row, paths[seed, row], config)
    last = SEEDS.stop - options.held_seeds
    clips = {key: load_clip(path) for key, path in paths.items()}
    seen = join([clip for (seed, _), clip in clips.items() if seed < last])
    held = [clip for (seed, _), clip in clips.items() if seed >= last]
    weights = landmark_weights([path for (seed, _), path in paths.items() if seed < last])
    arrays = train(seen, join(held) if held else None, weights, steps=options.steps)
    np.savez(options.out, **arrays)


if __name__ == "__main__":
    main()

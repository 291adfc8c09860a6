"""Find where MediaPipe's landmarks sit on the free body: run with the project's environment.

    .venv/bin/python scripts/calibrate_landmarks/calibrate_landmarks.py --out landmarks.json

Renders the free body in known poses, detects the landmarks in the pictures as the pipeline does,
and triangulates each in the frame of the bone it moves with. The pipeline reads
`pipeline/avatarmill/pipeline/data/landmarks.json`, made by this script on the packaged body; the
logged differences tell what another body moves. Needs `.venv-mediapipe`; takes 75 seconds.
"""

import argparse
import json
import logging
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np
from calibrate_render import render_views, sample_views
from calibrate_solve import calibrate
from numpy.typing import NDArray

from avatarmill.avatar.body import load_body
from avatarmill.pipeline.children.protocol import Message
from avatarmill.pipeline.fit_landmarks import (
    FACE,
    FACE_ROWS,
    LEFT_HAND_ROWS,
    NUM_BODY,
    RIGHT_HAND_ROWS,
    LandmarkMap,
    landmark_map,
)
from avatarmill.pipeline.people import PeopleConfig, people_child
from avatarmill.pipeline.types import Landmarks

logger = logging.getLogger("calibrate_landmarks")

GROUPS = {
    "body": slice(0, NUM_BODY),
    "left_hand": LEFT_HAND_ROWS,
    "right_hand": RIGHT_HAND_ROWS,
    "face": FACE_ROWS,
}
COMMENT = (
    "MediaPipe landmark -> [joint it moves with, joint it is measured from, x, y, z metres from "
    "that joint at rest]. Body 33, left hand 21, right hand 21, face by MediaPipe's number. "
    "Calibrated by detecting the landmarks on renders of the free body; left and right averaged."
)
ROUND_METRES = 4  # decimals: a tenth of a millimetre, an order below the detector's scatter


def detect(images: Iterable[NDArray[np.uint8]], config: PeopleConfig) -> Landmarks:
    """MediaPipe's landmarks in each picture by itself."""
    names = [field.name for field in fields(Landmarks)]
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    values = {
        "call": "holistic",
        "model_complexity": config.model_complexity,
        "detection_confidence": config.detection_confidence,
        "tracking_confidence": config.tracking_confidence,
    }
    with people_child(config) as child:
        for image in images:
            # A request a picture: within one, MediaPipe would track from picture to picture.
            reply = child.call(
                Message(values, {"images": image[None]}),
                deadline_seconds=config.deadline_base_seconds,
            )
            for name in names:
                rows[name].append(reply.arrays[name])
    return Landmarks(**{name: np.concatenate(parts) for name, parts in rows.items()})


def to_json(chart: LandmarkMap) -> str:
    """The map as the pipeline reads it, one landmark a line."""
    offset = chart.offset.round(ROUND_METRES) + 0.0  # no -0.0
    rows = [
        json.dumps([int(bone), int(base), *map(float, xyz)])
        for bone, base, xyz in zip(chart.bone, chart.base, offset, strict=True)
    ]
    blocks = [f'  "comment": {json.dumps(COMMENT)}']
    for name in ("body", "left_hand", "right_hand"):
        lines = ",\n".join(f"    {row}" for row in rows[GROUPS[name]])
        blocks.append(f'  "{name}": [\n{lines}\n  ]')
    named = zip(FACE, rows[FACE_ROWS], strict=True)
    lines = ",\n".join(f'    "{point}": {row}' for point, row in named)
    blocks.append(f'  "face": {{\n{lines}\n  }}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def report(chart: LandmarkMap) -> None:
    """Logs how far each group of landmarks lies from the committed map."""
    packaged = landmark_map()
    distance = 1e3 * np.linalg.norm(chart.offset - packaged.offset, axis=1)
    for name, rows in GROUPS.items():
        logger.info(
            "%s: median %.2f mm, largest %.2f mm from the committed map",
            name,
            np.median(distance[rows]),
            distance[rows].max(),
        )


def main() -> None:
    """Command line: where to write, and the seed of the poses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    body = load_body()
    views = sample_views(body, options.seed)
    found = detect(render_views(body, views), PeopleConfig())
    for name in ("body", "left_hand", "right_hand", "face"):
        count = np.isfinite(getattr(found, name)[:, 0, 0]).sum()
        logger.info("%s found in %d of %d pictures", name, count, len(views.framing))
    chart = calibrate(body, views, found)
    report(chart)
    options.out.write_text(to_json(chart))


if __name__ == "__main__":
    main()

"""Bake the anchors of the free body; run after `bake_body.py`, with the project's environment.

.venv/bin/python scripts/bake/bake_anchors.py
"""

import logging

import numpy as np
from bake_files import write_npz

from avatarmill.avatar.anchors import FREE_ANCHORS, MAX_ANCHORS, derive_anchors
from avatarmill.avatar.body import load_body


def main() -> None:
    """Derive all anchors of the packaged body and store them with its fingerprint."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    body = load_body()
    face, barycentric = derive_anchors(body, MAX_ANCHORS)
    write_npz(
        FREE_ANCHORS,
        {
            "face": face,
            "barycentric": barycentric,
            "fingerprint": np.array(body.fingerprint),
        },
    )
    logging.info("%s: %d anchors of body %s", FREE_ANCHORS, MAX_ANCHORS, body.fingerprint[:12])


if __name__ == "__main__":
    main()

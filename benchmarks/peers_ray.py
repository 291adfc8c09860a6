"""Ray Data `read_videos` (decord): a peer in `bench-peers`.

`fused`: the frames' means are taken by `map_batches`, which Ray runs in the reading process; else
frames travel through the object store to the driver, which takes the means.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import ray
from peers_line import serve

BATCH = 16


def means(batch: dict[str, Any]) -> dict[str, Any]:
    """Mean of every frame of a batch."""
    found = np.array([float(image.mean()) for image in batch["frame"]])
    return {"path": batch["path"], "mean": found}


def frames(
    paths: list[str], fused: bool, max_errored_blocks: int
) -> dict[str, tuple[int, float, str]]:
    """Frames, mean and error by path; the error of a job that failed stands at every path."""
    if not ray.is_initialized():
        ray.init("local", num_cpus=2, log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = max_errored_blocks
    context.enable_progress_bars = False
    totals: defaultdict[str, list[float]] = defaultdict(list)
    error = ""
    dataset = ray.data.read_videos(paths, include_paths=True)
    if fused:
        dataset = dataset.map_batches(means, batch_size=BATCH)
    try:
        for batch in dataset.iter_batches(batch_size=BATCH, batch_format="numpy"):
            found = batch if fused else means(batch)
            for path, mean in zip(found["path"], found["mean"], strict=True):
                totals[str(path)].append(float(mean))
    except (ray.exceptions.RayError, RuntimeError, ValueError) as failure:
        error = f"{type(failure).__name__}: {str(failure)[:200]}"
    counted = {p: (len(rows), float(np.mean(rows)), error) for p, rows in totals.items()}
    return {path: (0, 0.0, error) for path in paths} | counted


if __name__ == "__main__":
    serve({"frames": frames})

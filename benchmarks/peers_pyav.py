"""Plain PyAV in two processes, as its documentation decodes: a peer in `bench-peers`.

Each process takes one film after the other and returns the number and mean of its frames; an
exception is kept as the film's error, the way a careful user writes it.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import av
from peers_line import serve

PROCESSES = 2
POOL = None


def film(path: str, threads: int) -> tuple[str, int, float, str]:
    """Path, frames, their mean and the error of one film."""
    count, total = 0, 0.0
    try:
        with av.open(path) as container:
            for frame in container.decode(video=0):
                image = frame.to_ndarray(format="rgb24", threads=threads)
                count, total = count + 1, total + float(image.mean())
    except (av.error.FFmpegError, IndexError) as error:
        return path, count, total / max(count, 1), f"{type(error).__name__}: {error}"
    return path, count, total / max(count, 1), ""


def frames(paths: list[str], threads: int) -> dict[str, tuple[int, float, str]]:
    """Frames, mean and error by path. `threads` of the colour conversion, 0 for PyAV's default."""
    global POOL
    if POOL is None:
        POOL = ProcessPoolExecutor(PROCESSES)
    results = POOL.map(partial(film, threads=threads), paths)
    return {path: (count, mean, error) for path, count, mean, error in results}


if __name__ == "__main__":
    serve({"frames": frames})

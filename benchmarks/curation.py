"""Every stage of curation against ground truth: the sections beside this file, and their targets.

Each section is a script that measures one stage and prints its own table. Two run at a time, on
one thread each; then the timings run alone. Prints what they print, all figures beside their
targets and, last, one JSON object.
"""

import json
import operator
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from avatarmill.cli.console import say, table

FOLDER = Path(__file__).parent
# The longest first: the last one to start decides when the pair is done.
SECTIONS = ("people", "fit", "duplicates", "shots", "masks", "captions")
TIMED = ("people", "shots", "fit")
AT_LEAST, AT_MOST, EQUAL = operator.ge, operator.le, operator.eq
TARGETS = {
    "shot_f1": (AT_LEAST, 0.95),
    "id_swaps": (EQUAL, 0),
    "mask_iou": (AT_LEAST, 0.95),
    "mask_boundary_gain": (AT_LEAST, 0.1),
    "fit_pa_mpjpe_mm": (AT_MOST, 62),
    "fit_vs_mediapipe_ratio": (AT_MOST, 0.8),
    "fit_pa_mpjpe_mm_true_landmarks": (AT_MOST, 5),
    "fit_half_body_mm": (AT_MOST, 75),
    "fit_outside_degrees_max": (AT_MOST, 25),
    "fit_jitter_ratio": (AT_MOST, 1.3),
    "caption_accuracy": (AT_LEAST, 0.9),
    "near_duplicate_f1": (AT_LEAST, 0.95),
    "fit_fps": (AT_LEAST, 60),
    "decode_ratio": (AT_LEAST, 0.9),
    "people_outside_fraction": (AT_MOST, 0.2),
}
_SIGNS = {AT_LEAST: ">=", AT_MOST: "<=", EQUAL: "="}


def run_section(name: str, *arguments: str, threads: int = 1) -> dict[str, float]:
    """Runs one section's script, shows what it printed, and returns its figures."""
    count = str(threads)
    limits = {"OMP_NUM_THREADS": count, "NUMBA_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    command = [sys.executable, str(FOLDER / f"curation_{name}.py"), *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - start
    lines = done.stdout.rstrip().splitlines()
    say("\n".join([f"-- {name} {' '.join(arguments)} ({seconds:.0f} s)", *lines, ""]))
    figures: dict[str, float] = json.loads(lines[-1])
    return figures


def measure(sections: Sequence[str], timed: Sequence[str]) -> dict[str, float]:
    """The figures of all sections, the timed ones taken when nothing else runs."""
    figures: dict[str, float] = {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        for section in pool.map(run_section, sections):
            figures |= section
    for name in timed:
        figures |= run_section(name, "--speed", threads=2)
    return figures


def main() -> None:
    """Measures, compares with the targets, prints."""
    start = time.perf_counter()
    figures = measure(SECTIONS, TIMED)
    figures["seconds"] = round(time.perf_counter() - start)
    rows = []
    for name, (compare, limit) in TARGETS.items():
        met = "yes" if compare(figures[name], limit) else "NO"
        rows.append([name, figures[name], f"{_SIGNS[compare]} {limit:g}", met])
    table(["figure", "measured", "target", "met"], rows)
    say(json.dumps(figures))


if __name__ == "__main__":
    main()

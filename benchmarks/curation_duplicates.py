"""Near duplicates: copies made with ffmpeg against other takes, parts and films of the same place.

`figures(folders)` is a section of the curation benchmark. Every film of the folders is copied in
several ways; its two halves stand for two takes of one person in one place. Copies and originals go
through `find_copies` in one list, halves in another. A copy found in its own original is a hit;
anything else that is called a copy is a false one.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg

from avatarmill.cli.console import table
from avatarmill.pipeline.children.supervise import Child
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.likeness import Signature
from avatarmill.pipeline.near_duplicates import NearDuplicateConfig, find_copies
from avatarmill.pipeline.probe import ProbeConfig, probe, video_child
from avatarmill.pipeline.shots import Scan, ShotConfig, scan
from avatarmill.pipeline.types import Reject
from avatarmill.records.canonical import json_bytes

COPIES = {
    "re-encoded": ("null", 35),
    "resized": ("scale=trunc(iw/4)*2:-2", 26),
    "cropped": ("crop=iw*0.95:ih*0.95", 24),
    "cropped in a corner": ("crop=iw*0.95:ih*0.95:0:0", 24),
    "faster": ("setpts=PTS/1.1", 24),
    "slower": ("setpts=PTS/0.9", 24),
    "12 frames a second": ("fps=12", 24),
    "trimmed": ("trim=start={begin}:end={end},setpts=PTS-STARTPTS", 24),
    "in black bars": ("pad=iw:ih*4/3:0:(oh-ih)/2", 26),
    "all at once": ("crop=iw*0.95:ih*0.95,scale=320:-2,setpts=PTS/1.08,fps=20", 33),
    "all that and more": (
        "trim=start={begin}:end={end},setpts=(PTS-STARTPTS)/0.92,crop=iw*0.95:ih*0.95:iw*0.05:0,"
        "scale=256:-2,pad=iw:ih*4/3:0:(oh-ih)/2,eq=brightness=0.05:contrast=1.1",
        30,
    ),
}
HALVES = {
    "first half": ("trim=end={middle}", 20),
    "second half": ("trim=start={middle},setpts=PTS-STARTPTS", 20),
}


def figures(folders: list[Path]) -> dict[str, float]:
    """Prints a table of the ways to copy; returns `near_duplicate_f1` and its parts."""
    originals = [source for folder in folders for source in list_sources(folder)]
    signatures: dict[tuple[str, str], Signature] = {}
    with tempfile.TemporaryDirectory() as name, video_child(ProbeConfig()) as child:
        for source in originals:
            found = _scan(child, Path(source.path))
            if found is None:
                continue
            signatures[source.uri, ""] = found.signature
            for way, (filters, quality) in {**COPIES, **HALVES}.items():
                target = Path(name) / "copy.mp4"
                begin, end = found.shots[0].start_seconds, found.shots[-1].stop_seconds
                _encode(Path(source.path), target, filters, quality, (begin, end))
                if copied := _scan(child, target):
                    signatures[source.uri, way] = copied.signature
    return _score(signatures)


def _scan(child: Child, path: Path) -> Scan | None:
    (source,) = list_sources(path)
    facts = probe(child, source, ProbeConfig())
    if isinstance(facts, Reject):
        return None
    found = scan(child, source, facts, ShotConfig(), ProbeConfig())
    return None if isinstance(found, Reject) else found


def _encode(
    source: Path, target: Path, filters: str, quality: int, span: tuple[float, float]
) -> None:
    begin, end = span
    tenth = (end - begin) / 10
    times = {"begin": tenth, "end": 9 * tenth, "middle": 5 * tenth}
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-nostdin"]
    command += ["-i", str(source), "-an", "-vf"]
    command += [f"{filters.format(**times)},crop=trunc(iw/2)*2:trunc(ih/2)*2"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-crf", str(quality)]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(target)], check=True, timeout=120)


def _score(signatures: dict[tuple[str, str], Signature]) -> dict[str, float]:
    copied = {key: s for key, s in signatures.items() if key[1] not in HALVES}
    hits, false = {way: 0 for way in COPIES}, 0
    # Originals first: they stay. Halves are parts of them, so they have a list of their own.
    for chosen in (copied, {key: s for key, s in signatures.items() if key[1] in HALVES}):
        keys = sorted(chosen, key=lambda key: (key[1] != "", key[1], key[0]))
        found = find_copies(len(keys), lambda k: chosen[keys[k]], NearDuplicateConfig())  # noqa: B023
        for film, copy in found.items():
            (uri, way), (other, _) = keys[film], keys[copy.of]
            if way in hits and uri == other:
                hits[way] += 1
            else:
                false += 1
    total = {way: sum(key[1] == way for key in signatures) for way in COPIES}
    table(("copies", "made", "found"), [(way, total[way], hits[way]) for way in COPIES])
    found_all, made = sum(hits.values()), sum(total.values())
    return {
        "near_duplicate_f1": round(2 * found_all / max(1, made + found_all + false), 4),
        "near_duplicate_recall": round(found_all / max(1, made), 4),
        "near_duplicate_false": false,
        "near_duplicate_films": len(signatures),
    }


if __name__ == "__main__":
    sys.stdout.write(json_bytes(figures([Path(name) for name in sys.argv[1:]])).decode() + "\n")

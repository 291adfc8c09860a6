"""The synth job: a seed in, H.264 files of rendered actors with their exact truth out."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tqdm import tqdm

from avatarmill.avatar.anchors import MAX_ANCHORS
from avatarmill.synth.defects import DEFECTS, DefectKind, check_defects, draw_defects
from avatarmill.synth.film import Film, FilmConfig, studio_clips
from avatarmill.synth.frames import StudioConfig, WildConfig
from avatarmill.synth.truth import write_json, write_truth
from avatarmill.synth.video import write_video

log = logging.getLogger(__name__)

# Width, height and rate of wild clips, as they come from the web.
_SHAPES = ((512, 512, 24.0), (512, 704, 25.0), (704, 512, 25.0), (640, 640, 24.0), (512, 640, 30.0))
_STUDIO = StudioConfig(num_views=6, num_instants=36, fps=12.0, size=320)


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """Render actors to OUT/videos/*.mp4 with truth in OUT/truth/*.npz and *.json."""

    kind: Annotated[Literal["wild", "studio"], tyro.conf.Positional] = "wild"
    """wild: one moving camera each; studio: several calibrated cameras around each."""
    count: int = 4
    """Actors."""
    seed: int = 0
    """Actor i is made from seed + i; the same seed gives the same files."""
    out: Path = Path("out/synth")
    seconds: float | None = None
    """Length of wild clips; 3 to 5 seconds by seed when not given."""
    defects: tuple[DefectKind | Literal["none", "all"], ...] = ("none",)
    """What is wrong with wild clips: the named defects in every clip, or a few drawn for each."""
    anchors: int = MAX_ANCHORS
    """Visibility is recorded for the first so many anchors of the body; 0 for none."""

    def __post_init__(self) -> None:
        plain = self.defects == ("none",)
        if not plain and self.kind == "studio":
            raise ValueError(f"defects {' '.join(self.defects)} are for wild clips; leave them out")
        if not plain and self.defects != ("all",):
            if not self.defects or {"none", "all"} & set(self.defects):
                raise ValueError("defects must be none, all or names: not a mixture, not empty")
            check_defects(self.defects)
        if not 0 <= self.anchors <= MAX_ANCHORS:
            raise ValueError(f"anchors {self.anchors} must be 0..{MAX_ANCHORS}")
        if self.count < 1:
            raise ValueError(f"count {self.count} must be >= 1")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be >= 0")
        if self.seconds is not None and not 0.1 <= self.seconds <= 600:
            raise ValueError(f"seconds {self.seconds} must be 0.1..600")


def run(config: SynthConfig) -> int:
    """Render what is missing of the configured clips; returns the exit status 0."""
    for folder in (config.out / "videos", config.out / "truth"):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(config.out / "synth.config.json", {**asdict(config), "out": str(config.out)})
    render = _render_wild if config.kind == "wild" else _render_studio
    for seed in tqdm(range(config.seed, config.seed + config.count), desc="synth", unit="actor"):
        render(config, seed)
    return 0


def wild_clip_config(seed: int, seconds: float | None = None) -> WildConfig:
    """The format of a wild clip, by its seed: size, frame rate and length."""
    rng = np.random.default_rng([seed, 3])
    width, height, fps = _SHAPES[int(rng.integers(len(_SHAPES)))]
    length = float(rng.uniform(3, 5)) if seconds is None else seconds
    return WildConfig(num_frames=max(1, round(length * fps)), fps=fps, width=width, height=height)


def film_config(config: SynthConfig, seed: int) -> FilmConfig:
    """The clip that a seed stands for."""
    shot = wild_clip_config(seed, config.seconds)
    if config.defects == ("all",):
        drawn = draw_defects(np.random.default_rng([seed, 5]), shot.num_frames)
        return FilmConfig(shot, drawn, config.anchors)
    named = tuple(name for name in DEFECTS if name in config.defects)
    return FilmConfig(shot, named, config.anchors)


def _render_wild(config: SynthConfig, seed: int) -> None:
    name = f"wild_{seed:06d}"
    if _finished(config.out, name):
        return
    film = Film(seed, film_config(config, seed))
    form = film.form
    path = config.out / "videos" / f"{name}.mp4"
    write_video(path, film.frames(), fps=form.fps, encoding=form.encoding)
    truth = film.truth()
    write_truth(config.out / "truth" / f"{name}.json", truth)
    log.info("%s: %d frames, %s", name, len(truth), " ".join(truth.defects) or "no defects")


def _render_studio(config: SynthConfig, seed: int) -> None:
    names = [f"studio_{seed:06d}_cam{camera:02d}" for camera in range(_STUDIO.num_views)]
    if all(_finished(config.out, name) for name in names):
        return
    clips = studio_clips(seed, _STUDIO, anchors=config.anchors)
    for name, (form, images, truth) in zip(names, clips, strict=True):
        path = config.out / "videos" / f"{name}.mp4"
        write_video(path, images, fps=form.fps, encoding=form.encoding)
        write_truth(config.out / "truth" / f"{name}.json", truth)
        log.info("%s: %d frames, %s", name, len(truth), truth.people[0].captions["short"])


def _finished(out: Path, name: str) -> bool:
    # The JSON is written last.
    return (out / "truth" / f"{name}.json").exists() and (out / "videos" / f"{name}.mp4").exists()

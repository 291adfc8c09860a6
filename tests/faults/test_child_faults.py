"""Hanging, crashing and memory-eating children in every place: one row each, no neighbour hurt."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch

from avatarmill.pipeline.cut import CutConfig, CutStage
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.executor import StageSpec, run_here
from avatarmill.pipeline.fitter import FitterConfig
from avatarmill.pipeline.gather import FinishedGroup, Gather
from avatarmill.pipeline.ingest import list_sources
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.people_config import PeopleConfig
from avatarmill.pipeline.probe import ProbeConfig
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.shots import ShotConfig
from avatarmill.pipeline.stages import StageConfig, curation_stages
from avatarmill.pipeline.types import Reason, Source
from avatarmill.pipeline.work import Content, Outcome, Scanned, Stage, Work, shot_parts
from avatarmill.records.ledger import check_ledger
from avatarmill.synth.job import SynthConfig
from avatarmill.synth.job import run as synth

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

INJECTED = Path(__file__).parent / "injected"
CHILDREN = "avatarmill.pipeline.children."
REASONS = {"hang": Reason.TIMED_OUT, "crash": Reason.CRASHED, "swell": Reason.OUT_OF_MEMORY}
PLACES = {
    CHILDREN + "video_child": "probe",
    "ffmpeg": "decode",
    CHILDREN + "mediapipe_child": "people",
    CHILDREN + "sam2_child": "masks",
    CHILDREN + "fit_child": "fit",
}
"""Module of the child, or the command, and the stage that its rows name."""
SHORT = CHILDREN + "video_child"
"""Its faults, one of each kind, are in every test run: it works before models are loaded."""


class Armed:
    """A stage in which children fail as long as it works on the poisoned source."""

    def __init__(self, build: Callable[[], Stage], armed: Path) -> None:
        self._stage = build()
        self._armed = armed

    def __call__(self, source: Source, content: Content) -> Sequence[Content]:
        if not source.uri.endswith("/poison.mp4"):
            return self._stage(source, content)
        self._armed.touch()
        try:
            return self._stage(source, content)
        finally:
            self._armed.unlink()

    def close(self) -> None:
        self._stage.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film and a copy of other bytes, which will be the poison."""
    root = tmp_path_factory.mktemp("pair")
    synth(SynthConfig("wild", count=1, seed=3, out=root, seconds=1.2))
    (film,) = (root / "videos").iterdir()
    poison = film.with_name("poison.mp4")
    copy = ["-i", str(film), "-c", "copy", "-metadata", "comment=poison", str(poison)]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *copy], check=True)
    return film.rename(film.with_name("good.mp4")).parent


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> MaskConfig:
    """SAM 2 at a small size with random weights, which say that the object is there."""
    from sam2.build_sam import build_sam2_video_predictor

    name = MaskConfig().sam2_model
    model = build_sam2_video_predictor(name, None, device="cpu", apply_postprocessing=False)
    weights = model.state_dict()
    weights["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 100
    path = tmp_path_factory.mktemp("sam2") / "random.pt"
    torch.save({"model": weights}, path)
    return MaskConfig(path, sam2_image_size=256, sam2_deadline_per_frame=0.5)


def settings(pair: Path, place: str, masks: MaskConfig) -> StageConfig:
    """Deadlines of the place a sound film meets on a busy machine, and a hang does not."""
    stages = CurateConfig(pair, pair).stages()
    stages = replace(stages, masks=masks)
    if place.endswith("video_child"):
        limits = ProbeConfig(deadline_seconds=8.0, memory_limit_bytes=1 << 30)
        return replace(stages, probe=limits, shots=ShotConfig(deadline_base_seconds=20.0))
    if place == "ffmpeg":
        return replace(stages, decode=DecodeConfig(deadline_base_seconds=8.0))
    if place.endswith("mediapipe_child"):
        return replace(stages, people=PeopleConfig(deadline_base_seconds=15.0))
    if place.endswith("fit_child"):
        return replace(stages, fitter=FitterConfig(deadline_base_seconds=15.0))
    return stages


def through(
    pair: Path, stages: StageConfig, second_pass: Sequence[StageSpec], armed: Path
) -> FinishedGroup:
    """Both films through all stages in this process, each child armed for the poison."""

    def armed_specs(specs: Sequence[StageSpec]) -> list[StageSpec]:
        return [replace(spec, build=partial(Armed, spec.build, armed)) for spec in specs]

    sources = list_sources(pair)
    gather = Gather([(0, tuple(sources))])
    parts: list[Work] = []
    for work in run_here([Work(source) for source in sources], armed_specs(scan_stages(stages))):
        if isinstance(work.content, Scanned):
            # The poison goes first, so that its neighbour meets the child that came after.
            parts = shot_parts(work.source, work.content.scan) + parts
        else:
            assert isinstance(work.content, Outcome)
            gather.add(work)
    found = [gather.add(work) for work in run_here(parts, armed_specs(second_pass))]
    (group,) = [group for group in found if group is not None]
    return group


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        pytest.param(
            *(place, kind),
            marks=() if place == SHORT else pytest.mark.slow,
            id=f"{PLACES[place]}-{kind}",
        )
        for place in PLACES
        for kind in REASONS
    ],
)
def test_a_child_that_fails_costs_one_row(
    pair: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    place: str,
    kind: str,
) -> None:
    if place == "ffmpeg":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(_faulty_ffmpeg(tmp_path)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(INJECTED), *_python_path()]))
    monkeypatch.setenv("FAULT_PLACE", place)
    monkeypatch.setenv("FAULT_KIND", kind)
    monkeypatch.setenv("FAULT_ARMED", str(tmp_path / "armed"))
    masks = request.getfixturevalue("sam2") if place.endswith("sam2_child") else MaskConfig()
    stages = settings(pair, place, masks)
    if place.endswith("sam2_child"):
        # Its first call loads the model for as long as it takes; a hang would take that too.
        monkeypatch.setattr("avatarmill.pipeline.sam2_masks.LOAD_SECONDS", 40.0)
    second_pass = curation_stages(stages)
    if place.endswith("video_child"):
        # Only the first pass has this child: the shorter of the two that may follow will do.
        second_pass = [StageSpec("cut", partial(CutStage, CutConfig(pair, tmp_path), "test"))]
    group = through(pair, stages, second_pass, tmp_path / "armed")
    good, poison = sorted(group.inputs, key=lambda state: state.uri)
    assert (poison.state, poison.reason) == ("rejected", REASONS[kind])
    (row,) = [row for row in group.rejects if row.uri == poison.uri]
    assert row.stage == PLACES[place] and row.evidence
    if place.endswith("sam2_child"):
        # Random weights give random masks, so the neighbour has no clip; it has its own reason.
        assert good.reason not in REASONS.values()
    else:
        assert good.state == "kept"
    counts = check_ledger(group.inputs, [str(path) for path in pair.iterdir()])
    assert sum(counts.values()) == 2 and not counts["failed"]


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _faulty_ffmpeg(folder: Path) -> Path:
    """An ffmpeg that fails like the children while it is armed."""
    script = folder / "ffmpeg"
    real = imageio_ffmpeg.get_ffmpeg_exe()
    script.write_text(
        f"#!{sys.executable} -P\n"
        "import os, sys\n"
        "if os.path.exists(os.environ['FAULT_ARMED']):\n"
        f"    sys.path.insert(0, {str(INJECTED)!r})\n"
        "    from sitecustomize import fail\n"
        "    fail(os.environ['FAULT_KIND'])\n"
        f"os.execv({real!r}, [{real!r}, *sys.argv[1:]])\n"
    )
    script.chmod(0o755)
    return script

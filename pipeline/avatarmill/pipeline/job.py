"""The curation job: a list of videos in, committed clip shards, index, rejects and ledger out."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from avatarmill.pipeline.captioner import CaptionConfig
from avatarmill.pipeline.copies import near_copies
from avatarmill.pipeline.decode import DecodeConfig
from avatarmill.pipeline.fit import FitConfig
from avatarmill.pipeline.fitter import FitterConfig
from avatarmill.pipeline.foreseen import Pilot, read_pilot
from avatarmill.pipeline.groups import (
    by_precedence,
    plan_groups,
    planned_with,
    split_duplicates,
)
from avatarmill.pipeline.list_job import ListConfig, run_watched
from avatarmill.pipeline.mask_config import MaskConfig
from avatarmill.pipeline.memory import MemoryConfig
from avatarmill.pipeline.near_duplicates import NearDuplicateConfig
from avatarmill.pipeline.people import PeopleConfig
from avatarmill.pipeline.recipe import recipe_fingerprint, refuse_other_recipe, write_recipe
from avatarmill.pipeline.rounds import Making, close_run, make_groups, scan_all
from avatarmill.pipeline.run_report import write_report
from avatarmill.pipeline.scanning import scan_stages
from avatarmill.pipeline.select import SelectConfig
from avatarmill.pipeline.stages import (
    StageConfig,
    curation_stages,
    step_fingerprints,
)
from avatarmill.pipeline.watch import Watch
from avatarmill.records.clip import CLIP_INDEX
from avatarmill.records.commit import list_commits, sweep
from avatarmill.records.ledger import InputState
from avatarmill.records.tombstones import buried


@dataclass(frozen=True, slots=True)
class CurateConfig(ListConfig):
    """A list of videos and the settings of every stage; clips go to OUT/clips."""

    near_duplicates: NearDuplicateConfig = field(default_factory=NearDuplicateConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    people: PeopleConfig = field(default_factory=PeopleConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    fitter: FitterConfig = field(default_factory=FitterConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    analysis: MemoryConfig = field(default_factory=MemoryConfig)

    def stages(self) -> StageConfig:
        """The settings that decide what a source becomes."""
        return StageConfig(
            self.probe,
            self.shots,
            self.decode,
            self.people,
            self.masks,
            self.fit,
            self.fitter,
            self.select,
            self.captions,
            replace(self.analysis, folder=self.analysis.folder or self.out / "analysis"),
        )


def run(config: CurateConfig) -> int:
    """Curates every source of the list that is not finished yet.

    Returns:
        0 when every source ended kept, rejected or as a duplicate; 1 when our own code failed
        on some, or the disk is full. Rerunning the same command tries those again and skips what
        is finished.

    Raises:
        ValueError: nothing to do, or the folder holds a run with another configuration.
    """
    return run_watched("curate", config, _run)


def _run(config: CurateConfig, watch: Watch) -> int:
    sources = config.sources()
    folder = config.out / "clips"
    steps = step_fingerprints(config.stages())
    made_by = recipe_fingerprint(config.stages())
    if not config.regenerate:
        refuse_other_recipe(folder, planned_with(folder), config.stages())
    write_recipe(folder, config.stages())
    pilot = _pilot(config.out, folder, made_by, len(sources))
    watch.progress.inputs(len(sources))
    watch.log.event("started", inputs=len(sources), fingerprint=made_by, steps=steps)
    sweep(folder)
    scanning = scan_stages(config.stages(), config.fetch, buried(folder))
    sources, scans = scan_all(sources, scanning, config.workers, folder, steps["shots"], watch)
    unique, exact = split_duplicates(sources)
    unique = by_precedence(unique, folder)
    watch.progress.phase("copies")
    copies = near_copies(unique, scans, config.near_duplicates, folder, steps["shots"])
    copies += [
        InputState(copy.uri, copy.sha256, "duplicate", f"same bytes as {first.uri}")
        for copy, first in exact
    ]
    plan = plan_groups(
        unique.without({copy.uri for copy in copies}),
        folder,
        group_size=config.group_size,
        fingerprint=made_by,
    )
    stages = curation_stages(config.stages(), config.fetch)
    making = Making(stages, config.workers, CLIP_INDEX, folder, plan, "curate")
    gather = make_groups(making, scans, watch)
    code = close_run(folder, copies, sources, gather, pilot)
    write_report(folder)
    return code


def _pilot(out: Path, folder: Path, made_by: str, sources: int) -> Pilot | None:
    """The pilot this start can be held against: of this recipe and list, nothing done yet."""
    pilot = read_pilot(out)
    if pilot is None or (pilot.recipe, pilot.sources) != (made_by, sources):
        return None
    return None if list_commits(folder) else pilot

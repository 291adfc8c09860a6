"""`avatarmill plan`: what a curate command would make, make again and cost, before it is run."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from avatarmill.cli.console import say, table
from avatarmill.pipeline.foreseen import LEVEL, Estimate, Pilot, write_pilot
from avatarmill.pipeline.ingest import read_list
from avatarmill.pipeline.job import CurateConfig
from avatarmill.pipeline.pilot import run_pilot
from avatarmill.pipeline.recipe import recipe_fingerprint, stale_groups
from avatarmill.pipeline.watch import Watch
from avatarmill.records.commit import list_commits


@dataclass(frozen=True, slots=True)
class Prices:
    """What the machines cost, in any currency."""

    cpu_hour: float = 0.04
    gpu_hour: float = 2.0
    gigabyte: float = 0.02
    """Of clips, for as long as they are kept."""


@dataclass(frozen=True, slots=True)
class PlanConfig(CurateConfig):
    """The options of the `avatarmill curate` command to look ahead of, and how far to look."""

    pilot: int = 0
    """Run the stages on so many sources of the list, drawn by size, and estimate the whole; 24
    are few, 100 are good."""
    pilot_seed: int = 0
    """Another seed draws other sources."""
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        CurateConfig.__post_init__(self)
        if self.pilot < 0:
            raise ValueError(f"pilot: {self.pilot} must be 0 or more sources")


def run(config: PlanConfig) -> int:
    """Prints what is finished, new and stale, and with a pilot what the rest will take."""
    sources = read_list(config.videos, config.fetch)
    if not len(sources):
        raise ValueError(f"videos: no video files in {config.videos}")
    folder, made_by = config.out / "clips", recipe_fingerprint(config.stages())
    finished = {
        state.uri
        for commit in list_commits(folder)
        if commit.fingerprint == made_by
        for state in commit.inputs
        if state.state != "failed"
    }
    left = [source for source in sources if source.uri not in finished]
    say(
        f"{len(sources)} sources listed: {len(sources) - len(left)} finished with these settings, "
        f"{len(left)} to do"
    )
    _stale(config)
    if not config.pilot or not left:
        return 0
    with Watch(config.out / "pilot", config.watch) as watch:
        pilot = run_pilot(
            left,
            config.pilot,
            config.stages(),
            config.fetch,
            config.workers,
            made_by,
            watch,
            config.pilot_seed,
        )
    write_pilot(config.out, pilot)
    say()
    say(
        f"pilot: {pilot.sample} of {pilot.sources} sources; {100 * LEVEL:.0f} % intervals. "
        "Copies are not looked for, so a list with many costs less."
    )
    table(("what", "estimate", "from", "to"), list(_rows(pilot, config)))
    if not pilot.estimates["clips"].value:
        say(
            "No source of the sample gave a clip: of clips and their bytes nothing is known yet. "
            "Take a larger --pilot, or other sources with --pilot-seed."
        )
    return 0


def _stale(config: PlanConfig) -> None:
    rows = stale_groups(config.out / "clips", config.stages())
    if not rows:
        say("nothing is stale")
        return
    table(
        ("stale from", "groups", "sources", "clips", "because"),
        [(r.step, r.groups, r.sources, r.clips, "; ".join(r.why)) for r in rows],
    )
    say("steps before that one keep their results; --regenerate makes the groups again")


def _rows(pilot: Pilot, config: PlanConfig) -> Iterator[tuple[str, str, str, str]]:
    found, prices = pilot.estimates, config.prices
    hours = found["worker_seconds"].times(1 / 3600)
    gpu_hours = found["gpu_seconds"].times(1 / 3600)
    gigabytes = found["bytes"].times(1e-9)
    if config.workers.cpu:
        name = f"hours on {config.workers.cpu} workers"
        yield _row(name, hours.times(1 / (config.workers.cpu + config.workers.gpu)))
    yield _row("worker hours (of one core)", hours)
    yield _row("GPU hours", gpu_hours)
    yield _row("clips", found["clips"])
    yield _row("GB of clips", gigabytes)
    yield _row("share of sources kept", found["yield"])
    parts = (
        hours.times(prices.cpu_hour),
        gpu_hours.times(prices.gpu_hour),
        gigabytes.times(prices.gigabyte),
    )
    # The parts rise and fall together, so their intervals add.
    sums = (sum(getattr(part, end) for part in parts) for end in ("value", "low", "high"))
    yield _row("cost", Estimate(*sums))


def _row(name: str, estimate: Estimate) -> tuple[str, str, str, str]:
    return name, f"{estimate.value:.4g}", f"{estimate.low:.4g}", f"{estimate.high:.4g}"

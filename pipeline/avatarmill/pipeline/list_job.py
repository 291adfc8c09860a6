"""What every job over a list of videos begins with: its list, its folder, and a watch over it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from avatarmill.pipeline.fetch import FetchConfig
from avatarmill.pipeline.identify import stat_files
from avatarmill.pipeline.ingest import check_input, read_list
from avatarmill.pipeline.pools import Workers
from avatarmill.pipeline.probe import ProbeConfig
from avatarmill.pipeline.rounds import unless_full
from avatarmill.pipeline.shots import ShotConfig
from avatarmill.pipeline.source_table import SourceTable
from avatarmill.pipeline.watch import Watch, WatchConfig
from avatarmill.records.runs import write_config


@dataclass(frozen=True, slots=True)
class ListConfig:
    """Which videos, where a run goes, who works on it, and what is looked at first."""

    videos: Path
    """Folder, glob or video, or a .txt, .csv, .jsonl or .parquet list of places; local, http(s)://,
    s3:// or gs://. Other columns of a list travel with what is made."""
    out: Path
    """The run's folder, on a disk or s3:// or gs://."""
    group_size: int = 8
    """Sources packed into one shard, and lost together when the job is killed half-way."""
    regenerate: bool = False
    """Make groups again that other settings or another code version made."""
    workers: Workers = field(default_factory=Workers)
    watch: WatchConfig = field(default_factory=WatchConfig)
    fetch: FetchConfig = field(default_factory=FetchConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size: {self.group_size} must be at least 1")
        try:
            check_input(self.videos)
        except ValueError as error:
            raise ValueError(f"videos: {error}") from error

    def sources(self) -> SourceTable:
        """The list as it is now, with the sizes of local files.

        Raises:
            ValueError: nothing is listed.
        """
        sources = stat_files(read_list(self.videos, self.fetch))
        if not len(sources):
            raise ValueError(f"videos: no video files in {self.videos}")
        return sources


_Config = TypeVar("_Config", bound=ListConfig)


def run_watched(name: str, config: _Config, job: Callable[[_Config, Watch], int]) -> int:
    """Writes the configuration as NAME.config.json, then runs `job` under a watch.

    Returns the exit status of the job; 1 when the disk is full.
    """

    def watched() -> int:
        write_config(config.out, name, config)
        with Watch(config.out, config.watch) as watch:
            return job(config, watch)

    return unless_full(config.out, watched)

"""Shows a running job: status file, metrics, log and progress bar, refreshed every two seconds."""

import logging
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from avatarmill.pipeline.board import REPORT_SECONDS, Board
from avatarmill.pipeline.last_words import LastWords
from avatarmill.pipeline.metrics import NAME as METRICS_NAME
from avatarmill.pipeline.metrics import Endpoint, exposition
from avatarmill.pipeline.progress import Progress
from avatarmill.pipeline.runlog import RunLog
from avatarmill.pipeline.status import State, Status, write_status
from avatarmill.records.atomic import write_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """How a running job can be watched beside its status file."""

    metrics_port: int = 0
    """Serve Prometheus metrics on this port; 0 for the file OUT/metrics.prom alone."""
    metrics_host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets the whole network read them."""

    def __post_init__(self) -> None:
        if not 0 <= self.metrics_port < 65536:
            raise ValueError(f"watch.metrics_port: {self.metrics_port} must be 0 to 65535")


class Watch:
    """A thread that looks at a job's progress; entering starts it, leaving writes the end."""

    def __init__(self, out: Path, config: WatchConfig) -> None:
        self.progress = Progress()
        self.log = RunLog(out)
        self.board: Board | None = None
        """Where workers report; set when there are any."""
        self._out = out
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._latest = self.progress.status()
        self._endpoint = None
        if config.metrics_port:
            host, port = config.metrics_host, config.metrics_port
            self._endpoint = Endpoint(host, port, lambda: self._latest)

    def __enter__(self) -> Self:
        logging.getLogger("avatarmill").addHandler(self.log)
        self._bar = tqdm(total=0, unit="part", file=sys.stderr, disable=None, leave=False)
        self._thread.start()
        self._last_words = LastWords(
            f"avatarmill: the job on {self._out} ended without a word: its driver or all of Ray "
            "was killed. What is committed is whole; the same command goes on from there"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._bar.close()
        message = "" if error is None else f"{type(error).__name__}: {error}"
        state: State = "finished" if error is None else "failed"
        self.log.event(state, message=message)
        self._look(state, message)
        logging.getLogger("avatarmill").removeHandler(self.log)
        if self._endpoint is not None:
            self._endpoint.close()
        self._last_words.withdraw()

    def _loop(self) -> None:
        while not self._over.wait(REPORT_SECONDS):
            self._look("running", "")

    def _look(self, state: State, message: str) -> None:
        running = state == "running" and self.board is not None
        reports = self.board.reports() if running and self.board is not None else []
        status = replace(self.progress.status(reports), state=state, message=message)
        self._latest = status
        self._show(status)
        try:
            write_status(self._out, status)
            write_bytes(self._out / METRICS_NAME, exposition(status).encode())
            self.log.flush()
        except OSError as error:
            # A full disk ends the job where it writes what matters, not here.
            logger.debug("cannot write the status: %s", error)

    def _show(self, status: Status) -> None:
        self._bar.total, self._bar.n = status.total, status.done
        self._bar.set_description(status.phase, refresh=False)
        stages = [f"{name} {s.per_minute:.1f}/min" for name, s in status.stages.items()]
        if status.eta_seconds is not None:
            stages.append(f"{status.eta_seconds / 60:.0f} min left")
        self._bar.set_postfix_str(", ".join(stages), refresh=True)

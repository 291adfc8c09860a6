"""A job's status as Prometheus metrics: a text file in the run folder, and an optional endpoint."""

import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from avatarmill.pipeline.status import Status

NAME = "metrics.prom"
PREFIX = "avatarmill_curate"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

METRICS: dict[str, tuple[str, str]] = {
    "heartbeat_timestamp_seconds": ("gauge", "Last sign of life of the job, unix seconds."),
    "running": ("gauge", "1 while the job runs, 0 when it has ended."),
    "inputs": ("gauge", "Sources of the list."),
    "parts": ("gauge", "Parts of the phase under way."),
    "parts_done": ("gauge", "Parts that have left the last stage of the phase."),
    "queue_parts": ("gauge", "Parts of the phase that no worker has begun."),
    "progress_ratio": ("gauge", "Work of the phase that is done, 0 to 1."),
    "eta_seconds": ("gauge", "Until the end of the phase."),
    "groups": ("gauge", "Groups this start of the job has to make."),
    "groups_done_total": ("counter", "Groups committed."),
    "clips_total": ("counter", "Clips committed."),
    "sources_total": ("counter", "Sources of committed groups, by how they ended."),
    "rejects_total": ("counter", "Rows of the reject table, by reason."),
    "stage_parts_total": ("counter", "Parts that have left a stage, in the phase under way."),
    "stage_seconds_total": ("counter", "Wall seconds of the workers at a stage, in the phase."),
    "stage_busy_workers": ("gauge", "Workers at a stage now."),
}
"""Name without prefix, to type and help."""


def exposition(status: Status) -> str:
    """The status in Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    samples = dict(_samples(status))
    for name, (kind, text) in METRICS.items():
        full = f"{PREFIX}_{name}"
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
        for labels, value in samples[name]:
            lines.append(f"{full}{_braces(labels)} {value:.10g}")
    return "\n".join(lines) + "\n"


Sample = tuple[dict[str, str], float]


def _samples(status: Status) -> Iterator[tuple[str, list[Sample]]]:
    """Name of a metric to its samples; those of the phase carry its name."""
    phase = {"phase": status.phase}
    eta: list[Sample] = [] if status.eta_seconds is None else [(phase, status.eta_seconds)]
    yield "heartbeat_timestamp_seconds", [({}, status.time)]
    yield "running", [({}, float(status.state == "running"))]
    yield "inputs", [({}, status.inputs)]
    yield "parts", [(phase, status.total)]
    yield "parts_done", [(phase, status.done)]
    yield "queue_parts", [(phase, status.queue)]
    yield "progress_ratio", [(phase, status.fraction)]
    yield "eta_seconds", eta
    yield "groups", [({}, status.groups_total)]
    yield "groups_done_total", [({}, status.groups_done)]
    yield "clips_total", [({}, status.clips)]
    yield "sources_total", [({"state": name}, n) for name, n in status.states.items()]
    yield "rejects_total", [({"reason": name}, n) for name, n in status.rejects.items()]
    stages = status.stages.items()
    yield "stage_parts_total", [({"stage": name}, stage.done) for name, stage in stages]
    yield "stage_seconds_total", [({"stage": name}, stage.seconds) for name, stage in stages]
    yield "stage_busy_workers", [({"stage": name}, stage.busy) for name, stage in stages]


def _braces(labels: Mapping[str, str]) -> str:
    # Stage names, phases, states and reasons are words of ours: nothing to escape.
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


class Endpoint:
    """Serves /metrics on one port until it is closed."""

    def __init__(self, host: str, port: int, status: Callable[[], Status]) -> None:
        """Listens at once. Raises OSError when the port is taken."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path not in ("/", "/metrics"):
                    self.send_error(404)
                    return
                body = exposition(status()).encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are not news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

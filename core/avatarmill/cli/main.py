"""The one executable: `avatarmill JOB [options]`, each job imported only when it runs."""

import contextlib
import dis
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from avatarmill.cli.console import complain, say, table

PROGRAM = "avatarmill"

OK, FAILED, BAD_CONFIGURATION, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Command:
    """Where a job lives. Nothing of it is imported to list it."""

    module: str
    config: str
    """Name of the configuration dataclass in the module."""
    help: str
    function: str = "run"
    """Called with the configuration; returns the exit status."""


COMMANDS: dict[str, Command] = {
    "synth": Command(
        "avatarmill.synth.job", "SynthConfig", "a seed -> videos of rendered actors, with truth"
    ),
    "curate": Command("avatarmill.pipeline.job", "CurateConfig", "videos -> clip shards"),
    "cut": Command(
        "avatarmill.pipeline.cut", "CutConfig", "videos -> shards of their shots as video files"
    ),
    "plan": Command(
        "avatarmill.cli.plan", "PlanConfig", "what a curate command would make, redo and cost"
    ),
    "status": Command(
        "avatarmill.cli.status", "StatusConfig", "where a curate job stands, running or stopped"
    ),
    "tokenize": Command("avatarmill.tokenize.job", "TokenizeConfig", "clip shards -> token shards"),
    "train reconstructor": Command(
        "avatarmill.train.reconstructor",
        "ReconstructorTrainConfig",
        "rendered actors -> tokenizer weights",
    ),
    "train compressor": Command(
        "avatarmill.train.compressor",
        "CompressorTrainConfig",
        "rendered actors and a reconstructor -> 8-channel tokens",
    ),
    "train diffusion": Command(
        "avatarmill.train.diffusion", "DiffusionTrainConfig", "token shards -> a checkpoint"
    ),
    "generate": Command(
        "avatarmill.generate.job", "GenerateConfig", "a prompt -> an avatar: .ply, .png, .mp4"
    ),
    "import-body": Command(
        "avatarmill.cli.import_body", "ImportBodyConfig", "a licensed SMPL-X file -> a clean npz"
    ),
    "inspect": Command(
        "avatarmill.cli.inspect_job", "InspectConfig", "shards, tables and runs at a glance"
    ),
    "explain": Command(
        "avatarmill.cli.explain", "ExplainConfig", "a key -> source, frames, crops, fit, weights"
    ),
    "forget": Command(
        "avatarmill.cli.forget", "ForgetConfig", "one source out of clips and tokens, with a proof"
    ),
    "deploy": Command(
        "avatarmill.infra.deploy", "DeployConfig", "a job's file for KubeRay, Ray or Slurm"
    ),
    "demo": Command("avatarmill.cli.demo", "DemoConfig", "all of the above, small, with a report"),
    "report": Command("avatarmill.cli.report", "ReportConfig", "a run folder -> report.html"),
    "weights": Command("avatarmill.cli.weights", "WeightsConfig", "retrain all shipped weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job and return its exit status: 0 done, 1 failed, 2 bad configuration."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        return _overview(COMMANDS)
    name, rest = split_command(words)
    if name not in COMMANDS:
        return _unknown(name, rest)
    logging.basicConfig(
        level=os.environ.get("AVATARMILL_LOG", "WARNING").upper(),
        format="%(levelname)s %(name)s: %(message)s",
    )
    return run_command(name, rest)


def split_command(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the job's name, one word or two, and its options.

    >>> split_command(["train", "diffusion", "--steps", "3"])
    ('train diffusion', ['--steps', '3'])
    """
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    if words[0] in groups and len(words) > 1 and not words[1].startswith("-"):
        return " ".join(words[:2]), list(words[2:])
    return words[0], list(words[1:])


def run_command(name: str, options: Sequence[str]) -> int:
    """Read the options of job `name` into its configuration and run it; return the status."""
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    config = parse_config(getattr(module, command.config), options, prog=f"{PROGRAM} {name}")
    if isinstance(config, int):
        return config
    run: Callable[[Any], int] = getattr(module, command.function)
    try:
        return run(config)
    except KeyboardInterrupt:
        complain(f"{PROGRAM} {name}: interrupted; the same command continues where it can")
        return INTERRUPTED
    except (ValueError, FileNotFoundError) as error:
        # Our own message to a user who gave something wrong; any other keeps its traceback.
        if not raised_by_us(error):
            raise
        complain(f"{PROGRAM} {name}: {error}")
        return BAD_CONFIGURATION


def parse_config(config_class: type[Any], options: Sequence[str], *, prog: str) -> Any:
    """Return the configuration, or an exit status when there is nothing to run.

    A ValueError of the configuration's own checks becomes one line on standard error; what tyro
    refuses (unknown options, wrong types) keeps tyro's message.
    """
    import tyro

    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(config_class, args=list(options), prog=prog)
    except SystemExit as stop:
        if own := _own_error(stop):
            complain(f"{prog}: {own}")
        else:
            sys.stderr.write(captured.getvalue())
        return stop.code if isinstance(stop.code, int) else OK


def _own_error(error: BaseException | None) -> ValueError | None:
    # tyro draws a box and exits while it handles our ValueError: it is in the chain.
    while error is not None:
        if isinstance(error, ValueError) and raised_by_us(error):
            return error
        error = error.__context__
    return None


def raised_by_us(error: BaseException) -> bool:
    """Whether the exception comes from a `raise` statement in an avatarmill module."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    # What numpy or int() raises has our frame innermost too: only a `raise` of ours counts.
    code = trace.tb_frame.f_code.co_code
    ours = str(trace.tb_frame.f_globals.get("__name__", "")).startswith(f"{PROGRAM}.")
    return ours and dis.opname[code[trace.tb_lasti]] == "RAISE_VARARGS"


def _overview(commands: dict[str, Command]) -> int:
    say(f"usage: {PROGRAM} JOB [options]      {PROGRAM} JOB --help shows the options of a job\n")
    table(("job", "what it does"), [(name, command.help) for name, command in commands.items()])
    return OK


def _unknown(name: str, rest: Sequence[str]) -> int:
    group = {full: command for full, command in COMMANDS.items() if full.startswith(f"{name} ")}
    if group:
        _overview(group)
        return OK if set(rest) & {"-h", "--help"} else BAD_CONFIGURATION
    complain(f"{PROGRAM}: no job is called {name!r}; jobs: {', '.join(COMMANDS)}")
    return BAD_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())

"""The executable lists jobs without importing them, and says in one line what is wrong."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from avatarmill.cli.console import progress, table_lines
from avatarmill.cli.main import (
    BAD_CONFIGURATION,
    COMMANDS,
    FAILED,
    INTERRUPTED,
    OK,
    Command,
    main,
    raised_by_us,
    split_command,
)
from avatarmill.records.ledger import InputState

HEAVY = ("torch", "ray", "numpy", "tyro", "deepspeed", "cv2", "transformers")

JOB = '''
"""A job for the tests."""

from dataclasses import dataclass

from avatarmill.records.ledger import InputState


@dataclass(frozen=True, slots=True)
class Config:
    """A tiny job."""

    ending: str = "well"
    """How it ends."""
    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps} is below the limit 1; give --steps 1 or more")


def run(config: Config) -> int:
    if config.ending == "interrupted":
        raise KeyboardInterrupt
    if config.ending == "mistake":
        InputState("a.mp4", "", "kept")
    if config.ending == "bug":
        int("x")
    return 0 if config.ending == "well" else 1
'''


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds a job called `tiny` whose configuration fails as a component's would."""
    (tmp_path / "tiny_job.py").write_text(JOB)
    spec = importlib.util.spec_from_file_location("avatarmill.tiny_job", tmp_path / "tiny_job.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "avatarmill.tiny_job", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(COMMANDS, "tiny", Command("avatarmill.tiny_job", "Config", "a tiny job"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from avatarmill.cli.main import main; status = main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_job_is_where_the_table_says(name: str) -> None:
    command = COMMANDS[name]
    spec = importlib.util.find_spec(command.module)
    assert spec is not None and spec.origin is not None, command.module
    tree = ast.parse(Path(spec.origin).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert {command.config, command.function} <= defined


def test_jobs_of_two_words() -> None:
    assert split_command(["train", "diffusion", "--steps", "3"]) == (
        "train diffusion",
        ["--steps", "3"],
    )
    assert split_command(["train", "--help"]) == ("train", ["--help"])
    assert split_command(["synth", "wild"]) == ("synth", ["wild"])


def test_group_alone_lists_its_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == OK
    listed = capsys.readouterr().out
    assert "train diffusion" in listed and "curate" not in listed
    assert main(["train"]) == BAD_CONFIGURATION
    assert main(["train", "everything"]) == BAD_CONFIGURATION


def test_unknown_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curat"]) == BAD_CONFIGURATION
    assert "no job is called 'curat'; jobs: synth, curate" in capsys.readouterr().err


@pytest.mark.usefixtures("job")
def test_a_bad_value_is_one_line_that_names_the_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--steps", "0"]) == BAD_CONFIGURATION
    message = "avatarmill tiny: steps: 0 is below the limit 1; give --steps 1 or more\n"
    assert capsys.readouterr().err == message


@pytest.mark.usefixtures("job")
def test_a_wrong_type_or_option_keeps_the_parser_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tiny", "--steps", "many"]) == BAD_CONFIGURATION
    assert "--steps" in capsys.readouterr().err
    assert main(["tiny", "--stepz", "1"]) == BAD_CONFIGURATION
    assert "--stepz" in capsys.readouterr().err


@pytest.mark.usefixtures("job")
def test_help_of_a_job_shows_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--help"]) == OK
    assert "How it ends." in capsys.readouterr().out


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        ("well", OK, ""),
        ("badly", FAILED, ""),
        ("mistake", BAD_CONFIGURATION, "avatarmill tiny: a.mp4 is kept with 0 samples\n"),
        ("interrupted", INTERRUPTED, "the same command continues where it can\n"),
    ],
)
def test_endings_of_a_run(
    ending: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tiny", "--ending", ending]) == status
    assert capsys.readouterr().err.endswith(message)


@pytest.mark.usefixtures("job")
def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        main(["tiny", "--ending", "bug"])


def test_who_raised() -> None:
    with pytest.raises(ValueError, match="kept") as ours:
        InputState("a.mp4", "", "kept")
    with pytest.raises(ValueError, match="invalid literal") as theirs:
        int("x")
    assert raised_by_us(ours.value) and not raised_by_us(theirs.value)
    assert not raised_by_us(ValueError("never raised"))


def test_table_aligns_text_left_and_numbers_right() -> None:
    rows = [("curate", 61.25), ("tokenize", 7)]
    assert list(table_lines(("job", "seconds"), rows)) == [
        "job       seconds",
        "--------  -------",
        "curate      61.25",
        "tokenize        7",
    ]
    with pytest.raises(ValueError, match="has 1 cells, the header 2"):
        list(table_lines(("job", "seconds"), [("curate",)]))


def test_progress_hands_on_every_item() -> None:
    assert list(progress(range(5), label="clips")) == [0, 1, 2, 3, 4]

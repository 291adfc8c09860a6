"""The folder layout keeps the standard library importable, and the files small and readable."""

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "pipeline", "tokenize", "train", "generate", "infra")
PACKAGES = (
    "core/avatarmill/avatar",
    "core/avatarmill/records",
    "core/avatarmill/synth",
    "core/avatarmill/cli",
    *(f"{name}/avatarmill/{name}" for name in FOLDERS[1:]),
)

MAX_FILE_LINES = 400
MAX_TRAINING_SCRIPT_LINES = 600
TRAINING_SCRIPT = "train/avatarmill/train/diffusion.py"
MAX_FUNCTION_LINES = 80

BROAD_EXCEPT_ALLOWED = frozenset({"pipeline/avatarmill/pipeline/executor.py"})
"""The executor turns a bug in a stage into one failed source."""
PRINT_ALLOWED = frozenset({"core/avatarmill/cli/console.py"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, ast.Module, int]]:
    """Yield (path from the root, tree, lines) of each module of the distribution."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder / "avatarmill").rglob("*.py")):
            text = path.read_text()
            yield path.relative_to(ROOT).as_posix(), ast.parse(text), text.count("\n")


def test_no_folder_called_tokenize_is_a_regular_package() -> None:
    # With an __init__.py it would shadow the stdlib module in Ray, in tracebacks, in `python -m`.
    inits = [init for name in (*FOLDERS, "tests") for init in (ROOT / name).rglob("__init__.py")]
    assert not [init for init in inits if init.parent.name == "tokenize"]


def test_folders_are_not_packages() -> None:
    # One avatarmill/__init__.py would hide the portions of all other folders.
    assert not [*ROOT.glob("*/__init__.py"), *ROOT.glob("*/avatarmill/__init__.py")]
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_stdlib_tokenize_wins() -> None:
    assert hasattr(tokenize, "generate_tokens"), tokenize


def test_packages_are_marked_as_typed() -> None:
    assert not [name for name in PACKAGES if not (ROOT / name / "py.typed").exists()]


def test_every_portion_is_packaged() -> None:
    import avatarmill

    portions = {Path(entry).resolve() for entry in avatarmill.__path__}
    assert {(ROOT / name / "avatarmill").resolve() for name in FOLDERS} <= portions


def test_every_module_opens_with_a_docstring() -> None:
    assert not [path for path, tree, _ in sources() if not ast.get_docstring(tree)]


def test_files_stay_small() -> None:
    limits = {TRAINING_SCRIPT: MAX_TRAINING_SCRIPT_LINES}
    long = {path: n for path, _, n in sources() if n > limits.get(path, MAX_FILE_LINES)}
    assert not long


def test_functions_stay_small() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree, _ in sources()
        for node in ast.walk(tree)
        if isinstance(node, Function)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long


def test_no_broad_except_outside_the_executor() -> None:
    broad = [
        f"{path}:{node.lineno}"
        for path, tree, _ in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and path not in BROAD_EXCEPT_ALLOWED
        if node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
    ]
    assert not broad


def test_only_the_console_prints() -> None:
    prints = [
        f"{path}:{node.lineno}"
        for path, tree, _ in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and path not in PRINT_ALLOWED
        if isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints

"""Arrows between components point one way, and some modules may be imported by few or none."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "pipeline", "tokenize", "train", "generate", "infra")
PORTIONS = tuple(f"{folder}/avatarmill" for folder in FOLDERS)

ALLOWED: dict[str, frozenset[str]] = {
    "records": frozenset(),
    "avatar": frozenset(),
    "synth": frozenset({"avatar"}),
    "pipeline": frozenset({"records", "avatar", "infra"}),
    "tokenize": frozenset({"records", "avatar", "infra"}),
    "train": frozenset({"tokenize", "synth", "records", "avatar"}),
    "generate": frozenset({"train", "tokenize", "records", "avatar"}),
    "infra": frozenset(),
}
"""By component: which others it may import. `cli` may import all, inside functions only."""

SMPLX_ADAPTER = "core/avatarmill/avatar/licensed.py"
LIGHT = ("core/avatarmill/cli/main.py", "core/avatarmill/cli/console.py")


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of one module."""

    path: str
    line: int
    name: str
    """Full dotted name, `from a.b import c` as a.b.c."""
    top_level: bool

    @property
    def root(self) -> str:
        return self.name.split(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.name}"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def python_files(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), parsed(path)


def imports(*folders: str) -> Iterator[Import]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from module_imports(path)


@cache
def module_imports(file: Path) -> tuple[Import, ...]:
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[Import]:
    path, tree = file.relative_to(ROOT).as_posix(), parsed(file)
    outside = {id(node) for node in _statements_outside_functions(tree)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports use full paths"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield Import(path, getattr(node, "lineno", 0), name, id(node) in outside)


def _statements_outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _statements_outside_functions(node)


def component_of(path: str) -> str:
    return path.split("/")[2]


def test_components_import_only_what_they_may() -> None:
    wrong = [
        str(found)
        for found in imports(*PORTIONS)
        if found.root == "avatarmill" and component_of(found.path) in ALLOWED
        if (target := found.name.split(".")[1]) != component_of(found.path)
        and target not in ALLOWED[component_of(found.path)]
    ]
    assert not wrong


def test_every_component_has_a_rule() -> None:
    components = {component_of(path) for path, _ in python_files(*PORTIONS)}
    assert components <= ALLOWED.keys() | {"cli"}


def test_the_entry_point_imports_components_only_when_a_job_runs() -> None:
    light = {"avatarmill.cli", "avatarmill.records"}
    heavy = [
        str(found)
        for found in imports("core/avatarmill/cli")
        if found.root == "avatarmill" and found.top_level
        if ".".join(found.name.split(".")[:2]) not in light and found.path in LIGHT
    ]
    assert not heavy


def test_generate_takes_only_models_from_train() -> None:
    # Trainers bring DeepSpeed and data loading, which sampling must not need.
    wrong = [
        str(found)
        for found in imports("generate")
        if found.name.startswith("avatarmill.train.")
        if found.name.split(".")[2] in {"diffusion", "reconstructor", "compressor", "synth_data"}
    ]
    assert not wrong


def test_the_non_commercial_package_has_one_adapter() -> None:
    # Its licence forbids training networks for commercial use: nothing that trains may reach it.
    users = [found for found in imports(*FOLDERS, "scripts") if found.root == "smplx"]
    assert {found.path for found in users} <= {SMPLX_ADAPTER}
    assert not [str(found) for found in users if found.top_level]


# Licensed bodies come as .pkl too; it is read when the user says --trust-pickle, and nowhere else.
TRUSTED_PICKLE = ("core/avatarmill/avatar/import_body.py", "tests/avatar/test_import_body.py")


@pytest.mark.parametrize("name", ["torchvision", "pickle", "cPickle", "dill", "shelve", "marshal"])
def test_forbidden_modules(name: str) -> None:
    # torchvision fails to import on the CPU build; the others run code hidden in data.
    folders = (*FOLDERS, "tests", "scripts", "benchmarks")
    found = [str(found) for found in imports(*folders) if found.root == name]
    assert [line for line in found if not line.startswith(TRUSTED_PICKLE)] == []


def test_torchvision_is_not_installed() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("a CUDA build has a torchvision that works")
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        __import__("torchvision")


def test_no_load_runs_pickles() -> None:
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in python_files(*FOLDERS, "scripts", "benchmarks")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _may_unpickle(node)
    ]
    assert not wrong


def _may_unpickle(call: ast.Call) -> bool:
    options = {word.arg: ast.unparse(word.value) for word in call.keywords}
    function = ast.unparse(call.func)
    if function == "torch.load":
        return options.get("weights_only") != "True"
    return function.endswith("load") and options.get("allow_pickle", "False") != "False"


def test_the_mediapipe_child_needs_only_numpy_and_mediapipe() -> None:
    # Its environment has nothing else: neither arrow nor torch, and numpy below 2.
    assert foreign_roots("avatarmill.pipeline.children.mediapipe_child") <= {"numpy", "mediapipe"}


def foreign_roots(module: str) -> set[str]:
    """Third-party packages that importing `module` imports, through modules of ours too."""
    roots: set[str] = set()
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        files = list(ROOT.glob(f"*/{name.replace('.', '/')}.py"))
        if name in seen or not files:
            continue
        seen.add(name)
        for found in module_imports(files[0]):
            if found.root == "avatarmill":
                waiting += [found.name, found.name.rpartition(".")[0]]
            elif found.top_level and found.root not in sys.stdlib_module_names:
                roots.add(found.root)
    return roots

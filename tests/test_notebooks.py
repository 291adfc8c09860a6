"""The notebooks: stored clean, and every cell of them runs."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_cells(path: Path) -> Iterator[Any]:
    """The cells with code, after a check of the file against the format."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    yield from (cell for cell in notebook.cells if cell.cell_type == "code")


def test_it_is_stored_without_outputs(path: Path) -> None:
    for cell in code_cells(path):
        assert not cell.outputs and cell.execution_count is None, cell.id


def test_every_cell_compiles_and_its_imports_are_there(path: Path) -> None:
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), str(path), "exec"), {})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_cell_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATARMILL_TOUR", str(tmp_path))
    # Settings of the user's Jupyter and IPython are none of our business.
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    if save := os.environ.get("AVATARMILL_SAVE_TOURS"):
        nbformat.write(notebook, Path(save) / path.name)
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert sum("image/png" in out.get("data", {}) for out in shown) == 2
    said = "".join(out.get("text", "") for out in shown)
    assert "nothing of it found" in said and "False that it is in the index" in said

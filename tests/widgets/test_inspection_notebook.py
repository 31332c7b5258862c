"""Notebook 03, executed headlessly in a project of its own on the bundled parts and a tiny model."""

import json
from pathlib import Path

import nbformat
import pytest

from tests.widgets.toy import NOTEBOOK, ROOT, inspection_project
from thesis_lib.workflow.run import Run

SHEETS = ("guidance", "prompts", "regions", "timesteps")


@pytest.fixture
def run(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return inspection_project(tmp_path, tiny_model_folder)


@pytest.mark.slow
def test_the_notebook_runs_headlessly_and_writes_its_sheets(run: Run) -> None:
    import papermill

    executed = run.folder / "executed.ipynb"
    papermill.execute_notebook(
        run.root / "notebooks" / NOTEBOOK, executed, {"experiment": run.experiment, "seed": 0},
        cwd=run.root / "notebooks", progress_bar=False,
    )  # fmt: skip
    stamp = json.loads((run.inspection / "stage.json").read_text())
    assert stamp["files"] == sorted(
        f"{name}{language}.{ending}" for name in SHEETS for language in ("", ".de") for ending in ("pdf", "png")
    )
    assert stamp["timesteps"] == sorted(stamp["timesteps"])
    assert (run.inspection / ".grid.safetensors").exists()
    cells = nbformat.read(executed, 4).cells
    shown = [set(output["data"]) for cell in cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/png" in kinds for kinds in shown) == len(SHEETS)
    assert any("application/vnd.jupyter.widget-view+json" in kinds for kinds in shown)


def test_the_notebook_is_clean() -> None:
    notebook = nbformat.read(ROOT / "notebooks" / NOTEBOOK, 4)
    nbformat.validate(notebook)
    assert notebook.metadata["kernelspec"]["name"] == "python3" and "widgets" not in notebook.metadata
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.metadata.get("tags") for cell in code[:2]] == [["parameters"], None]

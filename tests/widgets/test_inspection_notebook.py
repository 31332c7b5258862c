"""Notebook 03, executed headlessly in a project of its own on the bundled parts and a tiny model."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.concepts import Concepts, save_concepts
from thesis_lib.workflow.run import Run, open_run
from thesis_lib.workflow.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "03_augmentation_inspection.ipynb"
SHEETS = ("guidance", "prompts", "regions", "timesteps")


@pytest.fixture
def run(tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A toy run whose concepts are there."""
    for folder in ("notebooks", "parameters"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "Snakefile", tmp_path)
    for stage in STAGES:
        nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notebooks" / stage.notebook)
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, tmp_path / "notebooks")
    chosen = {"timesteps": [200], "guidance_scales": [2.0]}
    content = {
        "name": "toy",
        "data": {"num_classes": 2, "shots": 2},
        "model": {"base": str(tiny_model_folder), "size": 32, "precision": "fp32"},
        "inversion": {"method": "real_guidance"},
        "generation": {
            "steps": 5,
            "sources": 1,
            "per_source": 1,
            "id": chosen,
            "near_ood": chosen | {"timesteps": [500]},
        },
    }
    (tmp_path / "parameters" / "toy.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THESIS_RUNS", str(tmp_path / "runs"))
    run = open_run("parameters/toy.yaml")
    base = load_base_model(run.parameters.model)
    concepts = Concepts(base, {}, ["ball_bearing_6000", "ball_bearing_6203"])
    save_concepts(run.concepts(0), concepts, {"model": base.name, "model_digest": base.digest})
    run.finish(run.data, "data")
    run.finish(run.concepts(0), "inversion")
    return run


@pytest.mark.slow
def test_the_notebook_runs_headlessly_and_writes_its_sheets(run: Run) -> None:
    import papermill

    executed = run.folder / "executed.ipynb"
    papermill.execute_notebook(
        run.root / "notebooks" / NOTEBOOK, executed, {"experiment": run.experiment, "seed": 0},
        cwd=run.root / "notebooks", progress_bar=False,
    )  # fmt: skip
    stamp = json.loads((run.inspection / "stage.json").read_text())
    assert stamp["files"] == sorted(f"{name}.{ending}" for name in SHEETS for ending in ("pdf", "png"))
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

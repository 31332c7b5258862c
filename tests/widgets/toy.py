"""A project of its own on the bundled parts and a tiny model, in which notebook 03 can run."""

import shutil
from pathlib import Path

import nbformat
import yaml

from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.concepts import Concepts, save_concepts
from thesis_lib.workflow.run import Run, open_run
from thesis_lib.workflow.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "03_augmentation_inspection.ipynb"


def inspection_project(folder: Path, model: Path) -> Run:
    """A toy run whose concepts are there.

    Args:
        folder: Where the project goes; it must be the working directory.
        model: A base model's folder.
    """
    for name in ("notebooks", "parameters"):
        (folder / name).mkdir()
    shutil.copy(ROOT / "Snakefile", folder)
    for stage in STAGES:
        nbformat.write(nbformat.v4.new_notebook(), folder / "notebooks" / stage.notebook)
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder / "notebooks")
    chosen = {"timesteps": [200], "guidance_scales": [2.0]}
    content = {
        "name": "toy",
        "data": {"num_classes": 2, "shots": 2},
        "model": {"base": str(model), "size": 32, "precision": "fp32"},
        "inversion": {"method": "real_guidance"},
        "generation": {
            "steps": 5,
            "sources": 1,
            "per_source": 1,
            "id": chosen,
            "near_ood": chosen | {"timesteps": [500]},
        },
    }
    (folder / "parameters" / "toy.yaml").write_text(yaml.safe_dump(content))
    run = open_run("parameters/toy.yaml")
    base = load_base_model(run.parameters.model)
    concepts = Concepts(base, {}, ["ball_bearing_6000", "ball_bearing_6203"])
    save_concepts(run.concepts(0), concepts, {"model": base.name, "model_digest": base.digest})
    run.finish(run.data, "data")
    run.finish(run.concepts(0), "inversion")
    return run

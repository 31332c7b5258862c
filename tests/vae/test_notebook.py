"""Notebook 09 at toy size, without any of the folders it can read."""

import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
import yaml

from thesis_lib.workflow.project import project_root


@pytest.mark.slow
def test_the_notebook_compares_what_it_has_and_says_what_it_lacks(tmp_path):
    main = {
        "name": "toy_main", "arms": ["real"], "data": {"num_classes": 3, "shots": 4},
        "generation": {"sources": 2}, "encoder": {"width": 8, "size": 32},
        "training": {"steps": 4, "classes_per_batch": 3},
    }  # fmt: skip
    harness = {
        "experiment": str(tmp_path / "main.yaml"), "steps": 2, "generated": 2, "latent": 4, "width": 4,
        "fit": {"steps": 2, "batch": 8},
    }  # fmt: skip
    (tmp_path / "main.yaml").write_text(yaml.safe_dump(main))
    study = {"study": "vae", "name": "toy", "seeds": [0], "harness": harness}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(study))
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(project_root() / "notebooks" / "09_vae_augmentation_study.ipynb"),
         str(tmp_path / "out.ipynb"), "-p", "experiment", str(tmp_path / "toy.yaml")],
        cwd=project_root(), env=os.environ | {"THESIS_RUNS": str(tmp_path / "runs")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "toy"
    results = pd.read_parquet(run / "results.parquet")
    assert set(results["section"]) == {"harness", "blur"}
    assert {"none", "classical_vae_gc"} <= set(results["method"]) and "da_fusion" not in set(results["method"])
    assert {path.stem for path in (run / "figures").glob("*.pdf")} == {"harness", "harness_pictures", "blur"}
    assert "95" in (run / "tables" / "harness.tex").read_text()
    said = str(nbformat.read(tmp_path / "out.ipynb", 4))
    assert "--set mnist.root=" in said and "da_fusion is left out" in said

"""Notebook 09 at toy size: with all folders through `thesis run`, with none of them by papermill alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from tests.vae.toy import write_folders
from thesis_lib.workflow.project import project_root

FIT = {"steps": 2, "batch": 8}
DRAWN = {"proben1", "few_shot_table", "latent_spaces", "lines", "generated_digits", "few_shot", "only_generated"}
DRAWN |= {"many_generated", "faces", "blur"}


def command(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project_root(), env=os.environ | {"THESIS_RUNS": str(runs)},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_thesis_runs_the_whole_study_and_continues_where_a_bad_file_stopped_it(tmp_path):
    study = {
        "study": "vae", "name": "toy", "seeds": [0], "network": {"steps": 2, "width": 4},
        "proben1": {"sets": ["diabetes"], "betas": [0.5], "fit": FIT, "hidden": 4, "few_shot": [2],
                    "classifiers": ["network"]},
        "mnist": {"fit": FIT, "multi": FIT, "latent": 3, "width": 2, "shots": [2, 3], "only_shots": 2,
                  "only_generated": [2], "many": 3, "many_shots": [2], "network": {"steps": 2, "width": 4},
                  "map_betas": [1.0], "map_fit": FIT},
        "celeba": {"fit": FIT, "latent": 4, "width": 2, "dimensions": 2, "betas": [0.5, 150]},
        "harness": {"experiment": None},
    }  # fmt: skip
    for name, folder in write_folders(tmp_path).items():
        study[name]["root"] = folder
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(study))
    face = tmp_path / "celeba" / "3.png"
    whole = face.read_bytes()
    face.write_bytes(whole[:-100])
    thesis = ("thesis_lib.workflow.cli", "run", str(tmp_path / "toy.yaml"), "--cores", "1")
    stopped = command(tmp_path / "runs", *thesis)
    assert stopped.returncode == 2 and "vae: " in stopped.stderr and "3.png" in stopped.stderr
    face.write_bytes(whole)
    run = tmp_path / "runs" / "toy"
    before = {path: path.stat().st_mtime_ns for name in ("items", "models") for path in (run / name).rglob("*.*")}
    done = command(tmp_path / "runs", *thesis)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(path.suffix == ".json" for path in before) == 34
    assert {path: path.stat().st_mtime_ns for path in before} == before
    rows = json.loads((run / "metrics.json").read_text())
    sections = {"proben1", "few_shot_table", "few_shot", "only_generated", "many_generated", "blur"}
    assert {row["section"] for row in rows} == sections
    both = {f"{name}{language}" for name in DRAWN for language in ("", ".de")}
    assert {path.stem for path in (run / "figures").glob("*.pdf")} == both
    tables = (sections - {"blur"}) | {"findings", "gaps"}
    assert {path.stem for path in (run / "tables").glob("*.tex")} == {f"{n}{e}" for n in tables for e in ("", ".de")}
    page = (run / "report.html").read_text()
    assert page.count("<img") == len(DRAWN) and page.count('<div class="table">') == len(tables)
    exported = command(tmp_path / "runs", "thesis_lib.workflow.cli", "figures", "toy", "--language", "de")
    assert exported.returncode == 0, exported.stderr
    assert len(list((run / "print" / "de" / "figures").glob("*.pdf"))) == len(DRAWN)
    assert command(tmp_path / "runs", *thesis).stdout.startswith("nothing to do")


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
    notebook = project_root() / "notebooks" / "09_vae_augmentation_study.ipynb"
    alone = ("papermill", str(notebook), str(tmp_path / "out.ipynb"), "-p", "experiment", str(tmp_path / "toy.yaml"))
    done = command(tmp_path / "runs", *alone)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "runs" / "toy"
    rows = json.loads((run / "metrics.json").read_text())
    assert {row["section"] for row in rows} == {"harness", "blur"}
    methods = {row["method"] for row in rows}
    assert {"none", "classical_vae_gc"} <= methods and "da_fusion" not in methods
    assert {path.stem for path in (run / "figures").glob("*.pdf") if "." not in path.stem} == {
        "harness", "harness_pictures", "blur",
    }  # fmt: skip
    assert "95" in (run / "tables" / "harness.tex").read_text()
    page = (run / "report.html").read_text()
    assert page.count("<img") == 3 and page.count("names no folder, left out are") == 3
    assert (run / "stage.json").exists() and not (tmp_path / "runs" / "toy_main").exists()
    said = str(nbformat.read(tmp_path / "out.ipynb", 4))
    assert "--set mnist.root=" in said and "left out da_fusion" in said

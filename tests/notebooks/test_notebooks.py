"""Every notebook at toy size, through the same command a user gives; then by hand through papermill."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from PIL import Image

from thesis_lib.datasets import PARTS_CORPUS
from thesis_lib.sections import HARDNESS_ENCODER

ROOT = Path(__file__).parents[2]
ARMS = ["real", "real_id", "real_id_nearood", "cross_entropy"]
EXPLORED = ["real_strong", "second_view", "outlier_exposure", "oracle_nearood", "nearood_random", "siblings_bare"]
HARDNESS = ROOT / "thesis_lib" / "diffusion" / "miniature_parts" / HARDNESS_ENCODER


def thesis(runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thesis_lib.workflow.cli", *arguments],
        cwd=ROOT, env=os.environ | {"THESIS_RUNS": str(runs)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory, tiny_model_folder) -> tuple[Path, Path]:
    """A whole toy experiment: the parameter file and the run's folder."""
    folder = tmp_path_factory.mktemp("toy")
    content = {
        "name": "toy",
        "data": {"reader": "parts", "num_classes": 3, "shots": 4},
        "model": {"base": str(tiny_model_folder), "size": 32},
        "inversion": {"vectors": 2, "steps": 6, "batch": 6, "initializer_word": "part", "previews": 2},
        "generation": {
            "steps": 10, "sources": 2, "per_source": 2, "id": {"timesteps": [300]}, "near_ood": {"timesteps": "auto"},
            "background": {"timesteps": [800], "mask": "background"},
            "sibling": {"timesteps": [800], "mask": "none", "prompts": ["a photo of a nut"]},
        },
        # a toy's pictures are mush: every one that is not quite its class's is near-OOD
        "hardness": {
            "encoder": str(HARDNESS), "candidates": [501, 701], "id_p": 1, "near_p": 1, "near_percentile": 100,
        },
        "explore": EXPLORED,
        "variants": {
            "nearood_random": {"arm": "real_id_nearood", "set": {"training.near_ood_choice": "random"}},
            "siblings_bare": {"arm": "real_id_nearood", "set": {
                "training.near_ood_set": "sibling", "training.near_ood_choice": "all", "encoder.projection": None,
            }},
        },
        "encoder": {"architecture": "resnet10", "width": 8, "size": 32, "projection": [16, 8]},
        "training": {
            "steps": 6, "classes_per_batch": 3, "anchors_per_class": 2, "near_ood_per_class": 1,
            "negatives": "all_classes", "near_ood_choice": "hardness",
        },
        "probe": {"steps": 10, "views": 1, "batch": 16},
        "evaluation": {"perplexity": 5, "neighbours": 5},
    }  # fmt: skip
    file = folder / "toy.yaml"
    file.write_text(yaml.safe_dump(content))
    done = thesis(folder / "runs", "run", str(file), "--cores", "2")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "report.html" in done.stdout + done.stderr
    return file, folder / "runs" / "toy"


@pytest.mark.slow
def test_the_metrics_have_what_is_promised(toy):
    metrics = json.loads((toy[1] / "metrics.json").read_text())
    assert list(metrics) == ARMS + EXPLORED
    for arm in metrics:
        (values,) = metrics[arm].values()
        assert 0 <= values["top1"]["test"] <= 1 and 0 <= values["top1"]["field"] <= 1
        for kind in ("near", "far"):
            assert {"msp", "energy", "knn", "mahalanobis", "odin"} <= set(values["auroc"][kind])


@pytest.mark.slow
def test_manifest_figures_and_report_are_there(toy):
    run = toy[1]
    manifest = pd.read_parquet(run / "seed0" / "synthetic" / "manifest.parquet")
    chosen = manifest["timestep_chosen"]
    assert manifest.groupby(["kind", "mask"]).size().to_dict() == {
        ("id", "background"): 12, ("id", "object"): 12, ("near_ood", "none"): 12, ("near_ood", "object"): 18,
    }  # fmt: skip
    assert chosen.sum() == 12 and manifest.loc[chosen, "timestep"].nunique() == 1
    assert {"hardness.png", "validity.json"} <= {path.name for path in (run / "seed0" / "synthetic").iterdir()}
    pictures = sorted(run.rglob("*.png"))
    figures = [path for path in pictures if path.parents[1].name != "synthetic"]
    assert len(figures) > 20 and all(path.with_suffix(".pdf").exists() for path in figures)
    for path in figures:
        with Image.open(path) as opened:
            assert opened.convert("L").getextrema()[0] < 200, f"{path} is empty"
    page = (run / "report.html").read_text()
    assert page.count("<img") > 8 and "http" not in page.replace("http://www.w3.org", "")
    assert len(page) < 8e6


@pytest.mark.slow
def test_done_is_done_and_a_notebook_runs_by_hand(toy, tmp_path):
    file, run = toy
    started = time.monotonic()
    again = thesis(run.parent, "run", str(file), "--cores", "2")
    assert again.returncode == 0 and time.monotonic() - started < 20
    out = tmp_path / "out.ipynb"
    subprocess.run(
        [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "05_contrastive_training.ipynb"), str(out),
         "-p", "experiment", str(file), "-p", "arm", "real_id", "-p", "seed", "0"],
        cwd=tmp_path, env=os.environ | {"THESIS_RUNS": str(run.parent)}, check=True, capture_output=True,
    )  # fmt: skip
    cells = nbformat.read(out, 4).cells
    assert any("image/png" in o.get("data", {}) for cell in cells for o in cell.get("outputs", []))


@pytest.mark.slow
def test_the_audit_switches_each_erratum_on_alone(toy, tmp_path):
    file, run = toy
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "11_reproduction_audit.ipynb"),
         str(tmp_path / "out.ipynb"), "-p", "experiment", str(file), "-p", "steps", "4"],
        cwd=ROOT, env=os.environ | {"THESIS_RUNS": str(run.parent)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(pd.read_csv(run / "audit" / "audit.csv")) == 10
    assert (run / "audit" / "shifts.pdf").exists()


@pytest.mark.slow
def test_the_study_of_pairs_and_triplets_on_the_bundled_parts(tmp_path):
    sets = [
        "data.sets=[parts]", "data.anchors=4", "data.test=120", "batch=40", "seeds=[0,1]", "pairwise.epochs=1",
        "triplet.epochs=1", "probe.points=60", "probe.perplexities=[3,10]", "probe.perplexity_3d=10",
        "beyond={supcon: {loss: supcon, epochs: 1}}", "beyond_sets=[parts]",
    ]  # fmt: skip
    given = [part for item in sets for part in ("--set", item)]
    done = thesis(tmp_path, "run", "parameters/pairwise_triplet.yaml", *given, "--name", "toy", "--cores", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "toy"
    assert len(json.loads((run / "metrics.json").read_text())) == 2 * 7 * 6
    assert len(list(run.glob("seed*/parts/*.safetensors"))) == 14
    names = ["activation_parts", "clouds_parts", "confusion_parts", "pca_parts", "perplexities_parts"]
    names += ["losses", "scenarios", "triplets_parts", "tsne_parts"]
    both = sorted(f"{name}{language}" for name in names for language in ("", ".de"))
    assert sorted(path.stem for path in (run / "figures").glob("*.png")) == both
    tables = {path.stem for path in (run / "tables").glob("*.tex")}
    assert tables == {f"{name}{end}" for name in ("beyond", "scenarios", "shortcuts") for end in ("", ".de")}
    assert (run / "report.html").read_text().count("<img") == 9


@pytest.mark.slow
def test_a_stage_without_its_input_says_what_to_run(toy, tmp_path):
    file, _ = toy
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "04_augmentation_generation.ipynb"),
         str(tmp_path / "out.ipynb"), "-p", "experiment", str(file)],
        cwd=ROOT, env=os.environ | {"THESIS_RUNS": str(tmp_path / "elsewhere")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode and "has no concepts: run notebook 02 first" in done.stderr


@pytest.mark.slow
def test_the_miniature_notebook_trains_on_any_captioned_table(tmp_path):
    table = tmp_path / "captions.parquet"
    pd.read_parquet(PARTS_CORPUS).iloc[::100].to_parquet(table)
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(ROOT / "notebooks" / "10_miniature_model.ipynb"),
         str(tmp_path / "out.ipynb"), "-p", "name", "toy_model", "-p", "table", str(table), "-p", "share", "0.0005",
         "-p", "judge_classes", "2", "-p", "judge_steps", "2",
         "-y", "{timesteps: [0, 300], steps: 4, steered_pictures: 4}"],
        cwd=ROOT, env=os.environ | {"THESIS_RUNS": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    quality = json.loads((tmp_path / "toy_model" / "quality.json").read_text())
    assert all(value == value for value in quality.values())
    assert (tmp_path / "toy_model" / "model" / "model_index.json").exists()

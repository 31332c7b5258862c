"""A companion study in the workflow: a parameter file that names it, a graph of one stage, one notebook, one stamp."""

import json
import warnings
from pathlib import Path

import pytest

from tests.workflow.toy import cell, edit_cell, make_project, thesis, write_notebook
from thesis_lib.errors import ThesisError
from thesis_lib.pairwise.parameters import PairwiseTripletParameters
from thesis_lib.parameter_files import STUDIES, dump_parameters, read_parameters
from thesis_lib.storage import write_json
from thesis_lib.workflow.check import estimate, problems
from thesis_lib.workflow.run import main_run, open_run
from thesis_lib.workflow.stages import STUDY_STAGES, all_jobs, plan

NOTEBOOK = """
from thesis_lib.workflow.run import open_run
run = open_run(experiment, overrides)
(run.folder / "tables").mkdir(parents=True, exist_ok=True)
(run.folder / "tables" / "numbers.csv").write_text(f"{run.parameters.batch}")
run.report.write_text("<p>done</p>")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy project with a study beside its experiment."""
    monkeypatch.delenv("THESIS_RUNS", raising=False)
    make_project(tmp_path)
    (tmp_path / "parameters" / "pairs.yaml").write_text("study: pairwise_triplet\nseeds: [3]\ndata: {root: data}\n")
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    first = 'experiment = "parameters/pairs.yaml"\noverrides = ""'
    last = "run.finish(run.folder, run.parameters.study)"
    cells = [cell(first, ["parameters"]), cell(NOTEBOOK), cell(last)]
    write_notebook(tmp_path / "notebooks" / "08_pairwise_triplet_study.ipynb", cells)
    (tmp_path / "parameters" / "vae.yaml").write_text(
        "study: vae\nseeds: [0, 1]\nmnist: {root: digits}\nharness: {experiment: parameters/toy.yaml}\n"
    )
    write_notebook(tmp_path / "notebooks" / "09_vae_augmentation_study.ipynb", cells)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def planned(project: Path, *overrides: str, name: str = "pairs") -> dict[str, str]:
    asked = read_parameters(project / "parameters" / f"{name}.yaml", [f"name={name}", *overrides])
    return {job.label: reason for job, reason in plan(asked, project, project / "runs" / name).items()}


def test_a_parameter_file_that_names_a_study_has_its_own_parameters(project: Path) -> None:
    file = project / "parameters" / "pairs.yaml"
    asked = read_parameters(file, "triplet.epochs=2")
    assert isinstance(asked, PairwiseTripletParameters)
    assert (asked.triplet.epochs, asked.seeds) == (2, [3]) and asked.name.startswith("pairs_epochs-2_")
    (project / "again.yaml").write_text(dump_parameters(asked))
    assert read_parameters(project / "again.yaml") == asked


def test_its_graph_is_one_stage(project: Path) -> None:
    asked = read_parameters(project / "parameters" / "pairs.yaml")
    (job,) = all_jobs(asked)
    assert (job.label, job.stamp, job.log) == (
        "pairwise_triplet", "stage.json", "notebooks/pairwise_triplet.ipynb",
    )  # fmt: skip
    assert job.arguments("x.yaml", asked) == {"experiment": "x.yaml", "overrides": ""}
    with pytest.raises(ThesisError, match="training is not a stage; the stages are: pairwise_triplet"):
        all_jobs(asked, "training")


def test_its_stamp_follows_parameters_notebook_and_data(project: Path) -> None:
    assert planned(project) == {"pairwise_triplet": "not done yet"}
    run = open_run("parameters/pairs.yaml")
    assert run.parameters.data.root == str(project / "data") and run.asked.data.root == "data"
    run.folder.mkdir(exist_ok=True)
    run.report.write_text("<p>done</p>")
    run.finish(run.folder, "pairwise_triplet")
    assert json.loads((run.folder / "stage.json").read_text())["files"] == ["report.html"]
    assert planned(project) == {}
    assert planned(project, "batch=9") == {"pairwise_triplet": "changed: batch"}
    (project / "data" / "mnist" / "train-images-idx3-ubyte").touch()
    assert planned(project) == {"pairwise_triplet": "the data set or weights it reads changed"}
    run.report.unlink()
    (project / "data" / "mnist" / "train-images-idx3-ubyte").unlink()
    assert planned(project) == {"pairwise_triplet": "missing: report.html"}


def test_check_says_what_is_missing_or_how_long_it_takes(project: Path) -> None:
    asked = read_parameters(project / "parameters" / "pairs.yaml")
    found, _, _ = problems(asked, project)
    assert [sentence.partition(" is not in ")[0] for sentence in found] == ["MNIST", "CIFAR-10"]
    assert all("--set data.root=/path/to/it" in sentence for sentence in found)
    (line,) = estimate(asked, project, project / "runs" / "pairs", 0)
    assert line.startswith("1 job would run: about ")
    bundled = read_parameters(project / "parameters" / "pairs.yaml", "data.sets=[parts]")
    assert problems(bundled, project)[0] == []


def test_every_study_has_its_stage_and_asks_for_its_folders(project: Path) -> None:
    assert STUDIES.keys() == STUDY_STAGES.keys()
    asked = read_parameters(project / "parameters" / "vae.yaml")
    assert list(asked.sections) == ["proben1", "mnist", "celeba"]
    found = asked.resolved(project)
    assert found.mnist.root == str(project / "digits") and found.celeba.root is None


def test_a_study_that_reads_a_main_run_follows_its_pictures(project: Path) -> None:
    assert planned(project, name="vae") == {"vae": "not done yet"}
    run = open_run("parameters/vae.yaml")
    run.report.write_text("<p>done</p>")
    run.finish(run.folder, "vae")
    assert planned(project, name="vae") == {}
    write_json(project / "runs" / "toy" / "seed1" / "synthetic" / "stage.json", {"key": "new pictures"})
    assert planned(project, name="vae") == {"vae": "the data set or weights it reads changed"}
    run.finish(run.folder, "vae")
    edit_cell(project / "parameters" / "toy.yaml", "inversion: {steps: 6}", "inversion: {steps: 7}")
    assert planned(project, name="vae") == {}  # the study reads the pictures, not what made them
    edit_cell(project / "parameters" / "toy.yaml", "training: {steps: 6}", "training: {steps: 7}")
    assert planned(project, name="vae") == {"vae": "the data set or weights it reads changed"}


def test_further_seeds_of_the_main_run_are_made_by_an_override_that_keeps_its_name(project: Path) -> None:
    more = open_run("parameters/toy.yaml", "seeds=[0,1,2] name=toy")
    more.synthetic(2).mkdir(parents=True)
    more.finish(more.synthetic(2), "generation")
    found = main_run(read_parameters(project / "parameters" / "vae.yaml"), project)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it would be said where the stamp did not fit the file as it is
        assert found.require("generation", 2) == project / "runs" / "toy" / "seed2" / "synthetic"
    asked = read_parameters(project / "parameters" / "toy.yaml", ["seeds=[0,1,2]", "name=toy"])
    assert "generation seed2" not in {
        job.label for job, reason in plan(asked, project, project / "runs" / "toy").items() if "follows" not in reason
    }


def test_check_speaks_of_the_main_run_that_a_study_reads(project: Path) -> None:
    asked = read_parameters(project / "parameters" / "vae.yaml", "mnist.root=null")
    found, remarks, _ = problems(asked, project)
    assert found == [] and [remark.partition(" ")[0] for remark in remarks[:3]] == [
        "proben1.root", "mnist.root", "celeba.root",
    ]  # fmt: skip
    assert remarks[3].startswith("seeds without DA-Fusion pictures, which are left out: 0, 1; they are made by ")
    assert remarks[3].endswith(" thesis run parameters/toy.yaml --until generation --set seeds=[0,1] --name toy")
    write_json(project / "runs" / "toy" / "seed0" / "synthetic" / "stage.json", {"made_of": {}})
    older, *rest = problems(asked, project)[1][3:]
    assert "is not up to date" in older and "left out: 1; " in rest[0]
    (project / "parameters" / "toy.yaml").write_text("data: {num_classes: 3, shots: 999}")
    assert problems(asked, project)[0][0].startswith("parameters/toy.yaml: ")
    for experiment, sentence in (("pairs", "is a companion study: name a main"), ("none", "cannot read the parameter")):
        wrong = read_parameters(project / "parameters" / "vae.yaml", f"harness.experiment=parameters/{experiment}.yaml")
        assert sentence in problems(wrong, project)[0][-1]


@pytest.mark.slow
def test_thesis_runs_it_once(project: Path) -> None:
    done = thesis(project, "run", "parameters/pairs.yaml", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "1 notebook in " in done.stdout and "runs/pairs/report.html" in done.stdout
    assert (project / "runs" / "pairs" / "tables" / "numbers.csv").read_text() == "1024"
    again = thesis(project, "run", "parameters/pairs.yaml", "--cores", "1")
    assert again.stdout.startswith("nothing to do")

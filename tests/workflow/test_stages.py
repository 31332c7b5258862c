"""The graph, what a stage depends on, and stamps; nothing is executed here."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.toy import ROOT, cell, edit_cell, make_project, save_as_jupyterlab
from thesis_lib.errors import ThesisError
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Parameters
from thesis_lib.workflow.lock import running
from thesis_lib.workflow.run import Run, open_run
from thesis_lib.workflow.stages import STAGES, all_jobs, cells_digest, made_of, make_job, plan


def finish_all(run: Run) -> None:
    """Do every stage in order, with one small file each."""
    for job in all_jobs(run.asked):
        folder = run.folder / job.folder
        folder.mkdir(parents=True, exist_ok=True)
        (run.report if job.stage.name == "report" else folder / "result.txt").write_text(job.label)
        run.finish(folder, job.stage.name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("THESIS_RUNS", raising=False)
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    run = open_run("parameters/toy.yaml")
    finish_all(run)
    return run


def planned(run: Run, overrides: str = "", until: str | None = None) -> dict[str, str]:
    asked = read_parameters(run.root / run.experiment, f"name=toy {overrides}")
    return {job.label: reason for job, reason in plan(asked, run.root, run.folder, until).items()}


def test_order_of_jobs() -> None:
    jobs = all_jobs(Parameters(name="x", seeds=[0, 1], arms=["real", "real_id"]))
    assert [job.label for job in jobs] == [
        "data",
        *("inversion seed0", "inversion seed1", "inspection", "generation seed0", "generation seed1"),
        *("training seed0 real", "training seed0 real_id", "training seed1 real", "training seed1 real_id"),
        *("analysis seed0", "analysis seed1", "report"),
    ]
    assert [job.stamp for job in jobs[:2]] + [jobs[-1].stamp] == [
        "data/stage.json",
        "seed0/concepts/stage.json",
        "stage.json",
    ]
    assert jobs[6].log == "notebooks/training_seed0_real.ipynb"


def test_real_arm_needs_no_synthetic_pictures() -> None:
    parameters = Parameters(name="x", arms=["real"])
    assert [job.label for job in all_jobs(parameters, "training")] == ["data", "training seed0 real"]
    parameters = Parameters(name="x", arms=["cross_entropy"])
    assert [job.stage.name for job in all_jobs(parameters, "training")] == [
        "data",
        "inversion",
        "generation",
        "training",
    ]


def test_unknown_stage_is_named() -> None:
    with pytest.raises(ThesisError, match="paint is not a stage; the stages are: data, inversion"):
        all_jobs(Parameters(name="x"), "paint")
    with pytest.raises(ThesisError, match="runs per seed and arm: say which arm"):
        make_job("training", 0)


def test_done_means_nothing_planned(run: Run) -> None:
    assert planned(run) == {}


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("data.shots=9", "data"),
        ("inversion.steps=7", "inversion seed0"),
        ("generation.batch=5", "inspection"),
        ("training.steps=7", "training seed0 real"),
        ("evaluation.odin_epsilon=0.1", "training seed0 real"),  # scores with gradients, which need the network
        ("evaluation.knn=6", "analysis seed0"),
        ("description=other", "report"),
    ],
)
def test_changed_parameter_reruns_what_reads_it(run: Run, override: str, first: str) -> None:
    todo = planned(run, override)
    assert next(iter(todo)) == first and todo[first] == f"changed: {override.partition('=')[0]}"
    assert "report" in todo
    labels = [job.label for job in all_jobs(run.asked)]
    assert not set(labels[: labels.index(first)]) & set(todo)


def test_training_parameters_leave_the_pictures_alone(run: Run) -> None:
    assert [label.split()[0] for label in planned(run, "training.steps=7")] == [
        "training",
        "training",
        "analysis",
        "report",
    ]


def test_another_seed_or_arm_keeps_the_others(run: Run) -> None:
    assert list(planned(run, "seeds=[0,1] arms=[real]")) == [
        "training seed1 real",  # and no pictures, which nobody would look at
        "analysis seed0",  # compares other arms now
        "analysis seed1",
        "report",
    ]


def test_notebook_saved_in_jupyterlab_is_still_done(run: Run) -> None:
    for stage in STAGES:
        save_as_jupyterlab(run.root / "notebooks" / stage.notebook)
    assert planned(run) == {}


def test_defaults_tried_in_the_parameters_cell_rerun_nothing(run: Run) -> None:
    edit_cell(run.root / "notebooks" / "05_contrastive_training.ipynb", r"arm = \"real\"", r"arm = \"real_id\"")
    assert planned(run) == {}


def test_edited_notebook_reruns_with_what_follows(run: Run) -> None:
    edit_cell(run.root / "notebooks" / "06_embedding_analysis.ipynb", "time.sleep", "0 or time.sleep")
    assert planned(run) == {"analysis seed0": "06_embedding_analysis.ipynb changed", "report": "follows analysis seed0"}


def test_deleted_files_of_a_middle_stage_are_noticed(run: Run) -> None:
    (run.synthetic(0) / "result.txt").unlink()
    assert planned(run)["generation seed0"] == "missing: result.txt"
    shutil.rmtree(run.concepts(0))
    todo = planned(run)
    assert todo["inversion seed0"] == "not done yet" and todo["inspection"] == "follows inversion seed0"
    assert "training seed0 real" not in todo


def test_time_stamps_do_not_matter(run: Run) -> None:
    for path in sorted(run.root.rglob("*")):
        path.touch()
    (run.data / "stage.json").touch()
    assert planned(run) == {}


def test_stale_inputs_are_not_laundered_by_hand(run: Run) -> None:
    """Running notebook 06 by hand on old encoders does not make it up to date with new parameters."""
    other = open_run("parameters/toy.yaml", "name=toy training.steps=7")
    other.finish(other.analysis(0), "analysis")
    todo = planned(run, "training.steps=7")
    assert "training seed0 real" in todo and "analysis seed0" in todo


def test_the_parameters_of_a_run_at_work_stay_as_they_are(run: Run) -> None:
    kept = (run.folder / "parameters.yaml").read_text()
    with running(run.folder):
        open_run("parameters/toy.yaml")
        with pytest.raises(ThesisError, match="toy: a run with other parameters is at work on it"):
            open_run("parameters/toy.yaml", "name=toy training.steps=7")
    assert (run.folder / "parameters.yaml").read_text() == kept


def test_work_by_hand_counts_as_done(run: Run) -> None:
    other = open_run("parameters/toy.yaml", "name=toy training.steps=7")
    for arm in ("real", "cross_entropy"):
        other.finish(other.arm(arm, 0), "training")
    assert planned(run, "training.steps=7")["analysis seed0"] == "its inputs changed"
    assert "training seed0 real" not in planned(run, "training.steps=7")


def test_training_follows_what_chooses_its_pictures_and_what_it_scores(run: Run) -> None:
    for changed in ("hardness.near_p=0.3", "evaluation.odin_temperature=10", "encoder.width=24", "probe.steps=7"):
        assert planned(run, changed)["training seed0 real"] == f"changed: {changed.partition('=')[0]}"
    assert "training seed0 real" not in planned(run, "evaluation.perplexity=7")
    weights = run.root / "weights.safetensors"
    weights.write_bytes(b"0" * 1000)
    first = made_of(make_job("training", 0, "real"), _with_weights(run), run.root, run.folder)
    weights.write_bytes(b"1" * 1000)
    second = made_of(make_job("training", 0, "real"), _with_weights(run), run.root, run.folder)
    assert first["outside"] != second["outside"] and first["parameters"] == second["parameters"]


def _with_weights(run: Run) -> Parameters:
    encoder = {"weights": str(run.root / "weights.safetensors")}
    return Parameters.model_validate({"name": "toy", "encoder": encoder})


def test_weights_and_data_from_outside_are_watched(project: Path) -> None:
    base, data = project / "model", project / "pictures"
    for folder in (base / "unet", data / "a"):
        folder.mkdir(parents=True)
    (base / "unet" / "weights.safetensors").write_bytes(bytes(1000))
    with (project / "parameters" / "toy.yaml").open("a") as file:
        file.write("data: {reader: folder, root: pictures}\n")
    edit_cell(project / "parameters" / "toy.yaml", "model: {size: 16}", "model: {size: 16, base: model}")
    run = open_run("parameters/toy.yaml")
    assert run.parameters.data.root == str(data) and run.parameters.model.base == str(base)
    finish_all(run)
    assert planned(run) == {}
    (base / "unet" / "weights.safetensors").write_bytes(b"1" * 1000)
    assert planned(run)["data"] == "the data set or weights it reads changed"  # encoders see through the VAE
    finish_all(run)
    (data / "a" / "new.png").touch()
    todo = planned(run)
    assert todo["data"] == "the data set or weights it reads changed"
    assert todo["inversion seed0"] == "follows data"


def test_stamp_says_what_made_it(run: Run) -> None:
    run.finish(run.concepts(0), "inversion", loss=0.5)
    stamp = json.loads((run.concepts(0) / "stage.json").read_text())
    assert (stamp["stage"], stamp["seed"], stamp["arm"], stamp["loss"]) == ("inversion", 0, None, 0.5)
    assert stamp["made_of"]["parameters"]["inversion"]["steps"] == 6
    assert set(stamp) >= {"python", "versions", "commit", "dirty", "date", "seconds", "experiment", "key", "files"}
    assert stamp["versions"]["torch"] and stamp["files"] == ["result.txt"]


def test_notebook_edited_while_it_runs_is_not_stamped_as_new(run: Run) -> None:
    opened = open_run("parameters/toy.yaml")
    edit_cell(run.root / "notebooks" / "01_data_exploration.ipynb", "time.sleep", "0 or time.sleep")
    opened.finish(opened.data, "data")
    assert planned(run)["data"] == "01_data_exploration.ipynb changed"


def test_wrong_folder_is_refused(run: Run) -> None:
    with pytest.raises(ThesisError, match="is no folder of the stage inversion"):
        run.finish(run.synthetic(0), "inversion")
    with pytest.raises(ThesisError, match="is no folder of the stage data"):
        run.finish(run.root, "data")


def test_missing_stage_says_which_notebook(project: Path) -> None:
    run = open_run("parameters/toy.yaml")
    with pytest.raises(ThesisError) as error:
        run.require("inversion", 0)
    assert str(error.value) == (
        "runs/toy/seed0/concepts has no concepts: run notebook 02 first "
        "(or: thesis run parameters/toy.yaml --until inversion)"
    )


def test_outdated_stage_is_warned_about(run: Run) -> None:
    other = open_run("parameters/toy.yaml", "name=toy inversion.steps=7")
    with pytest.warns(UserWarning, match=r"concepts is not up to date \(changed: inversion.steps\): run notebook 02"):
        assert other.require("inversion", 0) == run.concepts(0)
    with pytest.warns(
        UserWarning, match=r"analysis is not up to date \(generation seed0: changed: inversion.steps\): "
    ):
        assert other.require("analysis", 0) == run.analysis(0)


def test_open_run_from_any_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert open_run("parameters/toy.yaml").folder == project / "runs" / "toy"
    assert read_parameters(project / "runs" / "toy" / "parameters.yaml").name == "toy"
    assert open_run("parameters/toy.yaml", "data.shots=9").name.startswith("toy_shots-9_")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("THESIS_RUNS", str(elsewhere))
    assert open_run("parameters/toy.yaml").folder == elsewhere / "toy"


def test_digest_ignores_markdown_outputs_and_parameters(tmp_path: Path) -> None:
    def write(*cells: dict[str, object]) -> str:
        (tmp_path / "x.ipynb").write_text(json.dumps({"cells": cells}))
        return cells_digest(tmp_path / "x.ipynb")

    plain = write(cell("a = 1"))
    assert plain == write(
        cell("seed = 3", ["parameters"]), cell("a = 1\n"), cell(""), {**cell("# Words"), "cell_type": "markdown"}
    )
    assert plain != write(cell("a = 2"))
    (tmp_path / "x.ipynb").write_text("no")
    with pytest.raises(ThesisError, match=r"x\.ipynb is missing or no notebook"):
        cells_digest(tmp_path / "x.ipynb")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_notebooks_read_only_declared_parameters(stage: object) -> None:
    """A parameter that a notebook reads but `Stage.reads` does not name would not rerun it."""
    file = ROOT / "notebooks" / stage.notebook  # type: ignore[attr-defined]
    if not file.exists():
        pytest.skip("no such notebook")
    code = "\n".join("".join(at["source"]) for at in json.loads(file.read_text())["cells"] if at["cell_type"] == "code")
    used = set(re.findall(r"\bparameters\.([a-z_]+)", code)) & set(Parameters.model_fields) - {"seeds", "name"}
    assert used <= {name.partition(".")[0] for name in stage.reads.split()}  # type: ignore[attr-defined]


def test_seeds_that_run_beside_each_other_share_the_cores() -> None:
    stages = {stage.name: stage for stage in STAGES}
    assert [stages["generation"].threads_of(cores, seeds) for cores, seeds in ((2, 1), (8, 3), (2, 8))] == [2, 2, 1]
    assert stages["data"].threads_of(8, 3) == 8 and stages["training"].threads_of(8, 1) == 1

import json

import pytest

from thesis_lib.figures.curves import measure_curves
from thesis_lib.figures.shots import by_shots
from thesis_lib.figures.tables import tidy_metrics
from thesis_lib.parameter_files import dump_parameters
from thesis_lib.parameters import Parameters
from thesis_lib.storage import write_json
from thesis_lib.workflow import stages
from thesis_lib.workflow.project import project_root
from thesis_lib.workflow.stages import all_jobs

METRICS = ["top1/test", "auroc/near/knn"]


def results(arms, seeds, value):
    return {
        arm: {str(s): {"top1": {"test": value}, "auroc": {"near": {"knn": value + s / 100}}} for s in range(seeds)}
        for arm in arms
    }


@pytest.fixture
def runs(tmp_path):
    def write(name, shots, found, **changed):
        parameters = Parameters.model_validate(
            {"name": name, "data": {"shots": shots}, "generation": {"sources": min(8, shots)}, **changed}
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / "parameters.yaml").write_text(dump_parameters(parameters))
        (tmp_path / name / "metrics.json").write_text(json.dumps(found))
        for job in all_jobs(parameters):
            made_of = stages.made_of(job, parameters, project_root(), tmp_path / name)
            write_json(tmp_path / name / job.stamp, {"made_of": {"parameters": made_of["parameters"]}})
        return parameters

    write("four", 4, results(["real", "real_id"], 3, 0.4), evaluation={"knn": 4})
    write("four_again", 4, results(["real"], 1, 0.1))
    write("sixteen", 16, results(["real", "cross_entropy"], 2, 0.8), seeds=[0, 1])
    write("other_steps", 32, results(["real"], 3, 0.9), training={"steps": 7})
    for name, shots in (("at_work", 2), ("with_new_steps", 3)):  # both have numbers of an earlier time
        write(name, shots, results(["real"], 3, 0.9))
    (tmp_path / "at_work" / "seed0" / "analysis" / "stage.json").unlink()
    at_new = Parameters.model_validate(
        {"name": "x", "data": {"shots": 3}, "generation": {"sources": 3}, "training": {"steps": 7}}
    )
    training = next(job for job in all_jobs(at_new) if job.stage.name == "training")
    made_of = stages.made_of(training, at_new, project_root(), tmp_path)
    write_json(tmp_path / "with_new_steps" / training.stamp, {"made_of": {"parameters": made_of["parameters"]}})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metrics.json").write_text("{}")
    return tmp_path, write("eight", 8, results(["real", "real_id"], 5, 0.6))


def test_runs_that_differ_in_shots_alone_are_compared_on_the_arms_and_seeds_all_have(runs):
    folder, parameters = runs
    table = by_shots(folder / "eight", parameters, tidy_metrics(results(["real", "real_id"], 5, 0.6)), METRICS)
    assert table[["shots", "arm", "seed"]].to_numpy().tolist() == [
        [shots, "real", seed] for shots in (4, 8, 16) for seed in "01"
    ]
    assert table["top1/test"].round(6).tolist() == [40, 40, 60, 60, 80, 80]
    figure = measure_curves(table, "shots", METRICS, "arm")
    assert len(figure.axes) == 2
    assert [list(ax.get_xticks()) for ax in figure.axes] == [[4, 8, 16]] * 2


def test_a_run_alone_has_its_own_shots_only(runs, tmp_path_factory):
    alone = tmp_path_factory.mktemp("alone") / "eight"
    table = by_shots(alone, runs[1], tidy_metrics(results(["real"], 2, 0.6)), METRICS)
    assert table["shots"].unique().tolist() == [8]

"""What `thesis check` says about experiments that cannot run, and what it expects of those that can."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.workflow.toy import make_project, thesis
from thesis_lib.parameters import Parameters
from thesis_lib.workflow.check import estimate, problems, work
from thesis_lib.workflow.stages import all_jobs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project with pictures of two classes, four objects each."""
    project = make_project(tmp_path_factory.mktemp("project"))
    for name in ("cup", "pear"):
        (project / "pictures" / name).mkdir(parents=True)
        for thing in range(4):
            for view in range(3):
                Image.new("RGB", (20, 20), (40 * thing, 80 * view, 0)).save(
                    project / "pictures" / name / f"{name}{thing}-{view}.png"
                )
    return project


NO_MASKS = {"sources": 2, "id": {"timesteps": [200], "mask": "none"}, "near_ood": {"timesteps": [500], "mask": "none"}}


def parameters(**changes: object) -> Parameters:
    data = {"reader": "folder", "root": "pictures", "shots": 2}
    own = {"name": "x", "data": data, "generation": NO_MASKS, "training": {"classes_per_batch": 2}}
    return Parameters.model_validate(own | changes)


def test_good_experiment(project: Path) -> None:
    found, remarks, classes = problems(parameters(), project)
    assert found == [] and classes == 2
    assert problems(parameters(training={}), project)[0] == [
        "training.classes_per_batch is 8, the data has 2 classes: lower it, for example "
        "--set training.classes_per_batch=2"
    ]
    assert "data: 2 classes, pictures:" in remarks[0] and "no OOD pictures" in remarks[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"reader": "folder", "root": "nowhere", "shots": 8}}, "nowhere is no folder"),
        ({"data": {"reader": "folder", "root": "pictures", "shots": 50}}, "data.shots asks for 50: lower data.shots"),
        ({"model": {"base": "pictures"}}, "is no diffusers folder, it has no model_index.json"),
        ({"model": {"base": "no/such/folder"}}, "is neither a folder nor a hub id"),
        ({"model": {"base": "tiny", "size": 24}}, "model.size: 24 does not fit"),
        ({"encoder": {"weights": "resnet.safetensors"}}, "resnet.safetensors is no file"),
        (
            {"arms": ["own"], "variants": {"own": {"arm": "real", "set": {"encoder.weights": "own.safetensors"}}}},
            "/own.safetensors is no file",
        ),
        ({"generation": NO_MASKS | {"id": {"strengths": [0.01], "mask": "none"}}}, "0.01 of 50 steps is 0 steps"),
        (
            {"generation": {"sources": 2}},
            "no source picture with a mask: add masks, or let all of a picture change, --set",
        ),
    ],
)
def test_what_is_wrong(project: Path, changes: dict[str, object], sentence: str) -> None:
    for part, blocks in (("vae", [8, 8, 8]), ("unet", [8, 8, 8]), ("text_encoder", [])):
        (project / "tiny" / part).mkdir(parents=True, exist_ok=True)
        (project / "tiny" / part / "model.safetensors").touch()
        (project / "tiny" / part / "config.json").write_text(json.dumps({"block_out_channels": blocks}))
    (project / "tiny" / "model_index.json").touch()
    found, _, _ = problems(parameters(**changes), project)
    assert len(found) == 1 and sentence in found[0]


def test_what_hardness_would_refuse_after_hours_is_said_before(project: Path) -> None:
    training = {"near_ood_choice": "hardness", "classes_per_batch": 2}
    asked = {"hardness": {"encoder": "own.safetensors"}, "training": training}
    (project / "own.safetensors").touch()
    assert problems(parameters(**asked), project)[0] == []
    folder = {"reader": "folder", "root": "pictures", "shots": 2, "folder": {"valid_share": 0.0, "test_share": 0.7}}
    found, _, _ = problems(parameters(**asked, data=folder), project)
    assert found[0].startswith("hardness needs validation pictures and there are none of cup, pear: choose")
    assert "seed 0 has shots of one only of cup, pear: raise data.shots" in found[1] and len(found) == 2


def test_broken_picture(project: Path) -> None:
    broken = project / "pictures" / "cup" / "cup0-0.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:40])
    found, _, _ = problems(parameters(), project)
    broken.write_bytes(good)
    assert len(found) == 1 and found[0].startswith(f"{broken} is not a readable picture")


def test_all_problems_at_once_on_the_command_line(project: Path) -> None:
    sets = ("data.reader=folder", "data.root=nowhere", "model.base=pictures", "encoder.weights=x.safetensors")
    refused = thesis(project, "check", "parameters/toy.yaml", *(f"--set={item}" for item in sets))
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 3 and "Traceback" not in refused.stderr


def test_estimate(project: Path, tmp_path: Path) -> None:
    asked = parameters()
    lines = estimate(asked, project, tmp_path / "x", classes=2)
    assert lines[0] == f"10 of 10 jobs would run in {tmp_path / 'x'}, 32 synthetic pictures in all"
    assert lines[-1].startswith("what is known together: about ")
    for job in all_jobs(asked):
        (tmp_path / "old" / job.folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / job.stamp).write_text(json.dumps({"seconds": 3600 if job.stage.name == "inversion" else 0}))
    (tmp_path / "old" / "parameters.yaml").write_text("data: {num_classes: 2}")
    assert "inversion     1 job    60 min" in estimate(asked, project, tmp_path / "x", classes=2)


def test_estimate_admits_what_it_cannot_know(project: Path, tmp_path: Path) -> None:
    lines = estimate(parameters(model={"base": "owner/model"}), project, tmp_path / "x", classes=2)
    unknown = [line.split()[0] for line in lines if "time unknown: no run with this base model yet" in line]
    assert unknown == ["data", "inversion", "inspection", "generation"]


def test_work_grows_with_what_is_asked() -> None:
    small, large = parameters(), parameters(generation={"sources": 2, "per_source": 8})
    assert work("generation", large, 2) == 2 * work("generation", small, 2)
    assert work("inversion", parameters(model={"size": 128}), 2) == 4 * work("inversion", small, 2)


def test_time_is_unknown_where_nothing_like_it_was_measured(project: Path, tmp_path: Path) -> None:
    large = parameters(encoder={"architecture": "resnet18", "width": 64, "size": 224})
    lines = estimate(large, project, tmp_path / "x", classes=2)
    assert [line.split()[0] for line in lines if "time unknown: no run with this network yet" in line] == ["training"]

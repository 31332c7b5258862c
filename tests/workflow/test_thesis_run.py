"""`thesis run` on the toy project, with papermill, Snakemake and kernels: killed, interrupted, failing, resumed."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.workflow.toy import (
    edit_cell,
    make_project,
    processes_of,
    results,
    save_as_jupyterlab,
    start_thesis,
    thesis,
)
from thesis_lib.workflow.stages import STAGES

pytestmark = pytest.mark.slow
KILL_POINTS = int(os.environ.get("THESIS_KILL_POINTS", "3"))
RUN = ("run", "parameters/toy.yaml", "--cores", "2")
TWO = (*RUN, "--until", "inversion")
LONG = (*TWO, "--set", "inversion.steps=200", "--name", "interrupted")  # minutes: it cannot end before it is stopped


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose run `toy` has done the first two notebooks, undisturbed."""
    project = make_project(tmp_path_factory.mktemp("project"), pause=0.3)
    done = thesis(project, *TWO)
    assert done.returncode == 0, done.stderr
    assert "2 notebooks in " in done.stdout and "runs/toy/seed0/concepts" in done.stdout
    first, *lines = done.stderr.splitlines()
    assert first == "2 of 2 jobs to run: runs/toy"
    assert [line.split()[:2] for line in lines] == [["done", "data"], ["note", "2"], ["done", "inversion"]]
    assert "2 of 3 pictures [toy] have no mask" in done.stderr
    yield project
    for process in processes_of(project):  # of a test that failed
        process.kill()


def wait_for(file: Path, text: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not (file.exists() and text in file.read_text()):
        assert time.monotonic() < deadline, f"{file} never said {text}"
        time.sleep(0.05)


def test_nothing_to_do_is_quick_and_saving_a_notebook_is_nothing(project: Path) -> None:
    before = results(project / "runs" / "toy")
    for stage in STAGES:
        save_as_jupyterlab(project / "notebooks" / stage.notebook)
    started = time.monotonic()
    again = thesis(project, *TWO)
    assert again.returncode == 0 and again.stdout.startswith("nothing to do: runs/toy/seed0/concepts"), again.stderr
    assert time.monotonic() - started < 20
    assert results(project / "runs" / "toy") == before


def test_threads_reach_the_notebook(project: Path) -> None:
    cells = json.loads((project / "runs" / "toy" / "notebooks" / "inversion_seed0.ipynb").read_text())["cells"]
    assert any("threads 2" in "".join(output.get("text", "")) for at in cells for output in at.get("outputs", []))


def test_dry_run_starts_nothing(project: Path) -> None:
    dry = thesis(project, *RUN, "--set", "data.shots=9", "--dry-run")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[0].split() == ["data", "not", "done", "yet"]
    assert re.fullmatch(r"8 of 8 jobs would run: runs/toy_shots-9_\w{6}", dry.stdout.splitlines()[-1])
    assert sorted(path.name for path in (project / "runs").iterdir()) == ["toy"]


def test_changed_parameter_goes_to_a_run_of_its_own_unless_named(project: Path) -> None:
    dry = thesis(project, *TWO, "--set", "inversion.steps=9", "--name", "toy", "--dry-run")
    assert dry.stdout.splitlines()[0].split(maxsplit=2)[2] == "changed: inversion.steps"
    assert dry.stdout.splitlines()[-1] == "1 of 2 jobs would run: runs/toy"


@pytest.mark.parametrize("arguments", [("--until", "paint"), ("--set", "data.shotz=3"), ("--set", "shots")])
def test_errors_are_one_sentence(project: Path, arguments: tuple[str, ...]) -> None:
    refused = thesis(project, *RUN, *arguments)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "Traceback" not in refused.stderr and arguments[1].partition("=")[0] in refused.stderr


def test_failing_notebook_is_named_and_kept(project: Path) -> None:
    notebook = project / "notebooks" / "03_augmentation_inspection.ipynb"
    edit_cell(notebook, "start = hashlib", 'from thesis_lib.errors import ThesisError\\n",\n    "start = hashlib')
    edit_cell(notebook, "folder.mkdir", "raise ThesisError('the lamp is off: switch it on')\\n\",\n    \"folder.mkdir")
    failed = thesis(project, *RUN, "--until", "inspection")
    assert failed.returncode == 2
    assert failed.stderr.splitlines() == [
        "1 of 3 jobs to run: runs/toy",
        "failed inspection",
        "inspection: the lamp is off: switch it on",
        "  see runs/toy/notebooks/inspection.ipynb",
    ]
    assert "the lamp is off" in (project / "runs" / "toy" / "notebooks" / "inspection.ipynb").read_text()
    assert not (project / "runs" / "toy" / "inspection" / "stage.json").exists()


def test_interrupted_and_run_twice(project: Path) -> None:
    run = project / "runs" / "interrupted"
    first = start_thesis(project, *LONG)
    wait_for(run / ".journal.jsonl", '"start"')
    second = thesis(project, *LONG)
    assert second.returncode == 2 and f"process {first.pid} is at work on it" in second.stderr
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=240)
    assert first.returncode == 2 and err.splitlines()[-1].startswith("stopped; what was finished is kept"), err
    assert processes_of(project) == [] and (run / ".running.json").read_text() == ""

    (run / ".journal.jsonl").unlink()
    third = start_thesis(project, *LONG)
    wait_for(run / ".journal.jsonl", '"start"')
    [snakemake] = [child for child in psutil.Process(third.pid).children() if "snakemake" in child.cmdline()]
    snakemake.kill()
    _, err = third.communicate(timeout=240)
    assert third.returncode == 2 and "Snakemake failed" in err
    assert processes_of(project) == []


def lines(file: Path) -> int:
    return file.read_text().count("\n") if file.exists() else 0


def said(run: Path, event: str) -> int:
    journal = run / ".journal.jsonl"
    return journal.read_text().count(f'"{event}"') if journal.exists() else 0


POINTS: dict[str, Callable[[Path], bool]] = {
    "lock taken": lambda run: (run / ".running.json").exists() and "token" in (run / ".running.json").read_text(),
    "snakemake started": lambda run: (run / "snakemake.log").exists(),
    "first job started": lambda run: said(run, "start") == 1,
    "first notebook at work": lambda run: lines(run / "data" / ".part.txt") >= 2,
    "first notebook nearly through": lambda run: lines(run / "data" / ".part.txt") >= 5,
    "first stamp written": lambda run: (run / "data" / "stage.json").exists(),
    "first job done": lambda run: said(run, "done") == 1,
    "second job started": lambda run: said(run, "start") == 2,
    "second notebook at work": lambda run: lines(run / "seed0" / "concepts" / ".part.txt") >= 4,
    "second stamp written": lambda run: (run / "seed0" / "concepts" / "stage.json").exists(),
}
"""Ten points spread over a run; THESIS_KILL_POINTS=10 takes them all."""
CHOSEN = [list(POINTS)[int((i + 0.5) * len(POINTS) / KILL_POINTS)] for i in range(KILL_POINTS)]


@pytest.mark.parametrize("point", CHOSEN)
def test_killed_and_resumed_the_result_is_the_same(project: Path, point: str) -> None:
    """SIGKILL `thesis run` alone, save notebooks, run again: same results, nothing left behind or done twice."""
    names = ("data/result.txt", "data/stage.json", "seed0/concepts/result.txt", "seed0/concepts/stage.json")
    undisturbed = results(project / "runs" / "toy")
    run = project / "runs" / point.replace(" ", "_")
    process = start_thesis(project, *TWO, "--name", run.name)
    deadline = time.monotonic() + 300
    while not POINTS[point](run):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    orphans = len(processes_of(project))
    for stage in STAGES:
        save_as_jupyterlab(project / "notebooks" / stage.notebook)
    stamps = {path: path.read_text() for path in sorted(run.rglob("stage.json"))}
    started = time.monotonic()
    resumed = thesis(project, *TWO, "--name", run.name)
    print(f"{point}: {orphans} orphans, {len(stamps)} stamps, resumed in {time.monotonic() - started:.1f} s")
    assert resumed.returncode == 0, resumed.stderr
    assert results(run) == {name: undisturbed[name] for name in names}
    assert processes_of(project) == []
    assert (run / ".running.json").read_text() == ""
    assert all(path.read_text() == text for path, text in stamps.items()), "a finished stage ran again"

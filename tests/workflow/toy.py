"""A toy project: the real Snakefile and stages, with small notebooks that continue where they were stopped."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from thesis_lib.workflow.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]

PARAMETERS = """
name: toy
seeds: [0]
arms: [real, cross_entropy]
model: {size: 16}
inversion: {steps: 6}
training: {steps: 6}
"""

# Each notebook writes a line a step that depends on the lines before it and on what its inputs left; stopped anywhere,
# it continues at the line where it was. So a lost or doubled line, or a stale input, shows in every later file.
OPEN = """
import hashlib, os, time
from thesis_lib.workflow.run import open_run
run = open_run(experiment, overrides)
print("threads", os.environ["OMP_NUM_THREADS"])
"""
WORK = """
folder = {folder}
sources = [{sources}]
start = hashlib.sha256("".join((p / "result.txt").read_text() for p in sources).encode()).hexdigest()
folder.mkdir(parents=True, exist_ok=True)
part = folder / ".part.txt"
lines = part.read_text().splitlines() if part.exists() else []
if lines[:1] != [start]:
    lines = [start]
for step in range(len(lines), {steps} + 1):
    time.sleep({pause})
    lines.append(hashlib.sha256(f"{{lines[-1]}} {{step}} {{{reads}}}".encode()).hexdigest())
    part.write_text("\\n".join(lines) + "\\n")
(folder / "result.txt").write_text("\\n".join(lines) + "\\n")
"""
NOTEBOOKS = {
    "data": ("run.data", "", "4", "run.parameters.data.shots"),
    "inversion": ("run.concepts(seed)", 'run.require("data")', "run.parameters.inversion.steps", "seed"),
    "inspection": ("run.inspection", 'run.require("inversion", seed)', "2", "seed"),
    "generation": ("run.synthetic(seed)", 'run.require("inversion", seed)', "4", "run.parameters.generation.batch"),
    "training": (
        "run.arm(arm, seed)",
        'run.require("data"), *([] if arm == "real" else [run.require("generation", seed)])',
        "run.parameters.training.steps",
        "arm",
    ),
    "analysis": ("run.analysis(seed)", '*(run.require("training", seed, a) for a in run.parameters.arms)', "2", "seed"),
    "report": ("run.folder", '*(run.require("analysis", s) for s in run.parameters.seeds)', "1", "run.parameters.name"),
}


def make_project(folder: Path, pause: float = 0.0) -> Path:
    """Write the toy project into `folder`; every step of a notebook takes `pause` seconds."""
    (folder / "parameters").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "parameters" / "toy.yaml").write_text(PARAMETERS)
    shutil.copy(ROOT / "Snakefile", folder)
    for stage in STAGES:
        where, sources, steps, reads = NOTEBOOKS[stage.name]
        work = WORK.format(folder=where, sources=sources, steps=steps, reads=reads, pause=pause)
        if stage.name == "data":
            work += "import warnings\nfrom thesis_lib.errors import ThesisWarning\n"
            work += 'warnings.warn("2 of 3 pictures [toy] have no mask", ThesisWarning)\n'
        if stage.name == "report":
            work += 'run.report.write_text("<p>done</p>")\n'
        defaults = 'experiment = "parameters/toy.yaml"\narm = "real"\nseed = 0\noverrides = ""'
        last = f'run.finish(folder, "{stage.name}", lines=len(lines))'
        cells = [cell(defaults, ["parameters"]), cell(OPEN), cell(work), cell(last)]
        write_notebook(folder / "notebooks" / stage.notebook, cells)
    return folder


def cell(source: str, tags: list[str] | None = None) -> dict[str, Any]:
    """A code cell."""
    return {
        "cell_type": "code",
        "id": hashlib.sha256(source.encode()).hexdigest()[:8],
        "source": source.splitlines(keepends=True),
        "metadata": {"tags": tags} if tags else {},
        "outputs": [],
        "execution_count": None,
    }


def write_notebook(path: Path, cells: list[dict[str, Any]]) -> None:
    """Write a notebook of these cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content, indent=1))


def save_as_jupyterlab(path: Path) -> None:
    """Save a notebook the way JupyterLab does after running it: outputs, counts and metadata, the same cells."""
    content = json.loads(path.read_text())
    for count, at in enumerate(content["cells"], 1):
        at["execution_count"] = count
        at["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"seen at {os.times().elapsed}\n"]}]
        at["metadata"]["scrolled"] = True
    content["metadata"]["language_info"] = {"name": "python", "version": "3.11.9"}
    path.write_text(json.dumps(content, indent=1) + "\n")


def edit_cell(path: Path, old: str, new: str) -> None:
    """Change the code of a notebook."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def start_thesis(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line in the toy project."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("THESIS_RUNS", None)
    return subprocess.Popen(
        [sys.executable, "-m", "thesis_lib.workflow.cli", *arguments],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts what runs in its background with Ctrl-C ignored, and the tests may run there
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def thesis(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the toy project to its end."""
    process = start_thesis(project, *arguments)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def results(run: Path) -> dict[str, str]:
    """All that a run left which must not depend on how it got there."""
    left = {str(path.relative_to(run)): path.read_text() for path in sorted(run.rglob("result.txt"))}
    stamps = {str(path.relative_to(run)): json.loads(path.read_text()) for path in sorted(run.rglob("stage.json"))}
    return left | {name: stamp["key"] for name, stamp in stamps.items()}


def processes_of(project: Path) -> list[psutil.Process]:
    """Live processes that belong to the toy project, by their command line or working directory."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = str(project) in " ".join(process.cmdline()) or process.cwd().startswith(str(project))
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found

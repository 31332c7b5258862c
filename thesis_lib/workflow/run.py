"""A run as its notebooks see it: parameters, folders, what earlier stages left, and the stamp that ends a stage."""

import datetime
import os
import platform
import re
import subprocess
import time
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameter_files import dump_parameters, read_parameters
from thesis_lib.parameters import Experiment, Study
from thesis_lib.storage import write_json, write_text
from thesis_lib.workflow import stages
from thesis_lib.workflow.lock import TOKEN, is_running
from thesis_lib.workflow.project import project_root, resolve_paths, runs_folder, shown
from thesis_lib.workflow.stages import make_job, read_stamp

PACKAGES = "thesis-lib torch torchvision diffusers transformers numpy pandas scikit-learn umap-learn"


@dataclass(frozen=True)
class Run:
    """One experiment's run; see `open_run`. All paths are absolute."""

    parameters: Experiment
    """Merged and checked; relative paths in them made absolute."""
    folder: Path
    """runs/<name>."""
    root: Path
    """The project."""
    experiment: str
    """The parameter file, relative to the project; with overrides the run's own, which holds them."""
    asked: Experiment
    """The parameters as in the file."""
    notebooks: dict[str, str]
    """Digests of the stages' notebooks when the run was opened: what runs, even if a file is saved meanwhile."""
    started: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.parameters.name

    @property
    def data(self) -> Path:
        """Image tables and crops."""
        return self.folder / "data"

    @property
    def inspection(self) -> Path:
        """Figures of notebook 03."""
        return self.folder / "inspection"

    @property
    def report(self) -> Path:
        """The page report.html; its stage's folder is the run's."""
        return self.folder / "report.html"

    def seed(self, seed: int) -> Path:
        """Everything of one seed."""
        return self.folder / f"seed{seed}"

    def concepts(self, seed: int) -> Path:
        """Learned concepts."""
        return self.seed(seed) / "concepts"

    def synthetic(self, seed: int) -> Path:
        """Synthetic pictures and their manifest."""
        return self.seed(seed) / "synthetic"

    def arm(self, arm: str, seed: int) -> Path:
        """An arm's networks, features and curves."""
        return self.seed(seed) / str(arm)

    def analysis(self, seed: int) -> Path:
        """Metrics, embeddings and figures of a seed's arms."""
        return self.seed(seed) / "analysis"

    def require(self, stage: str, seed: int | None = None, arm: str | None = None) -> Path:
        """The folder of a stage that is done; warns when it, or what it is made of, is not up to date.

        Raises:
            ThesisError: The stage is not done; the sentence says how to do it.
        """
        job = make_job(stage, seed, arm)
        where = shown(self.folder / job.folder, self.root)
        if seed is None or seed in self.asked.seeds:
            remedy = f"run notebook {job.stage.notebook[:2]} first (or: thesis run {self.experiment} --until {stage})"
        else:
            remedy = f"add {seed} to the seeds of {self.experiment} and run it --until {stage}"
        if not read_stamp(self.folder / job.stamp):
            raise ThesisError(f"{where} has no {job.stage.product}: {remedy}")
        for at in stages.behind(job, self.asked):
            if at != job and not read_stamp(self.folder / at.stamp):
                continue  # a folder may have come alone from another machine
            if reason := stages.why(at, self.asked, self.root, self.folder):
                what = reason if at == job else f"{at.label}: {reason}"
                warnings.warn(f"{where} is not up to date ({what}): {remedy}", ThesisWarning, stacklevel=2)
                break
        return self.folder / job.folder

    def finish(self, folder: Path, stage: str, **content: Any) -> None:
        """Write the stamp that says that a stage is done and what made it; last of all.

        Args:
            folder: The stage's folder, for example ``run.concepts(seed)``.
            stage: The stage's name.
            content: What else to keep, JSON-encodable.

        Raises:
            ThesisError: `folder` is no folder of this stage, or the disk is full.
        """
        folder = Path(folder)
        inside = folder.relative_to(self.folder).as_posix() if folder.is_relative_to(self.folder) else ""
        at = re.fullmatch(r"(?:seed(?P<seed>\d+))?(?:/?(?P<arm>\w+))?", inside)
        job = make_job(stage, at and at["seed"], at and at["arm"])
        if self.folder / job.folder != folder:
            raise ThesisError(f"{folder} is no folder of the stage {stage}, which is {self.folder / job.stage.folder}")
        made = stages.made_of(job, self.asked, self.root, self.folder) | {"notebook": self.notebooks[stage]}
        stamp = {
            "stage": stage,
            "seed": job.seed,
            "arm": job.arm,
            "experiment": self.experiment,
            "seconds": round(time.time() - self.started, 1),
            **provenance(self.root),
            "key": stages.digest(made),
            "made_of": made,
            "files": stages.kept_files(job.stage, folder),
        }
        write_json(folder / stages.STAMP, content | stamp)


def provenance(root: Path) -> dict[str, Any]:
    """When and with what a result was made: date, Python, versions of packages, the project's commit."""
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES.split()},
        "commit": commit,
        "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no")) if commit else None,
    }


def open_run(experiment: str, overrides: str = "") -> Run:
    """Open an experiment's run.

    Args:
        experiment: The parameter file, relative to the project whatever the working directory.
        overrides: ``key=value`` items with blanks between; they change the run's name.

    Returns:
        The run; its folder holds the merged parameters as `parameters.yaml`.

    Raises:
        ThesisError: The parameters are wrong, or a run of this name with others is at work.
    """
    root = project_root()
    asked = read_parameters(root / experiment, overrides)
    folder = runs_folder(root) / asked.name
    text = dump_parameters(asked)
    kept = folder / "parameters.yaml"
    if not kept.exists() or kept.read_text(encoding="utf-8") != text:
        if kept.exists() and TOKEN not in os.environ and is_running(folder):
            raise ThesisError(
                f"{shown(folder, root)}: a run with other parameters is at work on it: wait, or give yours a name of "
                "its own, for example with overrides = 'name=mine'"
            )
        write_text(kept, text)
    graph = stages.stages_of(asked)
    notebooks = {stage.name: stages.cells_digest(root / "notebooks" / stage.notebook) for stage in graph}
    file = shown(kept, root) if overrides else experiment
    return Run(resolve_paths(asked, root), folder, root, file, asked, notebooks)


def main_run(study: Study, root: Path) -> Run | None:
    """The run of the main experiment that a study reads, as it is; none where it reads none.

    Raises:
        ThesisError: As `stages.main_of` does.
    """
    main = stages.main_of(study, root)
    if main is None:
        return None
    folder = runs_folder(root) / main.name
    return Run(resolve_paths(main, root), folder, root, str(study.main_experiment), main, {})


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    """The output of a git command; none outside a repository or without git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None

"""The graph of an experiment: stages, their jobs, what each is made of, and which have to run.

A stage is one notebook. A job is a stage for one seed and arm; it ends by writing its stamp, `stage.json`, which says
what it was made of: the notebook's code cells, the parameters the stage reads, fingerprints of outside files, and the
keys of its inputs. A job has to run when the stamp is absent or says otherwise, when one of its files is gone, or when
an input has to run. Time stamps play no part: a notebook saved with outputs, or a run copied elsewhere, is still done.
A change of the package's code reruns nothing; delete a stage's folder to have it made anew.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thesis_lib.errors import ThesisError
from thesis_lib.parameter_files import STUDIES, read_parameters
from thesis_lib.parameters import Experiment, Parameters, Study
from thesis_lib.sections import HARDNESS_ENCODER
from thesis_lib.workflow.project import resolve_paths, runs_folder

STAMP = "stage.json"
_INPUTS = "its inputs changed"


@dataclass(frozen=True)
class Stage:
    """One notebook of the graph."""

    name: str
    notebook: str
    folder: str
    """Inside the run's folder; `{seed}` and `{arm}` make it a stage per seed, or per seed and arm."""
    product: str
    """What it leaves, in words."""
    reads: str
    """The parameters it reads, sections or `section.name`; a change of others does not rerun it."""
    keeps: tuple[str, ...] = ("**/*",)
    """Patterns of the files in its folder that must stay for the stage to count as done."""
    threads: int = 0
    """0: its share of the run's cores, see `threads_of`."""
    gpu: bool = False
    minutes: int = 60
    """Time limit, asked of a cluster."""

    @property
    def wildcards(self) -> list[str]:
        """What it is run for each of: nothing, `seed`, or `seed` and `arm`."""
        return [name for name in ("seed", "arm") if f"{{{name}}}" in self.folder]

    def threads_of(self, cores: int, beside: int) -> int:
        """Threads of one job: all cores, or a share where so many seeds run beside each other, which is faster."""
        return self.threads or max(1, cores // (beside if "seed" in self.wildcards else 1))


_DIFFUSION = "data model inversion generation hardness language"
STAGES = (
    Stage(
        "data", "01_data_exploration.ipynb", "data", "image table", "data model language", gpu=True, minutes=240,
    ),
    Stage(
        "inversion", "02_textual_inversion.ipynb", "seed{seed}/concepts", "concepts",
        "data model inversion generation.steps language", gpu=True, minutes=720,
    ),
    Stage(
        "inspection", "03_augmentation_inspection.ipynb", "inspection", "inspection figures", _DIFFUSION, gpu=True,
    ),
    Stage(
        "generation", "04_augmentation_generation.ipynb", "seed{seed}/synthetic", "synthetic pictures", _DIFFUSION,
        gpu=True, minutes=720,
    ),
    Stage(
        "training", "05_contrastive_training.ipynb", "seed{seed}/{arm}", "trained encoder",
        "data model hardness encoder training probe evaluation.odin_temperature evaluation.odin_epsilon language",
        threads=1, gpu=True, minutes=720,
    ),
    Stage(
        "analysis", "06_embedding_analysis.ipynb", "seed{seed}/analysis", "analysis",
        "data model evaluation language",
    ),
    Stage(
        "report", "07_experiment_report.ipynb", ".", "report", " ".join(Parameters.model_fields),
        keeps=("report.html", "metrics.json", "figures/**/*", "tables/**/*"),
    ),
)  # fmt: skip
"""The graph of the main experiments."""
STUDY_STAGES = {
    study: Stage(
        study, notebook, ".", "study", " ".join(STUDIES[study].model_fields),
        keeps=("report.html", "metrics.json", "figures/**/*", "tables/**/*"), gpu=True, minutes=720,
    )
    for study, notebook in (
        ("pairwise_triplet", "08_pairwise_triplet_study.ipynb"), ("vae", "09_vae_augmentation_study.ipynb"),
    )
}  # fmt: skip
"""The graph of a companion study is one stage, of its name; what it finished is kept item by item inside."""


def stages_of(parameters: Experiment) -> tuple[Stage, ...]:
    """The graph of an experiment."""
    return (STUDY_STAGES[parameters.study],) if isinstance(parameters, Study) else STAGES


@dataclass(frozen=True)
class Job:
    """A stage for one seed and arm, where it has them. Paths are relative to the run's folder."""

    stage: Stage
    seed: int | None = None
    arm: str | None = None

    @property
    def folder(self) -> str:
        """Its outputs' folder."""
        return self.stage.folder.format(seed=self.seed, arm=self.arm)

    @property
    def stamp(self) -> str:
        """Written last of all."""
        return f"{self.folder}/{STAMP}".removeprefix("./")

    @property
    def label(self) -> str:
        """Its name for people: `training seed0 real_id`."""
        return " ".join(filter(None, [self.stage.name, "" if self.seed is None else f"seed{self.seed}", self.arm]))

    @property
    def log(self) -> str:
        """The executed notebook."""
        return f"notebooks/{self.label.replace(' ', '_')}.ipynb"

    def arguments(self, experiment: str, parameters: Experiment) -> dict[str, Any]:
        """What papermill gives to the notebook's parameters cell."""
        given: dict[str, Any] = {"experiment": experiment, "overrides": "", "seed": self.seed, "arm": self.arm}
        if self.stage.name == "inspection":  # looks at one seed's concepts: the first's
            given["seed"] = parameters.seeds[0]
        return {name: value for name, value in given.items() if value is not None}


def make_job(name: str, seed: int | str | None = None, arm: str | None = None) -> Job:
    """The job of the stage called `name` for a seed and arm, leaving out what the stage does not have.

    Raises:
        ThesisError: There is no such stage, or a seed or arm it needs is not given.
    """
    stage = _named(name, (*STAGES, *STUDY_STAGES.values()))
    if missing := [at for at in stage.wildcards if {"seed": seed, "arm": arm}[at] is None]:
        raise ThesisError(f"the stage {name} runs per {' and '.join(stage.wildcards)}: say which {missing[0]}")
    has = stage.wildcards
    return Job(stage, int(str(seed)) if "seed" in has else None, str(arm) if "arm" in has else None)


def _named(name: str, stages: Sequence[Stage]) -> Stage:
    stage = next((stage for stage in stages if stage.name == name), None)
    if stage is None:
        raise ThesisError(f"{name} is not a stage; the stages are: {', '.join(stage.name for stage in stages)}")
    return stage


def all_jobs(parameters: Experiment, until: str | None = None) -> list[Job]:
    """The experiment's jobs in an order in which they can run; with `until`, that stage's and what they need."""
    jobs: list[Job] = []
    stages = stages_of(parameters)
    for stage in stages:
        seeds = parameters.seeds if "seed" in stage.wildcards else [None]
        for seed in seeds:
            arms = parameters.arms_of(seed) if seed is not None and "arm" in stage.wildcards else [None]
            jobs += [make_job(stage.name, seed, arm) for arm in arms]
    last = _named(until or stages[-1].name, stages)
    wanted = {job for job in jobs if job.stage == last}
    for job in reversed(jobs):
        if job in wanted:
            wanted.update(job_inputs(job, parameters))
    return [job for job in jobs if job in wanted]


def job_inputs(job: Job, parameters: Experiment) -> list[Job]:
    """The jobs whose outputs a job reads."""
    if isinstance(parameters, Study):
        return []
    match job.stage.name:
        case "inversion":
            return [make_job("data")]
        case "inspection":
            return [make_job("inversion", parameters.seeds[0])]
        case "generation":
            return [make_job("inversion", job.seed)]
        case "training" if not parameters.of_arm(str(job.arm))[0].needs_generation:
            return [make_job("data")]
        case "training":
            return [make_job("data"), make_job("generation", job.seed)]
        case "analysis":
            return [make_job("training", job.seed, arm) for arm in parameters.arms_of(int(str(job.seed)))]
        case "report":
            return [make_job("inspection"), *(make_job("analysis", seed) for seed in parameters.seeds)]
    return []


def behind(job: Job, parameters: Experiment) -> list[Job]:
    """A job and all whose outputs it is made of, the nearest first."""
    found = [job]
    for at in found:  # grows meanwhile
        found += [earlier for earlier in job_inputs(at, parameters) if earlier not in found]
    return found


def plan(parameters: Experiment, root: Path, run: Path, until: str | None = None) -> dict[Job, str]:
    """The jobs that have to run, each with the reason in words; empty when everything is done.

    Args:
        parameters: As in the parameter file, relative paths left relative.
        root: The project.
        run: The run's folder.
        until: The last stage wanted.
    """
    todo: dict[Job, str] = {}
    for job in all_jobs(parameters, until):
        reason = why(job, parameters, root, run)
        before = [needed.label for needed in job_inputs(job, parameters) if needed in todo]
        if before and reason in ("", _INPUTS):
            reason = f"follows {before[0]}"
        if reason:
            todo[job] = reason
    return todo


def why(job: Job, parameters: Experiment, root: Path, run: Path) -> str:
    """Why a job is not up to date with its inputs as they are; empty when it is."""
    stamp = read_stamp(run / job.stamp)
    if not stamp:
        return "not done yet"
    was, now = stamp.get("made_of", {}), made_of(job, parameters, root, run)
    if was.get("notebook") != now["notebook"]:
        return f"{job.stage.notebook} changed"
    if changed := _differences(was.get("parameters"), now["parameters"]):
        return f"changed: {_some(changed)}"
    if was.get("outside") != now["outside"]:
        return "the data set or weights it reads changed"
    if was.get("inputs") != now["inputs"]:
        return _INPUTS
    files = stamp.get("files", [])
    there: set[str] = set()
    for parent in {os.path.dirname(name) for name in files}:  # one listing a folder, there may be thousands of pictures
        if (folder := run / job.folder / parent).is_dir():
            there.update(os.path.join(parent, name) for name in os.listdir(folder))
    gone = [name for name in files if name not in there]
    return f"missing: {_some(gone)}" if gone else ""


def made_of(job: Job, parameters: Experiment, root: Path, run: Path) -> dict[str, Any]:
    """What the job's outputs would be made of now, JSON-encodable; arguments as for `plan`."""
    own = parameters.of_arm(job.arm)[1] if isinstance(parameters, Parameters) and job.arm else parameters
    return {
        "notebook": cells_digest(root / "notebooks" / job.stage.notebook),
        "parameters": _asked(job, parameters),
        "outside": _outside(job.stage.name, own, root),
        "inputs": {at.stamp: read_stamp(run / at.stamp).get("key") for at in job_inputs(job, parameters)},
    }


def _asked(job: Job, parameters: Experiment) -> dict[str, Any]:
    """The parameters that a job reads."""
    values: dict[str, Any] = parameters.model_dump(mode="json")
    special: dict[str, Any] = {}
    if isinstance(parameters, Parameters):
        if job.arm:
            arm, own = parameters.of_arm(job.arm)
            values, special = own.model_dump(mode="json"), {"arm": str(arm)}
        if job.stage.name == "analysis" and job.seed is not None:
            special["drawn"] = parameters.drawn_with(job.seed)
    names = job.stage.reads.split()
    return special | {name: functools.reduce(lambda at, key: at[key], name.split("."), values) for name in names}


def is_done_with(parameters: Experiment, run: Path) -> bool:
    """Whether all jobs of a run are done with these parameters, whatever has changed since in notebooks and data."""
    stamps = {job: read_stamp(run / job.stamp).get("made_of", {}) for job in all_jobs(parameters)}
    return all(not _differences(was.get("parameters"), _asked(job, parameters)) for job, was in stamps.items())


def read_stamp(path: Path) -> dict[str, Any]:
    """A stamp's content; empty when there is none that can be read."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def kept_files(stage: Stage, folder: Path) -> list[str]:
    """The files of a finished stage that must stay, sorted; hidden files, the stamp and checkpoints need not."""
    found = {path.relative_to(folder) for pattern in stage.keeps for path in folder.glob(pattern) if path.is_file()}
    return sorted(
        path.as_posix()
        for path in found
        if path.name != STAMP and "checkpoint" not in path.name and not any(part.startswith(".") for part in path.parts)
    )


def cells_digest(notebook: Path) -> str:
    """A digest of what a notebook does: its code cells, without outputs, and without the cell tagged `parameters`."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ThesisError(f"{notebook} is missing or no notebook: restore it, for example with git checkout") from None
    cells = [cell for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    sources = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    return digest([source for source in sources if source])


def digest(content: Any) -> str:
    """Sixteen hexadecimal digits that tell JSON-encodable contents apart."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _differences(was: Any, now: Any, prefix: str = "") -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted({*was, *now})
        return [path for key in keys for path in _differences(was.get(key), now.get(key), f"{prefix}.{key}")]
    return [] if was == now else [prefix.removeprefix(".") or "parameters"]


def _outside(stage: str, parameters: Experiment, root: Path) -> str:
    """A fingerprint of the files a stage reads that no other stage writes; bundled ones are part of the package."""
    at, package = resolve_paths(parameters, root), Path(__file__).parents[1]
    if isinstance(at, Study):
        found = [line for section in at.sections.values() for line in _prints(section.root)]
        main = main_of(at, root)
        return digest(found + (_main_prints(main, at.seeds, root) if main else []))
    if stage in ("data", "inversion", "generation"):
        prints = _prints(str(package / "diffusion") if at.model.base == "bundled" else at.model.base)
        model = [line for line in prints if HARDNESS_ENCODER not in line]
        if stage == "generation":  # the model itself came with the concepts
            own = [] if at.hardness.encoder == "base" else _prints(at.hardness.encoder)
            return digest([line for line in prints if line not in model] + own) if at.needs_hardness else ""
        if stage == "inversion":
            return digest(model)
        return digest([_prints(at.data.root or str(package / "datasets")), _prints(at.data.folder.ood_far), model])
    return digest(_prints(at.encoder.weights)) if stage == "training" else ""


def main_of(study: Study, root: Path) -> Parameters | None:
    """The main experiment whose run a study reads; none where it reads none.

    Raises:
        ThesisError: Its parameter file is missing, wrong or that of another study.
    """
    if study.main_experiment is None:
        return None
    main = read_parameters(root / study.main_experiment)
    if isinstance(main, Study):
        raise ThesisError(
            f"{study.main_experiment} is a companion study: name a main experiment, such as parameters/quickstart.yaml"
        )
    return main


def _main_prints(main: Parameters, seeds: Sequence[int], root: Path) -> list[str]:
    """What tells apart what a study reads of a main run: its settings, its data and its synthetic pictures."""
    run = runs_folder(root) / main.name
    stamps = [read_stamp(run / make_job("generation", seed).stamp) for seed in seeds]
    read = main.model_dump(mode="json", include={"data", "model", "hardness", "encoder", "training"})
    return [digest(read), _outside("data", main, root), *(str(stamp.get("key")) for stamp in stamps)]


def _prints(path: str | None) -> list[str]:
    """What tells the files at `path` apart: names and sizes, quick for a large data set, and samples of weights."""
    folder = Path(path or "none")
    files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    prints = []
    for file in [folder] if folder.is_file() else files:
        name, size = str(file.relative_to(folder if folder.is_dir() else folder.parent)), file.stat().st_size
        if file.suffix in (".safetensors", ".parquet"):  # retrained weights keep their size but differ everywhere
            with file.open("rb") as opened:
                opened.seek(size // 2)
                name += f" {hashlib.sha256(opened.read(65536)).hexdigest()}"
        if file.suffix not in (".py", ".pyc") and not name.startswith(".") and "/." not in name:
            prints.append(f"{name} {size}")
    return sorted(prints)

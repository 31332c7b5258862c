"""What is wrong with an experiment, and what it would cost, before anything runs."""

import json
import math
import re
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Experiment, Parameters, Study
from thesis_lib.sections import HARDNESS_ENCODER
from thesis_lib.workflow.project import has_gpu, resolve_paths, seeds_beside, shown
from thesis_lib.workflow.run import main_run
from thesis_lib.workflow.stages import STAGES, Stage, all_jobs, plan, read_stamp, stages_of

if TYPE_CHECKING:
    import pandas as pd

PACKAGE = Path(__file__).parents[1]
START = 15.0
"""Seconds a job takes to start and to import."""
SECONDS = dict(data=0.067, inversion=0.029, inspection=0.024, generation=0.024, training=0.0037, analysis=0.078)
"""Seconds a unit of `work` takes with the bundled base model on 2 cores, as long as no earlier run tells."""


def problems(asked: Experiment, root: Path) -> tuple[list[str], list[str], int]:
    """Look at everything a parameter file names.

    Args:
        asked: The parameters, relative paths left relative.
        root: The project.

    Returns:
        What is wrong, one sentence each; remarks; the number of classes.
    """
    parameters = resolve_paths(asked, root)
    found: list[str] = []
    remarks: list[str] = []
    found += [
        f"notebooks/{stage.notebook} is missing: restore it, for example with git checkout"
        for stage in stages_of(asked)
        if not (root / "notebooks" / stage.notebook).is_file()
    ]
    if isinstance(parameters, Study):
        wrong, remarks = _study_problems(parameters, root)
        return found + wrong, remarks, 0
    found += _base_problems(parameters)
    base = PACKAGE / "diffusion" / "miniature_parts" if parameters.model.base == "bundled" else parameters.model.base
    own = parameters.hardness.encoder
    encoder = Path(base) / HARDNESS_ENCODER if own == "base" else Path(own)
    if parameters.needs_hardness and not encoder.is_file():
        found.append(
            f"hardness.encoder: {encoder} is missing: give an encoder.safetensors of this project, or choose the "
            "near-OOD timesteps yourself and near_ood_choice: all"
        )
    for weights in dict.fromkeys(parameters.of_arm(name)[1].encoder.weights for name in parameters.arm_names):
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            found.append(f"encoder.weights: {weights} is no file: give imagenet, a safetensors file, or leave it out")
    for name, (_, settings) in parameters.generation.sets.items():
        for strength in settings.strengths:
            if int(strength * parameters.generation.steps) < 1:
                found.append(
                    f"generation.{name}.strengths: {strength} of {parameters.generation.steps} steps is 0 steps, the "
                    "pictures would come back unchanged: raise it or generation.steps"
                )
    classes = 0
    try:
        from thesis_lib.datasets import few_shot, read_tables
        from thesis_lib.datasets.folder import broken_pictures
        from thesis_lib.tensors import warn_of_slow_bf16

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ThesisWarning)
            warn_of_slow_bf16(parameters.generation.precision, "generation.precision", "model")
            warn_of_slow_bf16(parameters.training.precision, "training.precision", "fp32")
            images, ood, oracle = read_tables(parameters.data)
        remarks += [str(warning.message) for warning in caught if warning.category is ThesisWarning]
        classes = images["class_name"].nunique()
        outside = "no OOD pictures: the figures that need them will be absent" if ood is None else _counts(ood, "set")
        remarks.append(f"data: {classes} classes, pictures: {_counts(images, 'split')}; {outside}")
        if "test" not in set(images["split"]):
            found.append("data: there are no test pictures: the report would have nothing to report")
        trainings = [parameters.of_arm(name)[1].training for name in parameters.arm_names]
        for many in dict.fromkeys(p.classes_per_batch for p in trainings):
            if many > classes:
                found.append(
                    f"training.classes_per_batch is {many}, the data has {classes} classes: lower it, for example "
                    f"--set training.classes_per_batch={classes}"
                )
        wanted = [name for name in parameters.arm_names if parameters.of_arm(name)[0].is_oracle]
        if wanted and oracle is None:
            found.append(f"arms: {', '.join(wanted)} need oracle pictures and the data set has none: take them out")
        found += broken_pictures([*images["path"], *(path for path in images["mask_path"] if path)])
        if parameters.needs_hardness:
            found += _hardness_problems(images, parameters)
        has_mask = images["mask_path"] != ""
        remarks.append(f"masks: {has_mask.sum()} of {len(images)} pictures have one")
        for seed in parameters.seeds:
            few = few_shot(images, parameters.data.shots, seed)
            if problem := parameters.generation.mask_problem(few["class_name"], few["class_name"][has_mask[few.index]]):
                found.append(problem)
                break
    except ThesisError as error:
        found.append(str(error))
    return found, remarks, classes


def estimate(asked: Experiment, root: Path, run: Path, classes: int, cores: int = 2) -> list[str]:
    """What would run and about how long it takes, as lines to print.

    Args:
        asked: The parameters, relative paths left relative.
        root: The project.
        run: The run's folder; the runs beside it tell how fast this machine is.
        classes: Number of classes.
        cores: Cores of the run.
    """
    todo = plan(asked, root, run)
    if not todo:
        return [f"nothing to do: {run.name} is complete"]
    if isinstance(asked, Study):
        return [f"1 job would run: about {_minutes(asked.seconds)} on 2 cores, less what it has finished before"]
    lines, total = [], 0.0
    for stage in STAGES:
        jobs = [job for job in todo if job.stage == stage]
        if not jobs:
            continue
        count = f"{stage.name:<12}{len(jobs):>3} job{'s' if len(jobs) > 1 else ' '}"
        rate = _measured_rate(stage.name, asked, run.parent, classes)
        if rate is None and (unknown := _unmeasured(stage, asked)):
            lines.append(f"{count}   time unknown: {unknown}")
            continue
        at_once = 1 if stage.gpu and has_gpu() else cores // stage.threads_of(cores, seeds_beside(asked))
        one = START + (rate or SECONDS.get(stage.name, 0.0)) * work(stage.name, asked, classes)
        seconds = one * math.ceil(len(jobs) / at_once)
        lines.append(f"{count}   {_minutes(seconds)}")
        total += seconds
    pictures = sum(count for count, _ in _pictures(asked, classes)) * len(asked.seeds)
    where, every = shown(run, root), len(all_jobs(asked))
    head = f"{len(todo)} of {every} jobs would run in {where}, {pictures} synthetic pictures in all"
    return [head, *lines, f"what is known together: about {_minutes(total)} on {cores} cores"]


def _unmeasured(stage: Stage, asked: Parameters) -> str:
    """Why `SECONDS` says nothing about a stage; empty where it does."""
    if stage.gpu and has_gpu():
        return "no such run on this GPU yet"
    if stage.name == "training":
        return "no run with this network yet" if asked.encoder.architecture != "resnet10" else ""
    return "no run with this base model yet" if stage.gpu and asked.model.base != "bundled" else ""


def work(stage: str, parameters: Parameters, classes: int) -> float:
    """How much a job of a stage has to do, in units whose cost hardly depends on the parameters."""
    latents = (parameters.model.size / 64) ** 2
    training = parameters.training
    match stage:
        case "inversion":
            return parameters.inversion.steps * parameters.inversion.batch * latents
        case "generation":
            return sum(count * steps for count, steps in _pictures(parameters, classes)) * latents
        case "training":
            views = training.classes_per_batch * (2 * training.anchors_per_class + training.near_ood_per_class)
            network = parameters.encoder
            size = (network.size / 64) ** 2 * (network.width / 16) ** 2
            return training.steps * views * size * (0.3 if network.stem == "standard" else 1.0)
        case "inspection":
            return 1000 * latents
        case "data" | "analysis":
            return 100.0 * classes
    return 0.0


def _pictures(parameters: Parameters, classes: int) -> list[tuple[int, float]]:
    """For each part of the synthetic sets how many pictures are made and how many steps each takes."""
    p, tried, sources = parameters.generation, parameters.hardness, classes * parameters.generation.sources
    parts = []
    for _, settings in p.sets.values():
        if settings.timesteps == "auto":
            parts += [(sources * tried.per_source, t / 1000 * p.steps) for t in tried.candidates]
            further, mean = max(0, p.per_source - tried.per_source), statistics.mean(tried.candidates)
            parts.append((sources * further, mean / 1000 * p.steps))
        else:
            mean = statistics.mean([*settings.timesteps, *(1000 * s for s in settings.strengths)])
            parts.append((sources * p.per_source, mean / 1000 * p.steps))
    return parts


def _measured_rate(stage: str, asked: Parameters, runs: Path, classes: int) -> float | None:
    """The median time a unit of work took in earlier runs with the same base model and network, where there are any."""
    rates = []
    for file in runs.glob("*/parameters.yaml"):
        try:
            past = read_parameters(file)
        except ThesisError:  # of an older version
            continue
        if isinstance(past, Study):
            continue
        if (past.model.base, past.encoder.architecture) == (asked.model.base, asked.encoder.architecture):
            units = work(stage, past, past.data.num_classes or classes)
            stamps = [read_stamp(file.parent / job.stamp) for job in all_jobs(past) if job.stage.name == stage]
            rates += [stamp["seconds"] / units for stamp in stamps if stamp and units]
    return statistics.median(rates) if rates else None


def _study_problems(study: Study, root: Path) -> tuple[list[str], list[str]]:
    """What is wrong with what a companion study reads, its data and a main run, and remarks."""
    found, remarks = study.data_problems()
    try:
        main = main_run(study, root)
    except ThesisError as error:
        return [*found, str(error)], remarks
    if main is None:
        return found, remarks
    found += [f"{main.experiment}: {sentence}" for sentence in problems(main.asked, root)[0]]
    without: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ThesisWarning)
        for seed in study.seeds:
            try:
                main.require("generation", seed)
            except ThesisError:
                without.append(seed)
    remarks += [str(warning.message) for warning in caught if warning.category is ThesisWarning]
    if without:
        command = f"thesis run {main.experiment} --until generation"
        if not set(without) <= set(main.asked.seeds):
            every = ",".join(map(str, sorted({*main.asked.seeds, *without})))
            command += f" --set seeds=[{every}] --name {main.name}"
        seeds = ", ".join(map(str, without))
        remarks.append(f"seeds without DA-Fusion pictures, which are left out: {seeds}; they are made by {command}")
    return found, remarks


def _base_problems(parameters: Parameters) -> Iterator[str]:
    from thesis_lib.tensors import weight_files

    base = parameters.model.base
    if base == "bundled":
        return
    folder = Path(base)
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.\-]+/[\w.\-]+", base):
            yield f"model.base: {base} is neither a folder nor a hub id (owner/name): give one of them, or bundled"
        return
    if not (folder / "model_index.json").is_file():
        yield f"model.base: {base} is no diffusers folder, it has no model_index.json: give what save_pretrained wrote"
        return
    for part in ("vae", "unet", "text_encoder"):
        if not (weight_files(folder / part) or weight_files(folder / part, ".fp16")):
            yield f"model.base: {base}/{part} has no safetensors file: save the model with safe_serialization=True"
    try:
        down = 1
        for part in ("vae", "unet"):
            down *= 2 ** (len(json.loads((folder / part / "config.json").read_text())["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError):
        yield f"model.base: {base} lacks a readable config.json in vae or unet: save the model again"
        return
    if parameters.model.size % down:
        yield f"model.size: {parameters.model.size} does not fit {base}: give a multiple of {down}"


def _hardness_problems(images: "pd.DataFrame", parameters: Parameters) -> Iterator[str]:
    """What `diffusion.hardness.Hardness` would refuse after all pictures are made."""
    from thesis_lib.datasets import few_shot

    classes, instead = set(images["class_name"]), "choose near-OOD timesteps yourself and near_ood_choice: all"
    if without := sorted(classes - set(images["class_name"][images["split"] == "valid"])):
        yield f"hardness needs validation pictures and there are none of {', '.join(without)}: {instead}"
    for seed in parameters.seeds:
        groups = few_shot(images, parameters.data.shots, seed).groupby("class_name")["capture_group"].nunique()
        if alone := sorted(groups.index[groups < 2]):
            yield (
                f"hardness compares a picture with those of other objects or set-ups, and seed {seed} has shots of one "
                f"only of {', '.join(alone)}: raise data.shots where there are more, or {instead}"
            )
            return


def _counts(table: "pd.DataFrame", column: str) -> str:
    return ", ".join(f"{count} {name}" for name, count in table[column].value_counts(sort=False).items())


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

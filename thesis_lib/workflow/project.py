"""Where things are: the project's folder, the folder of runs, and paths in the parameters."""

import os
from pathlib import Path

from thesis_lib.errors import ThesisError
from thesis_lib.parameters import Experiment, Study, absolute


def project_root() -> Path:
    """The folder that holds `Snakefile` and `parameters/`: the working directory, one above it, or the package's.

    Raises:
        ThesisError: There is none.
    """
    here, package = Path.cwd(), Path(__file__).resolve().parent
    for folder in (here, *here.parents, *package.parents):
        if (folder / "Snakefile").is_file() and (folder / "parameters").is_dir():
            return folder
    raise ThesisError(f"{here}: no project (Snakefile and parameters/) here or above: change into the repository first")


def runs_folder(root: Path) -> Path:
    """The folder of all runs: `runs/` of the project, or what the environment variable THESIS_RUNS names."""
    return root / os.environ.get("THESIS_RUNS", "runs")


def has_gpu() -> bool:
    """Whether a GPU is here and not hidden, NVIDIA's, also in WSL, or AMD's; told without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return not hidden and any(Path(place).exists() for place in ("/proc/driver/nvidia/gpus", "/dev/dxg", "/dev/kfd"))


def seeds_beside(parameters: Experiment) -> int:
    """How many seeds' jobs run beside each other on this machine: one where a GPU takes one notebook at a time."""
    return 1 if has_gpu() else len(parameters.seeds)


def shown(path: Path, root: Path) -> str:
    """A path as a person writes it: relative to the project where it lies inside."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def resolve_paths(parameters: Experiment, root: Path) -> Experiment:
    """The same parameters with relative paths made absolute; in a parameter file they are relative to the project.

    A `model.base` that is no folder there is a hub id (or `bundled`) and stays as it is.
    """
    if isinstance(parameters, Study):
        return parameters.resolved(root)
    data, model, encoder = parameters.data, parameters.model, parameters.encoder
    folder = data.folder.model_copy(update={"ood_far": absolute(data.folder.ood_far, root)})
    data = data.model_copy(update={"root": absolute(data.root, root), "folder": folder})
    base = absolute(model.base, root)
    if model.base != "bundled" and base and Path(base).is_dir():
        model = model.model_copy(update={"base": base})
    if encoder.weights != "imagenet":
        encoder = encoder.model_copy(update={"weights": absolute(encoder.weights, root)})
    variants = {
        name: variant.model_copy(
            update={
                "set": {
                    key: absolute(value, root) if key == "encoder.weights" and value != "imagenet" else value
                    for key, value in variant.set.items()
                }
            }
        )
        for name, variant in parameters.variants.items()
    }
    hardness = parameters.hardness
    if hardness.encoder != "base":
        hardness = hardness.model_copy(update={"encoder": absolute(hardness.encoder, root)})
    return parameters.model_copy(
        update={"data": data, "model": model, "encoder": encoder, "hardness": hardness, "variants": variants}
    )

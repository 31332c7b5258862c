"""The folders that the study reads: what is wrong with them, and what is left out for want of one."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from thesis_lib.datasets.celeba import face_paths
from thesis_lib.datasets.folder import broken_pictures
from thesis_lib.datasets.mnist import read_mnist
from thesis_lib.datasets.proben1 import read_proben1
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.vae.parameters import VaeParameters
from thesis_lib.vae.tables import FEW_SHOT_SET, permutation_of

LEFT_OUT = {
    "proben1": "the tables of PROBEN1 and of thyroid with few examples",
    "mnist": "latent spaces, the three tables of MNIST and the harness on digits",
    "celeba": "the sweeps over dimensions of faces",
}
"""What needs each section's folder."""


def left_out(p: VaeParameters) -> list[str]:
    """A sentence for each folder that the parameters do not name."""
    return [
        f"{name}.root names no folder, left out are {LEFT_OUT[name]}: add --set {name}.root=/path/to/it"
        for name, section in p.sections.items()
        if section.root is None
    ]


def folder_problems(p: VaeParameters) -> tuple[list[str], list[str]]:
    """What is wrong with the folders that the parameters name, read whole but for faces, and remarks.

    Args:
        p: The parameters, folders absolute.

    Returns:
        Problems, one sentence each; remarks: the readers' warnings and what is left out.
    """
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ThesisWarning)
        for name, section in p.sections.items():
            if section.root is None:
                continue
            if not Path(section.root).is_dir():
                found.append(f"{name}.root: {section.root} is no folder: name another, or leave it out")
            else:
                found += PROBLEMS[name](p, section.root)
    told = [str(warning.message) for warning in caught if warning.category is ThesisWarning]
    return found, [*dict.fromkeys(told), *left_out(p)]


def _tables(p: VaeParameters, root: str) -> list[str]:
    sets = list(dict.fromkeys([*p.proben1.sets, *([FEW_SHOT_SET] if p.proben1.few_shot else [])]))
    absent = [name for name in sets if not (Path(root) / name).is_dir()]
    if absent:
        return [f"proben1.root: {root} has no folder {', '.join(absent)}: name the folder that holds PROBEN1's sets"]
    permutations = sorted({permutation_of(seed) for seed in p.seeds})
    found = [_problem(partial(read_proben1, root, name, k)) for name in sets for k in permutations]
    return [f"proben1.root: {sentence}" for sentences in found for sentence in sentences]


def _digits(p: VaeParameters, root: str) -> list[str]:
    return _problem(lambda: read_mnist(root, "mnist.root"))


def _faces(p: VaeParameters, root: str) -> list[str]:
    try:
        return broken_pictures([str(path) for path in face_paths(root)])
    except ThesisError as error:
        return [f"celeba.root: {error}"]


def _problem(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except ThesisError as error:
        return [str(error)]
    return []


PROBLEMS = {"proben1": _tables, "mnist": _digits, "celeba": _faces}

"""The study's work lists as results, and all of them at once, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pandas as pd

from thesis_lib.datasets.celeba import read_celeba
from thesis_lib.parameters import Parameters
from thesis_lib.side_by_side import run_side_by_side
from thesis_lib.vae import digits as mnist
from thesis_lib.vae import looking
from thesis_lib.vae import tables as proben1
from thesis_lib.vae.benches import Bench, DigitsBench, PartsBench
from thesis_lib.vae.harness import harness_items
from thesis_lib.vae.parameters import VaeParameters
from thesis_lib.vae.work import run_items

if TYPE_CHECKING:
    from thesis_lib.workflow.run import Run


def table_results(p: VaeParameters, folder: Path) -> pd.DataFrame:
    """PROBEN1's tables: what is not kept in the run's folder is done."""
    items = proben1.table_items(p, folder / "models")
    return run_items(items, folder / "items" / "tables", "PROBEN1")


def digit_results(digits: mnist.Digits, seeds: Sequence[int], folder: Path) -> pd.DataFrame:
    """MNIST's tables: what is not kept in the run's folder is done."""
    items = mnist.digit_items(digits, seeds)
    return run_items(items, folder / "items" / "mnist", "MNIST")


def harness_results(bench: Bench, seeds: Sequence[int], folder: Path) -> pd.DataFrame:
    """The harness on one of its data sets: what is not kept in the run's folder is done."""
    items = harness_items(bench, seeds, folder / "work")
    return run_items(items, folder / "items" / "harness", f"harness, {bench.name}")


def part_blur_results(bench: PartsBench, seeds: Sequence[int], folder: Path) -> pd.DataFrame:
    """Blur of the parts' pictures: what is not kept in the run's folder is done."""
    return run_items(looking.part_blur_items(bench, seeds), folder / "items" / "blur", "blur")


def parts_bench(p: VaeParameters, main: "Run", folder: Path) -> PartsBench:
    """The harness's parts.

    Args:
        p: The study's parameters.
        main: The main study's run, see `main_run`.
        folder: The study's run.
    """
    asked = cast(Parameters, main.parameters)
    return PartsBench(p, asked, lambda seed: main.require("generation", seed), folder / "models")


def digits_bench(p: VaeParameters, main: "Run", digits: mnist.Digits) -> DigitsBench:
    """The harness's digits; `main` as in `parts_bench`."""
    return DigitsBench(p, cast(Parameters, main.parameters), digits)


def do_everything(p: VaeParameters, main: "Run | None", folder: Path, processes: int | None = None) -> None:
    """Do all long work: every seed of every section is a piece, as are the latent spaces and each beta's faces.

    Args:
        p: The study's parameters, paths resolved.
        main: The main study's run, see `main_run`; none for no harness.
        folder: The run's, which keeps everything.
        processes: Pieces at a time, see `run_side_by_side`.
    """
    if main is not None:
        parts_bench(p, main, folder)  # decodes and crops the parts once, before the pieces ask for them
    names = ["digits"] if p.mnist.root else []
    names += ["parts"] if main is not None else []
    names += ["tables"] if p.proben1.root else []
    pieces = [(name, p.model_copy(update={"seeds": [seed]})) for name in names for seed in p.seeds]
    if p.mnist.root:
        pieces.append(("maps", p))
    if p.celeba.root:
        sections = (p.celeba.model_copy(update={"betas": (beta,)}) for beta in p.celeba.betas)
        pieces += [("faces", p.model_copy(update={"celeba": section})) for section in sections]
    run_side_by_side(_do, [(name, of, main, folder) for name, of in pieces], "the study's pieces", processes)


def _do(name: str, p: VaeParameters, main: "Run | None", folder: Path) -> None:
    if name == "tables":
        table_results(p, folder)
    elif name == "parts" and main is not None:
        parts = parts_bench(p, main, folder)
        harness_results(parts, p.seeds, folder)
        part_blur_results(parts, p.seeds, folder)
    elif name == "faces":
        seen, _ = looking.held_out(read_celeba(str(p.celeba.root)))
        looking.face_vae(p.celeba, seen, p.celeba.betas[0], p.seeds[0], folder / "models")
    elif name == "maps":
        looking.latent_maps(mnist.read_digits(p, folder / "models"), p.seeds[0])
    elif name == "digits":
        digits = mnist.read_digits(p, folder / "models")
        digit_results(digits, p.seeds, folder)
        if main is not None:
            harness_results(digits_bench(p, main, digits), p.seeds, folder)

"""What a kept result is known by: every parameter that it reads, and its seed."""

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from pydantic import BaseModel

from tests.vae.toy import blobs
from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.parameters import Parameters
from thesis_lib.vae import benches, harness, looking, tables
from thesis_lib.vae import digits as mnist
from thesis_lib.vae.parameters import VaeParameters

READS = {
    "tables": ("proben1", "sampling", "network"), "digits": ("mnist", "sampling"), "faces": ("celeba",),
    "harness/mnist": ("harness", "mnist", "sampling", "main.training", "main.encoder"),
    "harness/parts": (
        "harness", "sampling", "main.training", "main.encoder", "main.hardness.encoder", "main.data.shots",
    ),
}  # fmt: skip
"""Work list -> what its items read of the study's parameters and of the main experiment's."""
ALL = (
    "proben1.root", "mnist.root", "celeba.root", "mnist.test", "mnist.map_betas", "mnist.map_fit", "celeba.dimensions",
)  # fmt: skip
"""What says where pictures are, how many or how they are drawn: the data's digest stands for them."""
SET_BY_THE_HARNESS = tuple(
    f"main.training.{name}" for name in ("steps", "checkpoint_every", "classes_per_batch", "precision")
)
NOT_READ = {
    "harness/mnist": (
        "harness.experiment", "harness.latent", "harness.beta", "harness.width", "harness.fit",
        "mnist.mix_in", "mnist.shots", "mnist.only_", "mnist.many", "main.training.views",
        "main.encoder.size", *SET_BY_THE_HARNESS,
    ),
    "harness/parts": ("harness.experiment", "harness.mnist_shots", *SET_BY_THE_HARNESS),
}  # fmt: skip
"""What they do not read of these."""
SHOTS_ALONE = ("multi", "multi_interpolation", "from_shots", "from_shots_extrapolation")
"""Ways to make digits whose VAEs have seen the shots alone."""
LISTED = (
    "proben1.sets", "proben1.few_shot", "mnist.shots", "mnist.only_", "mnist.many", "celeba.betas",
)  # fmt: skip
"""What says which items there are."""


def reads(work: str, item: str, path: str) -> bool:
    """Whether an item reads a parameter that its work list does."""
    method = re.sub(r"^.*/|^parts_|_seed\d+$", "", item).removeprefix("classical_")
    of_vae = path.startswith(("sampling", "harness.", "mnist.", "main.hardness")) and not path.startswith(
        ("harness.steps", "harness.mnist_shots") if work.startswith("harness") else ("mnist.beta", "mnist.network")
    )
    if work in ("tables", "faces") or not of_vae:
        return True
    if method not in ("vae", "vae_gc", "given_back", "from_shots") if work != "digits" else method == "none":
        return False
    if path.startswith("mnist.multi"):
        return method in SHOTS_ALONE
    if path.startswith("mnist.mix_in"):
        return method in SHOTS_ALONE[:2]
    if path.startswith("mnist.network"):
        return method == "vae_gc"
    return method not in SHOTS_ALONE or not path.startswith("mnist.fit")


FEW = {"shots": [2, 3], "only_shots": 2, "only_generated": [2, 3], "many_shots": [2, 3]}


def study(seed: int = 0) -> VaeParameters:
    return VaeParameters.model_validate({"name": "x", "study": "vae", "seeds": [seed], "mnist": FEW})


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """The work lists' items by what each is known by: parameters, the main experiment's -> list -> keys."""
    pictures = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    table = pd.DataFrame({
        "label": [0, 1] * 3, "class_name": ["a", "b"] * 3, "split": ["train"] * 4 + ["test"] * 2,
    })  # fmt: skip
    data = PreparedData(PreparedSet(table, pictures, torch.ones(6, 8, 8, dtype=torch.bool)), None, None, ["a", "b"])

    def encoder(base, p):
        return torch.nn.utils.skip_init(torch.nn.Linear, 2, 2).requires_grad_(False).apply(
            lambda layer: [value.fill_(len(p.encoder)) for value in layer.parameters()]
        )  # fmt: skip

    def no_run(seed):
        raise ThesisError("there is no run")

    monkeypatch.setattr(benches, "prepare_data", lambda *_: data)
    monkeypatch.setattr(benches, "load_base_model", lambda _: SimpleNamespace(digest="x", through_vae=True))
    monkeypatch.setattr(benches, "pass_through_vae", lambda prepared, *_: prepared)
    monkeypatch.setattr(benches, "load_hardness_encoder", encoder)

    def found(p: VaeParameters, main: Parameters) -> dict[str, set[str]]:
        digits = mnist.Digits(p.mnist, p.sampling, blobs(6), blobs(3), tmp_path)
        faces, betas = torch.zeros(2, 3, 8, 8), dict.fromkeys(p.celeba.betas)
        parts, numbers = benches.PartsBench(p, main, no_run, tmp_path), benches.DigitsBench(p, main, digits)
        lists = {
            "tables": tables.table_items(p, tmp_path),
            "digits": mnist.digit_items(digits, p.seeds),
            "faces": looking.face_blur_items(p.celeba, betas, (faces, faces), p.seeds[0]),
            "harness/parts": harness.harness_items(parts, p.seeds, tmp_path) | looking.part_blur_items(parts, p.seeds),
            "harness/mnist": harness.harness_items(numbers, p.seeds, tmp_path),
        }
        return {work: {name: json.dumps(item.made_of) for name, item in items.items()} for work, items in lists.items()}

    return found


def leaves(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section:
        path = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def changed(section: Any, path: str, value: Any) -> Any:
    """A copy with one parameter changed, unchecked."""
    name, _, rest = path.partition(".")
    return section.model_copy(update={name: changed(getattr(section, name), rest, value) if rest else value})


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case tuple() | list():
            return value[:-1]
        case _:
            return f"{value}x"


@pytest.mark.filterwarnings("ignore:harness", "ignore:Pydantic")
def test_every_parameter_that_an_item_reads_is_part_of_its_key(keys):
    p, main = study(), Parameters(name="main")
    before = keys(p, main)
    for path, value in [*leaves(p, ""), *leaves(main, "main.")]:
        affected = {
            work for work, sections in READS.items()
            if path.startswith(sections) and not path.startswith((*ALL, *NOT_READ.get(work, ())))
        }  # fmt: skip
        if not affected:
            continue
        if path.startswith("main."):
            after = keys(p, changed(main, path.removeprefix("main."), another(value)))
        else:
            after = keys(changed(p, path, another(value)), main)
        for work in affected:
            if path.startswith(LISTED):
                assert before[work] != after[work], (work, path)
            else:
                for name, known in before[work].items():
                    assert (known != after[work][name]) == reads(work, name, path), (work, name, path)


@pytest.mark.filterwarnings("ignore:harness")
def test_items_of_two_seeds_are_two_items(keys):
    main = Parameters(name="main")
    first, second = (keys(study(seed), main) for seed in (0, 1))
    assert all(set(first[work]).isdisjoint(second[work]) for work in READS)


@pytest.mark.usefixtures("keys")
def test_what_the_parts_vae_makes_is_made_once_and_anew_for_other_parameters(tmp_path, monkeypatch):
    asked = []

    def make(bench, seed):
        asked.append(bench.p.sampling.step)
        return [(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([1])) for _ in range(2)]

    monkeypatch.setattr(benches.PartsBench, "_draw", make)
    p, main = study(), Parameters(name="main")
    for parameters in (p, p, changed(p, "sampling.step", 0.7)):
        bench = benches.PartsBench(parameters, main, lambda seed: tmp_path, tmp_path)
        for source in ("vae", "vae_gc"):
            pictures, labels = bench.made(source, 0)
            assert pictures.shape == (1, 3, 8, 8) and labels.tolist() == [1]
    assert asked == [0.5, 0.7]


@pytest.mark.usefixtures("keys")
def test_the_parts_vaes_pictures_are_judged_against_shots_and_early_reconstructions(tmp_path, monkeypatch):
    class Levels:
        """Makes pictures as grey as their codes."""

        def pictures(self, z):
            return z[:, :1, None, None].expand(-1, 3, 8, 8)

    p = study()
    bench = benches.PartsBench(p, Parameters(name="main"), lambda seed: tmp_path, tmp_path)
    generated, judged = p.harness.generated, []
    levels = torch.rand(4 * generated, 1, generator=torch.Generator().manual_seed(0))
    names = torch.arange(2).repeat_interleave(2 * generated)
    shots = torch.full((4, 3, 8, 8), 51, dtype=torch.uint8), torch.tensor([0, 0, 1, 1])
    bench.shots, bench.seen = lambda seed: shots, lambda pictures: pictures
    bench.vaes = lambda seed: (Levels(), Levels())
    bench.encoder = SimpleNamespace(settings=SimpleNamespace(size=8))
    monkeypatch.setattr(benches, "codes", lambda model, x: (torch.ones(len(x), 1), None))
    monkeypatch.setattr(benches, "draw_codes", lambda *_: (levels, names))
    monkeypatch.setattr(benches, "extract_features", lambda encoder, x, size: x.float().mean((2, 3)))
    monkeypatch.setattr(benches.F, "normalize", lambda x, dim: x)

    def genuineness(made, real, bad):
        judged.extend((real.unique().tolist(), bad.unique().tolist()))
        return made[:, 0].numpy()

    monkeypatch.setattr(benches.Hardness, "genuineness", genuineness)
    plain, chosen = bench._draw(0)
    assert judged == [[51.0], [255.0]]  # the shots, and what the early VAE makes of them
    assert plain[1].tolist() == chosen[1].tolist() == [0] * generated + [1] * generated
    for label in (0, 1):
        best = benches.as_bytes(levels[names == label]).flatten().sort().values[generated:]
        assert torch.equal(chosen[0][chosen[1] == label][:, 0, 0, 0].sort().values, best)


@pytest.mark.usefixtures("keys")
def test_the_harness_wants_bundled_parts_with_two_shots_and_leaves_out_regions_that_were_not_edited(tmp_path):
    main = Parameters(name="main")
    for path, value, told in (("data.reader", "folder", "reads folder"), ("data.shots", 1, "data.shots 1")):
        with pytest.raises(ThesisError, match=told):
            benches.PartsBench(study(), changed(main, path, value), lambda seed: tmp_path, tmp_path)
    assert main.generation.background is None
    bench = benches.PartsBench(study(), main, lambda seed: tmp_path, tmp_path)
    assert "da_fusion_half" in bench.sources and "da_fusion_object" not in bench.sources
    edited = changed(main, "generation.background", main.generation.id)
    bench = benches.PartsBench(study(), edited, lambda seed: tmp_path, tmp_path)
    assert {"da_fusion_object", "da_fusion_background"} <= set(bench.sources)

"""The work lists at toy size, the findings and the tables, the harness's own pieces."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.vae.toy import ATTRIBUTES, blobs, write_folders
from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.pretraining import pretrain
from thesis_lib.datasets.celeba import read_celeba
from thesis_lib.datasets.proben1 import AttributeTable
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameter_files import read_parameters
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import EncoderParameters, Kind, TrainingParameters
from thesis_lib.tensors import load_tensors, tensor_digest
from thesis_lib.vae import digits as mnist
from thesis_lib.vae import fitting, looking, published, study, tables
from thesis_lib.vae.benches import Bench
from thesis_lib.vae.classifiers import fit_and_measure
from thesis_lib.vae.findings import finding_table, harness_tests
from thesis_lib.vae.harness import Unchanged, harness_items, mixup_or_cutmix
from thesis_lib.vae.methods import MADE, METHODS, VAE
from thesis_lib.vae.parameters import NetworkParameters, VaeParameters
from thesis_lib.vae.tabulate import outside, summarised
from thesis_lib.vae.work import COLUMNS, Item, row, run_items
from thesis_lib.workflow.project import project_root

SHORT = {"steps": 3, "batch": 8}
TOY = {
    "study": "vae", "name": "toy", "seeds": [0, 1], "network": {"steps": 5, "width": 8},
    "proben1": {"root": "x", "sets": ["diabetes"], "fit": SHORT, "hidden": 4, "few_shot": [2],
                "classifiers": ["network", "nearest"]},
    "mnist": {"fit": SHORT, "multi": SHORT, "latent": 3, "width": 2, "shots": [2, 3], "only_shots": 2,
              "only_generated": [2], "many": 4, "many_shots": [3], "network": {"steps": 3, "width": 4},
              "map_betas": [1.0], "map_fit": SHORT},
}  # fmt: skip


def toy() -> VaeParameters:
    return VaeParameters.model_validate(TOY)


def steps_of(file: Path) -> int:
    """Steps that a kept VAE was trained for."""
    return int(load_tensors(file)[1]["made_of"]["fit"]["steps"])


@pytest.fixture
def toy_digits(tmp_path):
    p = toy()
    return mnist.Digits(p.mnist, p.sampling, blobs(30), blobs(9, seed=1), tmp_path / "models")


def test_the_parameter_files_are_right_and_their_roots_relative_to_the_project(tmp_path):
    for name in ("vae", "vae_full"):
        alone = read_parameters(project_root() / "parameters" / f"{name}.yaml")
        whole = read_parameters(project_root() / "parameters" / f"{name}.yaml", "proben1.root=x mnist.root=x")
        assert isinstance(alone, VaeParameters) and alone.name == name and 60 < alone.seconds < whole.seconds
    p = VaeParameters.model_validate(TOY | {"mnist": {"root": "data/mnist"}}).resolved(tmp_path)
    assert p.mnist.root == str(tmp_path / "data" / "mnist") and p.celeba.root is None
    with pytest.raises(ValueError, match="sets: gene2 is none of card"):
        VaeParameters.model_validate(TOY | {"proben1": {"sets": ["gene2"]}})
    with pytest.raises(ValueError, match="names one value twice"):
        VaeParameters.model_validate(TOY | {"seeds": [1, 1]})
    wrong = {
        "proben1.classifiers": (["forest"], "network is missing"), "proben1.sets": ([], "at least 1"),
        "proben1.few_shot": ([1], "greater than or equal to 2"), "mnist.shots": ([1, 3], "greater than or equal to 2"),
        "mnist.only_shots": (1, "greater than or equal to 2"),
        "mnist.only_generated": ([], "at least 1"), "mnist.map_betas": ([], "at least 1"),
        "celeba.betas": ([], "at least 1"), "harness.mnist_shots": (1, "greater than or equal to 2"),
        "harness.sampling": ("prior", "should be 'noise'"),
    }  # fmt: skip
    for path, (value, sentence) in wrong.items():
        section, _, name = path.partition(".")
        with pytest.raises(ValueError, match=sentence):
            VaeParameters.model_validate(TOY | {section: TOY.get(section, {}) | {name: value}})
    for name in ("shots", "many_shots"):
        with pytest.raises(ValueError, match=rf"mnist\.{name}\n.* at least 1"):
            VaeParameters.model_validate(TOY | {"mnist": TOY["mnist"] | {name: []}})
    with pytest.raises(ValueError, match=r"there is nothing to do: .* proben1.root, mnist.root, celeba.root"):
        VaeParameters(name="x", study="vae", harness={"experiment": None})


def test_published_tables_are_whole():
    assert len(published.DIGITS) == len(published.ONLY_GENERATED) == len(published.MANY_GENERATED) == 13
    assert {len(line) for line in published.DIGITS.values()} == {len(published.DIGIT_METHODS)}
    for shots, line in published.MANY_GENERATED.items():
        assert len(line) == len(published.FEWER_METHODS) and line[0] == published.DIGITS[shots][0]


def test_standardised_by_the_training_examples_missing_values_stay_0():
    x = np.zeros((4, 7), np.float32)
    x[:, 0], x[:, 1], x[:, 2] = [1, 3, 5, 9], [2, 0, 4, 6], [0, 1, 0, 0]
    table = AttributeTable("toy", ATTRIBUTES, x, np.zeros(4, int), np.full(4, "train"))
    found = tables.standardised(table, np.array([0, 1, 2]))
    assert found[:, 0].numpy() == pytest.approx((np.array([1, 3, 5, 9]) - 3) / np.std([1, 3, 5]))
    assert found[:, 1].tolist() == [-1, 0, 1, 3]
    constant = tables.standardised(table, np.array([0]))
    assert constant[0, 0] == 0 and constant.isfinite().all()


def test_balanced_classes_end_equal():
    labels = torch.tensor([0] * 5 + [1] * 2)
    assert tables.counts_to_generate(labels, balance=True) == [5, 8]
    assert tables.counts_to_generate(labels, balance=False) == [5, 2]
    assert tables.repeated_rows(labels, [5, 8], 0).bincount().tolist() == [1] * 5 + [4] * 2
    seven = tables.repeated_rows(labels, [2, 7], 0)
    assert sorted(seven.bincount(minlength=7).tolist()) == [0, 0, 0, 1, 1, 3, 4]


def test_few_examples_are_nested_and_of_every_class():
    labels = np.array([0, 1, 2] * 10)
    three, five = (tables.few_of_each(labels, np.arange(24), shots, 0) for shots in (3, 5))
    assert set(three) < set(five) and np.bincount(labels[five]).tolist() == [5, 5, 5] and max(five) < 24
    assert len(tables.few_of_each(labels, np.arange(3), 5, 0)) == 3


def test_table_items_write_every_row(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    x = np.c_[random.normal(size=(60, 1)), np.zeros((60, 6))].astype(np.float32)
    x[:, 4] = 1
    table = AttributeTable("toy", ATTRIBUTES, x, np.arange(60) % 3, np.repeat(["train", "valid", "test"], [30, 15, 15]))
    monkeypatch.setattr(tables, "read_proben1", lambda root, name, permutation: table)
    seen = []

    def watched(name, p, seed, train, test):
        seen.append((len(train[0]), {*train[0][:, 0]} & {*test[0][:, 0]}, len(test[0])))
        return fit_and_measure(name, p, seed, train, test)

    monkeypatch.setattr(tables, "fit_and_measure", watched)
    items = tables.table_items(toy(), tmp_path / "models")
    assert len(items) == 4
    found = run_items(items, tmp_path / "items", "toy")
    assert {tested for _, _, tested in seen} == {15, 30} and all(
        tested == trained for trained, same, tested in seen if same
    )
    whole = found[found["section"] == "proben1"]
    f1 = whole[whole["metric"] == "f1"]
    assert len(f1) == 2 * 2 * 8 and set(f1["method"]) == {
        "none",
        "repeated",
        "vae",
        "vae_gc",
    }  # seeds, classifiers, 2 + 3 * 2
    assert f1[f1["method"] == "vae"]["generated"].unique().tolist() == [10]  # a class
    few = found[found["section"] == "few_shot_table"]
    assert set(few["method"]) == {"none", "vae", "vae_gc", "from_shots"} and found["value"].between(0, 1).all()
    single, stack = (tmp_path / "models" / f"few_shot_2_seed0{end}.safetensors" for end in ("_single", ""))
    assert steps_of(single) == 3 * steps_of(stack)
    again = tables.whole_set(toy(), "diabetes", 1, tmp_path / "elsewhere")  # the same by itself, elsewhere
    kept = whole[whole["seed"] == 1]["value"].tolist()
    assert [line["value"] for line in again] == kept


def test_a_class_is_made_by_its_own_vae_and_the_shots_are_what_passes_for_real(toy_digits, monkeypatch):
    class Constant:
        latent = 3

        def __init__(self, label: int) -> None:
            self.label = label

        def pictures(self, z: torch.Tensor) -> torch.Tensor:
            return torch.full((len(z), 1, 12, 12), float(self.label))

    with monkeypatch.context() as patch:
        patch.setattr(mnist.Digits, "of_classes", lambda *_: [Constant(label) for label in range(3)])
        made, labels = toy_digits.generate("multi", 3, 4, 0)
    assert torch.equal(made[:, 0, 0, 0].long(), labels)
    real, bad = [], []

    def genuineness(made, genuine, others, _):
        real.append(genuine)
        bad.append(others)
        return np.arange(len(made))

    monkeypatch.setattr(mnist, "genuineness", genuineness)
    toy_digits.generate("gc", 3, 4, 0)
    shots = toy_digits.few(3, 0)[0].numpy()
    assert np.array_equal(real[0], shots) and not np.array_equal(bad[0], shots)


def test_digit_items_do_not_depend_on_each_other(toy_digits, tmp_path):
    items = mnist.digit_items(toy_digits, (0,))
    assert len(items) == 2 * 11 + 5 + 5
    found = run_items(items, tmp_path / "items", "toy")
    assert found.columns.tolist() == COLUMNS and found["value"].between(0, 1).all()
    name = "few_shot/shots3_generated3/gc_seed0"
    fresh = mnist.Digits(toy_digits.p, toy_digits.sampling, toy_digits.train, toy_digits.test, tmp_path / "other")
    alone = run_items({name: mnist.digit_items(fresh, (0,))[name]}, tmp_path / "alone", "toy")
    same = (found["section"] == "few_shot") & (found["shots"] == 3) & (found["method"] == "gc")
    assert alone["value"].tolist() == found.loc[same, "value"].tolist()
    for method in ("multi", "multi_interpolation", "gc", "noise", "from_shots", "from_shots_extrapolation"):
        pictures, labels = toy_digits.generate(method, 3, 4, 0)
        assert pictures.shape == (12, 1, 12, 12) and labels.bincount().tolist() == [4, 4, 4]
    way = toy_digits.generate("from_shots_extrapolation", 3, 4, 0, "extrapolation")[0]  # whichever way is the best
    assert torch.equal(way, toy_digits.generate("from_shots", 3, 4, 0, "extrapolation")[0])
    assert not torch.equal(way, toy_digits.generate("from_shots", 3, 4, 0)[0])
    plain = found[found["method"] == "none"].set_index("section")["value"]
    # five steps everywhere: the shots alone give the same network in each table
    assert plain["only_generated"] == plain["few_shot"].iloc[0] and plain["many_generated"] == plain["few_shot"].iloc[1]


def test_all_methods_of_a_cell_take_the_steps_that_its_largest_training_set_asks_for(toy_digits, monkeypatch):
    asked = []
    monkeypatch.setattr(mnist, "fit_and_measure", lambda name, p, *rest: asked.append(p.steps) or 0.5)
    digits = dataclasses.replace(toy_digits, p=toy_digits.p.model_copy(
        update={"network": NetworkParameters(steps=3, epochs=2, batch=4)}
    ))  # fmt: skip
    for section, shots, count in (("few_shot", 3, 3), ("many_generated", 3, 5), ("only_generated", 3, 5)):
        for method in ("none", "noise"):
            mnist.measure(digits, section, shots, count, method, 0)
    assert asked == [9, 9, 12, 12, 8, 8]  # two passes over 18, 24 and 15 pictures in batches of 4
    again = mnist.measure(digits, "only_generated", 3, 5, "none", 0)  # the same network as before
    assert len(asked) == 6 and again[0]["value"] == 0.5
    assert NetworkParameters(steps=30).for_examples(10).steps == 30


def test_the_vae_of_the_shots_takes_as_many_steps_as_those_of_the_classes_together(toy_digits):
    toy_digits.of_shots(3, 0)
    toy_digits.of_classes(3, 0)
    made = {file.stem: steps_of(file) for file in toy_digits.folder.iterdir()}
    assert made.pop("mnist_shots3_seed0") == sum(made.values()) == 9 and len(made) == 3


def test_everything_is_done_side_by_side_and_then_read(tmp_path, monkeypatch):
    roots = {name: {"root": folder} for name, folder in write_folders(tmp_path).items()}
    asked = TOY | {name: TOY.get(name, {}) | root for name, root in roots.items()}
    asked["celeba"] |= {"fit": SHORT, "latent": 2, "width": 2}
    p = VaeParameters.model_validate(asked | {"seeds": [0, 3], "harness": {"experiment": None}})
    study.do_everything(p, None, tmp_path, processes=2)

    def again(*_):
        raise AssertionError("done again")

    for module, name in ((fitting, "_train"), (mnist, "fit_and_measure"), (tables, "fit_and_measure")):
        monkeypatch.setattr(module, name, again)
    digits = mnist.read_digits(p, tmp_path / "models")
    assert len(study.table_results(p, tmp_path)) and len(study.digit_results(digits, p.seeds, tmp_path)) == 64
    assert looking.latent_maps(digits, 0)[0].keys() == {1.0}
    seen, _ = looking.held_out(read_celeba(p.celeba.root))
    for beta in p.celeba.betas:
        looking.face_vae(p.celeba, seen, beta, 0, tmp_path / "models")


def test_done_items_are_not_done_again_unless_something_changed(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return [row("few_shot", "mnist", "none", 0, 0.5)]

    for made_of, expected in (({"steps": 1}, 1), ({"steps": 1}, 1), ({"steps": 2}, 2)):
        found = run_items({"a/b": Item(compute, made_of)}, tmp_path, "toy")
        assert len(calls) == expected and found["value"].tolist() == [0.5]


def test_code_that_measures_or_trains_differently_makes_its_own_items_anew(toy_digits, monkeypatch):
    def known() -> dict[str, str]:
        return {name: str(item.made_of) for name, item in mnist.digit_items(toy_digits, (0,)).items()}

    before = known()
    monkeypatch.setattr(fitting, "VERSION", -1)
    trained = known()
    assert {name for name in before if before[name] == trained[name]} == {n for n in before if "/none_" in n}
    monkeypatch.setattr(mnist, "VERSION", -1)
    assert not set(trained.values()) & set(known().values())


def made_up(gains, multi=-0.05, seeds=8):
    """MNIST results whose gain with interpolation and noise is given by the number of shots."""
    rows = []
    for seed in range(seeds):
        for shots, gain in gains.items():
            base = 0.7 + 0.01 * seed
            for method, more in (("none", 0), ("interpolation_noise", gain), ("from_shots", 0.01), ("multi", multi),
                                 ("multi_interpolation", multi + 0.01)):  # fmt: skip
                rows.append(row("few_shot", "mnist", method, seed, base + more + 0.001 * (seed % 2), shots=shots))
        rows.append(row("blur", "mnist", "reconstruction", seed, 0.4, classifier="", metric="sharpness"))
        rows.append(row("blur", "faces", "reconstruction", seed, 9.0, classifier="", metric="sharpness"))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_findings_by_hand():
    table = finding_table(made_up({2: 0.02, 10: 0.04, 500: 0.0})).set_index("finding")
    further = ["gain_digits_from_shots", "one_beats_many_from_shots", "one_beats_many_as_published"]  # no parts
    assert list(table.index) == ["gain_digits", "one_beats_many", "vanishes", "blur", *further]
    assert table["mean"].tolist() == pytest.approx([0.03, 0.06, 0.03, 0.6, 0.01, 0.05, 0.07])
    assert (table["p"] == 2 / 2**8).all() and (table["verdict"] == "shown").all()
    assert table["holm"].tolist() == pytest.approx([8 / 2**8] * 4 + [6 / 2**8] * 3)  # four main tests, three further
    worse = finding_table(made_up({2: -0.02, 500: -0.02}, multi=0.1)).set_index("finding")
    assert worse.loc["gain_digits", "verdict"] == "opposite" and worse.loc["vanishes", "verdict"] == "nothing"
    few = finding_table(made_up({2: 0.02}, seeds=3))
    assert (few["verdict"] == "descriptive").all() and "vanishes" not in set(few["finding"])


def test_seeds_that_share_a_test_split_of_a_table_are_one_pair():
    rows = [
        row("few_shot_table", "thyroid", method, seed, 0.7 + more, shots=shots)
        for seed in range(8)
        for shots in (5, 30, 50)
        for method, more in (("none", 0.001 * seed), ("vae", 0.001 * seed + (0.03 * (seed % 3) if shots < 50 else 0)))
    ]
    table = finding_table(pd.DataFrame(rows, columns=COLUMNS)).set_index("finding")
    assert list(table.index) == ["gain_table", "vanishes_table"] and (table["pairs"] == 3).all()
    assert table["mean"].tolist() == pytest.approx([0.03, 0.03])  # the mean of 0, 0.03, 0.06, not of the eight seeds
    assert (table["verdict"] == "few_splits").all()


def test_blur_is_told_of_digits_and_parts_apart_with_as_many_seeds_as_each_has():
    digits = made_up({2: 0.02})
    parts = digits[(digits["data"] == "faces") & (digits["seed"] < 3)].assign(data="parts", value=0.1)
    table = finding_table(pd.concat([digits, parts])).set_index("finding")
    assert table.loc["blur", ["mean", "pairs", "verdict"]].tolist() == [pytest.approx(0.6), 8, "shown"]
    assert table.loc["blur_parts", ["mean", "pairs", "verdict"]].tolist() == [pytest.approx(0.9), 3, "descriptive"]


def test_a_gain_at_some_numbers_only_and_a_smaller_loss_hold_in_part():
    mixed = finding_table(made_up({2: 0.06, 10: -0.01, 500: 0.0})).set_index("finding")
    assert mixed.loc["gain_digits", ["mean", "verdict"]].tolist() == [pytest.approx(0.025), "partly"]
    lasting = finding_table(made_up({2: 0.06, 500: 0.02})).set_index("finding")
    assert lasting.loc["vanishes", ["mean", "verdict"]].tolist() == [pytest.approx(0.04), "partly"]
    losing = finding_table(made_up({2: -0.01, 500: -0.03})).set_index("finding")
    assert losing.loc["vanishes", ["mean", "verdict"]].tolist() == [pytest.approx(0.02), "partly"]


def test_summaries_put_the_published_number_beside_the_first_classifier():
    rows = [row("proben1", "glass", m, s, 0.7, classifier=c, beta="norm" * (m != "none"))
            for s in range(3) for m in ("none", "vae", "vae_gc") for c in ("network", "forest")]  # fmt: skip
    table = summarised(pd.DataFrame(rows, columns=COLUMNS), "proben1")
    assert table[table["classifier"] == "network"]["published"].tolist() == [0.985, 0.977, 0.985]
    assert table[table["classifier"] == "forest"]["published"].isna().all()
    assert len(outside(table)) == 3
    spread = table.assign(low=0.6, high=0.8, mean=0.7, published=[0.8995, 0.901, 0.5005] * 2)  # one run: 0.7 +- 0.2
    assert len(outside(spread)) == 2
    digits = summarised(pd.DataFrame([row("few_shot", "mnist", "gc", 0, 0.7, shots=2),
                                      row("few_shot", "mnist", "multi", 0, 0.7, shots=2)]), "few_shot")  # fmt: skip
    assert math.isnan(digits["published"][0]) and digits["published"][1] == 0.678


def test_published_numbers_stand_beside_training_sets_of_the_same_size():
    rows = [row("many_generated", "mnist", "noise", 0, 0.7, shots=5, generated=count) for count in (100, 2000)]
    rows += [row("only_generated", "mnist", "noise", 0, 0.7, shots=shots, generated=10) for shots in (5, 3)]
    there = [
        summarised(pd.DataFrame([line], columns=COLUMNS), line["section"])["published"].notna().all() for line in rows
    ]
    assert there == [False, True, True, False]


def test_faces_that_are_looked_at_train_nothing():
    for count, expected in ((4, 1), (300, 30), (9000, 500)):
        seen, unseen = looking.held_out(torch.arange(count))
        assert len(unseen) == expected and torch.cat([unseen, seen]).sort().values.tolist() == list(range(count))
    assert not torch.equal(unseen, torch.arange(500)) and torch.equal(unseen, looking.held_out(torch.arange(count))[1])


def test_sharpness_falls_with_blur():
    x, _ = blobs(6)
    blurred = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    assert looking.sharpness(x, x) == 1 and looking.sharpness(blurred, x) < 0.5
    fine = torch.cos(torch.pi * torch.arange(16.0)).expand(
        1, 1, 16, 16
    )  # columns of 1 and -1, as a decoder leaves them
    assert looking.edge_energy(fine) == pytest.approx(0, abs=1e-6)
    assert looking.sharpness(x + 0.2 * fine[..., :12, :12], x) == pytest.approx(1, abs=1e-5)
    wave = fine[..., :8].repeat_interleave(2, dim=-1)  # after the mean columns of 1 and -1: the Laplacian is 4 or -4
    assert looking.edge_energy(wave) == pytest.approx(16)


def test_parts_are_given_back_that_the_vae_has_not_seen():
    bench, asked = ToyBench(), []
    bench.tests = {"test": (torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8), torch.zeros(4))}
    bench.sources = MADE[:2]

    class Halving(looking.PictureVAE):
        """Gives back pictures with half their contrast."""

        def encode(self, x):
            asked.append(x)
            return super().encode(x)

        def pictures(self, z):
            return asked[-1][0] / 2

    bench.vaes = lambda seed: (Halving(3, 32, 3, 2), Halving(3, 32, 3, 2))
    bench.seen = lambda pictures: pictures
    items = looking.part_blur_items(bench, (0,))
    values = {line["method"]: line["value"] for item in items.values() for line in item.compute()}
    assert values == pytest.approx({"reconstruction": 0.25, "early": 0.25, "vae": 1, "vae_gc": 1}, rel=0.01)
    assert [x.shape[1] for x in asked] == [4, 4]  # the test pictures, not the nine shots


def test_sweeps_move_one_dimension_and_lines_end_at_reconstructions(toy_digits):
    model, _ = toy_digits.single(0)
    x = toy_digits.test[0]
    line = looking.line_between(model, x[0], x[1], 5)
    torch.testing.assert_close(line[[0, -1]], model.pictures(model.encode(x[None, :2])[0][0]))
    swept = looking.sweeps(model, x[0], torch.tensor([2, 0]), steps=3)
    assert swept.shape == (2, 3, 1, 12, 12)
    mean = model.encode(x[None, :1])[0][0]
    mean[0, 2] = -2.5
    torch.testing.assert_close(swept[0, 0], model.pictures(mean)[0])
    nats = looking.information(model, x)
    assert nats.shape == (3,) and (nats >= 0).all()


class ToyBench(Bench):
    """Three classes of blobs; `made`, source and seed -> pictures."""

    name, mirror, fill, has_masks, sources, depends_on = "toy", True, 0.5, True, MADE, {}
    parameters = Parameters(
        name="toy", encoder=EncoderParameters(width=8, size=32),
        training=TrainingParameters(steps=2, classes_per_batch=3, checkpoint_every=2),
    )  # fmt: skip

    def __init__(self, made=None):
        x, labels = blobs(9, 32)
        self.pictures = (255 * x.clamp(0, 1)).to(torch.uint8).expand(-1, 3, -1, -1), labels
        self.tests, self.ask = {"test": self.pictures}, made or (lambda *_: self.pictures)

    def shots(self, seed):
        return self.pictures

    def masks(self, seed):
        return torch.ones(9, 32, 32, dtype=torch.bool)

    def made(self, source, seed):
        return self.ask(source, seed)

    def made_of(self, source, seed):
        return {"pictures": tensor_digest(*self.made(source, seed))}


def test_the_harness_trains_every_method_it_can_have(tmp_path):
    def made(source, seed):
        if source.startswith("da_fusion"):
            raise ThesisError("there is no run")
        return ToyBench().shots(seed)

    bench = ToyBench(made)
    with pytest.warns(ThesisWarning, match="left out da_fusion, .*da_fusion_half: there is no run") as said:
        items = harness_items(bench, (0,), tmp_path / "work")
    assert len(said) == 1
    assert list(items) == [f"toy/{method}_seed0" for method in METHODS if "da_fusion" not in method]
    bench.sources = VAE
    fewer = harness_items(bench, (0,), tmp_path / "work")
    assert list(fewer) == list(items)  # without a warning
    bench.has_masks = False
    no_background = harness_items(bench, (0,), tmp_path / "work")
    assert set(items) - set(no_background) == {"toy/pasted_seed0"}
    for name in ("toy/none_seed0", "toy/pasted_seed0", "toy/mixup_cutmix_seed0", "toy/classical_vae_seed0"):
        rows = items[name].compute()
        assert [line["metric"] for line in rows] == ["loss/train", "f1/test", "top1/test"]
        assert rows[0]["generated"] == (3 if "vae" in name else 0) and rows[0]["shots"] == 3
        assert not any((tmp_path / "work").iterdir())


def test_other_da_fusion_pictures_make_their_own_items_anew(tmp_path):
    def known(value):
        pictures, labels = ToyBench().shots(0)
        other = torch.full_like(pictures, value)
        bench = ToyBench(lambda source, seed: ((other if source.startswith("da_fusion") else pictures), labels))
        items = harness_items(bench, (0,), tmp_path) | looking.part_blur_items(bench, (0,))
        return {name: str(item.made_of) for name, item in items.items()}

    one, two = known(1), known(2)
    assert len(one) == len(METHODS) + 1 + len(MADE) and one == known(1) and list(one) == list(two)
    assert {name for name in one if one[name] != two[name]} == {name for name in one if "da_fusion" in name}


def test_comparisons_of_the_harness_by_hand():
    rows = [
        row("harness", "parts", method, seed, 0.5 + more + 0.01 * seed, metric=f"f1/{split}")
        for seed in range(8)
        for split in ("test", "field")
        for method, more in (("none", 0.0), ("vae", -0.1), ("classical", 0.1), ("classical_vae", 0.12 + 0.001 * seed))
    ]
    table = harness_tests(pd.DataFrame(rows, columns=COLUMNS))
    assert table[["data", "first", "second"]].to_numpy().tolist() == [
        ["parts, field", "vae", "none"], ["parts, field", "classical_vae", "classical"],
    ]  # fmt: skip
    assert table["mean"].tolist() == pytest.approx([-0.1, 0.0235]) and (table["p"] == 2 / 2**8).all()
    assert table["holm"].tolist() == pytest.approx([4 / 2**8] * 2)
    assert harness_tests(pd.DataFrame(columns=COLUMNS)).empty


def test_latent_maps_come_with_their_labels(toy_digits):
    maps, labels = looking.latent_maps(toy_digits, 0, points=5)
    assert list(maps) == list(toy_digits.p.map_betas) and {points.shape for points in maps.values()} == {(5, 2)}
    assert labels.tolist() == toy_digits.test[1][:5].tolist()


def test_test_digits_come_in_an_order_of_chance(tmp_path):
    p = VaeParameters.model_validate(TOY | {"mnist": {"root": write_folders(tmp_path)["mnist"], "test": 10}})
    few = mnist.read_digits(p, tmp_path)
    everything = mnist.read_digits(p.model_copy(update={"mnist": p.mnist.model_copy(update={"test": 20})}), tmp_path)
    same = (few.test[0][:, None] == everything.test[0]).flatten(2).all(2)
    rows = same.nonzero()[:, 1].tolist()
    assert rows == list(range(10))  # the first of the order of chance
    assert few.test[1].tolist() == everything.test[1][rows].tolist() != list(range(10))
    assert everything.test[1].bincount().tolist() == [2] * 10


def test_samples_have_a_picture_a_class_and_sweeps_their_nats(toy_digits):
    found = looking.digit_samples(toy_digits, 0)
    assert next(iter(found)) == "original" and {pictures.shape for pictures in found.values()} == {(3, 3, 12, 12)}
    assert looking.digit_lines(toy_digits, 0, (0, 1, 8), steps=4).shape == (8, 3, 12, 12)  # there is no 8
    shown = looking.bench_samples(ToyBench(), 0, classes=2, each=2)
    assert {name: len(pictures) for name, pictures in shown.items()} == dict.fromkeys(["original", *MADE[:-1]], 4)
    everything = ToyBench().pictures
    five = everything[0][:5], everything[1][:5]  # one of the last class
    fewer = looking.bench_samples(ToyBench(lambda source, _: five if source == "da_fusion" else everything), 0)
    assert {len(pictures) for pictures in fewer.values()} == {3}
    model, face = looking.PictureVAE(3, 12, 3, 2), torch.zeros(3, 12, 12, dtype=torch.uint8)
    swept = looking.face_sweeps({150.0: model}, face, {150.0: torch.tensor([0.1, 2.0, 0.5])}, 2)
    assert [key[:2] for key in swept] == [(150.0, 1), (150.0, 2)] and swept[150.0, 1, 2.0].shape == (9, 3, 12, 12)


def test_mixing_gives_label_vectors_and_the_same_for_a_seed():
    pictures, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    mix = mixup_or_cutmix(3)
    mixed, vectors = mix(pictures, labels, 1)
    torch.testing.assert_close(vectors.sum(1), torch.ones(6))
    assert not torch.equal(mixed, pictures)
    torch.testing.assert_close(mix(pictures, labels, 1)[0], mixed)


def test_batches_sorted_by_class_are_mixed_across_classes():
    labels = torch.arange(4).repeat_interleave(8)
    pictures = (labels / 3)[:, None, None, None].expand(-1, 3, 16, 16)  # the grey value is the class
    across = []
    for seed in range(20):
        mixed, vectors = mixup_or_cutmix(4)(pictures, labels, seed)
        assert mixed.mean((1, 2, 3)).numpy() == pytest.approx((vectors @ torch.arange(4.0) / 3).numpy(), abs=1e-5)
        across.append((vectors.max(1).values < 0.999).float().mean().item())
    assert np.mean(across) > 0.5  # by chance 24 of 31; with the row before 4 of 32


def test_unchanged_views_and_soft_labels_reach_the_training(tmp_path):
    pictures = torch.rand(2, 3, 8, 8)
    views = Unchanged()(pictures, 2, 0)
    torch.testing.assert_close(views, torch.stack([pictures, pictures], 1))
    bench, seen = ToyBench(), []

    def mix(inputs, labels, seed):
        seen.append((inputs.shape, labels.tolist(), seed))
        return inputs, torch.full((len(labels), 3), 1 / 3)

    pool = {Kind.REAL: Pool(*bench.shots(0))}
    _, history = pretrain(Arm.CROSS_ENTROPY_REAL, pool, bench.parameters, 0, tmp_path, mix=mix)
    assert len(seen) == 2 and seen[0][0] == (24, 3, 32, 32) and seen[0][2] != seen[1][2]
    assert history["loss"].min() >= math.log(3) - 1e-4  # cross entropy to the uniform distribution

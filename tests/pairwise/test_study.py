"""The work list at toy size, on pictures of bars."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.decomposition import PCA

from thesis_lib.errors import ThesisError
from thesis_lib.pairwise import study
from thesis_lib.pairwise.evaluation import classify, cross_splits, judge, split_rows
from thesis_lib.pairwise.losses import build_loss
from thesis_lib.pairwise.network import PrincipalComponents, SmallNetwork
from thesis_lib.pairwise.pairs import Bank, draw_triplets
from thesis_lib.pairwise.parameters import Method, PairwiseTripletParameters, ProbeParameters
from thesis_lib.pairwise.training import build_network, freeze_statistics, train
from thesis_lib.parameter_files import read_parameters
from thesis_lib.randomness import torch_generator
from thesis_lib.tensors import load_tensors

ROOT = Path(__file__).parents[2]
PROBE = ProbeParameters(neighbours=5)


def parameters(**changes: object) -> PairwiseTripletParameters:
    content = {
        "study": "pairwise_triplet", "name": "toy", "seeds": [0, 1], "data": {"sets": ["mnist"], "anchors": 4},
        "batch": 8, "augmentations": ["none"], "pairwise": {"loss": "cosine", "epochs": 1},
        "triplet": {"loss": "triplet", "epochs": 1}, "probe": {"neighbours": 5},
        "beyond": {"untrained": {"loss": "triplet", "epochs": 0}},
    }  # fmt: skip
    return PairwiseTripletParameters.model_validate(content | changes)


def test_the_parameter_file_holds_the_twelve_scenarios_at_one_budget():
    asked = read_parameters(ROOT / "parameters" / "pairwise_triplet.yaml")
    assert isinstance(asked, PairwiseTripletParameters)
    of_source = {(s.data, s.name) for s in asked.scenarios() if s.name in asked.source_methods()}
    assert of_source == set(study.PUBLISHED) and len(of_source) == 12
    assert {method.loss for method in asked.source_methods().values()} == {"cosine", "triplet"}
    methods = [*asked.source_methods().values(), *asked.beyond.values()]
    assert {asked.steps(method, "cifar10") for method in methods if method.epochs} == {490}
    assert (asked.pairwise.learning_rate, asked.triplet.learning_rate, asked.triplet.margin) == (0.05, 0.15, 1.0)
    assert len(asked.seeds) >= 3 and asked.seconds > 600


def test_methods_beyond_the_source_run_on_sets_of_the_study_and_steps_follow_its_classes():
    with pytest.raises(ValidationError, match=r"--set beyond_sets=\[mnist\]"):
        parameters(beyond_sets=["cifar10"])
    asked = parameters()
    method = asked.source_methods()["pairwise_none"]
    assert asked.steps(method, "parts") == pytest.approx(2 * asked.steps(method, "mnist"), abs=method.epochs)


def test_finished_items_are_kept_and_a_changed_method_is_made_again(bars, tmp_path, monkeypatch):
    asked = parameters()
    items = study.run_scenarios(asked, {"mnist": bars}, tmp_path, processes=1)
    assert [(i.scenario.seed, i.scenario.name) for i in items] == [
        (seed, name) for seed in (0, 1) for name in ("pairwise_none", "triplet_none", "untrained")
    ]
    assert [len(i.losses) for i in items[:3]] == [3, 2, 0]
    tensors, told = load_tensors(tmp_path / "seed0" / "mnist" / "triplet_none.safetensors")
    assert "network|0.weight" in tensors and told["made_of"]["method"]["loss"] == "triplet"

    made = []
    make = study._make
    monkeypatch.setattr(study, "_make", lambda s, *rest: made.append((s.seed, s.name)) or make(s, *rest))
    (tmp_path / "seed1" / "mnist" / "untrained.safetensors").unlink()
    again = study.run_scenarios(asked, {"mnist": bars}, tmp_path, processes=1)
    assert made == [(1, "untrained")]
    assert all(torch.equal(a.features, b.features) for a, b in zip(items, again, strict=True))
    made.clear()
    changed = parameters(triplet={"loss": "triplet", "epochs": 1, "learning_rate": 0.2})
    study.run_scenarios(changed, {"mnist": bars}, tmp_path, processes=1)
    assert made == [(0, "triplet_none"), (1, "triplet_none")]
    everything = [(item.scenario.seed, item.scenario.name) for item in items]
    for changes in ({"data": {"sets": ["mnist"], "anchors": 3}}, {"batch": 6}, {"probe": {"neighbours": 4}}):
        made.clear()
        study.run_scenarios(parameters(**changes), {"mnist": bars}, tmp_path, processes=1)
        assert made == everything, changes
    made.clear()
    others = bars._replace(train=bars.train.flip(-1))
    study.run_scenarios(parameters(probe={"neighbours": 4}), {"mnist": others}, tmp_path, processes=1)
    assert made == everything


def test_scenarios_side_by_side_are_those_one_after_the_other(bars, tmp_path):
    asked = parameters(seeds=[0])
    alone, beside = (study.run_scenarios(asked, {"mnist": bars}, tmp_path / str(n), processes=n) for n in (1, 2))
    assert [item.scenario for item in beside] == asked.scenarios()
    for one, other in zip(alone, beside, strict=True):
        assert one.metrics == other.metrics and torch.equal(one.features, other.features)
    with pytest.raises(ThesisError, match="are of one class"):
        one_class = bars._replace(train_labels=torch.zeros_like(bars.train_labels))
        study.run_scenarios(asked, {"mnist": one_class}, tmp_path / "2", processes=2)


def test_training_learns_and_depends_on_the_seed_alone(bars):
    method = Method(loss="triplet", epochs=12, augmentation="fer")
    network, losses = train(bars, method, anchors=16, batch=16, seed=0)
    assert len(losses) == 36 and losses[-1] < 0.7 * losses[0]
    again, same = train(bars, method, anchors=16, batch=16, seed=0)
    assert losses == same
    metrics, features = judge(network, bars, 16, PROBE, 0)
    assert features.shape == (50, 32) and set(metrics) == {"published", "frozen"}
    assert metrics["frozen"]["top1"] >= 0.9 and metrics["published"]["knn"] >= 0.8
    assert train(bars, method, anchors=16, batch=16, seed=1)[1] != losses
    first = build_network(bars.train, method, 0).state_dict()
    assert any(not torch.equal(value, first[key]) for key, value in again.state_dict().items())


def test_a_loss_that_is_not_finite_stops_the_training(bars):
    method = Method(loss="cross_entropy", epochs=9, sigmoid=False, augmentation="none", learning_rate=1e20)
    with pytest.raises(ThesisError, match=r"high: the loss is not finite after \d+ steps, learning_rate 1e\+20"):
        train(bars, method, anchors=4, batch=8, seed=0, name="high")


@pytest.mark.parametrize("loss", ["triplet", "supcon"])
def test_one_pass_for_anchor_and_positive_is_as_good_as_two(bars, loss, monkeypatch):
    """Against the plain way: each role passes the network on its own, although two are the same pictures."""
    method = Method(loss=loss, augmentation="none", epochs=3)
    plain, criterion, losses = build_network(bars.train, method, 0).train(), build_loss(method), []
    triplets = draw_triplets(bars.train_labels, 8, method, 0)
    bank = Bank.build(bars.train, triplets, method)
    items, known = bank.items(method, bars.train_labels[triplets[:, 0]])
    optimizer = torch.optim.SGD(plain.parameters(), lr=method.learning_rate)
    for epoch in range(method.epochs):
        for chosen in torch.randperm(len(items), generator=torch_generator(0, "order", epoch)).split(8):
            objective = criterion([plain(bank.pictures[rows].float() / 255) for rows in items[chosen].T], known[chosen])
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
            losses.append(objective.item())

    passes = []
    forward = SmallNetwork.forward
    monkeypatch.setattr(SmallNetwork, "forward", lambda self, p: passes.append(len(p)) or forward(self, p))
    network, found = train(bars, method, anchors=8, batch=8, seed=0)
    assert len(found) == 9 and len(passes) == 9 * (2 if loss == "triplet" else 1)
    assert found == pytest.approx(losses, rel=1e-4)
    states = [freeze_statistics(each, bars.train).state_dict() for each in (network, plain)]
    assert all(torch.allclose(value, states[1][key], atol=1e-5) for key, value in states[0].items())


@pytest.mark.parametrize(
    "method",
    [
        Method(loss="margin", epochs=1),
        Method(loss="triplet", mining="hard", epochs=1),
        Method(loss="triplet", mining="semi_hard", epochs=1, fresh=True),
        Method(loss="triplet", mining="batch_hard", epochs=1),
        Method(loss="nt_xent", negative="any", tau_plus=0.1, epochs=1, augment_anchor=True),
        Method(loss="supcon", epochs=1, positive="same_class", sigmoid=False),
        Method(loss="cross_entropy", epochs=1, sigmoid=False),
    ],
)
def test_every_method_takes_a_step(bars, method):
    network, losses = train(bars, method.model_copy(update={"augmentation": "none"}), anchors=4, batch=8, seed=0)
    assert all(loss == loss and loss >= 0 for loss in losses)
    start = build_network(bars.train, method, 0).state_dict()
    assert not torch.equal(network.state_dict()["0.weight"], start["0.weight"])


def test_the_classifiers_are_sklearns_on_the_held_out_part():
    """Two separate clouds are told apart without error, noise at chance; a class that training lacks is never named."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    clouds = torch.randn(200, 4, generator=generator) + 8 * labels[:, None]
    once = [split_rows(200, PROBE, 0)]
    found = classify(clouds, labels, 3, 5, once)
    assert found["top1"] == found["knn"] == found["top3"] == 1.0
    assert torch.tensor(found["confusion"]).sum() == 40 and sum(found["confusion"][2]) == 0
    noise = classify(torch.randn(200, 4, generator=generator), labels, 3, 5, once)
    assert 0.25 < noise["top1"] < 0.75
    scaled = classify(1e-4 * clouds, labels, 3, 5, once, standardised=True)
    assert scaled["top1"] == 1.0
    folds = cross_splits(200, PROBE, 0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(200)) and len(folds) == 5
    assert all(len({*fit} & {*test}) == 0 and len(fit) + len(test) == 200 for fit, test in folds)
    assert set(folds[0][1]) == set(once[0][1])
    crossed = classify(torch.randn(200, 4, generator=generator), labels, 3, 5, folds)
    assert torch.tensor(crossed["confusion"]).sum() == 200 and 0.3 < crossed["knn"] < 0.7


def test_summary_has_intervals_and_published_values():
    rows = [
        ("mnist", "triplet_fer", seed, way, metric, value + 0.01 * seed)
        for seed in range(3)
        for way in ("published", "frozen")
        for metric, value in (("top1", 0.9), ("top3", 0.97), ("knn", 0.91))
    ]
    table = pd.DataFrame(rows, columns=["set", "scenario", "seed", "way", "metric", "value"])
    summary = study.summarised(table).set_index(["way", "metric"])
    row = summary.loc[("published", "top1")]
    assert row["mean"] == pytest.approx(0.91) and row["published"] == 0.92 and row["seeds"] == 3
    assert row["high"] - row["mean"] == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)
    assert study.best_scenarios(table, ["triplet_fer", "x"]) == {"mnist": "triplet_fer"}


def test_differences_are_taken_seed_by_seed():
    values = {"triplet_simclr": (0.3, 0.4, 0.5), "supcon": (0.4, 0.52, 0.59)}
    rows = [
        ("cifar10", name, seed, "frozen", "top1", v) for name, three in values.items() for seed, v in enumerate(three)
    ]
    rows.append(("mnist", "supcon", 0, "frozen", "top1", 0.9))
    table = pd.DataFrame(rows, columns=["set", "scenario", "seed", "way", "metric", "value"])
    found = study.against(table, "triplet_simclr")
    assert set(found) == {("cifar10", "supcon")}
    difference = found["cifar10", "supcon"]
    assert difference.mean == pytest.approx(0.31 / 3) and difference.pairs == 3
    assert study.against(table[table["scenario"] == "supcon"], "triplet_simclr") == {}


def test_a_network_that_maps_all_to_one_direction_is_named(bars, tmp_path):
    items = study.run_scenarios(parameters(seeds=[0]), {"mnist": bars}, tmp_path, processes=1)
    worse = items[1]._replace(features=torch.ones(20, 32) + 0.001 * torch.rand(20, 32))
    ((scenario, spread),) = study.collapsed([items[2], worse])
    assert scenario == items[1].scenario and 0 < spread < 0.001
    assert study.spread(torch.eye(4)) == pytest.approx(0.75**0.5)  # of the mean (1, 1, 1, 1) / 4


def test_components_are_sklearns_and_need_no_training(bars, tmp_path):
    with pytest.raises(ValidationError, match="pca is not trained"):
        Method(loss="pca")
    method = Method(loss="pca", epochs=0)
    network, losses = train(bars, method, anchors=4, batch=8, seed=0)
    assert losses == [] and isinstance(network, PrincipalComponents)
    metrics, features = judge(network, bars, 16, PROBE, 0)
    train_rows, test_rows = (pictures.flatten(1).numpy() / 255 for pictures in (bars.train, bars.test))
    theirs = PCA(32, svd_solver="full").fit(train_rows).transform(test_rows)
    assert pytest.approx(features.abs().T.numpy(), abs=1e-3) == abs(theirs).T and metrics["frozen"]["top1"] >= 0.9
    asked = parameters(beyond={"components": {"loss": "pca", "epochs": 0}}, seeds=[0])
    assert "components" in asked.on_all_sets()
    item = study.run_scenarios(asked, {"mnist": bars}, tmp_path, processes=1)[-1]
    assert item.network.keys() == {"mean", "axes"} and torch.equal(item.features, features)
    few = PrincipalComponents.of(bars.train[:5])  # five pictures span four directions
    assert (few.axes.norm(dim=1) > 0.5).sum() == 5 and few(bars.test[:3].float()).shape == (3, 32)


def test_maps_show_pictures_at_random_in_order():
    rows = study.map_rows(100, ProbeParameters(points=30), seed=0)
    assert rows == sorted(set(rows)) and len(rows) == 30 and max(rows) > 50
    assert rows != study.map_rows(100, ProbeParameters(points=30), seed=1)
    assert study.map_rows(20, ProbeParameters(points=30), seed=0) == list(range(20))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("pairwise: {loss: cosine, epoch: 1}", "unknown parameter pairwise.epoch; known here: loss, epochs"),
        ("beyond: {margin: {loss: margin, los: 1}}", "unknown parameter beyond.margin.los; known here: loss"),
        ("beyond: {x: {loss: supcon, mining: hard}}", "mining is read by triplet, not by supcon: leave it out"),
        ("beyond: {x: {loss: cosine, margin: 0.5}}", "margin is read by triplet, margin, not by cosine"),
        ("beyond: {x: {loss: triplet, temperature: 0.1}}", "temperature is read by nt_xent, supcon, not by triplet"),
        ("beyond: {x: {loss: supcon, negative: any}}", "negative is read by cosine, margin, triplet, nt_xent, not"),
        ("beyond: {x: {loss: triplet, mining: hard, negative: any}}", "mining chooses negatives by their classes"),
        ("triplet: {mining: hard}", "mining makes it another method than the source's: put it under beyond"),
        ("pairwise: {augmentation: fer}", "augmentation makes it another method than the source's"),
        ("beyond: {x: {loss: nt_xent, tau_plus: 0.1}}", "tau_plus is for nt_xent with negative: any"),
        ("beyond: {pairwise_fer: {loss: cosine}}", "['pairwise_fer'] are names of the source's scenarios"),
        ("seeds: [1, 1]", "seeds names one value twice"),
        ("arms: [real]", "unknown parameter arms"),
        ("study: other", "study other is unknown; the studies are: pairwise_triplet"),
    ],
)
def test_what_is_wrong_with_a_parameter_file_is_said(tmp_path, line, sentence):
    head = "" if line.startswith("study") else "study: pairwise_triplet\n"
    (tmp_path / "toy.yaml").write_text(head + line)
    with pytest.raises(ThesisError) as caught:
        read_parameters(tmp_path / "toy.yaml")
    assert sentence in str(caught.value)

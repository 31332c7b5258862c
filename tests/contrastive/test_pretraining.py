import math
import os

import pandas as pd
import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from tests.killed import killed
from thesis_lib.contrastive import pretraining
from thesis_lib.contrastive.batches import BatchComposer, Pool
from thesis_lib.contrastive.encoders import Encoder, load_network, save_network
from thesis_lib.contrastive.losses import SupConLoss
from thesis_lib.contrastive.pretraining import (
    build_network,
    draw_views,
    gather_views,
    has_collapsed,
    make_views,
    pretrain,
)
from thesis_lib.contrastive.probe import extract_features, knn_accuracy, train_probe
from thesis_lib.contrastive.views import Views, to_unit_range
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.sections import EncoderParameters, Kind, ProbeParameters, TrainingParameters, ViewParameters
from thesis_lib.tensors import load_tensors, save_tensors

ENCODER = EncoderParameters(architecture="resnet10", width=8, size=32, projection=(16, 8))
TRAINING = TrainingParameters(
    steps=6, classes_per_batch=3, anchors_per_class=4, near_ood_per_class=2, checkpoint_every=2, learning_rate=0.05
)
PARAMETERS = Parameters(name="toy", encoder=ENCODER, training=TRAINING)


def pool(count, value, classes=3):
    """Pictures of one colour a class, so that classes can be learned; `value` marks the kind."""
    labels = torch.arange(classes).repeat_interleave(count)
    pictures = torch.full((len(labels), 3, 32, 32), value, dtype=torch.uint8)
    for row, label in enumerate(labels):
        pictures[row, label] = 220
    noise = torch.randint(0, 20, pictures.shape, generator=torch.Generator().manual_seed(value), dtype=torch.uint8)
    return Pool(pictures + noise, labels)


@pytest.fixture
def pools():
    real, made = pool(4, 10), pool(5, 60)
    real.masks = torch.ones(len(real.labels), 32, 32, dtype=torch.bool)
    made.sources = torch.tensor([4 * label for label in made.labels])  # all made from their class's first picture
    return {Kind.REAL: real, Kind.ID: made, Kind.NEAR_OOD: pool(3, 120)}


def kinds_in(batch):
    return torch.div(batch.pictures.amin((1, 2, 3)).int(), 10, rounding_mode="floor")


@pytest.mark.parametrize(("arm", "real", "synthetic", "near"), [
    (Arm.REAL, 4, 0, 0), (Arm.PROBE_ID, 4, 0, 0), (Arm.REAL_STRONG, 4, 0, 0), (Arm.SECOND_VIEW, 4, 0, 0),
    (Arm.CROSS_ENTROPY_REAL, 4, 0, 0),
    (Arm.REAL_ID, 2, 2, 0), (Arm.CROSS_ENTROPY, 2, 2, 0), (Arm.OUTLIER_EXPOSURE, 2, 2, 0), (Arm.ORACLE_ID, 2, 2, 0),
    (Arm.REAL_ID_NEAROOD, 2, 2, 2), (Arm.ORACLE_NEAROOD, 2, 2, 2),
])  # fmt: skip
def test_every_arm_has_the_same_anchors_and_one_to_one_real_and_synthetic(pools, arm, real, synthetic, near):
    """Erratum 8: arms are compared at equal anchors a step and equal steps."""
    batch = BatchComposer(pools, arm, TRAINING, 0).compose(0)
    anchors = ~batch.is_near_ood
    assert anchors.sum() == TRAINING.classes_per_batch * TRAINING.anchors_per_class
    value = batch.pictures.flatten(1).float().quantile(0.1, dim=1)
    for label in range(3):
        of_class = batch.labels == label
        assert ((value < 40) & of_class).sum() == real
        assert ((value > 50) & (value < 100) & of_class).sum() == synthetic
        assert (batch.is_near_ood & of_class).sum() == near


def test_fillers_take_the_places_of_near_ood_pictures_and_are_no_anchors(pools):
    batch = BatchComposer(pools, Arm.FILLER, TRAINING, 0).compose(0)
    near = BatchComposer(pools, Arm.REAL_ID_NEAROOD, TRAINING, 0).compose(0)
    assert torch.equal(batch.is_filler, near.is_near_ood) and not batch.is_near_ood.any()
    kinds = kinds_in(batch)[batch.is_filler]
    assert ((kinds >= 5) & (kinds < 12)).all()  # ID pictures, neither real ones nor near-OOD ones


def test_the_second_view_is_made_from_the_same_picture(pools):
    batch = BatchComposer(pools, Arm.SECOND_VIEW, TRAINING, 0).compose(0)
    from_first = torch.tensor([any(torch.equal(p, pools[Kind.REAL].pictures[4 * c]) for c in range(3))
                               for p in batch.pictures])  # fmt: skip
    made = batch.second.flatten(1).float().quantile(0.1, dim=1) > 50
    assert torch.equal(made, from_first) and from_first.any() and not from_first.all()


def test_classes_without_an_accepted_near_ood_picture_train_without(pools):
    keep = pools[Kind.NEAR_OOD].labels != 1
    pools[Kind.NEAR_OOD] = Pool(pools[Kind.NEAR_OOD].pictures[keep], pools[Kind.NEAR_OOD].labels[keep])
    with pytest.warns(ThesisWarning, match=r"labels \[1\] have no near-OOD pictures"):
        batch = BatchComposer(pools, Arm.REAL_ID_NEAROOD, TRAINING, 0).compose(0)
        dose = BatchComposer(pools, Arm.REAL_ID_NEAROOD, TRAINING, 0).near_ood_dose
    assert sorted(batch.labels[batch.is_near_ood].tolist()) == [0, 0, 2, 2]
    assert dose == {"own_class": pytest.approx(4 / 3), "all_classes": pytest.approx(4)}
    assert (~batch.is_near_ood).sum() == 12


def test_batches_depend_on_seed_and_step_alone(pools):
    composer = BatchComposer(pools, Arm.REAL_ID, TRAINING, 0)
    later = BatchComposer(pools, Arm.REAL_ID, TRAINING, 0)
    later.compose(0)
    assert torch.equal(composer.compose(3).pictures, later.compose(3).pictures)
    assert not torch.equal(composer.compose(3).pictures, composer.compose(4).pictures)
    other = BatchComposer(pools, Arm.REAL_ID, TRAINING, 1)
    assert not torch.equal(composer.compose(3).pictures, other.compose(3).pictures)


def test_too_few_classes_and_missing_kinds_are_said(pools):
    with pytest.raises(ThesisError, match="classes_per_batch is 8, the data has 3 classes"):
        BatchComposer(pools, Arm.REAL, TRAINING.model_copy(update={"classes_per_batch": 8}), 0)
    keep = pools[Kind.ID].labels != 1
    pools[Kind.ID] = Pool(pools[Kind.ID].pictures[keep], pools[Kind.ID].labels[keep])
    with pytest.raises(ThesisError, match=r"labels \[1\] have no id pictures"):
        BatchComposer(pools, Arm.REAL_ID, TRAINING, 0)


def test_first_weights_depend_on_the_seed_not_on_the_arm(pools):
    """Erratum 8: a seed is set, and arms start alike."""
    first = [build_network(arm, pools, PARAMETERS, 0).encoder.state_dict() for arm in (Arm.REAL, Arm.CROSS_ENTROPY)]
    assert all(torch.equal(first[0][key], first[1][key]) for key in first[0])
    other = build_network(Arm.REAL, pools, PARAMETERS, 1).encoder.state_dict()
    assert not torch.equal(first[0]["backbone.conv1.weight"], other["backbone.conv1.weight"])


@pytest.mark.parametrize("arm", list(Arm))
def test_killed_and_resumed_equals_uninterrupted(pools, arm, tmp_path):
    whole, history = pretrain(arm, pools, PARAMETERS, 0, tmp_path / "whole")
    with killed(pretraining, saves=2):
        pretrain(arm, pools, PARAMETERS, 0, tmp_path / "cut")
    resumed, again = pretrain(arm, pools, PARAMETERS, 0, tmp_path / "cut")
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    pd.testing.assert_frame_equal(history, again)
    assert len(history) == TRAINING.steps


def test_simclr_takes_no_labels(pools, tmp_path, monkeypatch):
    given, real = [], SupConLoss.forward
    monkeypatch.setattr(SupConLoss, "forward", lambda *all_: given.append(all_[2]) or real(*all_))
    p = PARAMETERS.model_copy(update={"training": TRAINING.model_copy(update={"objective": "simclr", "steps": 1})})
    pretrain(Arm.REAL, pools, p, 0, tmp_path / "simclr")
    assert len(given[0].unique()) == len(given[0])
    given.clear()
    pretrain(Arm.REAL, pools, PARAMETERS, 0, tmp_path / "supcon")
    assert len(given[0].unique()) == 3


def test_a_checkpoint_of_other_pictures_settings_or_seed_is_not_continued(pools, tmp_path):
    def weights(pools, parameters, seed, folder):
        return pretrain(Arm.REAL, pools, parameters, seed, folder)[0].state_dict()

    first = weights(pools, PARAMETERS, 0, tmp_path / "kept")
    other = PARAMETERS.model_copy(update={"training": TRAINING.model_copy(update={"temperature": 0.2})})
    for number, (where, parameters, seed) in enumerate(
        (({Kind.REAL: pool(4, 60)}, PARAMETERS, 0), (pools, other, 0), (pools, PARAMETERS, 1))
    ):
        again = weights(where, parameters, seed, tmp_path / "kept")
        fresh = weights(where, parameters, seed, tmp_path / f"fresh{number}")
        assert all(torch.equal(again[name], fresh[name]) for name in fresh)
        assert not all(torch.equal(again[name], first[name]) for name in fresh)


def test_every_step_and_seed_draws_its_own_views_and_the_rate_is_a_cosine(pools, tmp_path, monkeypatch):
    seeds, real = [], draw_views
    monkeypatch.setattr(pretraining, "draw_views", lambda *given: seeds.append(given[-1]) or real(*given))
    _, history = pretrain(Arm.REAL, pools, PARAMETERS, 0, tmp_path / "a")
    pretrain(Arm.REAL, pools, PARAMETERS, 1, tmp_path / "b")
    assert len(set(seeds)) == 2 * TRAINING.steps
    cosine = [0.05 * 0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert history["learning_rate"].tolist() == pytest.approx(cosine)


def test_an_encoder_normalises_its_pictures():
    mean, std = torch.tensor([0.2, 0.4, 0.6]), torch.tensor([0.1, 0.2, 0.3])
    own, plain = Encoder(ENCODER, mean, std).eval(), Encoder(ENCODER, torch.zeros(3), torch.ones(3)).eval()
    plain.backbone.load_state_dict(own.backbone.state_dict())
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        apart = plain((pictures - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        assert torch.allclose(own(pictures), apart, atol=1e-5)
        assert not torch.allclose(own(pictures), plain(pictures), atol=1e-2)


def test_without_a_head_the_loss_acts_on_the_representation(pools, tmp_path):
    encoder = ENCODER.model_copy(update={"projection": None})
    parameters = PARAMETERS.model_copy(update={"encoder": encoder})
    network, _ = pretrain(Arm.REAL_ID_NEAROOD, pools, parameters, 0, tmp_path)
    unit = to_unit_range(pools[Kind.REAL].pictures, 32)
    with torch.no_grad():
        assert torch.equal(network(unit), normalize(network.encoder(unit), dim=-1))
    save_network(tmp_path / "saved", encoder=network.encoder, head=network.head)
    assert load_tensors(tmp_path / "saved" / "head.safetensors")[0] == {}
    with_head = build_network(Arm.REAL, pools, PARAMETERS, 0).encoder.state_dict()
    bare = build_network(Arm.REAL, pools, parameters, 0).encoder.state_dict()
    assert all(torch.equal(with_head[name], bare[name]) for name in bare)  # the same first weights


def test_collapse_is_detected_and_said(pools, tmp_path):
    flat = pd.DataFrame({"excess": [0.01] * 50})
    assert has_collapsed(flat) and not has_collapsed(pd.DataFrame({"excess": [-0.5] * 50}))
    p = PARAMETERS.model_copy(update={"training": TRAINING.model_copy(update={"temperature": 1e4})})
    with pytest.warns(UserWarning, match="collapsed"):
        pretrain(Arm.REAL, pools, p, 0, tmp_path)


def test_features_do_not_depend_on_their_batch_and_a_probe_learns(pools, tmp_path):
    """Erratum 19: features are taken in evaluation mode, and the classifier is saved."""
    encoder = build_network(Arm.REAL, pools, PARAMETERS, 0).encoder
    pictures, labels = pools[Kind.REAL].pictures, pools[Kind.REAL].labels
    together = extract_features(encoder.train(), pictures, 32)
    alone = torch.cat([extract_features(encoder, picture[None], 32) for picture in pictures])
    assert torch.allclose(together, alone, atol=1e-5)
    probe = train_probe(encoder, [pools[Kind.REAL]], ENCODER, ProbeParameters(steps=200, views=4), ViewParameters(
        jitter_probability=0, grey_probability=0), 3, 0)  # fmt: skip
    save_network(tmp_path, encoder=encoder, classifier=probe)
    loaded_encoder, loaded = load_network(tmp_path, ENCODER, 3)
    logits = loaded(extract_features(loaded_encoder, pictures, 32))
    assert torch.allclose(logits, probe(together), atol=1e-4)
    assert (logits.argmax(1) == labels).float().mean() > 0.9


def test_knn_accuracy_against_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    generator = torch.Generator().manual_seed(0)
    bank, bank_labels = torch.randn(60, 5, generator=generator), torch.randint(3, (60,), generator=generator)
    points, labels = torch.randn(40, 5, generator=generator), torch.randint(3, (40,), generator=generator)
    theirs = KNeighborsClassifier(1, metric="cosine").fit(bank, bank_labels).score(points, labels)
    assert knn_accuracy(bank, bank_labels, points, labels, 1) == pytest.approx(theirs)
    three = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])
    assert knn_accuracy(three, torch.tensor([0, 1, 1]), three[:1], torch.tensor([1]), 3) == 1  # two votes to one


def test_views_are_seeded_and_have_no_black_corners():
    views = Views(32, ViewParameters(jitter_probability=0, grey_probability=0, rotation=45))
    white = torch.ones(4, 3, 32, 32)
    drawn = views(white, 3, 7)
    assert drawn.shape == (4, 3, 3, 32, 32) and drawn.min() > 0.99
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(views(pictures, 2, 7), views(pictures, 2, 7))
    assert not torch.equal(views(pictures, 2, 7), views(pictures, 2, 8))


def test_one_resize_for_real_and_synthetic():
    pictures = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    assert to_unit_range(pictures, 32).shape == (2, 3, 32, 32)
    assert torch.equal(to_unit_range(pictures, 64), pictures.float() / 255)


@pytest.mark.parametrize(("architecture", "features"), [("resnet10", 64), ("resnet18", 512), ("resnet50", 2048)])
@pytest.mark.parametrize("stem", ["small", "standard"])
def test_encoders(architecture, features, stem):
    p = EncoderParameters(architecture=architecture, width=8 if architecture == "resnet10" else 64, stem=stem)
    encoder = Encoder(p, torch.full((3,), 0.4), torch.full((3,), 0.2)).eval()
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, features) and encoder.num_features == features


def test_weights_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ThesisError, match="not a safetensors file"):
        Encoder(EncoderParameters(weights=str(tmp_path / "w.pth")), torch.zeros(3), torch.ones(3))
    with pytest.raises(ThesisError, match="no ImageNet weights for resnet10"):
        Encoder(EncoderParameters(weights="imagenet"), torch.zeros(3), torch.ones(3))


def one_of_two(rank, port, folder):
    """A process of two: its half of a batch through a linear map, features gathered, gradients averaged."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2",
                   "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    network = torch.nn.Linear(6, 4)
    wrapped = accelerator.prepare(network)
    batch, labels, near = toy_batch()
    out = normalize(wrapped(batch[rank::2].flatten(0, 1)), dim=-1).unflatten(0, (4, 2))
    loss = SupConLoss(0.2)(gather_views(out, accelerator), labels, near)
    accelerator.backward(loss)
    if rank == 0:
        save_tensors(folder / "grad.safetensors", {"loss": loss, "grad": network.weight.grad})
    torch.distributed.destroy_process_group()


def toy_batch():
    generator = torch.Generator().manual_seed(4)
    near = torch.tensor([False] * 6 + [True] * 2)
    return torch.randn(8, 2, 6, generator=generator), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1]), near


def test_gradients_through_gathered_batches_equal_one_process(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_of_two, (port, tmp_path), nprocs=2)
    torch.manual_seed(0)
    network = torch.nn.Linear(6, 4)
    batch, labels, near = toy_batch()
    out = normalize(network(batch.flatten(0, 1)), dim=-1).unflatten(0, (8, 2))
    loss = SupConLoss(0.2)(out, labels, near)
    loss.backward()
    theirs, _ = load_tensors(tmp_path / "grad.safetensors")
    assert torch.allclose(theirs["loss"], loss, atol=1e-6)
    assert torch.allclose(theirs["grad"], network.weight.grad, atol=1e-5)


def test_each_view_and_the_probe_of_the_strong_arm_have_other_backgrounds(pools):
    flat = torch.full((12, 3, 32, 32), 128, dtype=torch.uint8)
    masks = torch.zeros(12, 32, 32, dtype=torch.bool)
    masks[:, 12:20, 12:20] = True
    pool = {Kind.REAL: Pool(flat, pools[Kind.REAL].labels, masks=masks)}
    batch = BatchComposer(pool, Arm.REAL_STRONG, TRAINING, 0).compose(0)

    drawn = draw_views(
        lambda pictures, views, seed: pictures[:, None].expand(-1, views, -1, -1, -1),
        batch,
        slice(None),
        torch.device("cpu"),
        True,
        32,
        0,
    )
    other = (drawn[:, :, :, 0, 0] - 128 / 255).abs().amax(2) > 1e-3  # (n, views)
    assert 0.2 < other.float().mean() < 0.8 and (other[:, 0] != other[:, 1]).any()
    both = other.all(1)
    assert not torch.allclose(drawn[both, 0, :, 0, 0], drawn[both, 1, :, 0, 0], atol=1e-2)

    class Corner(torch.nn.Module):
        """Features are the corner's colour."""

        num_features = 3

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, pictures):
            seen.append(pictures[:, :, 0, 0])
            return pictures[:, :, 0, 0]

    counts = []
    for paste in (False, True):
        seen: list[torch.Tensor] = []
        views = ViewParameters(rotation=0, jitter_probability=0, grey_probability=0)
        train_probe(
            Corner(), [pool[Kind.REAL]], ENCODER, ProbeParameters(steps=1, views=8, crop_scale=(1, 1)), views, 3, 0,
            None, paste,
        )  # fmt: skip
        counts.append(((torch.cat(seen) - 128 / 255).abs().amax(1) > 1e-3).float().mean().item())
    assert counts[0] == 0 and 0.3 < counts[1] < 0.7


def test_outlier_exposure_makes_the_probe_undecided_on_outliers_only(pools):
    encoder = build_network(Arm.REAL, pools, PARAMETERS, 0).encoder
    settings = ProbeParameters(steps=300, views=2, batch=32)
    views = ViewParameters(jitter_probability=0, grey_probability=0)
    entropy = {}
    for name, outliers in (("plain", None), ("exposed", pools[Kind.NEAR_OOD])):
        probe = train_probe(encoder, [pools[Kind.REAL]], ENCODER, settings, views, 3, 0, outliers)
        for kind in (Kind.REAL, Kind.NEAR_OOD):
            logits = probe(extract_features(encoder, pools[kind].pictures, 32)).log_softmax(1)
            entropy[name, kind] = -(logits.exp() * logits).sum(1).mean().item()
    assert entropy["exposed", Kind.NEAR_OOD] > entropy["plain", Kind.NEAR_OOD] + 0.3
    assert entropy["exposed", Kind.NEAR_OOD] > entropy["exposed", Kind.REAL] + 0.3


def test_arms_that_share_a_slot_share_its_pictures_and_views(pools):
    """Differences between arms are paired: the anchors' pictures and their augmentation are the same."""
    drawn = {}
    for arm in (Arm.REAL_ID, Arm.REAL_ID_NEAROOD, Arm.FILLER):
        batch = BatchComposer(pools, arm, TRAINING, 0).compose(5)
        views = draw_views(make_views(arm, PARAMETERS), batch, slice(None), torch.device("cpu"), arm.is_strong, 32, 7)
        anchors = ~(batch.is_near_ood | batch.is_filler)
        drawn[arm] = (batch.pictures[anchors], batch.labels[anchors], views[anchors])
        assert views.shape == (len(batch.labels), 2, 3, 32, 32)
    for other in (Arm.REAL_ID_NEAROOD, Arm.FILLER):
        assert all(torch.equal(a, b) for a, b in zip(drawn[Arm.REAL_ID], drawn[other], strict=True))

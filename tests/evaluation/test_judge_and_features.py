import math

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from thesis_lib.contrastive.encoders import Classifier, Encoder
from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation import judge as module
from thesis_lib.evaluation.features import accuracies, accuracy, collect_features
from thesis_lib.evaluation.judge import (
    change_inside,
    measure_timesteps,
    psnr_inside,
    separability,
    steering_accuracy,
    train_judge,
)
from thesis_lib.sections import EncoderParameters, EvaluationParameters

ENCODER = EncoderParameters(architecture="resnet10", width=8, size=32)


def coloured(splits, count=6, names=("bolt", "gear")):
    """Pictures whose class is their colour."""
    rows = [(split, label) for split in splits for label in range(len(names)) for _ in range(count)]
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 60, (len(rows), 3, 32, 32), generator=generator, dtype=torch.uint8)
    for i, (_, label) in enumerate(rows):
        pictures[i, label] += 180
    masks = torch.zeros(len(rows), 32, 32, dtype=torch.bool)
    masks[:, 8:24, 8:24] = True
    table = pd.DataFrame(
        {"split": [s for s, _ in rows], "label": [y for _, y in rows], "class_name": [names[y] for _, y in rows]}
    )
    return PreparedSet(table, pictures, masks)


def test_psnr_and_change_in_closed_form():
    pictures = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    other, mask = pictures + 51, torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    other[:, :, 4:] = 255  # outside the mask, it must not count
    assert psnr_inside(pictures, other, mask).item() == pytest.approx(-20 * math.log10(0.2), rel=1e-5)
    assert change_inside(pictures, other, mask).item() == pytest.approx(51)
    no_mask = torch.zeros_like(mask)
    whole = math.sqrt((0.2**2 + 1) / 2)
    assert psnr_inside(pictures, other, no_mask).item() == pytest.approx(-20 * math.log10(whole), rel=1e-5)


def test_separability_is_chance_for_equal_and_high_for_blurred_pictures(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 255, (60, 3, 32, 32), generator=generator, dtype=torch.uint8)
    blurred = F.avg_pool2d(first.float(), 3, 1, 1).round().to(torch.uint8)
    assert separability(first, blurred, 0) > 0.95
    assert separability(first[:30], first[30:], 0) < 0.7
    monkeypatch.setattr("thesis_lib.evaluation.judge.PROBED", 40)
    assert separability(first, blurred, 0) > 0.9


def test_steering_is_chance_for_an_untrained_model_and_read_where_captions_do_steer(tiny_base, monkeypatch):
    set_ = coloured(["train"], count=30, names=("red", "green"))
    captions = pd.DataFrame({"text": "a photo of a " + set_.table["class_name"], "tone": set_.table["class_name"]})
    told = steering_accuracy(tiny_base, captions, set_.pictures, {"tone": []}, 12, 2, 2.0, 0).loc["tone"]
    with pytest.raises(ThesisError, match=r"no column tone with the values asked for \(blue\); name one of text, tone"):
        steering_accuracy(tiny_base, captions, set_.pictures, {"tone": ["blue"]}, 12, 2, 2.0, 0)
    with pytest.raises(ThesisError, match="no column rust"):
        steering_accuracy(tiny_base, captions, set_.pictures, {"rust": []}, 12, 2, 2.0, 0)
    assert told["chance"] == 0.5 and told["real"] > 0.9 and abs(told["made"] - 0.5) < 0.3

    def obedient(base, concepts, prompts, *_):
        return torch.stack([set_.pictures[0 if "red" in prompt else 30] for prompt in prompts])

    monkeypatch.setattr(module, "generate_from_noise", obedient)
    assert steering_accuracy(tiny_base, captions, set_.pictures, {"tone": []}, 12, 2, 2.0, 0).loc["tone", "made"] == 1


def test_a_judge_learns_from_the_evaluation_splits_and_curves_start_at_the_vae(tiny_base):
    images = coloured(["train", "test", "field"])
    judge = train_judge(images, ENCODER, 40, 0, batch=16)
    train = images.select((images.table["split"] == "train").to_numpy())
    labels = torch.tensor(train.table["label"].to_numpy())
    assert judge.named_right(train.pictures, labels).float().mean() > 0.9
    curve = measure_timesteps(
        tiny_base, Concepts(tiny_base, {}, []), train, judge, [0, 500], 4, ["a photo of a {}"], 2.0, "object", 0
    )
    means = curve.groupby("timestep")["pixel_change"].mean()
    assert list(means.index) == [0, 251] and means[0] == pytest.approx(1)
    with pytest.raises(ThesisError, match="there are none"):
        train_judge(train, ENCODER, 1, 0)


def test_features_of_every_part_line_up_with_their_tables():
    images, ood = coloured(["train", "test"]), coloured(["test"], 3)
    data = PreparedData(images, ood, None, ["bolt", "gear"])
    encoder = Encoder(ENCODER, torch.full((3,), 0.5), torch.full((3,), 0.2)).eval()
    classifier = Classifier(encoder.num_features, 2).eval()
    bank = torch.tensor([0, 1, 6, 7])
    features = collect_features(encoder, classifier, data, bank, 32, EvaluationParameters())
    assert set(features) == {
        *(f"{part}_{what}" for part in ("bank", "test", "ood") for what in ("rows", "features", "logits")),
        "odin_test", "odin_ood",
    }  # fmt: skip
    assert images.table["split"][features["test_rows"].numpy()].eq("test").all()
    direct = encoder(images.pictures[features["test_rows"]].float() / 255)
    assert torch.allclose(direct, features["test_features"], atol=1e-5)
    right = classifier(direct).argmax(1) == torch.tensor(images.table["label"].to_numpy())[features["test_rows"]]
    assert accuracy(features, data, "test") == pytest.approx(right.float().mean().item())
    both = accuracies(features, data, neighbours=1)
    assert set(both) == {"test"} and both["test"]["probe"] == accuracy(features, data, "test")
    similarity = F.normalize(features["test_features"], dim=1) @ F.normalize(features["bank_features"], dim=1).T
    named = torch.tensor(images.table["label"].to_numpy())[bank[similarity.argmax(1)]]
    truth = torch.tensor(images.table["label"].to_numpy())[features["test_rows"]]
    assert both["test"]["knn"] == pytest.approx((named == truth).float().mean().item())
    assert ((features["odin_test"] > 0.5) & (features["odin_test"] < 1)).all()

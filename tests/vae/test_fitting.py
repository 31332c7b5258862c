import pytest
import torch

from tests.vae.toy import ATTRIBUTES, blobs
from thesis_lib.errors import ThesisError
from thesis_lib.vae import fitting
from thesis_lib.vae.fitting import class_members, fit
from thesis_lib.vae.models import PictureVAE, TableVAE, codes
from thesis_lib.vae.parameters import EarlyFitParameters

RECIPE = EarlyFitParameters(steps=150, batch=16, learning_rate=5e-3, early=0.1)


def small():
    return PictureVAE(1, 12, 3, 4)


def test_mixed_in_examples_are_a_share_of_the_others():
    labels = torch.tensor([0] * 40 + [1] * 200)
    own, large = class_members(labels, 0.2, 0)
    assert (labels[own] == 0).sum() == 40 and (labels[own] == 1).sum() == 10  # 10 of 50
    assert (labels[large] == 1).sum() == 200 and (labels[large] == 0).sum() == 40  # 50 asked for, 40 there are
    assert len(own.unique()) == len(own)
    assert [len(rows) for rows in class_members(labels, 0.0, 0)] == [40, 200]
    with pytest.raises(ThesisError, match="class 1 has no example"):
        class_members(torch.tensor([0, 2]), 0.0, 0)


def test_a_vae_learns_is_kept_and_gives_an_early_state(tmp_path):
    x, _ = blobs(60)
    file = tmp_path / "vae.safetensors"
    trained, early = fit(small, x, [[torch.arange(60)]], [0.1], RECIPE, 0, file)
    errors = [((model.pictures(codes(model, x)[0]) - x) ** 2).mean() for model in (trained, early)]
    assert errors[0] < 0.5 * errors[1] and errors[0] < 0.02
    stamp = file.stat().st_mtime_ns
    again, _ = fit(small, x, [[torch.arange(60)]], [0.1], RECIPE, 0, file)
    assert file.stat().st_mtime_ns == stamp  # read, not trained
    torch.testing.assert_close(again.state_dict(), trained.state_dict())
    other, _ = fit(small, x, [[torch.arange(60)]], [0.2], RECIPE.model_copy(update={"steps": 2}), 0, file)
    assert file.stat().st_mtime_ns != stamp
    assert not torch.equal(other.encoder[0].weight, trained.encoder[0].weight)


def test_a_kept_vae_is_known_by_all_that_made_it(tmp_path, monkeypatch):
    short, file = RECIPE.model_copy(update={"steps": 1}), tmp_path / "vae.safetensors"

    def written(hidden=8, x=None, parts=(2, 2)):
        """Whether it was trained anew."""
        before = file.stat().st_mtime_ns if file.exists() else 0
        x = torch.zeros(4, 7) if x is None else x
        pools = list(torch.arange(4).split(parts))
        fit(lambda: TableVAE(ATTRIBUTES, 7, 2, hidden), x, [pools], [1.0], short, 0, file)
        return file.stat().st_mtime_ns != before

    assert written() and not written()
    assert written(hidden=9) and not written(hidden=9)  # the model's text does not tell the widths apart
    assert written(x=torch.zeros(4, 7, dtype=torch.uint8)) and written(parts=(1, 3))  # nor the bytes alone
    monkeypatch.setattr(fitting, "VERSION", -1)
    assert written(parts=(1, 3)) and not written(parts=(1, 3))


def test_bytes_are_divided_by_255(tmp_path):
    x = (255 * blobs(12)[0].clamp(0, 1)).round().to(torch.uint8)
    short = RECIPE.model_copy(update={"steps": 3})
    members = [[torch.arange(12)]]
    from_bytes, _ = fit(small, x, members, [1.0], short, 0, tmp_path / "bytes.safetensors")
    from_floats, _ = fit(small, x.float() / 255, members, [1.0], short, 0, tmp_path / "floats.safetensors")
    torch.testing.assert_close(from_bytes.state_dict(), from_floats.state_dict())


def test_networks_of_a_stack_learn_their_own_examples(tmp_path):
    x = torch.zeros(40, 7)
    x[:, 4] = 1
    x[:20, 0], x[20:, 0] = 3.0, -3.0

    def build():
        return TableVAE(ATTRIBUTES, 7, 2, 8, stack=2)

    members = [[torch.arange(20)], [torch.arange(20, 40)]]
    longer = RECIPE.model_copy(update={"steps": 400})
    model, _ = fit(build, x, members, [1.0, 1.0], longer, 0, tmp_path / "stack.safetensors")
    means = model.decode(torch.zeros(2, 1, 2))[:, 0, 0]
    assert means[0] > 1 and means[1] < -1


def test_a_loss_that_is_not_finite_is_told(tmp_path):
    x = torch.full((4, 7), torch.nan)
    with pytest.raises(ThesisError, match="loss is not finite"):
        fit(lambda: TableVAE(ATTRIBUTES, 7, 2, 8), x, [[torch.arange(4)]], [1.0], RECIPE, 0, tmp_path / "a.safetensors")

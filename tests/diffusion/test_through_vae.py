"""Everything an encoder sees takes the same way."""

import pytest
import torch

from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.diffusion.augmentation import reconstruct
from thesis_lib.diffusion.through_vae import pass_through_vae, read_passed
from thesis_lib.errors import ThesisError


@pytest.fixture
def data(shots):
    table, pictures, masks = shots
    images = PreparedSet(table, pictures, masks)
    return PreparedData(images, images.select([0, 3]), None, ["bolt", "gear", "Brake Disc"])


def test_every_set_is_passed_once_and_read_after(tiny_base, data, tmp_path, monkeypatch):
    passed = pass_through_vae(data, tiny_base, tmp_path)
    assert torch.equal(passed.images.pictures, reconstruct(tiny_base, data.images.pictures))
    assert torch.equal(passed.ood.pictures, passed.images.pictures[[0, 3]])
    assert passed.oracle is None and torch.equal(passed.images.masks, data.images.masks)
    monkeypatch.setattr(tiny_base.vae, "decode", None)  # a second pass would fail
    assert torch.equal(pass_through_vae(data, tiny_base, tmp_path).images.pictures, passed.images.pictures)
    assert torch.equal(read_passed(data, True, tmp_path).ood.pictures, passed.ood.pictures)


def test_pictures_stay_as_they_are_where_the_parameter_says_so(tiny_base, data, tmp_path):
    tiny_base.through_vae = False
    assert pass_through_vae(data, tiny_base, tmp_path) is data and not list(tmp_path.iterdir())


def test_pictures_of_other_crops_or_another_model_are_not_taken(tiny_base, data, tmp_path):
    with pytest.raises(ThesisError, match=r"images\.passed\.safetensors is missing or belongs to other crops"):
        read_passed(data, True, tmp_path)
    pass_through_vae(data, tiny_base, tmp_path)
    before = (tmp_path / "images.passed.safetensors").read_bytes()
    other = PreparedData(data.images.select([1, 2]), None, None, data.classes)
    with pytest.raises(ThesisError, match="belongs to other crops: run notebook 01 again"):
        read_passed(other, True, tmp_path)
    tiny_base.digest = "another"
    pass_through_vae(data, tiny_base, tmp_path)
    assert (tmp_path / "images.passed.safetensors").read_bytes() != before

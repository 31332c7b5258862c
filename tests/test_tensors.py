"""Files are whole or absent; a checkpoint restores training exactly, or not at all."""

import warnings

import pytest
import torch

from thesis_lib.errors import ThesisError
from thesis_lib.storage import write_text
from thesis_lib.tensors import (
    load_checkpoint,
    load_tensors,
    save_checkpoint,
    save_tensors,
    tensor_digest,
    warn_of_slow_bf16,
)


def train(module, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        module(torch.full((2, 3, 8, 8), 1.0 + step)).square().mean().backward()
        optimizer.step()


def make(optimizer):
    torch.manual_seed(0)
    module = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # its moments are strided likewise
    return module, optimizer(module.parameters())


@pytest.mark.parametrize(
    "optimizer", [torch.optim.AdamW, lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9)]
)
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path, optimizer):
    whole, at_work = make(optimizer)
    train(whole, at_work, range(6))
    first, at_work = make(optimizer)
    train(first, at_work, range(3))
    save_checkpoint(tmp_path / "c.safetensors", 3, {"net": first}, at_work, width=[4])
    second, at_work = make(optimizer)
    assert load_checkpoint(tmp_path / "c.safetensors", {"net": second}, at_work, width=[5]) == 0  # of other settings
    start = load_checkpoint(tmp_path / "c.safetensors", {"net": second}, at_work, width=[4])
    train(second, at_work, range(start, 6))
    assert start == 3 and torch.equal(second.weight, whole.weight) and torch.equal(second.bias, whole.bias)


def test_tensors_come_back_with_their_metadata_and_broken_files_are_named(tmp_path):
    file = tmp_path / "folder" / "t.safetensors"
    save_tensors(file, {"a": torch.arange(6).view(2, 3).T}, seeds=[1, 2])
    tensors, metadata = load_tensors(file)
    assert tensors["a"].tolist() == [[0, 3], [1, 4], [2, 5]] and metadata == {"seeds": [1, 2]}
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ThesisError, match=r"t\.safetensors is not a readable safetensors file"):
        load_tensors(file)
    with pytest.raises(ThesisError, match=r"none\.safetensors is missing"):
        load_tensors(tmp_path / "none.safetensors")


def test_digests_tell_contents_apart():
    a = torch.arange(6)
    assert tensor_digest(a.view(2, 3).T) != tensor_digest(a.view(2, 3)) and tensor_digest(a) == tensor_digest(a.clone())


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError):
        write_text(tmp_path / "a.txt", 3)
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_slow_bf16_is_said_where_the_processor_lacks_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, said in ({"avx2": True, "avx512_bf16": False}, 1), ({"avx2": True, "amx_bf16": True}, 0):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda there=there: there)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn_of_slow_bf16("bf16", "training.precision", "fp32")
        assert len(caught) == said
        assert all("--set training.precision=fp32" in str(warning.message) for warning in caught)

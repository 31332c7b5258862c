import json
import shutil

import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from safetensors.torch import load_file, save_file

from tests.killed import killed
from thesis_lib.diffusion import inversion
from thesis_lib.diffusion.base import BaseModel, load_base_model
from thesis_lib.diffusion.concepts import Concepts, load_concepts, placeholder, save_concepts
from thesis_lib.diffusion.inversion import TEMPLATES, initial_vectors, learn_concepts
from thesis_lib.errors import ThesisError
from thesis_lib.sections import InversionParameters, ModelParameters

CLASSES = ["bolt", "gear", "Brake Disc"]
SHORT = InversionParameters(vectors=3, steps=6, batch=6, warm_up=2, learning_rate=1e-2)


def learn(base, shots, folder, p=SHORT, every=2):
    table, pictures, _ = shots
    return learn_concepts(base, CLASSES, pictures, torch.tensor(table["label"].to_numpy()), p, 0, folder, every)


def test_every_vector_is_in_the_prompt_and_learns_and_nothing_else_moves(tiny_base, shots, tmp_path):
    """Errata 6 and 7: a multi-vector concept is used whole, each vector receives a gradient."""
    before = tiny_base.text_encoder.get_input_embeddings().weight.clone()
    start = initial_vectors(tiny_base, CLASSES, SHORT, 0)
    concepts, history = learn(tiny_base, shots, tmp_path)
    for name, vectors in concepts.vectors().items():
        assert (vectors - start[name]).abs().sum(1).gt(0).all()
    assert torch.equal(concepts.embedding.table, before[: len(concepts.embedding.table)])
    ids = concepts.ids([concepts.prompt("a photo of a rusty {}", "gear")])[0]
    assert sum(i >= len(concepts.embedding.table) for i in ids.tolist()) == 3
    assert set(history["class_name"]) == set(CLASSES) and history["step"].max() == 5


def test_what_is_learned_is_the_noise_of_the_pictures_of_the_class_in_the_prompt(
    tiny_base, shots, tmp_path, monkeypatch
):
    """The objective of Gal et al. 2022, eq. 2."""
    targets, passed, ids, real = [], [], [], inversion.F.mse_loss
    side = tiny_base.latent_side

    def flat(_, pictures):
        shade = pictures.float().mean((1, 2, 3))[:, None, None, None] / 255
        return shade.expand(-1, 4, side, side), torch.zeros(len(pictures), 4, side, side)

    monkeypatch.setattr(BaseModel, "encode", flat)
    monkeypatch.setattr(inversion.F, "mse_loss", lambda p, t, **how: targets.append(t) or real(p, t, **how))
    tiny_base.unet.register_forward_pre_hook(lambda _, given: passed.append(given))
    tiny_base.text_encoder.register_forward_pre_hook(lambda _, given: ids.append(given[0]))
    table, pictures, masks = shots
    pictures = torch.zeros_like(pictures) + (80 * torch.tensor(table["label"].to_numpy()))[:, None, None, None].byte()
    concepts, history = learn(
        tiny_base, (table, pictures, masks), tmp_path, SHORT.model_copy(update={"steps": 1, "batch": 16})
    )
    noisy, timesteps, _ = passed[0]
    shade = torch.tensor([80 * CLASSES.index(name) / 255 for name in history["class_name"]])
    clean = shade[:, None, None, None].expand_as(noisy)
    assert torch.allclose(noisy, tiny_base.scheduler.add_noise(clean, targets[0], timesteps), atol=1e-5)
    for row, name in zip(ids[0].tolist(), history["class_name"], strict=True):
        assert set(tiny_base.tokenizer.convert_tokens_to_ids(concepts.tokens[name])) <= set(row)


def test_another_seed_begins_elsewhere(tiny_base):
    first, second = (initial_vectors(tiny_base, CLASSES, SHORT, seed)["gear"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_killed_and_resumed_equals_uninterrupted(tiny_model_folder, shots, tmp_path):
    def fresh():
        return load_base_model(ModelParameters(base=str(tiny_model_folder), size=32))

    whole, _ = learn(fresh(), shots, tmp_path / "whole")
    with killed(inversion, saves=2):
        learn(fresh(), shots, tmp_path / "cut")
    resumed, history = learn(fresh(), shots, tmp_path / "cut")
    for name in CLASSES:
        assert torch.equal(whole.vectors()[name], resumed.vectors()[name])
    assert sorted(history["step"].unique()) == list(range(6))


def test_concepts_of_other_pictures_are_not_continued(tiny_model_folder, shots, tmp_path):
    table, pictures, masks = shots
    base = ModelParameters(base=str(tiny_model_folder), size=32)
    first, _ = learn(load_base_model(base), shots, tmp_path)
    other = (table, pictures.flip(0), masks)
    again, _ = learn(load_base_model(base), other, tmp_path)
    fresh, _ = learn(load_base_model(base), other, tmp_path / "fresh")
    assert torch.equal(again.vectors()["gear"], fresh.vectors()["gear"])
    assert not torch.equal(again.vectors()["gear"], first.vectors()["gear"])


def test_in_fp16_no_gradient_is_lost(tiny_model_folder, shots, tmp_path):
    """As a mean over all latents they are below what fp16 can hold: at 512 px most would be 0."""
    many = SHORT.model_copy(update={"steps": 1, "batch": 64})
    gradients = []
    for precision in ("fp32", "fp16"):
        base = load_base_model(ModelParameters(base=str(tiny_model_folder), size=32, precision=precision))
        concepts, _ = learn(base, shots, tmp_path / precision, many)
        gradients.append(concepts.embedding.rows.grad.flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9999  # 0.9996 without the scale, 0.999994 with it


def test_a_model_is_itself_in_any_precision_and_not_when_something_is_fused_into_it(tiny_model_folder, tmp_path):
    def digest(folder, precision):
        return load_base_model(ModelParameters(base=str(folder), size=32, precision=precision)).digest

    own = digest(tiny_model_folder, "fp32")
    assert digest(tiny_model_folder, "fp16") == own
    fused = tmp_path / "fused"
    shutil.copytree(tiny_model_folder, fused)
    file = fused / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "attn1.to_q" in name)
    save_file(weights | {name: weights[name] + 0.1}, file, {"format": "pt"})
    assert digest(fused, "fp32") != own


def test_a_folder_with_nothing_but_half_precision_is_read(tiny_model_folder, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(tiny_model_folder, half)
    for file in half.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    whole = load_base_model(ModelParameters(base=str(tiny_model_folder), size=32))
    assert load_base_model(ModelParameters(base=str(half), size=32)).digest == whole.digest


def test_the_scheduler_is_that_of_diffusers_pipelines_whatever_its_file_lacks(tiny_model_folder, tmp_path):
    sparse = tmp_path / "sparse"
    shutil.copytree(tiny_model_folder, sparse)
    file = sparse / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in ("clip_sample", "steps_offset")}))
    ours = load_base_model(ModelParameters(base=str(sparse), size=32)).scheduler.config
    theirs = StableDiffusionImg2ImgPipeline.from_pretrained(sparse).scheduler.config
    assert (ours.clip_sample, ours.steps_offset) == (theirs.clip_sample, theirs.steps_offset) == (False, 1)


def test_pictures_that_are_not_finite_are_refused(tiny_base):
    with pytest.raises(ThesisError, match=r"not finite, in float32: its weights are broken"):
        tiny_base.decode(torch.full((2, 4, tiny_base.latent_side, tiny_base.latent_side), torch.nan))


def test_saved_concepts_come_back_and_diffusers_reads_them(tiny_model_folder, tiny_base, shots, tmp_path):
    concepts, _ = learn(tiny_base, shots, tmp_path / "work")
    save_concepts(tmp_path / "c", concepts, {"model": tiny_base.name, "model_digest": tiny_base.digest})
    base = load_base_model(ModelParameters(base=str(tiny_model_folder), size=32))
    again = load_concepts(tmp_path / "c", base)
    prompt = again.prompt("a photo of a {}", "Brake Disc")
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_model_folder)
    pipeline.load_textual_inversion(str(tmp_path / "c" / "brake-disc.safetensors"))
    theirs = pipeline.encode_prompt(f"a photo of a {placeholder('Brake Disc')}", "cpu", 1, False)[0]
    assert torch.allclose(again.encode([prompt])[0], theirs[0], atol=1e-5)
    assert torch.equal(again.vectors()["gear"], concepts.vectors()["gear"])


def test_unknown_concept_and_missing_concepts_are_errors(tiny_base, tmp_path):
    with pytest.raises(ThesisError, match="run notebook 02 first"):
        load_concepts(tmp_path, tiny_base)
    concepts = Concepts(tiny_base, initial_vectors(tiny_base, ["gear"], SHORT, 0), ["gear"])
    with pytest.raises(ThesisError, match="unknown concept 'nut': learned are gear"):
        concepts.prompt("a photo of a {}", "nut")


def test_concepts_of_another_model_are_refused(tiny_base, shots, tmp_path):
    concepts, _ = learn(tiny_base, shots, tmp_path / "work")
    save_concepts(tmp_path / "c", concepts, {"model": "other", "model_digest": "0000000000"})
    with pytest.raises(ThesisError, match="learned with other"):
        load_concepts(tmp_path / "c", tiny_base)


def test_real_guidance_learns_nothing_and_names_the_class(tiny_base, shots, tmp_path):
    concepts, history = learn(tiny_base, shots, tmp_path, SHORT.model_copy(update={"method": "real_guidance"}))
    assert concepts.prompt("a photo of a {}", "Brake Disc") == "a photo of a brake disc"
    assert isinstance(history, pd.DataFrame) and not len(history)


def test_bad_settings_say_what_to_do(tiny_base, shots, tmp_path):
    with pytest.raises(ThesisError, match="initializer_word: 'crankshaft' is"):
        learn(tiny_base, shots, tmp_path, SHORT.model_copy(update={"initializer_word": "crankshaft"}))
    with pytest.raises(ThesisError, match=r"fewer inversion\.vectors"):
        learn(tiny_base, shots, tmp_path, SHORT.model_copy(update={"vectors": 60}))


def test_templates_leave_out_what_the_thesis_left_out():
    assert not any("rendering" in t or "cool" in t for t in TEMPLATES) and all(t.count("{}") == 1 for t in TEMPLATES)

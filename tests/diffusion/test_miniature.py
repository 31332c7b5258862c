import io

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from tests.killed import killed
from thesis_lib.diffusion import miniature as m
from thesis_lib.diffusion import miniature_training as training
from thesis_lib.diffusion.base import BUNDLED, load_base_model
from thesis_lib.errors import ThesisError
from thesis_lib.sections import HARDNESS_ENCODER, ModelParameters

TOY = m.MiniatureRecipe(
    size=32, vae_channels=(8, 8, 8), unet_channels=(16, 32, 32), text_width=32, text_layers=1, vae_crop_steps=3,
    vae_steps=2, decoder_steps=4, vae_batch=4, unet_steps=4, unet_batch=4,
)  # fmt: skip


@pytest.fixture
def table_file(tmp_path):
    rows = []
    for i in range(8):
        buffer = io.BytesIO()
        Image.fromarray(np.full((40, 40, 3), 25 * i, np.uint8)).save(buffer, "PNG")
        condition = "rusty" if i == 0 else "clean"
        rows.append(
            {
                "image": buffer.getvalue(),
                "text": f"a photo of a {condition} bolt",
                "condition": condition,
                "tags": "bolt, hex",
            }
        )
    path = tmp_path / "captions.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_words_are_one_token_and_anything_else_can_be_spelled():
    tokenizer = m.build_tokenizer(m.words_of(["a photo of a rusty V-slot rail, 8p8c"]), 16)
    assert len(tokenizer("rusty", add_special_tokens=False).input_ids) == 1
    ids = tokenizer("a photo of a Zebra é", add_special_tokens=False).input_ids
    assert len(ids) > 6 and tokenizer.decode(ids).strip() == "a photo of a zebra é"
    assert tokenizer.eos_token_id == len(tokenizer) - 1, "the encoder pools at the highest id"


def test_class_folders_become_a_captioned_table(tmp_path):
    for name, sides in {"spark_plug": (40, 20), "Anchor": (16, 48)}.items():
        (tmp_path / name).mkdir()
        Image.new("RGB", sides, "red").save(tmp_path / name / "0.png")
    (tmp_path / "Anchor" / "notes.txt").write_text("no picture")
    table = m.caption_folders({tmp_path: ["spark_plug", "Anchor"]})
    assert table["text"].tolist() == ["a photo of a spark plug", "a photo of an anchor"]
    assert m.caption_folders({tmp_path: []})["tags"].tolist() == ["anchor", "spark plug"]
    table.to_parquet(tmp_path / "captions.parquet")
    assert (m.read_captioned_table(tmp_path / "captions.parquet", 16)[1][:, 0] > 250).all()  # cut, not padded
    with pytest.raises(ThesisError, match="gear has no pictures"):
        m.caption_folders({tmp_path: ["gear"]})


def test_captioned_tables_say_what_they_lack(tmp_path, table_file):
    table, pictures = m.read_captioned_table(table_file, 32)
    assert pictures.shape == (8, 3, 32, 32) and list(table) == ["text", "condition", "tags"]
    with pytest.raises(ThesisError, match="is missing"):
        m.read_captioned_table(tmp_path / "none.parquet", 32)
    pd.DataFrame({"caption": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ThesisError, match=r"has columns \['caption'\]: it needs text"):
        m.read_captioned_table(tmp_path / "other.parquet", 32)


def test_training_stopped_and_continued_loads_into_diffusers(table_file, tmp_path):
    table, pictures = m.read_captioned_table(table_file, 32)
    training.train_vae(pictures, m.replace(TOY, vae_steps=1), tmp_path / "vae.safetensors", every=1)
    vae = training.train_vae(pictures, TOY, tmp_path / "vae.safetensors", every=1)
    latents = training.cached_latents(vae, pictures, tmp_path / "latents.safetensors")
    assert latents.shape == (2, 8, 4, 8, 8) and abs(float(latents.std()) - 1) < 0.2
    tokenizer = m.build_tokenizer(m.vocabulary(table, TOY), TOY.context)
    unet, text_encoder, losses = training.train_unet(
        latents, table, tokenizer, TOY, tmp_path / "unet.safetensors", every=2
    )
    assert len(losses) == TOY.unet_steps
    m.save_miniature(tmp_path / "a" / "model", vae, unet, text_encoder, tokenizer)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "a" / "model")
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline("a photo of a bolt", image=pictures[:1].float() / 255, num_inference_steps=4, strength=0.5)
    assert picture.images[0].size == (32, 32)
    base = load_base_model(ModelParameters(base=str(tmp_path / "a" / "model"), size=32))
    assert base.latent_side == 8 and base.tokenizer.model_max_length == TOY.context


def test_the_finished_decoder_is_better_and_the_latents_stay(table_file, tmp_path):
    recipe = m.replace(TOY, decoder_steps=60, vae_learning_rate=1e-2)
    _, pictures = m.read_captioned_table(table_file, 32)
    vae = training.train_vae(pictures, recipe, tmp_path / "vae.safetensors")
    latents = training.cached_latents(vae, pictures, tmp_path / "latents.safetensors")

    def error():
        passed = m.decode_to_uint8(vae, latents[0] / vae.config.scaling_factor)
        return (passed.float() - pictures.float()).square().mean()

    before = error()
    training.finish_decoder(vae, latents, pictures, recipe, tmp_path / "decoder.safetensors", every=100)
    assert error() < 0.8 * before
    assert torch.equal(latents[0], m.encode_mean(vae, pictures) * vae.config.scaling_factor)
    again = training.train_vae(pictures, recipe, tmp_path / "vae.safetensors")
    training.finish_decoder(again, latents, pictures, recipe, tmp_path / "decoder.safetensors")  # only reads
    assert all(torch.equal(x, y) for x, y in zip(vae.parameters(), again.parameters(), strict=True))


def test_a_killed_unet_training_continues_as_if_nothing_had_happened(table_file, tmp_path):
    table, pictures = m.read_captioned_table(table_file, 32)
    latents = torch.randn(2, len(pictures), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokenizer = m.build_tokenizer(m.vocabulary(table, TOY), TOY.context)
    whole, *_ = training.train_unet(latents, table, tokenizer, TOY, tmp_path / "whole.safetensors", every=2)
    with killed(training, saves=1):
        training.train_unet(latents, table, tokenizer, TOY, tmp_path / "cut.safetensors", every=2)
    resumed, *_ = training.train_unet(latents, table, tokenizer, TOY, tmp_path / "cut.safetensors", every=2)
    assert all(torch.equal(x, y) for x, y in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_captions_are_dropped_and_shortened_and_conditions_drawn_evenly(table_file):
    table, _ = m.read_captioned_table(table_file, 32)
    random = np.random.default_rng(0)
    texts = [t for _ in range(50) for t in training._captions(table, list(range(8)), TOY, random)]
    share = sum(t == "" for t in texts) / len(texts)
    assert 0.05 < share < 0.16
    assert any(t == "a photo of a clean hex" for t in texts) and "a photo of a rusty bolt" in texts


@pytest.mark.parametrize("content", [None, "{}"])
def test_what_is_no_base_model_is_said(tmp_path, content):
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(ThesisError, match=r"model\.base"):
        load_base_model(ModelParameters(base=str(tmp_path), size=32))


def test_the_size_must_fit(tiny_model_folder):
    with pytest.raises(ThesisError, match="give a multiple of 16"):
        load_base_model(ModelParameters(base=str(tiny_model_folder), size=40))


@pytest.mark.skipif(not (BUNDLED / "model_index.json").exists(), reason="the bundled miniature is not in the package")
def test_the_bundled_miniature_is_small_and_whole():
    assert (BUNDLED / HARDNESS_ENCODER).stat().st_size <= 3e6
    assert sum(path.stat().st_size for path in BUNDLED.glob("*/*.safetensors")) <= 32e6
    base = load_base_model(ModelParameters())
    assert (base.size, base.latent_side, base.tokenizer.model_max_length) == (64, 16, 48)
    assert not list(BUNDLED.rglob("*.bin")) and not list(BUNDLED.rglob("*.pt"))

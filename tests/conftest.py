"""Small real things the tests share: a tiny Stable Diffusion, a few pictures with masks."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the tests are made for a processor

from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import settings

SIZE = 32
settings.register_profile("busy", deadline=None)  # a busy machine is no failure
settings.load_profile("busy")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion of the real classes with random weights, as a diffusers folder."""
    from thesis_lib.diffusion import miniature as m

    torch.manual_seed(0)
    recipe = m.MiniatureRecipe(
        size=SIZE, vae_channels=(8, 8, 8), unet_channels=(16, 32, 32), text_width=32, text_layers=1
    )
    tokenizer = m.build_tokenizer(m.words_of([recipe.extra_words]), recipe.context)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    m.save_miniature(
        folder, m.build_vae(recipe), m.build_unet(recipe), m.build_text_encoder(recipe, tokenizer), tokenizer
    )
    return folder


@pytest.fixture
def tiny_base(tiny_model_folder: Path):
    from thesis_lib.diffusion.base import load_base_model
    from thesis_lib.sections import ModelParameters

    return load_base_model(ModelParameters(base=str(tiny_model_folder), size=SIZE, precision="fp32"))


@pytest.fixture(scope="session")
def shots() -> tuple[pd.DataFrame, torch.Tensor, torch.Tensor]:
    """Three classes of three pictures: the table, the pictures and their object masks."""
    generator = torch.Generator().manual_seed(0)
    names = [name for name in ("bolt", "gear", "Brake Disc") for _ in range(3)]
    pictures = torch.randint(60, 200, (9, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(9, SIZE, SIZE, dtype=torch.bool)
    masks[:, 8:24, 10:26] = True
    table = pd.DataFrame(
        {
            "path": [f"/data/{name}/{i}.png" for i, name in enumerate(names)],
            "source_id": [f"{name}/{i}" for i, name in enumerate(names)],
            "capture_group": [f"{name}/{i}" for i, name in enumerate(names)],
            "class_name": names,
            "label": [["bolt", "gear", "Brake Disc"].index(name) for name in names],
        }
    )
    return table, pictures, masks

"""The miniature Stable Diffusion: the real one's classes at 64 pixels, trained from nothing on a captioned table.

An AutoencoderKL (64 x 64 pixels to 4 x 16 x 16 latents), a UNet2DConditionModel, a CLIPTextModel and a DDIM schedule,
saved as a folder that `StableDiffusionImg2ImgPipeline.from_pretrained` loads. Latent diffusion: Rombach et al. 2022
(arXiv 2112.10752).
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from PIL import Image, ImageOps
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from thesis_lib.datasets.folder import ENDINGS
from thesis_lib.errors import ThesisError


@dataclass(frozen=True)
class MiniatureRecipe:
    """What a miniature is made of and how it is trained; the defaults made the bundled one.

    Attributes:
        size: Side of the pictures in pixels.
        vae_channels: Channels of the VAE's levels; each level after the first halves the side.
        unet_channels: Channels of the UNet's levels; all but the first attend to the text.
        text_width, text_layers, context: Width, depth and number of tokens of the text encoder.
        vae_crop_steps: VAE steps on random crops of half the side (cheap), before `vae_steps` on whole pictures.
        decoder_steps: Steps of the decoder alone, on such crops, after the latents are fixed.
        kl_weight: Weight of the KL divergence per latent element against the mean squared error.
        unet_steps: Steps of the UNet and the text encoder.
        snr_gamma: The loss of a timestep is weighted by min(SNR, gamma) / SNR, so that the nearly clean ones, whose
            noise nobody can tell from detail, don't drown the others.
        caption_dropout: Share of captions replaced by the empty one.
        short_captions: Share of captions shortened to "a photo of a {condition} {tag}", where the table has them.
        balance: Column whose values are drawn equally often; "" draws pictures equally often.
        ema_decay: Decay of the exponential moving average of the weights that are saved.
        extra_words: Words that get a token of their own beside those of the captions.
        seed: Seeds everything.
    """

    size: int = 64
    vae_channels: tuple[int, ...] = (32, 64, 128)
    unet_channels: tuple[int, ...] = (64, 128, 192)
    text_width: int = 128
    text_layers: int = 3
    context: int = 48
    vae_crop_steps: int = 2250
    vae_steps: int = 250
    decoder_steps: int = 2500
    vae_batch: int = 32
    vae_learning_rate: float = 1e-3
    kl_weight: float = 1e-4
    unet_steps: int = 7600
    unet_batch: int = 32
    unet_learning_rate: float = 6e-4
    snr_gamma: float = 5.0
    caption_dropout: float = 0.1
    short_captions: float = 0.3
    balance: str = "condition"
    ema_decay: float = 0.999
    seed: int = 0
    extra_words: str = (
        "a an the of on in at with to from and my one good bad close up closeup low high resolution bright dark blurry "
        "cropped pixelated jpeg corrupted small large weird cool nice photo picture rendering depiction rendition used "
        "dirty rusty broken old clean brand new worn damaged scratched industrial part object thing motor table "
        "background light lighting seen above side view"
    )

    def shortened(self, share: float) -> "MiniatureRecipe":
        """The same recipe with a share of the steps, at least two of each."""
        steps = {name: max(2, round(value * share)) for name, value in asdict(self).items() if name.endswith("_steps")}
        return replace(self, **steps)

    def without_steps(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued; more or fewer steps may follow."""
        return {name: value for name, value in asdict(self).items() if not name.endswith("_steps")}


def caption_folders(folders: Mapping[str | Path, Sequence[str]]) -> pd.DataFrame:
    """A captioned table of photographs that lie in class folders, for `read_captioned_table`.

    Args:
        folders: For each folder of class folders the class folders to take; all when empty.

    Returns:
        Columns path, text ("a photo of a spark plug") and tags ("spark plug"), a row a picture.

    Raises:
        ThesisError: A class folder is missing or has no pictures.
    """
    rows = []
    for root, names in folders.items():
        for name in names or sorted(path.name for path in Path(root).glob("*/")):
            paths = [path for path in sorted((Path(root) / name).glob("*")) if path.suffix.lower() in ENDINGS]
            if not paths:
                raise ThesisError(f"{Path(root) / name} has no pictures to train on: correct the list of class folders")
            words = name.replace("_", " ").lower()
            text = f"a photo of {'an' if words[0] in 'aeiou' else 'a'} {words}"
            rows += [{"path": str(path.resolve()), "text": text, "tags": words} for path in paths]
    return pd.DataFrame(rows)


def read_captioned_table(path: Path, size: int) -> tuple[pd.DataFrame, torch.Tensor]:
    """Read a captioned table and decode its pictures once.

    Args:
        path: A parquet file with a column `text` and either `image` (encoded bytes) or `path` (picture files,
            relative to the parquet file; their middle square is taken). Columns `condition` and `tags` are used where
            they stand.
        size: Side to which the pictures are resized.

    Returns:
        The table without pictures, and the pictures as uint8 of shape (n, 3, size, size).
    """
    if not Path(path).is_file():
        raise ThesisError(f"{path} is missing: a miniature is trained on a parquet file with columns image and text")
    table = pd.read_parquet(path)
    if "text" not in table or not {"image", "path"} & set(table):
        raise ThesisError(f"{path} has columns {list(table)}: it needs text and one of image, path")
    pictures = torch.empty(len(table), 3, size, size, dtype=torch.uint8)
    sources = table["image"] if "image" in table else [Path(path).parent / p for p in table["path"]]
    for i, source in enumerate(tqdm(sources, desc="decode pictures", leave=False)):
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
            picture = ImageOps.fit(opened.convert("RGB"), (size, size), Image.Resampling.BICUBIC)
        pictures[i] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return table.drop(columns="image", errors="ignore"), pictures


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of `texts` in sorted order, split as CLIP's tokenizer splits them."""
    return sorted({word for text in texts for word in re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]+", text.lower())})


def vocabulary(table: pd.DataFrame, recipe: MiniatureRecipe) -> list[str]:
    """Every word of the table's captions and tags, and the recipe's extra words."""
    return words_of([*table["text"], *table.get("tags", []), recipe.extra_words])


def build_tokenizer(words: Sequence[str], context: int) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer in which each of `words` is one token and any other text is spelled in bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    alphabet = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    vocabulary = {token: i for i, token in enumerate(alphabet + [letter + "</w>" for letter in alphabet])}
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            pieces[:2] = ["".join(pair)]
            vocabulary.setdefault(pieces[0], len(vocabulary))
            merges.setdefault(pair)
    vocabulary["<|startoftext|>"] = len(vocabulary)
    vocabulary["<|endoftext|>"] = len(vocabulary)  # the highest id: the encoder pools at it
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=list(merges), model_max_length=context)
    if len(tokenizer) != len(vocabulary):
        raise RuntimeError(
            f"the tokenizer has {len(tokenizer)} tokens, not {len(vocabulary)}: transformers ignored the vocabulary"
        )
    return tokenizer


def build_vae(recipe: MiniatureRecipe) -> AutoencoderKL:
    """An untrained VAE; without attention, so that it can be trained on crops."""
    levels = len(recipe.vae_channels)
    return AutoencoderKL(
        sample_size=recipe.size,
        latent_channels=4,
        block_out_channels=recipe.vae_channels,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_text_encoder(recipe: MiniatureRecipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text encoder for `tokenizer`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            projection_dim=recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.context,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(recipe: MiniatureRecipe) -> UNet2DConditionModel:
    """An untrained UNet on 4-channel latents of a quarter of the picture's side."""
    levels = len(recipe.unet_channels)
    return UNet2DConditionModel(
        sample_size=recipe.size // 2 ** (len(recipe.vae_channels) - 1),
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=recipe.unet_channels,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=8,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def to_model_range(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 pictures to floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1


@torch.no_grad()
def encode_mean(vae: AutoencoderKL, pictures: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """The posterior means of uint8 pictures, unscaled: (n, 4, side, side) in float32."""
    chunks = [vae.encode(to_model_range(chunk.to(vae.device))).latent_dist.mean for chunk in pictures.split(batch)]
    return torch.cat(chunks).float().cpu()


@torch.no_grad()
def decode_to_uint8(vae: AutoencoderKL, latents: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """Decode unscaled latents to uint8 pictures (n, 3, size, size)."""
    chunks = [vae.decode(chunk.to(vae.device)).sample for chunk in latents.split(batch)]
    return ((torch.cat(chunks).float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def save_miniature(
    folder: Path, vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> None:
    """Write the miniature as a diffusers folder: VAE and UNet in half precision, the small text encoder in full.

    diffusers widens what it loads, transformers keeps the stored precision: so a plain `from_pretrained` fits together.
    """
    pipeline = StableDiffusionImg2ImgPipeline(
        vae=vae.half(), text_encoder=text_encoder.float(), tokenizer=tokenizer, unet=unet.half(),
        scheduler=build_scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    vae.float()
    unet.float()

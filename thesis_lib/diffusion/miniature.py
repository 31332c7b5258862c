"""The miniature Stable Diffusion: the real one's classes at 64 pixels, trained from nothing on a captioned table.

An AutoencoderKL (64 x 64 pixels to 4 x 16 x 16 latents), a UNet2DConditionModel, a CLIPTextModel and a DDIM schedule,
saved as a folder that `StableDiffusionImg2ImgPipeline.from_pretrained` loads. Latent diffusion: Rombach et al. 2022
(arXiv 2112.10752); noise prediction: Ho et al. 2020 (arXiv 2006.11239), eq. 14; its weights over timesteps: Hang et al.
2023 (arXiv 2303.09556); caption dropout for guidance: Ho and Salimans 2022 (arXiv 2207.12598).
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
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.training_utils import EMAModel, compute_snr
from PIL import Image, ImageOps
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from thesis_lib.datasets.folder import ENDINGS
from thesis_lib.errors import ThesisError
from thesis_lib.randomness import numpy_generator, torch_generator
from thesis_lib.tensors import load_checkpoint, load_tensors, save_checkpoint, save_tensors


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
    unet_steps: int = 5000
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


def _learning_rate(step: int, steps: int, warm_up: int = 100) -> float:
    """Linear warm-up, then cosine to a hundredth; a factor in (0, 1]."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (step - warm_up) / max(1, steps - warm_up))))


def train_vae(pictures: torch.Tensor, recipe: MiniatureRecipe, checkpoint: Path, every: int = 500) -> AutoencoderKL:
    """Train the VAE: mean squared error plus a small KL divergence (Kingma and Welling 2014, eq. 10).

    Args:
        pictures: uint8 (n, 3, size, size).
        recipe: Sizes and steps.
        checkpoint: Safetensors file to write and continue from.
        every: Steps between checkpoints.

    Returns:
        The trained VAE, its scaling_factor set to 1 / std of its own latents.
    """
    torch.manual_seed(recipe.seed)
    vae = build_vae(recipe).to(memory_format=torch.channels_last)
    steps = recipe.vae_crop_steps + recipe.vae_steps
    optimizer = torch.optim.AdamW(vae.parameters(), lr=recipe.vae_learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    average = EMAModel(vae.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)
    shadow = torch.nn.ParameterList(average.shadow_params)
    first = load_checkpoint(checkpoint, {"vae": vae, "ema": shadow}, optimizer, recipe=recipe.without_steps())
    average.shadow_params, average.optimization_step = [p.data for p in shadow], first
    bar = tqdm(range(first, steps), initial=first, total=steps, desc="VAE", mininterval=5)
    vae.train()
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.vae_learning_rate * _learning_rate(step, steps)
        generator = torch_generator(recipe.seed, "vae", step)
        rows = torch.randint(len(pictures), (recipe.vae_batch,), generator=generator)
        batch = to_model_range(pictures[rows])
        if step < recipe.vae_crop_steps:
            half = recipe.size // 2
            y, x = torch.randint(half + 1, (2,), generator=generator).tolist()
            batch = batch[:, :, y : y + half, x : x + half]
        if torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(-1)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(batch).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = F.mse_loss(decoded.float(), batch)
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        optimizer.zero_grad(set_to_none=True)
        (error + recipe.kl_weight * kl).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.step(vae.parameters())
        if step % 20 == 0:
            bar.set_postfix(psnr=f"{-10 * np.log10(error.item() / 4):.2f} dB", kl=f"{kl.item():.2f}")
        if (step + 1) % every == 0 or step + 1 == steps:
            for target, source in zip(shadow, average.shadow_params, strict=True):
                target.data.copy_(source)
            save_checkpoint(checkpoint, step + 1, {"vae": vae, "ema": shadow}, optimizer, recipe=recipe.without_steps())
    average.copy_to(vae.parameters())
    vae.eval().requires_grad_(False)
    sample = pictures[torch.randperm(len(pictures), generator=torch_generator(recipe.seed, "scale"))[:512]]
    vae.register_to_config(scaling_factor=float(1 / encode_mean(vae, sample).std()))
    return vae


@torch.no_grad()
def encode_mean(vae: AutoencoderKL, pictures: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """The posterior means of uint8 pictures, unscaled: (n, 4, side, side) in float32."""
    chunks = [vae.encode(to_model_range(chunk)).latent_dist.mean for chunk in pictures.split(batch)]
    return torch.cat(chunks).float()


@torch.no_grad()
def decode_to_uint8(vae: AutoencoderKL, latents: torch.Tensor, batch: int = 64) -> torch.Tensor:
    """Decode unscaled latents to uint8 pictures (n, 3, size, size)."""
    chunks = [vae.decode(chunk).sample for chunk in latents.split(batch)]
    return ((torch.cat(chunks).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def cached_latents(vae: AutoencoderKL, pictures: torch.Tensor, path: Path) -> torch.Tensor:
    """Scaled latents of every picture and its mirror image, (2, n, 4, side, side), computed once."""
    scale = vae.config.scaling_factor
    if path.exists():
        tensors, metadata = load_tensors(path)
        if metadata.get("scaling_factor") == scale:
            return tensors["latents"]
    parts = [
        encode_mean(vae, chunk)
        for flip in (pictures, pictures.flip(-1))
        for chunk in tqdm(flip.split(512), desc="latents")
    ]
    latents = torch.cat(parts).unflatten(0, (2, -1)) * scale
    save_tensors(path, {"latents": latents}, scaling_factor=scale)
    return latents


def finish_decoder(
    vae: AutoencoderKL, latents: torch.Tensor, pictures: torch.Tensor, recipe: MiniatureRecipe, checkpoint: Path,
    every: int = 500,
) -> None:  # fmt: skip
    """Train the decoder on alone, as Stable Diffusion's was (ft-MSE); the latents, and so the UNet, stay as they are.

    Args:
        vae: The trained VAE; its decoder is changed in place.
        latents: Scaled latents of the pictures and their mirror images, (2, n, 4, side, side).
        pictures: uint8 (n, 3, size, size).
        recipe: Steps; squares of half a picture's side.
        checkpoint: Safetensors file to write and continue from.
        every: Steps between checkpoints.
    """
    decoder = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder]).to(memory_format=torch.channels_last)
    decoder.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        decoder.parameters(), lr=recipe.vae_learning_rate / 2, betas=(0.9, 0.99), weight_decay=0.0
    )
    average = EMAModel(decoder.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)
    shadow = torch.nn.ParameterList(average.shadow_params)
    marks: dict[str, Any] = {"recipe": recipe.without_steps(), "scaling_factor": vae.config.scaling_factor}
    first = load_checkpoint(checkpoint, {"decoder": decoder, "ema": shadow}, optimizer, **marks)
    average.shadow_params, average.optimization_step = [p.data for p in shadow], first
    half, down = latents.shape[-1] // 2, recipe.size // latents.shape[-1]
    bar = tqdm(
        range(first, recipe.decoder_steps), initial=first, total=recipe.decoder_steps, desc="decoder", mininterval=5
    )
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.vae_learning_rate / 2 * _learning_rate(step, recipe.decoder_steps)
        generator = torch_generator(recipe.seed, "decoder", step)
        rows = torch.randint(len(pictures), (recipe.vae_batch,), generator=generator)
        y, x, flip = (int(torch.randint(n, (), generator=generator)) for n in (half + 1, half + 1, 2))
        wanted = to_model_range(pictures[rows].flip(-1) if flip else pictures[rows])
        wanted = wanted[:, :, down * y : down * (y + half), down * x : down * (x + half)]
        given = latents[flip, rows, :, y : y + half, x : x + half] / vae.config.scaling_factor
        with torch.autocast("cpu", torch.bfloat16):
            decoded = vae.decode(given.contiguous(memory_format=torch.channels_last)).sample
        error = F.mse_loss(decoded.float(), wanted)
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        average.step(decoder.parameters())
        if step % 20 == 0:
            bar.set_postfix(psnr=f"{-10 * np.log10(error.item() / 4):.2f} dB")
        if (step + 1) % every == 0 or step + 1 == recipe.decoder_steps:
            for target, source in zip(shadow, average.shadow_params, strict=True):
                target.data.copy_(source)
            save_checkpoint(checkpoint, step + 1, {"decoder": decoder, "ema": shadow}, optimizer, **marks)
    average.copy_to(decoder.parameters())
    decoder.eval().requires_grad_(False)


def _captions(
    table: pd.DataFrame, rows: Sequence[int], recipe: MiniatureRecipe, random: np.random.Generator
) -> list[str]:
    """The captions of one batch: whole, shortened, or empty."""
    texts = table["text"].iloc[list(rows)].tolist()
    for i, row in enumerate(rows):
        chance = random.random()
        if chance < recipe.caption_dropout:
            texts[i] = ""
        elif chance < recipe.caption_dropout + recipe.short_captions and "tags" in table and table["tags"].iat[row]:
            tags = [tag.strip() for tag in str(table["tags"].iat[row]).split(",")]
            condition = str(table["condition"].iat[row]) if "condition" in table and random.random() < 0.7 else ""
            noun = " ".join(filter(None, [condition, str(random.choice(tags)).lower()]))
            texts[i] = f"a photo of {'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return texts


class _FullPrecisionAttention(AttnProcessor2_0):
    """Attention in fp32 inside bf16: on a CPU the backward pass of bf16 attention is far slower than all the rest."""

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
        **others: Any,
    ) -> torch.Tensor:  # fmt: skip
        text = None if encoder_hidden_states is None else encoder_hidden_states.float()
        with torch.autocast("cpu", enabled=False):
            return super().__call__(attn, hidden_states.float(), text, **others)


def train_unet(
    latents: torch.Tensor,
    table: pd.DataFrame,
    tokenizer: CLIPTokenizer,
    recipe: MiniatureRecipe,
    checkpoint: Path,
    every: int = 500,
) -> tuple[UNet2DConditionModel, CLIPTextModel, list[float]]:
    """Train the UNet and the text encoder together to predict the noise in `latents`.

    Args:
        latents: Scaled latents of the pictures and their mirror images, (2, n, 4, side, side).
        table: The captioned table, n rows.
        tokenizer: The miniature's tokenizer.
        recipe: Sizes and steps.
        checkpoint: Safetensors file to write and continue from.
        every: Steps between checkpoints.

    Returns:
        The averaged UNet and text encoder, and the loss at every step of this call.
    """
    torch.manual_seed(recipe.seed)
    unet, text_encoder, scheduler = build_unet(recipe), build_text_encoder(recipe, tokenizer), build_scheduler()
    unet.set_attn_processor(_FullPrecisionAttention())
    modules = torch.nn.ModuleDict({"unet": unet.to(memory_format=torch.channels_last), "text_encoder": text_encoder})
    optimizer = torch.optim.AdamW(
        modules.parameters(), lr=recipe.unet_learning_rate, betas=(0.9, 0.99), weight_decay=1e-2
    )
    average = EMAModel(modules.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)
    shadow = torch.nn.ParameterList(average.shadow_params)
    first = load_checkpoint(checkpoint, {"modules": modules, "ema": shadow}, optimizer, recipe=recipe.without_steps())
    average.shadow_params, average.optimization_step = [p.data for p in shadow], first
    if recipe.balance and recipe.balance in table:
        values = table[recipe.balance]
        weights = (1 / values.map(values.value_counts())).to_numpy(dtype=float)
    else:
        weights = np.ones(len(table))
    cumulative = np.cumsum(weights / weights.sum())
    losses: list[float] = []
    bar = tqdm(range(first, recipe.unet_steps), initial=first, total=recipe.unet_steps, desc="UNet", mininterval=5)
    modules.train()
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.unet_learning_rate * _learning_rate(step, recipe.unet_steps)
        random, generator = numpy_generator(recipe.seed, "unet", step), torch_generator(recipe.seed, "unet", step)
        rows = np.minimum(np.searchsorted(cumulative, random.random(recipe.unet_batch)), len(table) - 1)
        clean = latents[random.integers(2, size=len(rows)), rows].contiguous(memory_format=torch.channels_last)
        ids = tokenizer(
            _captions(table, rows.tolist(), recipe, random),
            padding="max_length", truncation=True, max_length=recipe.context, return_tensors="pt",
        ).input_ids  # fmt: skip
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.randint(1000, (len(rows),), generator=generator)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        text = text_encoder(ids).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, timesteps, text).sample
        error = (predicted.float() - noise).square().mean((1, 2, 3))
        snr = compute_snr(scheduler, timesteps)
        loss = (error * snr.clamp_max(recipe.snr_gamma) / snr).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        average.step(modules.parameters())
        losses.append(loss.item())
        if step % 20 == 0:
            bar.set_postfix(loss=f"{np.mean(losses[-200:]):.4f}")
        if (step + 1) % every == 0 or step + 1 == recipe.unet_steps:
            for target, source in zip(shadow, average.shadow_params, strict=True):
                target.data.copy_(source)
            save_checkpoint(
                checkpoint, step + 1, {"modules": modules, "ema": shadow}, optimizer, recipe=recipe.without_steps()
            )
    average.copy_to(modules.parameters())
    unet.set_attn_processor(AttnProcessor2_0())
    modules.eval().requires_grad_(False)
    return unet, text_encoder, losses


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

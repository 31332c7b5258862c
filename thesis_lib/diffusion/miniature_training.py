"""Training of the miniature Stable Diffusion, on a GPU where there is one: VAE, decoder, UNet with text encoder.

Every step draws from a generator made from the seed and the step, so that a training that was stopped continues as if
it had not been. What is kept is an exponential moving average of the weights.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.training_utils import EMAModel, compute_snr
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from thesis_lib.diffusion.miniature import (
    MiniatureRecipe,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    encode_mean,
    to_model_range,
)
from thesis_lib.randomness import numpy_generator, torch_generator
from thesis_lib.tensors import (
    best_device,
    bf16_is_native,
    load_checkpoint,
    made_once,
    save_checkpoint,
    tensor_digest,
)


def _mixed_precision(device: torch.device) -> torch.autocast:
    """bf16 where the device has it; fp32 is faster elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_native())


class _Training:
    """A module's optimiser, the average of its weights, the learning rate's course, and a checkpoint to continue from.

    Iterating yields the steps that are still to do; `step` must be called once in each. Afterwards the module has the
    averaged weights and is frozen.
    """

    def __init__(
        self, name: str, module: torch.nn.Module, learning_rate: float, steps: int, recipe: MiniatureRecipe,
        checkpoint: Path, every: int, weight_decay: float = 0.0, **marks: Any,
    ) -> None:  # fmt: skip
        self.name, self.module, self.learning_rate, self.steps = name, module, learning_rate, steps
        self.checkpoint, self.every, self.marks = checkpoint, every, {"recipe": recipe.without_steps(), **marks}
        self.optimizer = torch.optim.AdamW(
            module.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay
        )
        self.average = EMAModel(module.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, power=0.75)

    def __iter__(self) -> Iterator[int]:
        shadow = torch.nn.ParameterList(self.average.shadow_params)
        modules = {self.name: self.module, "ema": shadow}
        first = load_checkpoint(self.checkpoint, modules, self.optimizer, **self.marks)
        self.average.shadow_params, self.average.optimization_step = [p.data for p in shadow], first
        self.bar = tqdm(range(first, self.steps), initial=first, total=self.steps, desc=self.name, mininterval=5)
        self.module.requires_grad_(True).train()
        for step in self.bar:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * _learning_rate(step, self.steps)
            yield step
            if (step + 1) % self.every == 0 or step + 1 == self.steps:
                for target, source in zip(shadow, self.average.shadow_params, strict=True):
                    target.data.copy_(source)
                save_checkpoint(self.checkpoint, step + 1, modules, self.optimizer, **self.marks)
        self.average.copy_to(self.module.parameters())
        self.module.eval().requires_grad_(False)

    def step(self, loss: torch.Tensor, **shown: str) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.average.step(self.module.parameters())
        self.bar.set_postfix(shown, refresh=False)


def _decibels(squared_error: torch.Tensor) -> str:
    """The peak signal-to-noise ratio of pictures in [-1, 1]."""
    return f"{-10 * np.log10(squared_error.item() / 4):.2f} dB"


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
    device = best_device()
    vae = build_vae(recipe).to(device, memory_format=torch.channels_last)
    steps = recipe.vae_crop_steps + recipe.vae_steps
    training = _Training(
        "vae", vae, recipe.vae_learning_rate, steps, recipe, checkpoint, every, pictures=tensor_digest(pictures)
    )
    for step in training:
        generator = torch_generator(recipe.seed, "vae", step)
        rows = torch.randint(len(pictures), (recipe.vae_batch,), generator=generator)
        batch = to_model_range(pictures[rows].to(device))
        if step < recipe.vae_crop_steps:
            half = recipe.size // 2
            y, x = torch.randint(half + 1, (2,), generator=generator).tolist()
            batch = batch[:, :, y : y + half, x : x + half]
        if torch.rand((), generator=generator) < 0.5:
            batch = batch.flip(-1)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with _mixed_precision(device):
            posterior = vae.encode(batch).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = F.mse_loss(decoded.float(), batch)
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        training.step(error + recipe.kl_weight * kl, psnr=_decibels(error), kl=f"{kl.item():.2f}")
    sample = pictures[torch.randperm(len(pictures), generator=torch_generator(recipe.seed, "scale"))[:512]]
    vae.register_to_config(scaling_factor=float(1 / encode_mean(vae, sample).std()))
    return vae


def cached_latents(vae: AutoencoderKL, pictures: torch.Tensor, path: Path) -> torch.Tensor:
    """Scaled latents of every picture and its mirror image, (2, n, 4, side, side), computed once."""
    scale = vae.config.scaling_factor

    def make() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        parts = [
            encode_mean(vae, chunk)
            for flip in (pictures, pictures.flip(-1))
            for chunk in tqdm(flip.split(512), desc="latents")
        ]
        return {"latents": torch.cat(parts).unflatten(0, (2, -1)) * scale}, {}

    made_of = {"scaling_factor": scale, "pictures": tensor_digest(pictures)}
    return made_once(path, made_of, make)[0]["latents"]


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
    training = _Training(
        "decoder", decoder, recipe.vae_learning_rate / 2, recipe.decoder_steps, recipe, checkpoint, every,
        scaling_factor=vae.config.scaling_factor, pictures=tensor_digest(pictures),
    )  # fmt: skip
    half, down = latents.shape[-1] // 2, recipe.size // latents.shape[-1]
    for step in training:
        generator = torch_generator(recipe.seed, "decoder", step)
        rows = torch.randint(len(pictures), (recipe.vae_batch,), generator=generator)
        y, x, flip = (int(torch.randint(n, (), generator=generator)) for n in (half + 1, half + 1, 2))
        wanted = to_model_range((pictures[rows].flip(-1) if flip else pictures[rows]).to(vae.device))
        wanted = wanted[:, :, down * y : down * (y + half), down * x : down * (x + half)]
        given = latents[flip, rows, :, y : y + half, x : x + half].to(vae.device) / vae.config.scaling_factor
        with _mixed_precision(vae.device):
            decoded = vae.decode(given.contiguous(memory_format=torch.channels_last)).sample
        error = F.mse_loss(decoded.float(), wanted)
        training.step(error, psnr=_decibels(error))


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

    Noise prediction: Ho et al. 2020 (arXiv 2006.11239), eq. 14; weights of the timesteps: Hang et al. 2023 (arXiv
    2303.09556); caption dropout for guidance: Ho and Salimans 2022 (arXiv 2207.12598).

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
    device = best_device()
    if device.type == "cpu":
        unet.set_attn_processor(_FullPrecisionAttention())
    modules = torch.nn.ModuleDict({"unet": unet.to(memory_format=torch.channels_last), "text_encoder": text_encoder})
    modules.to(device)
    training = _Training(
        "unet", modules, recipe.unet_learning_rate, recipe.unet_steps, recipe, checkpoint, every, weight_decay=1e-2,
        latents=tensor_digest(latents), captions=hashlib.sha256(table.to_csv().encode()).hexdigest()[:16],
    )  # fmt: skip
    if recipe.balance and recipe.balance in table:
        values = table[recipe.balance]
        weights = (1 / values.map(values.value_counts())).to_numpy(dtype=float)
    else:
        weights = np.ones(len(table))
    cumulative = np.cumsum(weights / weights.sum())
    losses: list[float] = []
    for step in training:
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
        text = text_encoder(ids.to(device)).last_hidden_state
        with _mixed_precision(device):
            predicted = unet(noisy.to(device), timesteps.to(device), text).sample
        error = (predicted.float() - noise.to(device)).square().mean((1, 2, 3))
        snr = compute_snr(scheduler, timesteps)
        loss = (error * (snr.clamp_max(recipe.snr_gamma) / snr).to(device)).mean()
        losses.append(loss.item())
        training.step(loss, mean_loss=f"{np.mean(losses[-200:]):.4f}")
    unet.set_attn_processor(AttnProcessor2_0())
    return unet, text_encoder, losses

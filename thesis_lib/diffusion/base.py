"""The frozen base model: VAE, UNet, text encoder, tokenizer and noise schedule of a Stable Diffusion 1.x or 2.x."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from thesis_lib.errors import ThesisError
from thesis_lib.sections import ModelParameters
from thesis_lib.tensors import best_device, weight_files

BUNDLED = Path(__file__).parent / "miniature_parts"


@dataclass
class BaseModel:
    """The parts of a latent diffusion model, frozen, on one device.

    Attributes:
        name: As the parameter file names it.
        digest: Tells two models of one name apart; part of every manifest row.
        size: Side of the pictures in pixels.
        through_vae: Whether encoders see all pictures through this model's VAE.
        autocast: Lower precision in which the UNet denoises; none for that of its weights.
    """

    name: str
    digest: str
    size: int
    through_vae: bool
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: DDIMScheduler
    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None = None

    @property
    def _batch(self) -> int:
        """Pictures that pass the VAE at once: about 3 GB of fp16 activations, whatever their size."""
        return max(1, min(32, 2**21 // self.size**2))

    @property
    def latent_side(self) -> int:
        """Side of the latents of a picture of `size` pixels."""
        return self.size // 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def scaling_factor(self) -> float:
        """What latents are multiplied with so that their standard deviation is 1."""
        return float(self.vae.config.scaling_factor)

    def signal_to_noise(self, timestep: int) -> float:
        """alpha_bar / (1 - alpha_bar) at `timestep`."""
        alpha_bar = float(self.scheduler.alphas_cumprod[timestep])
        return alpha_bar / (1 - alpha_bar)

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the pictures' scaled latents.

        Args:
            pictures: uint8 (n, 3, size, size).

        Returns:
            Two tensors (n, 4, latent_side, latent_side) in float32 on the CPU.
        """
        means, stds = [], []
        for chunk in pictures.split(self._batch):
            unit = (chunk.to(self.device, torch.float32) / 127.5 - 1).to(self.dtype)
            posterior = self.vae.encode(unit).latent_dist
            means.append(posterior.mean.float().cpu() * self.scaling_factor)
            stds.append(posterior.std.float().cpu() * self.scaling_factor)
        return torch.cat(means), torch.cat(stds)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (n, 4, h, w) to uint8 pictures (n, 3, size, size) on the CPU.

        Raises:
            ThesisError: A picture is not finite; it would come out black.
        """
        pictures = []
        for chunk in latents.split(self._batch):
            decoded = self.vae.decode(chunk.to(self.device, self.dtype) / self.scaling_factor).sample.float().cpu()
            if not bool(decoded.isfinite().all()):
                raise ThesisError(
                    f"{self.name} made pictures with values that are not finite, in {str(self.dtype)[6:]}: "
                    + ("its weights are broken" if self.dtype == torch.float32 else "set model.precision=fp32")
                )
            pictures.append(((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8))
        return torch.cat(pictures)

    def tokenize(self, prompts: list[str]) -> torch.Tensor:
        """Token ids (n, context); a prompt longer than the context is refused, not cut."""
        ids = self.tokenizer(prompts, padding="max_length", max_length=self.tokenizer.model_max_length).input_ids
        long = [prompt for prompt, row in zip(prompts, ids, strict=True) if len(row) > self.tokenizer.model_max_length]
        if long:
            raise ThesisError(
                f"the prompt {long[0]!r} has more tokens than the {self.tokenizer.model_max_length} of {self.name}: "
                "shorten it or use fewer inversion.vectors"
            )
        return torch.tensor(ids)


def base_folder(base: str) -> Path:
    """The folder that `model.base` names, whether it exists or not; a hub id is none."""
    return BUNDLED if base == "bundled" else Path(base).expanduser()


def load_base_model(parameters: ModelParameters) -> BaseModel:
    """Load and freeze a base model.

    Args:
        parameters: `base` is `bundled`, a diffusers folder, or a hub id (downloaded once by huggingface_hub).

    Raises:
        ThesisError: It is not a Stable Diffusion in diffusers' layout, or the size does not fit.
    """
    base = parameters.base
    source = base_folder(base)
    location = str(source) if base == "bundled" or source.exists() else base
    if source.exists() and not (source / "model_index.json").is_file():
        raise ThesisError(
            f"model.base: {base} is not a diffusers folder, it has no model_index.json; "
            "give the folder that save_pretrained wrote, a hub id, or bundled"
        )
    device = best_device()
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    automatic = torch.float16 if device.type == "cuda" else torch.float32
    dtype = dtypes.get(parameters.precision, automatic)
    weights: dict[str, Any] = {"use_safetensors": True}
    if not weight_files(source / "unet") and weight_files(source / "unet", ".fp16"):
        weights["variant"] = "fp16"
    try:
        vae = AutoencoderKL.from_pretrained(location, subfolder="vae", torch_dtype=dtype, **weights)
        unet = UNet2DConditionModel.from_pretrained(location, subfolder="unet", torch_dtype=dtype, **weights)
        text_encoder = CLIPTextModel.from_pretrained(location, subfolder="text_encoder", dtype=dtype, **weights)
        tokenizer = CLIPTokenizer.from_pretrained(location, subfolder="tokenizer")
        # latents are not bounded, and step 0 would be none: as diffusers' own pipelines of these models have it
        scheduler = DDIMScheduler.from_pretrained(location, subfolder="scheduler", clip_sample=False, steps_offset=1)
    except (OSError, ValueError) as error:
        raise ThesisError(
            f"model.base: {base} cannot be loaded as a Stable Diffusion ({' '.join(str(error).split())[:200]}); "
            "give a diffusers folder with safetensors, a hub id, or bundled"
        ) from error
    if len(tokenizer) < 1000 and base != "bundled" and not source.exists():
        raise ThesisError(f"model.base: the tokenizer of {base} has only {len(tokenizer)} tokens: it was not read")
    down = 2 ** (len(vae.config.block_out_channels) - 1) * 2 ** (len(unet.config.block_out_channels) - 1)
    if parameters.size % down:
        raise ThesisError(f"model.size: {parameters.size} does not fit {base}, give a multiple of {down}")
    for module in (vae, unet, text_encoder):
        module.to(device).eval().requires_grad_(False)
    return BaseModel(
        base,
        _digest(unet, text_encoder, vae),
        parameters.size,
        parameters.through_vae,
        vae,
        unet,
        text_encoder,
        tokenizer,
        scheduler,
        device,
        dtype,
    )


def _digest(*modules: nn.Module) -> str:
    """Ten hexadecimal digits of a few weights of every tensor, the same in fp32 and fp16: tells two models apart."""
    sha = hashlib.sha256()
    for module in modules:
        for weight in module.parameters():
            sha.update(weight.detach().flatten()[:64].half().cpu().numpy().tobytes())
    return sha.hexdigest()[:10]

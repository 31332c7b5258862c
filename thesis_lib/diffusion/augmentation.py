"""Image-to-image generation, many pictures at a time (DA-Fusion, Trabucco et al. 2023, arXiv 2302.07944).

A source is noised to the insertion timestep and denoised from there with DDIM (Song et al. 2021, arXiv 2010.02502,
eq. 12, eta = 0) under classifier-free guidance (Ho and Salimans 2022). Every picture has a generator of its own, so it
does not depend on its batch, on the order, or on what ran before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.randomness import derive_seed


@dataclass(frozen=True)
class Request:
    """One picture to make.

    Attributes:
        source: Row of the source picture.
        prompt: The whole prompt, concept tokens in place.
        timestep: Insertion timestep, one of the schedule's (see `insertion_timestep`).
        guidance_scale: 1 is the plain conditional prediction.
        seed: Seeds the picture's own generator.
    """

    source: int
    prompt: str
    timestep: int
    guidance_scale: float
    seed: int


def schedule(base: BaseModel, steps: int) -> list[int]:
    """The timesteps of the whole DDIM schedule, from noise to picture."""
    base.scheduler.set_timesteps(steps)
    return [int(t) for t in base.scheduler.timesteps]


def insertion_timestep(
    base: BaseModel, steps: int, timestep: int | None = None, strength: float | None = None
) -> tuple[int, float]:
    """The timestep at which a source really enters the schedule, and the strength that means the same to diffusers.

    Args:
        base: The base model.
        steps: Steps of the whole schedule.
        timestep: Wanted timestep; the latest of the schedule that is not after it is taken.
        strength: Or diffusers' strength: the last int(steps * strength) steps are run.

    Raises:
        ThesisError: No step would be run.
    """
    times = schedule(base, steps)
    if strength is not None:
        count, wanted = min(int(steps * strength), steps), f"strength {strength}"
    else:
        count, wanted = sum(t <= int(timestep or 0) for t in times), f"timestep {timestep}"
    if count == 0:
        raise ThesisError(
            f"{wanted} of a schedule of {steps} steps runs 0 effective steps, the source would come back unchanged; "
            "raise it or generation.steps"
        )
    return times[steps - count], count / steps


def region_masks(objects: torch.Tensor, region: str, seeds: Sequence[int]) -> torch.Tensor:
    """Where pictures may change.

    Args:
        objects: bool (n, s, s), the object masks.
        region: `none` (everywhere), `object` (grown by a 32nd of the side), `background`, or `box`, a box
            around a random point of the object, half the sides of its bounding box, cut to the grown object.
        seeds: One a picture, for the box.

    Returns:
        bool (n, s, s), True where the picture may change.

    Raises:
        ThesisError: A mask is empty, so that there is nothing to limit the change to.
    """
    if region == "none":
        return torch.ones_like(objects)
    if not objects.flatten(1).any(1).all():
        raise ThesisError(f"mask {region}: an object mask is empty; leave the picture out or set mask to none")
    if region == "background":
        return ~objects
    grow = max(1, objects.shape[-1] // 32)
    grown = objects.float()[:, None]
    for side, pad in (((2 * grow + 1, 1), (grow, 0)), ((1, 2 * grow + 1), (0, grow))):  # a square, quick as two lines
        grown = F.max_pool2d(grown, side, 1, pad)
    grown = grown[:, 0] > 0
    if region == "object":
        return grown
    boxes = torch.zeros_like(objects)
    for i, seed in enumerate(seeds):
        points = objects[i].nonzero()
        point = points[torch.randint(len(points), (), generator=torch.Generator().manual_seed(seed))]
        spans = []
        for at, low, high in zip(point.tolist(), points.amin(0).tolist(), (points.amax(0) + 1).tolist(), strict=True):
            length = max(2, (high - low) // 2)
            start = max(low, min(at - length // 2, high - length))
            spans.append(slice(start, start + length))
        boxes[i, spans[0], spans[1]] = True
    return boxes & grown


@torch.no_grad()
def denoise(
    base: BaseModel, latents: torch.Tensor, timesteps: Sequence[int], text: torch.Tensor, empty: torch.Tensor,
    guidance: torch.Tensor, keep: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:  # fmt: skip
    """Run DDIM over `timesteps`.

    Args:
        base: The base model.
        latents: (n, 4, h, w) at the noise level of the first timestep.
        timesteps: From the insertion timestep down.
        text: (n, context, width) embeddings of the prompts.
        empty: (context, width) embedding of the empty prompt.
        guidance: (n,) guidance scales.
        keep: Optional (may_change (n, 1, h, w), clean (n, 4, h, w), noise (n, 4, h, w)): outside `may_change` the
            latents are held at the noised source at every step (latent blending, as in the inpainting pipeline).

    Returns:
        Clean latents (n, 4, h, w) in float32.
    """
    scale = guidance.to(base.device, torch.float32).view(-1, 1, 1, 1)
    guided = bool((guidance != 1).any())
    context = torch.cat([empty.expand_as(text), text]) if guided else text
    x = latents.to(base.device, torch.float32)
    kept = [part.to(base.device, torch.float32) for part in keep] if keep else None
    for i, t in enumerate(timesteps):
        model_input = x.to(base.dtype)
        with torch.autocast(base.device.type, base.autocast, enabled=base.autocast is not None):
            predicted = base.unet(torch.cat([model_input] * 2) if guided else model_input, t, context).sample.float()
        if guided:
            without, with_prompt = predicted.chunk(2)
            predicted = without + scale * (with_prompt - without)
        x = base.scheduler.step(predicted, t, x).prev_sample
        if kept:
            may_change, clean, noise = kept
            outside = clean
            if i + 1 < len(timesteps):
                outside = base.scheduler.add_noise(clean, noise, torch.tensor([timesteps[i + 1]], device=base.device))
            x = may_change * x + (1 - may_change) * outside
    return x


def composite(new: torch.Tensor, source: torch.Tensor, may_change: torch.Tensor) -> torch.Tensor:
    """Pixels of `new` where the picture may change, of `source` elsewhere; uint8 (n, 3, s, s)."""
    return torch.where(may_change[:, None], new, source)


def noised(
    base: BaseModel, latents: tuple[torch.Tensor, torch.Tensor], requests: Sequence[Request]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where requests of one insertion timestep begin: a draw of the source's latents, the noise, and the two mixed.

    Args:
        base: The base model.
        latents: Mean and standard deviation of the sources' scaled latents, each (m, 4, h, w).
        requests: n of them; only source, timestep and seed count.

    Returns:
        Clean latents, noise and noised latents, each (n, 4, h, w).
    """
    rows = torch.tensor([request.source for request in requests])
    draws = []
    for request in requests:  # the order of diffusers' pipeline: the posterior's noise first, then the forward noise
        generator = torch.Generator("cpu").manual_seed(request.seed)
        draws.append([torch.randn(latents[0].shape[1:], generator=generator) for _ in range(2)])
    posterior_noise, noise = (torch.stack(part) for part in zip(*draws, strict=True))
    clean = latents[0][rows] + latents[1][rows] * posterior_noise
    timesteps = torch.tensor([request.timestep for request in requests])
    return clean, noise, base.scheduler.add_noise(clean, noise, timesteps)


@torch.no_grad()
def augment(
    base: BaseModel, concepts: Concepts, sources: torch.Tensor, latents: tuple[torch.Tensor, torch.Tensor],
    requests: Sequence[Request], steps: int, may_change: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Make the pictures of one batch; all its requests share one insertion timestep.

    Args:
        base: The base model.
        concepts: Encodes the prompts.
        sources: uint8 (m, 3, size, size), what fills the unchanged places of each source picture.
        latents: Mean and standard deviation of the sources' scaled latents, each (m, 4, h, w), encoded once.
        requests: What to make, n of them.
        steps: Steps of the whole schedule.
        may_change: bool (n, size, size), or none for everywhere.

    Returns:
        uint8 (n, 3, size, size).
    """
    start = {request.timestep for request in requests}
    if len(start) != 1:
        raise ValueError(f"the requests of a batch must share one timestep, got {sorted(start)}")
    times = schedule(base, steps)
    times = times[times.index(start.pop()) :]
    rows = torch.tensor([request.source for request in requests])
    clean, noise, noisy = noised(base, latents, requests)
    text = concepts.encode([request.prompt for request in requests])
    guidance = torch.tensor([request.guidance_scale for request in requests])
    keep = None
    if may_change is not None and not may_change.all():
        # A latent may change if any of its pixels may; the pixels outside are restored after decoding.
        latent_mask = F.adaptive_max_pool2d(may_change[:, None].float(), base.latent_side)
        keep = (latent_mask, clean, noise)
    result = base.decode(denoise(base, noisy, times, text, concepts.encode([""])[0], guidance, keep).cpu())
    return result if may_change is None else composite(result, sources[rows], may_change)


@torch.no_grad()
def generate_from_noise(
    base: BaseModel, concepts: Concepts, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance_scale: float
) -> torch.Tensor:
    """Text to picture, for previews of what a concept has learned: uint8 (n, 3, size, size)."""
    shape = (base.unet.config.in_channels, base.latent_side, base.latent_side)
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    guidance = torch.full((len(seeds),), guidance_scale)
    text, empty = concepts.encode(prompts), concepts.encode([""])[0]
    return base.decode(denoise(base, noise, schedule(base, steps), text, empty, guidance).cpu())


def steer(
    base: BaseModel, prompts: Sequence[str], pictures_each: int, steps: int, guidance_scale: float, seed: int
) -> torch.Tensor:
    """Pictures of each prompt from the same noises, to see what words do: uint8 (prompts, pictures_each, 3, s, s)."""
    concepts = Concepts(base, {}, [])
    seeds = [derive_seed(seed, "steer", i) for i in range(pictures_each)]
    rows = [[prompt] * pictures_each for prompt in prompts]
    return torch.stack([generate_from_noise(base, concepts, row, seeds, steps, guidance_scale) for row in rows])


def preview(
    base: BaseModel, concepts: Concepts, count: int, steps: int, guidance_scale: float, seed: int
) -> torch.Tensor:
    """`count` pictures of every class from noise, its concept as prompt: uint8 (classes, count, 3, size, size)."""
    names = [name for name in concepts.classes for _ in range(count)]
    prompts = [concepts.prompt("a photo of a {}", name) for name in names]
    seeds = [derive_seed(seed, "preview", name, i) for i, name in enumerate(names)]
    chunks = [slice(i, i + 32) for i in range(0, len(names), 32)]
    made = [generate_from_noise(base, concepts, prompts[c], seeds[c], steps, guidance_scale) for c in chunks]
    return torch.cat(made).unflatten(0, (-1, count)) if made else torch.empty(0)


@torch.no_grad()
def reconstruct(base: BaseModel, pictures: torch.Tensor, may_change: torch.Tensor | None = None) -> torch.Tensor:
    """Pictures passed through the VAE and nothing else: the decoder's fingerprint; uint8 (n, 3, size, size)."""
    result = base.decode(base.encode(pictures)[0])
    return result if may_change is None else composite(result, pictures, may_change)


def as_seen(base: BaseModel, pictures: torch.Tensor, means: torch.Tensor | None = None) -> torch.Tensor:
    """Pictures as encoders see them: through the VAE, or as they are where `model.through_vae` is false.

    Args:
        base: The base model.
        pictures: uint8 (n, 3, size, size).
        means: The means of their scaled latents, where they have been encoded already.
    """
    if not base.through_vae:
        return pictures
    return reconstruct(base, pictures) if means is None else base.decode(means)

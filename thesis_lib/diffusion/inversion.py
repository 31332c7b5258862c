"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): learn a word for each class, everything else frozen.

All classes are learned together in mixed batches, which costs one pass instead of one a class.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError
from thesis_lib.randomness import torch_generator
from thesis_lib.sections import InversionParameters
from thesis_lib.storage import write_table
from thesis_lib.tensors import load_checkpoint, save_checkpoint, tensor_digest

TEMPLATES = (
    "a photo of a {}", "a photo of the {}", "the photo of a {}", "a photo of one {}", "a photo of my {}",
    "a good photo of a {}", "a good photo of the {}", "a bright photo of the {}", "a dark photo of the {}",
    "a cropped photo of a {}", "a cropped photo of the {}", "a close up photo of a {}", "a close up photo of the {}",
    "a photo of a clean {}", "a photo of a dirty {}", "a photo of a small {}", "a photo of a large {}",
    "a photo of a nice {}",
)  # fmt: skip
"""Eighteen templates, nearly all of them textual inversion's: those that speak of a photo, without "a cool"."""
GRADIENT_SCALE = 1024.0
"""What the loss is multiplied with on its way back through the frozen networks, and the gradient divided by: as a mean
over all latents its gradients are so small that in fp16 most are 0 (Micikevicius et al. 2018, arXiv 1710.03740). A
power of two changes nothing in other precisions."""


def initial_vectors(
    base: BaseModel, classes: Sequence[str], p: InversionParameters, seed: int
) -> dict[str, torch.Tensor]:
    """The initializer word's embedding for every vector, with a little noise so that the vectors differ.

    Raises:
        ThesisError: The initializer word is not one token of the base model.
    """
    ids = base.tokenizer(p.initializer_word, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ThesisError(
            f"inversion.initializer_word: {p.initializer_word!r} is {len(ids)} tokens in {base.name}, "
            "choose a word that is one"
        )
    table = base.text_encoder.get_input_embeddings().weight.float().cpu()
    word, spread = table[ids[0]], table.std()
    return {
        name: word + 0.1 * spread * torch.randn(p.vectors, len(word), generator=torch_generator(seed, "initial", name))
        for name in classes
    }


def learn_concepts(
    base: BaseModel, classes: Sequence[str], pictures: torch.Tensor, labels: torch.Tensor, p: InversionParameters,
    seed: int, folder: Path, every: int = 100,
) -> tuple[Concepts, pd.DataFrame]:  # fmt: skip
    """Learn the concepts of all classes.

    Args:
        base: The base model, without concepts yet.
        classes: Class names; a label indexes them.
        pictures: uint8 (n, 3, size, size), the shots.
        labels: int64 (n,).
        p: Steps, vectors, learning rate.
        seed: The experiment's seed.
        folder: Where the checkpoint goes and is continued from.
        every: Steps between checkpoints.

    Returns:
        The concepts, and a row a step and class drawn: step, class_name, loss.

    Raises:
        ThesisError: Loss not finite, or a vector that never received a gradient.
    """
    if p.method == "real_guidance":
        return Concepts(base, {}, classes), pd.DataFrame({"step": [], "class_name": [], "loss": []})
    concepts = Concepts(base, initial_vectors(base, classes, p, seed), classes)
    embedding = concepts.embedding
    if embedding is None:
        raise ThesisError("there are no classes to learn")
    mean, std = (torch.stack(pair) for pair in zip(base.encode(pictures), base.encode(pictures.flip(-1)), strict=True))
    templates = [[concepts.prompt(template, name) for template in TEMPLATES] for name in classes]
    ids = torch.stack([concepts.ids(prompts) for prompts in templates]).to(base.device)
    optimizer = torch.optim.AdamW([embedding.rows], lr=p.learning_rate, weight_decay=0.0)
    path = folder / "checkpoint.safetensors"
    expected = {
        "parameters": p.model_dump(mode="json"), "seed": seed, "model": base.digest, "classes": list(classes),
        "pictures": tensor_digest(pictures, labels), "precision": str(base.dtype),
    }  # fmt: skip
    first = load_checkpoint(path, {"concepts": embedding}, optimizer, expected=expected)
    history_path = folder / "history.parquet"
    history = json.loads(pd.read_parquet(history_path).to_json(orient="records")) if first else []
    history = [row for row in history if row["step"] < first]
    touched = torch.zeros(len(embedding.rows), dtype=torch.bool)
    last_drawn = base.scheduler.config.num_train_timesteps
    bar = tqdm(range(first, p.steps), initial=first, total=p.steps, desc="textual inversion", mininterval=1)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = p.learning_rate * min(1.0, (step + 1) / max(1, p.warm_up))
        generator = torch_generator(seed, "inversion", step)
        rows = torch.randint(len(pictures), (p.batch,), generator=generator)
        flips = torch.randint(2, (p.batch,), generator=generator)
        drawn = torch.randint(len(TEMPLATES), (p.batch,), generator=generator)
        timesteps = torch.randint(last_drawn, (p.batch,), generator=generator)
        noise = torch.randn((2, p.batch, *mean.shape[2:]), generator=generator)
        clean = mean[flips, rows] + std[flips, rows] * noise[0]
        noisy = base.scheduler.add_noise(clean, noise[1], timesteps)
        if base.scheduler.config.prediction_type == "v_prediction":
            target = base.scheduler.get_velocity(clean, noise[1], timesteps)
        else:
            target = noise[1]
        text = base.text_encoder(ids[labels[rows], drawn]).last_hidden_state
        predicted = base.unet(noisy.to(base.device, base.dtype), timesteps.to(base.device), text).sample
        losses = F.mse_loss(predicted.float().cpu(), target, reduction="none").mean((1, 2, 3))
        optimizer.zero_grad(set_to_none=True)
        (GRADIENT_SCALE * losses.mean()).backward()
        if embedding.rows.grad is None or not torch.isfinite(embedding.rows.grad).all():
            raise ThesisError(
                f"textual inversion: no finite gradient at step {step}; lower inversion.learning_rate, or, with "
                "model.precision=fp16, take bf16 or fp32"
            )
        embedding.rows.grad /= GRADIENT_SCALE
        touched |= embedding.rows.grad.abs().sum(1).cpu() > 0
        optimizer.step()
        history += [
            {"step": step, "class_name": classes[int(labels[row])], "loss": loss}
            for row, loss in zip(rows, losses.tolist(), strict=True)
        ]
        if step % 10 == 0:
            bar.set_postfix(loss=f"{losses.mean().item():.4f}")
        if (step + 1) % every == 0 or step + 1 == p.steps:
            write_table(history_path, pd.DataFrame(history))
            save_checkpoint(path, step + 1, {"concepts": embedding}, optimizer, expected=expected)
    if first < p.steps:
        _assert_all_learned(history, touched, classes, p.vectors, first)
    embedding.requires_grad_(False)
    return concepts, pd.DataFrame(history)


def _assert_all_learned(
    history: list[dict], touched: torch.Tensor, classes: Sequence[str], vectors: int, first: int
) -> None:
    """Every vector of every class drawn since `first` must have received a gradient."""
    drawn = {row["class_name"] for row in history if row["step"] >= first}
    for name, flags in zip(classes, touched.split(vectors), strict=True):
        if name in drawn and not flags.all():
            raise ThesisError(
                f"textual inversion: {int(flags.sum())} of {vectors} vectors of {name} received a gradient"
            )
    never = set(classes) - {row["class_name"] for row in history}
    if never:
        raise ThesisError(
            f"textual inversion: {sorted(never)} were never drawn; raise inversion.steps or inversion.batch"
        )

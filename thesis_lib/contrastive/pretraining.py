"""Pre-training of one arm: SupCon, SimCLR, or a cross-entropy network, for a fixed number of optimiser steps."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from tqdm.auto import tqdm

from thesis_lib.contrastive.batches import Batch, BatchComposer, Pool
from thesis_lib.contrastive.encoders import Classifier, Encoder, ProjectionHead, UnitSphere
from thesis_lib.contrastive.losses import ContrastiveLoss, build_loss
from thesis_lib.contrastive.views import PASTED, StrongViews, Views, paste_backgrounds, to_unit_range
from thesis_lib.errors import ThesisWarning
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.randomness import derive_seed
from thesis_lib.sections import Kind, TrainingParameters
from thesis_lib.storage import write_table
from thesis_lib.tensors import load_checkpoint, save_checkpoint, tensor_digest, warn_of_slow_bf16

Mix = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
"""Pictures (n, 3, h, w), labels (n,) and a seed to mixed pictures and label vectors (n, classes), in any order."""


class TwoStage(nn.Module):
    """An encoder and what stands on it while it trains: a projection head or none, or a linear classifier.

    Args:
        encoder: The encoder.
        head: `ProjectionHead`, `UnitSphere` or `Classifier`.
    """

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures (n, 3, h, w) in [0, 1] to projections or logits."""
        return self.head(self.encoder(pictures))


def build_network(arm: Arm, pools: Mapping[Kind, Pool], parameters: Parameters, seed: int) -> TwoStage:
    """The arm's network with its first weights, which depend on the seed alone, not on the arm.

    Args:
        arm: The arm.
        pools: The training pictures; the real ones give the normalisation and the number of classes.
        parameters: The experiment's.
        seed: The experiment's seed.
    """
    real = pools[Kind.REAL]
    unit = real.pictures.float() / 255
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed(seed, "encoder"))
        encoder = Encoder(parameters.encoder, unit.mean((0, 2, 3)), unit.std((0, 2, 3)).clamp_min(1e-3))
        head: nn.Module
        if arm.is_cross_entropy:
            head = Classifier(encoder.num_features, int(real.labels.max()) + 1)
        elif parameters.encoder.projection is None:
            head = UnitSphere()
        else:
            head = ProjectionHead(encoder.num_features, *parameters.encoder.projection)
    return TwoStage(encoder, head).to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def gather_views(features: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """The features of all processes, in the batch's order, through which gradients flow back to each process.

    Args:
        features: (n / processes, views, dim): the process's rows, rank, rank + processes, ...
        accelerator: Knows the processes.
    """
    if accelerator.num_processes == 1:
        return features
    from torch.distributed.nn.functional import all_gather

    return torch.stack(all_gather(features), dim=1).flatten(0, 1)


def _optimizer(network: nn.Module, p: TrainingParameters) -> torch.optim.Optimizer:
    if p.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=p.learning_rate, momentum=p.momentum, weight_decay=p.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=p.learning_rate, weight_decay=p.weight_decay)


def pretrain(
    arm: Arm,
    pools: Mapping[Kind, Pool],
    parameters: Parameters,
    seed: int,
    folder: Path,
    loss: ContrastiveLoss | None = None,
    views: Views | None = None,
    mix: Mix | None = None,
    paste: bool | None = None,
) -> tuple[TwoStage, pd.DataFrame]:
    """Train one arm's network and return it as it is after the last step.

    Args:
        arm: The arm.
        pools: The training pictures of each kind the arm needs.
        parameters: The experiment's; `training` and `encoder` are used.
        seed: The experiment's seed.
        folder: Where the checkpoint goes and is continued from.
        loss: Takes the place of the contrastive loss that `training` names; for the audit of the published code.
        views: Takes the place of the arm's views; the folder must then be for these views alone.
        mix: Mixes the pictures of a batch and their labels, as mixup does; for cross-entropy arms, one process.
        paste: Whether other backgrounds are pasted behind the objects of half of the views; none for what the arm says.

    Returns:
        The network in evaluation mode, and a row a step: step, loss, excess (loss minus the value of a collapsed
        network), learning_rate.

    Raises:
        ThesisError: The data has too few classes or lacks pictures of a kind.
    """
    p = parameters.training
    warn_of_slow_bf16(p.precision, "training.precision", "fp32")
    AcceleratorState._reset_state()  # an earlier training of this process may have had another precision
    accelerator = Accelerator(mixed_precision="no" if p.precision == "fp32" else p.precision)
    composer = BatchComposer(pools, arm, p, seed)
    network = build_network(arm, pools, parameters, seed)
    optimizer = _optimizer(network, p)
    views = make_views(arm, parameters) if views is None else views
    paste = arm.is_strong if paste is None else paste
    loss_function = build_loss(p) if loss is None else loss
    checkpoint, expected = folder / "checkpoint.safetensors", _what_it_depends_on(arm, parameters, seed, pools)
    first = load_checkpoint(checkpoint, {"network": network}, optimizer, expected=expected)
    history_path = folder / "history.parquet"
    history = pd.read_parquet(history_path).head(first).to_dict("records") if first and history_path.exists() else []
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    wrapped, optimizer = accelerator.prepare(network, optimizer)
    views.to(accelerator.device)
    wrapped.train()
    rank, processes = accelerator.process_index, accelerator.num_processes
    bar = tqdm(
        range(first, p.steps), initial=first, total=p.steps, desc=f"{arm} seed {seed}", mininterval=1,
        disable=not accelerator.is_main_process,
    )  # fmt: skip
    for step in bar:
        rate = p.learning_rate * 0.5 * (1 + math.cos(math.pi * step / p.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = composer.compose(step)
        labels, *roles = (x.to(accelerator.device) for x in (batch.labels, batch.is_near_ood, batch.is_filler))
        if p.objective == "simclr" and not arm.is_cross_entropy:
            labels = torch.arange(len(labels), device=accelerator.device)
        drawn = draw_views(
            views, batch, slice(rank, None, processes), accelerator.device, paste,
            parameters.encoder.size, derive_seed(seed, "views", step, rank),
        )  # fmt: skip
        inputs, targets = drawn.flatten(0, 1), labels.repeat_interleave(2)
        if mix is not None:
            inputs, targets = mix(inputs, targets, derive_seed(seed, "mix", step))
        with accelerator.autocast():
            out = wrapped(inputs.contiguous(memory_format=torch.channels_last)).unflatten(0, drawn.shape[:2])
        out = gather_views(out, accelerator)
        if arm.is_cross_entropy:
            objective = nn.functional.cross_entropy(out.float().flatten(0, 1), targets)
            collapsed = math.log(out.shape[-1])
        else:
            objective = loss_function(out, labels, *roles)
            collapsed = loss_function.collapse_value(labels, 2, *roles).item()
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(objective)
        optimizer.step()
        value = objective.item()
        history.append({"step": step, "loss": value, "excess": value - collapsed, "learning_rate": rate})
        if step % 10 == 0:
            bar.set_postfix(loss=f"{value:.3f}", excess=f"{value - collapsed:.3f}")
        if accelerator.is_main_process and ((step + 1) % p.checkpoint_every == 0 or step + 1 == p.steps):
            write_table(history_path, pd.DataFrame(history))
            save_checkpoint(checkpoint, step + 1, {"network": network}, optimizer, expected=expected)
    curve = pd.DataFrame(history)
    if has_collapsed(curve):
        warnings.warn(
            f"{arm}, seed {seed}: the network collapsed, its loss stays at the value of constant features; "
            "lower training.learning_rate or raise training.temperature",
            ThesisWarning,
            stacklevel=2,
        )
    return network.eval(), curve


def make_views(arm: Arm, parameters: Parameters) -> Views:
    """What draws an arm's views."""
    kind = StrongViews if arm.is_strong else Views
    return kind(parameters.encoder.size, parameters.training.views)


def draw_views(
    views: Views, batch: Batch, mine: slice, device: torch.device, paste: bool, size: int, seed: int
) -> torch.Tensor:
    """Two views of each of a process's pictures, anchors' views drawn apart from the others': the same in every arm.

    Args:
        views: Draws them.
        batch: The whole batch.
        mine: The process's rows.
        device: Where they are drawn.
        paste: Whether backgrounds are pasted first, behind the objects of half of the views, where masks are known;
            each view has its own, lest a shared one tell which two are of one picture.
        size: Side of a view in pixels.
        seed: The step's and process's seed.

    Returns:
        (n, 2, 3, size, size) in [0, 1].
    """
    unit = to_unit_range(batch.pictures[mine].to(device), size)
    if paste and batch.masks is not None:
        twice, masks = (x.repeat_interleave(2, dim=0) for x in (unit, batch.masks[mine].to(device)))
        pasted = paste_backgrounds(twice, masks, PASTED, derive_seed(seed, "backgrounds"))
        return views(pasted, 1, seed)[:, 0].unflatten(0, (len(unit), 2))
    if batch.second is None:
        anchors = ~(batch.is_near_ood | batch.is_filler)[mine].to(device)
        parts = [views(unit[anchors], 2, seed)]
        if not anchors.all():
            parts.append(views(unit[~anchors], 2, derive_seed(seed, "others")))
        drawn = torch.empty(len(unit), *parts[0].shape[1:], device=device)
        drawn[anchors], drawn[~anchors] = parts[0], parts[-1] if len(parts) > 1 else parts[0][:0]
        return drawn
    second = to_unit_range(batch.second[mine].to(device), size)
    return torch.cat([views(unit, 1, seed), views(second, 1, derive_seed(seed, "second"))], dim=1)


def _what_it_depends_on(arm: Arm, parameters: Parameters, seed: int, pools: Mapping[Kind, Pool]) -> dict[str, object]:
    """What a checkpoint must agree with to be continued: everything but how often checkpoints are written."""
    training = parameters.training.model_dump(mode="json", exclude={"checkpoint_every"})
    pictures = {
        str(kind): tensor_digest(*(x for x in (pool.pictures, pool.labels, pool.masks, pool.sources) if x is not None))
        for kind, pool in pools.items()
    }
    return {
        "arm": str(arm), "seed": seed, "training": training, "encoder": parameters.encoder.model_dump(mode="json"),
        "pictures": pictures,
    }  # fmt: skip


def has_collapsed(history: pd.DataFrame, tolerance: float = 0.02) -> bool:
    """Whether the loss ends where a network that maps everything to one point would be.

    Args:
        history: What `pretrain` returns.
        tolerance: Distance in nats, over the last tenth of the steps.
    """
    last = history["excess"].tail(max(5, len(history) // 10))
    return bool(last.abs().mean() < tolerance)

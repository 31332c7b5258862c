"""The published code's defects, each a switch of its own, for the reproduction audit (notebook 11) and nothing else.

Written from their descriptions; no line of the published code is here. By number: 1 the labels of synthetic pictures
are shuffled; 2 the hard-negative mask multiplies anchor rows; 3 the other views of an anchor's picture are deleted;
4 anchors without positives count as zero loss; 5 near-OOD pictures of class 0 are positives; 6 the concepts are not
used; 7 only a concept's first vector is learned; 8 unequal steps; 9 the evaluation. 0 is the correct version.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from thesis_lib.contrastive.arms import build_pools
from thesis_lib.contrastive.batches import Pool
from thesis_lib.contrastive.losses import SupConLoss
from thesis_lib.contrastive.pretraining import TwoStage, build_network, pretrain
from thesis_lib.contrastive.probe import train_probe
from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.diffusion.base import load_base_model
from thesis_lib.diffusion.concepts import Concepts, expand, load_concepts, placeholder
from thesis_lib.diffusion.generation import generate
from thesis_lib.diffusion.inversion import initial_vectors, learn_concepts
from thesis_lib.diffusion.manifest import SCORES, read_manifest, sets_of
from thesis_lib.evaluation.features import accuracy, collect_features
from thesis_lib.evaluation.ood import evaluate_arm
from thesis_lib.parameters import Arm, Parameters
from thesis_lib.randomness import derive_seed, numpy_generator
from thesis_lib.sections import Kind
from thesis_lib.storage import json_once
from thesis_lib.tensors import load_tensors, tensor_digest

REAL, REAL_ID, REAL_ID_NEAROOD = COMPARED = (Arm.REAL, Arm.REAL_ID, Arm.REAL_ID_NEAROOD)
STEPS = {REAL: 16.5, REAL_ID: 25.3, REAL_ID_NEAROOD: 29.7}
"""Thousands of steps of the published runs 1, 2 and 3; run 1's are the unit of erratum 8."""
CONCERNED = {erratum: COMPARED[first:] for erratum, first in enumerate((0, 1, 2, 0, 2, 2, 1, 1, 1, 0))}
"""The arms that an erratum changes. 2, 4 and 5 act through near-OOD pictures: 4 because in batches composed class by
class every other anchor has a positive."""


class LegacyLoss(SupConLoss):
    """The supervised contrastive loss with any of errata 2 to 5; without, it is `SupConLoss` with own_class negatives.

    Args:
        temperature: tau > 0.
        errata: Numbers; those that do not concern the loss change nothing.
    """

    def __init__(self, temperature: float = 0.07, errata: Collection[int] = ()) -> None:
        super().__init__(temperature, "own_class")
        self.errata = frozenset(errata)

    def forward(
        self, features: Tensor, labels: Tensor, is_near_ood: Tensor | None = None, is_filler: Tensor | None = None
    ) -> Tensor:
        """A scalar; arguments as for `SupConLoss`, the audit's arms have no fillers."""
        batch, views, _ = features.shape
        is_near_ood = torch.zeros_like(labels, dtype=torch.bool) if is_near_ood is None else is_near_ood
        if 5 in self.errata:  # a near-OOD picture's label is minus its class, and -0 is 0
            is_near_ood = is_near_ood & (labels != 0)
        near, label = is_near_ood.repeat_interleave(views), labels.repeat_interleave(views)
        same_class = label[:, None] == label[None, :]
        # erratum 3: a batch's identity matrix, tiled over the views
        row = torch.arange(batch * views, device=features.device) // (views if 3 in self.errata else 1)
        other = row[:, None] != row[None, :]
        positive = same_class & other & ~near[None, :] & ~near[:, None]
        anchors = positive.any(dim=1)
        if not anchors.any():
            return features.float().sum() * 0.0
        contrast = other & (~near[None, :] | same_class)
        flat = features.float().flatten(0, 1)
        logits = flat[anchors] @ flat.T / self.temperature
        if 2 in self.errata:
            # Meant: other classes' near-OOD columns are ignored. Done: a factor by the anchor's row, 1 or, for its own
            # class's near-OOD, 2; on a near-OOD row 0 or 1, where 0 makes a logit the largest instead of ignoring it.
            own_near = same_class & (near[:, None] != near[None, :])
            factor = own_near.float() + (~near).float()[:, None]
            logits = (logits - logits.amax(1, keepdim=True).detach()) * factor[anchors]
            contrast = other
        log_probability = logits - logits.masked_fill(~contrast[anchors], -torch.inf).logsumexp(dim=1, keepdim=True)
        positive = positive[anchors]
        losses = -(log_probability * positive).sum(1) / positive.sum(1)
        return losses.sum() / len(anchors) if 4 in self.errata else losses.mean()


def near_ood_gradient(errata: Collection[int], made_from: int) -> float:
    """Norm of the gradient on a near-OOD picture, at cosine 0.8 to two pictures of class 1, orthogonal to two of 2."""
    features = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0.8, 0, 0.6]], requires_grad=True)
    loss = LegacyLoss(0.07, errata)(features[:, None], torch.tensor([1, 1, 2, 2, made_from]), torch.arange(5) == 4)
    return torch.autograd.grad(loss, features)[0][4].norm().item()


def shuffled_labels(pools: Mapping[Kind, Pool], seed: int) -> dict[Kind, Pool]:
    """Erratum 1: synthetic files in any order, labels appended class by class; real pictures keep theirs."""
    shuffled = dict(pools)
    for kind in set(pools) - {Kind.REAL}:
        order = numpy_generator(seed, "erratum 1", str(kind)).permutation(len(pools[kind].labels))
        shuffled[kind] = Pool(pools[kind].pictures[order], pools[kind].labels.sort().values)
    return shuffled


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all trainings of one seed share.

    Attributes: `data`, pictures as encoders see them, and `photographs`, as they were taken; `rows` of the shots; the
    run's folders of `synthetic` pictures and `concepts`; the audit's `folder`.
    """

    data: PreparedData
    photographs: PreparedData
    rows: Tensor
    parameters: Parameters
    seed: int
    synthetic: Path
    concepts: Path
    folder: Path

    def made(self, erratum: int) -> Path:
        """Where the synthetic pictures of errata 6, 7 and 9 go."""
        return self.folder / f"erratum{erratum}" / f"seed{self.seed}"

    def training(self, erratum: int, arm: Arm) -> tuple[dict[Kind, Pool], Parameters, Path]:
        """Pictures, parameters and folder of a training; other pictures or parameters have another folder."""
        synthetic = self.made(erratum) if erratum in (6, 7) else self.synthetic
        shots = self.data.images.select(self.rows)
        pools = build_pools(arm, self.parameters, self.seed, shots, synthetic, None)
        pools = shuffled_labels(pools, self.seed) if erratum == 1 else pools
        steps = round(self.parameters.training.steps * (STEPS[arm] / STEPS[REAL] if erratum == 8 else 1))
        training = self.parameters.training.model_copy(update={"steps": steps, "checkpoint_every": -(-steps // 4)})
        p = self.parameters.model_copy(update={"training": training})
        made_of = [getattr(p, name).model_dump(mode="json") for name in ("training", "encoder", "probe", "evaluation")]
        digests = [tensor_digest(pool.pictures, pool.labels) for pool in pools.values()]
        key = hashlib.sha256(json.dumps([*made_of, *digests]).encode()).hexdigest()[:8]
        return pools, p, self.folder / f"erratum{erratum}" / f"{arm}_seed{self.seed}_{key}"


def remake_pictures(bench: Bench, erratum: int) -> None:
    """Make the run's synthetic pictures anew into `bench.made`: sources, timesteps, guidance, noise as they were.

    Erratum 6: with plain class names. 7: with concepts whose first vector was learned without the others in the prompt;
    those stay as they began. 9: the near-OOD pictures, with other noise, so that no network was trained on them.
    An experiment without concepts gets the pictures it has; siblings, whose prompts hold no concept, are left out.
    """
    p, seed, folder, classes = bench.parameters, bench.seed, bench.made(erratum), bench.data.classes
    shots = bench.photographs.images.select(bench.rows)
    work = read_manifest(bench.synthetic)[0].drop(columns=["source_digest", *SCORES], errors="ignore")
    work = work[sets_of(work) != "sibling"].reset_index(drop=True)
    base = load_base_model(p.model)
    if erratum == 6:
        concepts = Concepts(base, {}, classes)
    elif erratum == 7:
        one, labels = p.inversion.model_copy(update={"vectors": 1}), torch.tensor(shots.table["label"].to_numpy())
        vectors = initial_vectors(base, classes, p.inversion, seed)
        learned, _ = learn_concepts(base, classes, shots.pictures, labels, one, seed, folder)
        for name, rows in learned.vectors().items():
            vectors[name][:1] = rows
        base = load_base_model(p.model)  # the other has learned its words
        concepts = Concepts(base, vectors, classes)
    else:
        concepts = load_concepts(bench.concepts, base)
        work = work[sets_of(work) == "near_ood"].reset_index(drop=True)
        work["seed"] = [derive_seed(drawn, "unseen") for drawn in work["seed"]]
    words = {name: " ".join(expand(placeholder(name), p.inversion.vectors)) for name in classes}
    prompts = zip(work["prompt"], work["class_name"], strict=True)
    work["prompt"] = [concepts.prompt(prompt.replace(words[name], "{}"), name) for prompt, name in prompts]
    work["concept"] = [concepts.digest(name) for name in work["class_name"]]
    work["source"] = [shots.table["source_id"].tolist().index(name) for name in work["source_id"]]
    generate(base, concepts, work, shots.pictures, shots.masks, p.generation, folder)


def train_and_measure(bench: Bench, erratum: int, arm: Arm) -> dict[str, float]:
    """Train an arm with one erratum, or with none, and evaluate it as this project does; what is done is only read.

    Returns:
        ``top1/test``, ``top1/field`` (shares), ``auroc/near/knn`` (ID: test; mean of the near parts), and the mean
        confidence on test, ``confidence/id``, and on near parts, ``confidence/ood``; without what the data lack.
    """
    pools, p, folder = bench.training(erratum, arm)

    def measure() -> dict[str, dict[str, float]]:
        loss = LegacyLoss(p.training.temperature, {erratum})
        _keep_quarters(loss, folder / "checkpoint.safetensors")
        network, _ = pretrain(arm, pools, p, bench.seed, folder, loss=loss)
        features, ood = _features(bench, network, pools, bench.data), bench.data.ood
        found = evaluate_arm(features, bench.data.images.table, ood.table if ood else None, p.evaluation)
        measured = {f"top1/{split}": share for split, share in found["top1"].items()}
        if near := found.get("auroc", {}).get("near"):
            confidence = found["thesis_confidence"]["test"]["near"]
            measured |= {"auroc/near/knn": near["knn"]} | {f"confidence/{at}": confidence[at] for at in ("id", "ood")}
        return {"measured": measured}

    return dict(json_once(folder / "measured.json", _tested(bench.data), measure)["measured"])


def measure_as_published(bench: Bench, arm: Arm) -> dict[str, float]:
    """Erratum 9: the correct networks at their best quarter on validation, evaluated on validation.

    OOD are the run's near-OOD pictures, on which the third arm was trained, and as many that are new; confidence is the
    mean of the means of batches of 16. `train_and_measure` without errata and `remake_pictures` come first.

    Returns:
        As `train_and_measure`, without field: under each name what takes its place.
    """
    pools, p, folder = bench.training(0, arm)
    seen, (manifest, new) = bench.training(0, REAL_ID_NEAROOD)[0][Kind.NEAR_OOD], read_manifest(bench.made(9))
    made_from = [bench.data.classes[label] for label in [*seen.labels.tolist(), *manifest["label"]]]
    ood = pd.DataFrame({"class_name": made_from, "set": "near", "split": "valid"})
    generated = PreparedSet(ood, torch.cat([seen.pictures, new]), torch.zeros(len(ood), 1, 1, dtype=torch.bool))
    data = dataclasses.replace(bench.data, ood=generated, oracle=None)

    def measure() -> dict[str, dict[str, float]]:
        quarters = []
        for checkpoint in [*sorted(folder.glob("quarter_*")), folder / "checkpoint.safetensors"]:
            network, state = build_network(arm, pools, p, bench.seed), load_tensors(checkpoint)[0].items()
            network.load_state_dict({k.removeprefix("network|"): v for k, v in state if k.startswith("network|")})
            quarters.append(_features(bench, network.eval(), pools, data))
        best = max(quarters, key=lambda features: accuracy(features, data, "valid"))
        near = evaluate_arm(best, data.images.table, ood, p.evaluation)["ood_valid"]["near"]["knn"]["auroc"]
        measured = {"top1/test": accuracy(best, data, "valid"), "auroc/near/knn": near}
        for at, part in (("id", "valid"), ("ood", "ood")):
            confidence = best[f"{part}_logits"].softmax(1).amax(1)
            measured[f"confidence/{at}"] = torch.stack([batch.mean() for batch in confidence.split(16)]).mean().item()
        return {"measured": measured}

    return dict(json_once(folder / "as_published.json", _tested(data), measure)["measured"])


def _tested(data: PreparedData) -> str:
    """A digest of the pictures that a network is evaluated on; the folder's name stands for what it is trained on."""
    sets = [data.images, *([data.ood] if data.ood else [])]
    tables = "".join(prepared.table.to_csv() for prepared in sets)
    return tensor_digest(*(prepared.pictures for prepared in sets)) + hashlib.sha256(tables.encode()).hexdigest()[:8]


def _features(bench: Bench, network: TwoStage, pools: Mapping[Kind, Pool], data: PreparedData) -> dict[str, Tensor]:
    """A probe on the network, and the features with its logits, as in notebook 05."""
    p, probed = bench.parameters, [pool for kind, pool in pools.items() if kind is not Kind.NEAR_OOD]
    classes = len(data.classes)
    classifier = train_probe(network.encoder, probed, p.encoder, p.probe, p.training.views, classes, bench.seed)
    return collect_features(network.encoder, classifier, data, bench.rows, p.encoder.size, p.evaluation)


def _keep_quarters(loss: nn.Module, checkpoint: Path) -> None:
    """Have a loss, which is called at each step, keep every quarter's checkpoint before the next overwrites it."""

    def keep(*_: object) -> None:
        if checkpoint.exists():
            copy = checkpoint.with_name(f"quarter_{checkpoint.stat().st_mtime_ns}.safetensors")
            if not copy.exists():
                shutil.copy(checkpoint, copy)

    loss.register_forward_pre_hook(keep)

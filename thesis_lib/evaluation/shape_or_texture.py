"""Texture or shape? What of a network's skill survives when one of them is taken from the test pictures.

Two tests, each the other's complement:

- Patches. A picture is cut into k x k patches, which change places at random (Zhang and Zhu 2019, arXiv 1905.09797,
  section 3.2; Naseer et al. 2021, arXiv 2105.10497, section 3.2). Colour, texture and shapes smaller than a patch
  remain, the silhouette and the order of parts go.
- Flat objects. The object is filled with one colour (after the silhouettes of Geirhos et al. 2019, arXiv 1811.12231,
  here in colour and before the untouched background). Silhouette, size and background remain, texture goes; with the
  object's own mean colour that remains, too.

In both the background remains (its order and shadows only with flat objects), and how much of the picture the object
takes up. What these alone give away is seen on flat objects whose patches then change places.

All pictures have passed through the base model's VAE before (`diffusion.through_vae`); what is changed is not passed
again. No network was trained on changed pictures: seams between patches and the hard edges of flat objects are strange
to it, so what survives is a lower bound of what each cue alone would give. Compare arms, which all see the same
pictures, and do not read much into the sign.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from thesis_lib.contrastive.probe import extract_features
from thesis_lib.datasets import PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.evaluation.classification import classification_metrics
from thesis_lib.evaluation.saliency import SPLITS, Networks
from thesis_lib.randomness import numpy_generator

PATCHES = (2, 4, 8)
"""Patches a side."""
FINEST = PATCHES[-1]
INTACT, FLAT, FLAT_OWN, FLAT_PATCHES = "intact", "flat", "flat_own", "flat_patches"
SHUFFLED = f"patches{FINEST}"
LEAST_SKILL = 0.1
"""Of less skill no share is taken: it would be one of noise."""


def shuffle_patches(pictures: Tensor, k: int, names: Sequence[str], seed: int) -> Tensor:
    """Cut pictures into k x k patches and let them change places.

    Args:
        pictures: (n, c, s, s).
        k: Patches a side; 1 changes nothing.
        names: n names of the pictures. Each has a permutation of its own, drawn from all by seed, k and name: the same
            in every order, batch and arm.
        seed: The experiment's seed.

    Returns:
        (n, c, s, s), the same patches in other places.

    Raises:
        ThesisError: The side is no multiple of k.
    """
    side = pictures.shape[-1]
    if side % k:
        raise ThesisError(f"pictures of {side} px cannot be cut into {k} x {k} patches: make model.size a multiple")
    # channel, patch row, row, patch column, column -> patch, channel, row, column
    patches = pictures.unflatten(3, (k, -1)).unflatten(2, (k, -1)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    orders = [numpy_generator(seed, "patches", k, name).permutation(k * k) for name in names]
    moved = patches[torch.arange(len(pictures))[:, None], torch.from_numpy(np.stack(orders))]
    return moved.unflatten(1, (k, k)).permute(0, 3, 1, 4, 2, 5).reshape(pictures.shape)


def object_colours(pictures: Tensor, masks: Tensor) -> Tensor:
    """The mean colour of each picture's object: (n, 3) floats from (n, 3, s, s) uint8 and (n, s, s) bool masks.

    Black where there is no object.
    """
    inside = masks[:, None].float()
    return (pictures * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1)


def flatten_objects(pictures: Tensor, masks: Tensor, colours: Tensor) -> Tensor:
    """Fill objects with one colour: (n, 3, s, s) uint8, (n, s, s) bool masks, (n, 3) or (3,) colours, 0 to 255."""
    return torch.where(masks[:, None], colours.expand(len(pictures), 3)[..., None, None].round().byte(), pictures)


def changed_pictures(images: PreparedSet, seed: int) -> dict[str, Callable[[], Tensor]]:
    """What makes each kind of changed picture, (n, 3, s, s) uint8, when it is called: they may be large.

    Args:
        images: Test pictures as encoders see them, each with a mask, or none with one.
        seed: The experiment's seed.

    Returns:
        `intact`; `patches2`, `patches4`, `patches8`; where there are masks also `flat_own` (the object in its own mean
        colour), `flat` (every object in the same, their mean) and `flat_patches` (the latter's 8 x 8 patches shuffled
        as in `patches8`).
    """
    pictures, masks, names = images.pictures, images.masks, list(images.table["source_id"])
    kinds: dict[str, Callable[[], Tensor]] = {INTACT: lambda: pictures}
    for k in PATCHES:
        kinds[f"patches{k}"] = lambda k=k: shuffle_patches(pictures, k, names, seed)  # type: ignore[misc]
    if masks.any():
        own, there = object_colours(pictures, masks), masks.flatten(1).any(1)
        kinds[FLAT_OWN] = lambda: flatten_objects(pictures, masks, own)
        kinds[FLAT] = lambda: flatten_objects(pictures, masks, own[there].mean(0))
        kinds[FLAT_PATCHES] = lambda: shuffle_patches(kinds[FLAT](), FINEST, names, seed)
    return kinds


def skills(confusion: Sequence[Sequence[int]]) -> np.ndarray:
    """How well each class is told from the others: recall minus the mean share of another class's pictures called so.

    This is informedness, Youden's J of one class against the rest, the rest's classes weighing the same. Recall alone
    would praise the class that a network names whenever it is lost, as networks do on strange pictures.

    Args:
        confusion: (c, c) counts, row = true class, at least two classes.

    Returns:
        (c,) in [-1, 1], 0 by chance, nan for a class without pictures. Where all classes have pictures the mean is the
        mean recall R corrected for chance, (R - 1 / c) / (1 - 1 / c).
    """
    counts = np.asarray(confusion, dtype=float)
    with np.errstate(invalid="ignore"):
        share = counts / counts.sum(1, keepdims=True)
    others = np.where(np.eye(len(share), dtype=bool), np.nan, share)
    return share.diagonal() - np.nanmean(others, axis=0)


def skill_table(networks: Networks, images: PreparedSet, seed: int) -> pd.DataFrame:
    """Every arm on every kind of changed test and field picture.

    Args:
        networks: Of each arm.
        images: The classes' pictures as encoders see them. Where some have no mask, those are left out.
        seed: The experiment's seed.

    Returns:
        A row an arm, split, kind of `changed_pictures` and class: arm, split, kind, class_name, pictures, recall in
        [0, 1], skill in [-1, 1].
    """
    rows, has_mask = [], images.masks.flatten(1).any(1).numpy()
    classes = images.table.groupby("label")["class_name"].first()
    sets = {}
    for split in SPLITS:
        chosen = (images.table["split"] == split).to_numpy()
        if chosen.any():
            sets[split] = images.select(chosen & has_mask if (chosen & has_mask).any() else chosen)
    jobs = [(split, part, *kind) for split, part in sets.items() for kind in changed_pictures(part, seed).items()]
    for split, part, kind, make in tqdm(jobs, desc="texture or shape"):
        pictures, labels = make(), torch.tensor(part.table["label"].to_numpy())
        for arm, (encoder, classifier) in networks.items():
            network = nn.Sequential(encoder, classifier)
            logits = extract_features(network, pictures, encoder.settings.size)
            measured = classification_metrics(logits, labels)
            count = np.sum(measured["confusion"], axis=1)
            frame = pd.DataFrame({"class_name": classes, "pictures": count, "recall": measured["per_class"]})
            rows.append(frame.assign(skill=skills(measured["confusion"]), arm=arm, split=split, kind=kind))
    table = pd.concat(rows, ignore_index=True)
    return table[["arm", "split", "kind", "class_name", "pictures", "recall", "skill"]]


def summarise(inside: pd.DataFrame, table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Where each arm looks and what it lives on.

    With the skill J of a kind of picture, averaged over classes,

        texture = J(patches8) / J(intact),    shape = J(flat) / J(intact),    lean = shape - texture

    are the shares of an arm's skill that survive without the silhouette and the order of parts, and without texture and
    colour. `lean` runs from about -1 (lives on texture and colour alone) to 1 (on the silhouette alone). It needs no
    floor taken off: what background and size alone give, J(flat_patches), is in both terms and cancels. Cues that
    stand in for each other make both shares high, those that only help together make both low; neither moves `lean`.

    Args:
        inside: As `saliency.inside_table` makes it.
        table: As `skill_table` makes it.
        by: Columns that both have, such as arm and split, or arm, split and class_name.

    Returns:
        Indexed by `by`: the mean shares inside, area, centre; `blind`, the share of masked pictures without saliency
        for their class; skill_<kind>; texture, shape, lean: nan where the intact skill is below 0.1 or masks lack.
    """
    groups = inside.assign(blind=inside["inside"].isna().where(inside["area"].notna())).groupby(list(by), sort=False)
    result = groups[["inside", "area", "centre", "blind"]].mean()
    skill = table.groupby([*by, "kind"], sort=False)["skill"].mean().unstack()
    kinds = list(dict.fromkeys(table["kind"]))
    intact = skill[INTACT].where(skill[INTACT] >= LEAST_SKILL)
    result = result.join(skill[kinds].add_prefix("skill_"))
    result["texture"], result["shape"] = skill[SHUFFLED] / intact, skill.get(FLAT, np.nan) / intact
    return result.assign(lean=result["shape"] - result["texture"])

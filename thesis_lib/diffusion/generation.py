"""The synthetic sets: a work list of pictures, made in batches, each written once with its whole origin inside.

A PNG carries its manifest row as text. So a resumed run compares all that determines a picture, picture by picture, and
the work can be divided among machines that share a folder.
"""

import dataclasses
import itertools
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from tqdm.auto import tqdm

from thesis_lib.diffusion.augmentation import Request, as_seen, augment, insertion_timestep, region_masks
from thesis_lib.diffusion.base import BaseModel
from thesis_lib.diffusion.concepts import Concepts
from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.randomness import derive_seed, numpy_generator
from thesis_lib.sections import GenerationParameters, SetParameters
from thesis_lib.storage import atomic, write_table
from thesis_lib.tensors import tensor_digest, warn_of_slow_bf16

ROW = "thesis"
"""Name of the PNG text chunk that holds a picture's manifest row."""


def choose_sources(shots: pd.DataFrame, masks: torch.Tensor, p: GenerationParameters, seed: int) -> pd.DataFrame:
    """The source pictures of each class, chosen among the shots by the seed; with a mask, where one is needed.

    Args:
        shots: The few-shot rows of the image table, with a RangeIndex.
        masks: bool (n, s, s), their object masks.
        p: Number of sources, and the masks' use.
        seed: The experiment's seed.

    Returns:
        The chosen rows, their index kept.

    Raises:
        ThesisError: A class has no picture with a mask although the change is to be limited by it.

    Warns:
        ThesisWarning: A class has fewer sources than asked for.
    """
    usable = shots[masks.flatten(1).any(1).numpy()] if p.masked_sets else shots
    if problem := p.mask_problem(shots["class_name"], usable["class_name"]):
        raise ThesisError(problem)
    there = usable.groupby("class_name", sort=True).size()
    if fewer := [f"{name} {count}" for name, count in there.items() if count < p.sources]:
        which = "training pictures with a mask" if p.masked_sets else "training pictures"
        warnings.warn(
            f"generation.sources asks for {p.sources} a class, there are fewer {which} of: {', '.join(fewer)}; these "
            "classes get fewer synthetic pictures",
            ThesisWarning,
            stacklevel=2,
        )
    chosen = [
        numpy_generator(seed, "sources", str(name)).permutation(rows.index.to_numpy())[: p.sources]
        for name, rows in usable.groupby("class_name", sort=True)
    ]
    return shots.loc[np.concatenate(chosen)]


def entry_points(base: BaseModel, p: GenerationParameters, settings: SetParameters) -> list[tuple[int, float]]:
    """Timestep and strength at which the sources of a set enter the schedule; none yet where timesteps is `auto`.

    Raises:
        ThesisError: As `insertion_timestep` does.
    """
    given = [] if settings.timesteps == "auto" else settings.timesteps
    return [insertion_timestep(base, p.steps, timestep=t) for t in given] + [
        insertion_timestep(base, p.steps, strength=s) for s in settings.strengths
    ]


def work_list(
    base: BaseModel, concepts: Concepts, sources: pd.DataFrame, p: GenerationParameters, seed: int,
    tried: Mapping[int, int] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row a picture to make: the manifest's columns and `source`, the row of the source in `sources`' index.

    Timestep, guidance scale and prompt are drawn for each picture from the set's lists; the draw depends on the
    seed, the set, the source and, for timesteps that are tried out, the timestep alone: a longer list holds a shorter.

    Args:
        base: The base model.
        concepts: Puts the concept into the prompt.
        sources: Source rows of the image table.
        p: The sets.
        seed: The experiment's seed.
        tried: For `near_ood.timesteps: auto`: timestep -> pictures a source.

    Raises:
        ThesisError: A strength or timestep that runs no step, or a class without a concept.
    """
    digests = {name: concepts.digest(name) for name in sources["class_name"].unique()}
    rows: list[dict[str, Any]] = []
    for name, (kind, settings) in p.sets.items():
        parts = [("", entry_points(base, p, settings), p.per_source)]
        if settings.timesteps == "auto":
            entries = [(insertion_timestep(base, p.steps, timestep=t), count) for t, count in (tried or {}).items()]
            parts = [(f"t{entry[0]:03d}_", [entry], count) for entry, count in entries]
        for (tag, entry_list, count), (index, source) in itertools.product(parts, sources.iterrows()):
            for number in range(count):
                key = (name, source["source_id"], f"{tag}{number}" if tag else number)
                random = numpy_generator(seed, "draw", *key)
                timestep, strength = entry_list[random.integers(len(entry_list))]
                template = settings.prompts[random.integers(len(settings.prompts))]
                rows.append(
                    {
                        "path": f"{name}/{source['label']:03d}_{index:05d}_{tag}{number:02d}.png",
                        "source_path": source["path"],
                        "source_id": source["source_id"],
                        "class_name": source["class_name"],
                        "label": int(source["label"]),
                        "kind": str(kind),
                        "strength": strength,
                        "timestep": timestep,
                        "snr": base.signal_to_noise(timestep),
                        "guidance_scale": float(
                            settings.guidance_scales[random.integers(len(settings.guidance_scales))]
                        ),
                        "prompt": concepts.prompt(template, source["class_name"]),
                        "seed": derive_seed(seed, "picture", *key),
                        "model": f"{base.name} {base.digest}",
                        "concept": digests[source["class_name"]] if "{}" in template else "none",
                        "steps": p.steps,
                        "scheduler": type(base.scheduler).__name__,
                        "precision": p.precision,
                        "mask": settings.mask,
                        "through_vae": base.through_vae,
                        "size": base.size,
                        "source": int(index),
                    }
                )
    return pd.DataFrame(rows)


def _is_done(path: Path, row: dict[str, Any]) -> bool:
    """Whether the picture at `path` is whole and was made as `row` says, all of it."""
    if not path.exists():
        return False
    try:
        with Image.open(path) as picture:
            picture.load()
            return json.loads(picture.info.get(ROW, "null")) == row
    except (OSError, UnidentifiedImageError, json.JSONDecodeError):
        return False


def _write(path: Path, picture: torch.Tensor, row: dict[str, Any]) -> None:
    info = PngInfo()
    info.add_itxt(ROW, json.dumps(row))
    with atomic(path) as temporary:
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(temporary, pnginfo=info)


def generate(
    base: BaseModel, concepts: Concepts, work: pd.DataFrame, pictures: torch.Tensor, masks: torch.Tensor,
    p: GenerationParameters, folder: Path, shard: tuple[int, int] = (0, 1),
) -> pd.DataFrame:  # fmt: skip
    """Make the pictures of `work` that are not there yet; write the manifest once all of them are.

    Args:
        base: The base model.
        concepts: The concepts in the prompts.
        work: What `work_list` returns.
        pictures: uint8 (n, 3, size, size), the shots; `work.source` indexes them.
        masks: bool (n, size, size), their object masks.
        p: Steps and batch size.
        folder: Where pictures and manifest.parquet go.
        shard: (i, n): make every n-th picture from the i-th on, for n machines that share the folder.

    Returns:
        The manifest of all pictures that are there.

    Raises:
        ThesisError: The disk is full, or an object mask is empty; what was made is kept.
    """
    warn_of_slow_bf16(p.precision, "generation.precision", "model")
    base = dataclasses.replace(base, autocast=torch.bfloat16 if p.precision == "bf16" else None)
    needed = sorted(work["source"].unique())
    position = {row: i for i, row in enumerate(needed)}
    used, objects = pictures[needed], masks[needed]
    origin = {row: tensor_digest(pictures[row], masks[row]) for row in needed}  # what no path can tell
    rows = [
        {str(k): v for k, v in row.items() if k != "source"} | {"source_digest": origin[row["source"]]}
        for row in work.to_dict("records")
    ]
    mine = range(shard[0], len(rows), shard[1])
    todo = [i for i in mine if not _is_done(folder / rows[i]["path"], rows[i])]
    if todo:
        latents = base.encode(used)
        around = as_seen(base, used, latents[0])
        todo.sort(key=lambda i: (rows[i]["timestep"], i))
        bar = tqdm(total=len(mine), initial=len(mine) - len(todo), desc="pictures", mininterval=1)
        for _, group in itertools.groupby(todo, key=lambda i: rows[i]["timestep"]):
            waiting = list(group)
            for batch in (waiting[j : j + p.batch] for j in range(0, len(waiting), p.batch)):
                requests = [
                    Request(
                        position[work["source"].iat[i]],
                        *(rows[i][name] for name in ("prompt", "timestep", "guidance_scale", "seed")),
                    )
                    for i in batch
                ]  # fmt: skip
                regions = [
                    region_masks(objects[r.source : r.source + 1], rows[i]["mask"], [r.seed])
                    for i, r in zip(batch, requests, strict=True)
                ]
                made = augment(base, concepts, around, latents, requests, p.steps, torch.cat(regions))
                for i, picture in zip(batch, made, strict=True):
                    _write(folder / rows[i]["path"], picture, rows[i])
                bar.update(len(batch))
        bar.close()
    own = set(mine)  # another machine's may still be older ones of the same name
    done = pd.DataFrame([row for i, row in enumerate(rows) if i in own or _is_done(folder / row["path"], row)])
    if len(done) == len(rows):
        write_table(folder / "manifest.parquet", done)
    return done

"""Pictures as encoders see them: passed once through the base model's VAE.

Synthetic pictures come out of the decoder, and a simple probe tells its trace from a photograph's. So that the trace is
no cue to what is synthetic, in or out of distribution, every picture that trains, probes or tests an encoder takes the
same way; only generation starts from the photographs themselves.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from thesis_lib.datasets import PreparedData, PreparedSet
from thesis_lib.errors import ThesisError
from thesis_lib.tensors import load_tensors, save_tensors, tensor_digest

if TYPE_CHECKING:
    from thesis_lib.diffusion.base import BaseModel


def _sets(data: PreparedData) -> list[tuple[str, PreparedSet]]:
    """The sets of pictures there are, by name."""
    sets = {"images": data.images, "ood": data.ood, "oracle": data.oracle}
    return [(name, prepared) for name, prepared in sets.items() if prepared is not None]


def pass_through_vae(data: PreparedData, base: "BaseModel", folder: Path) -> PreparedData:
    """Pass every picture through the VAE; sets that went through the same one are only read.

    Args:
        data: The crops.
        base: The base model.
        folder: The run's data folder; a file `<set>.passed.safetensors` is written for each set.

    Returns:
        The same tables and masks with the decoded pictures.

    Raises:
        ThesisError: The disk is full.
    """
    from thesis_lib.diffusion.augmentation import as_seen  # not at the top: who only reads needs no diffusers

    for name, prepared in _sets(data) if base.through_vae else ():
        file, origin = folder / f"{name}.passed.safetensors", tensor_digest(prepared.pictures)
        if file.exists() and load_tensors(file)[1] == {"model": base.digest, "crops": origin}:
            continue
        parts = [as_seen(base, part) for part in tqdm(prepared.pictures.split(64), desc=f"VAE {name}")]
        save_tensors(file, {"pictures": torch.cat(parts)}, model=base.digest, crops=origin)
    return read_passed(data, base.through_vae, folder)


def read_passed(data: PreparedData, through_vae: bool, folder: Path) -> PreparedData:
    """The data as encoders see it: what `pass_through_vae` wrote, or the crops where `through_vae` is false.

    Raises:
        ThesisError: The pictures have not been passed, or others have been.
    """
    if not through_vae:
        return data
    passed: dict[str, Any] = {}
    for name, prepared in _sets(data):
        file = folder / f"{name}.passed.safetensors"
        tensors, metadata = load_tensors(file) if file.exists() else ({}, {})
        if metadata.get("crops") != tensor_digest(prepared.pictures):
            raise ThesisError(
                f"{file} is missing or belongs to other crops: run notebook 01 again, or delete "
                f"{folder / 'stage.json'} and give the thesis run command again"
            )
        passed[name] = dataclasses.replace(prepared, pictures=tensors["pictures"])
    return dataclasses.replace(data, **passed)

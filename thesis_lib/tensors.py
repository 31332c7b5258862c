"""Tensors and training checkpoints in safetensors files that are whole or absent; nothing is pickled."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from thesis_lib.errors import ThesisError, ThesisWarning
from thesis_lib.storage import atomic


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(module: torch.nn.Module) -> torch.device:
    """Where a module's parameters lie."""
    return next(module.parameters()).device


def bf16_is_native() -> bool:
    """Whether the device multiplies in bfloat16 itself; where a processor does not, bf16 is several times slower."""
    if best_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def warn_of_slow_bf16(precision: str, parameter: str, instead: str) -> None:
    """Say where bf16 is asked for and slow.

    Args:
        precision: What is asked for.
        parameter: The name of the parameter that asks for it.
        instead: Its value that does without bf16.

    Warns:
        ThesisWarning: The device has no bfloat16 of its own.
    """
    if precision == "bf16" and not bf16_is_native():
        warnings.warn(
            f"{parameter}: bf16 is slower than fp32 on this processor, which has no instructions for it: "
            f"--set {parameter}={instead}",
            ThesisWarning,
            stacklevel=3,
        )


def weight_files(folder: Path, variant: str = "") -> list[Path]:
    """The safetensors files of a diffusers model's part: the plain ones, or those of a variant such as `.fp16`."""
    return [file for file in sorted(folder.glob("*.safetensors")) if "".join(file.suffixes[:-1]) == variant]


def tensor_digest(*tensors: torch.Tensor) -> str:
    """Sixteen hexadecimal digits of the tensors' contents."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], **metadata: Any) -> None:
    """Write tensors and JSON-encodable metadata to a safetensors file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(contiguous, temporary, {"thesis": json.dumps(metadata, default=str)})


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors and the metadata."""
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("thesis", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError:
        raise ThesisError(f"{path} is missing: run the stage that writes it first") from None
    except SafetensorError as error:
        raise ThesisError(f"{path} is not a readable safetensors file ({error}): delete it and run again") from error


def save_checkpoint(
    path: Path, step: int, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer, **metadata: Any
) -> None:
    """Write modules, the optimiser's state and the step reached, so that training continues exactly.

    Randomness needs no saving: every step draws from a generator made from the seed and the step (`randomness`).
    """
    tensors = {f"{name}|{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer|{index}|{key}"] = value
    save_tensors(path, tensors, step=step, **metadata)


def load_checkpoint(
    path: Path, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer, **expected: Any
) -> int:
    """Restore what `save_checkpoint` wrote and return the step reached; 0 when there is no checkpoint.

    Args:
        path: The checkpoint.
        modules: The modules to fill, by the names they were saved under.
        optimizer: The optimiser to fill.
        expected: Metadata the checkpoint must carry to be continued; one that differs is ignored, because
            it belongs to other settings.
    """
    if not path.exists():
        return 0
    tensors, metadata = load_tensors(path)
    if any(metadata.get(key) != json.loads(json.dumps(value, default=str)) for key, value in expected.items()):
        return 0
    for name, module in modules.items():
        prefix = f"{name}|"
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    state = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer|"):
            _, index, field = key.split("|")
            state["state"].setdefault(int(index), {})[field] = value
    optimizer.load_state_dict(state)
    return int(metadata["step"])


def read_made(path: Path, made_of: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """A kept item of a work list; none where it is absent or was made of something else."""
    if path.exists():
        tensors, metadata = load_tensors(path)
        if metadata.get("made_of") == json.loads(json.dumps(made_of, default=str)):
            return tensors, metadata
    return None


def made_once(
    path: Path, made_of: Mapping[str, Any], make: Callable[[], tuple[Mapping[str, torch.Tensor], dict[str, Any]]]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An item of a work list: read it where it was made of the same, else make it and keep it.

    So a list of items that was stopped anywhere continues at the first that is missing.

    Args:
        path: The item's safetensors file.
        made_of: JSON-encodable; everything the item depends on.
        make: Makes the item: its tensors and JSON-encodable metadata.

    Returns:
        Tensors and metadata, as `load_tensors` does; the metadata say under `made_of` what made it.
    """
    if kept := read_made(path, made_of):
        return kept
    made, told = make()
    save_tensors(path, made, **told, made_of=dict(made_of))
    return load_tensors(path)

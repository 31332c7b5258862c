"""Files that are whole or absent: atomic writes, and training checkpoints in safetensors (nothing is pickled)."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from thesis_lib.errors import ThesisError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        ThesisError: The disk is full or the folder cannot be written; what was there before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if full:
            raise ThesisError(
                f"{path.parent}: the disk is full while writing {path.name}; free some space and run the same command "
                "again, what was finished is kept"
            ) from error
        if isinstance(error, PermissionError):
            raise ThesisError(f"{path.parent}: no permission to write {path.name}; choose another folder") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def tensor_digest(*tensors: torch.Tensor) -> str:
    """Sixteen hexadecimal digits of the tensors' contents."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet atomically."""
    with atomic(path) as temporary:
        table.to_parquet(temporary)


def read_json(path: Path, remedy: str) -> Any:
    """Read JSON; a missing file raises a `ThesisError` that ends in `remedy`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ThesisError(f"{path} is missing: {remedy}") from None
    except json.JSONDecodeError as error:
        raise ThesisError(f"{path} is not readable JSON ({error}): delete it and run its stage again") from error


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

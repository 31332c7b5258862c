"""Files that are whole or absent: text, JSON and tables; tensors are in `tensors`, whose import takes seconds."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from thesis_lib.errors import ThesisError

if TYPE_CHECKING:
    import pandas as pd


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


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_table(path: Path, table: "pd.DataFrame") -> None:
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


def json_once(path: Path, made_of: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """JSON of a work list: read it where it was made of the same, else make it and keep it; see `tensors.made_once`.

    Args:
        path: Where it is kept.
        made_of: JSON-encodable; all that it depends on.
        make: Makes it.

    Returns:
        What `make` made, now or before, and under `made_of` of what.
    """
    kept = read_json(path, "") if path.exists() else {}
    if kept.get("made_of") != made_of:
        kept = {"made_of": made_of} | make()
        write_json(path, kept)
    return dict(kept)

"""A training that is killed, for tests of what continues it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest


class Killed(Exception):
    """What ends the training."""


@contextmanager
def killed(module: ModuleType, saves: int) -> Iterator[None]:
    """End the training inside when `module` has written so many checkpoints."""
    real, calls = module.save_checkpoint, []

    def save_then_die(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        calls.append(1)
        if len(calls) == saves:
            raise Killed

    with patch.object(module, "save_checkpoint", save_then_die), pytest.raises(Killed):
        yield

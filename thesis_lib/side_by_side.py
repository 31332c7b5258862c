"""Long work of many small pieces, side by side: a core each is done sooner than one after the other on all cores."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from thesis_lib.tensors import best_device

MOST_PROCESSES = 8
"""Pieces at a time without a GPU: each takes up to 2 GB of memory."""


def run_side_by_side(
    do: Callable[..., object], calls: Sequence[tuple[Any, ...]], title: str, processes: int | None = None
) -> None:
    """Call a function once for each tuple of arguments, in processes of their own; they keep what they find on disk.

    Args:
        do: The function, of a module.
        calls: Its arguments, the longest work first; all can be pickled. Large arrays are mapped into memory.
        title: On the progress bar.
        processes: Pieces at a time; none for one on a GPU, else one on each core that this process may use.

    Raises:
        Exception: What the first piece that fails raises; pieces that are done stay done.
    """
    if processes is None:
        processes = 1 if best_device().type == "cuda" else min(torch.get_num_threads(), MOST_PROCESSES)
    with parallel_config("loky", inner_max_num_threads=1):
        # "c": a tensor wants an array that it could write to
        run = Parallel(max(1, min(processes, len(calls))), return_as="generator_unordered", mmap_mode="c")
        for _ in tqdm(run(delayed(do)(*call) for call in calls), total=len(calls), desc=title):
            pass

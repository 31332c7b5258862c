"""Random numbers that depend on names, not on what ran before.

Every random decision draws from a generator made from the experiment's seed and the decision's own name
(class, picture, step). So a result is the same after a resume, in another order, in another batch, on another machine.
"""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the decision called `names` under the experiment's `seed`.

    Args:
        seed: The experiment's seed.
        names: What is being decided, for example ``("few_shot", class_name)``.

    Returns:
        A non-negative integer below 2**63, the same on every machine.
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the decision called `names`; see `derive_seed`."""
    return torch.Generator("cpu").manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the decision called `names`; see `derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *names))

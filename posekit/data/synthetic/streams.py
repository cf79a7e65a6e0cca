"""Random streams: every picture's randomness is a function of (seed, split, purpose, index, …) and of nothing else."""

from __future__ import annotations

import numpy as np

SPLITS = {"train": 0, "val": 1, "test": 2}
PERSON, COMPOSITE, BACKGROUND, OBJECT, STYLE = range(5)


def stream(seed: int, split: str, purpose: int, *key: int) -> np.random.Generator:
    """Returns the generator of one purpose and one index, whatever was drawn before and in whichever process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, SPLITS[split], purpose, *key))))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Draws True with a probability."""
    return bool(rng.random() < probability)

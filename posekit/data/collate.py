"""Batches of samples whose person lists differ in length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

# The fields of a SceneBatch that have one row per person, and so another length in every image.
PERSON_FIELDS = frozenset({"keypoints", "visible", "boxes", "area"})


def collate_scenes(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Makes a ``SceneBatch`` of scene samples: person fields stay lists of (N, …), the rest is stacked.

    Args:
        samples: Dicts with a SceneBatch's fields without the batch axis; ``image_id`` and ``sample_id`` may be ints.
            Further fields are stacked as torch's default collation does it.

    Raises:
        ValueError: The samples' fields differ.
    """
    fields = samples[0].keys()
    if any(sample.keys() != fields for sample in samples):
        raise ValueError("the samples of a scene batch have different fields")
    batch: dict[str, Any] = {}
    for name in fields:
        values = [sample[name] for sample in samples]
        if name in PERSON_FIELDS:
            batch[name] = [torch.as_tensor(value) for value in values]
        elif isinstance(values[0], Tensor):
            batch[name] = torch.stack(values)
        else:
            batch[name] = default_collate(values)
    return batch

from functools import lru_cache

import pytest

from posekit.data.synthetic import SyntheticPeople, datamodule, objects


@pytest.fixture(scope="module")
def few_backgrounds():
    """Drawing hundreds of backgrounds for every data module would be most of a test's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datamodule, "_BACKGROUNDS", {"train": 8, "val": 8, "test": 8})
        patch.setattr(datamodule, "object_bank", lru_cache(objects.object_bank))
        yield


@pytest.fixture(scope="session")
def hard_crops():
    """A small, hard data module with its train and val data sets drawn once."""
    module = SyntheticPeople(
        train_size=48, val_size=24, test_size=8, difficulty="hard", num_render_workers=1, batch_size=8
    )
    module.setup("fit")
    return module


@pytest.fixture(scope="session")
def clean_crops():
    """Whole people without anything in front, augmented fully."""
    return SyntheticPeople(
        train_size=40,
        val_size=16,
        occluders=0,
        people=0,
        truncation=0,
        augmentation=1.0,
        num_render_workers=1,
        noise=0,
        blur=0,
    )

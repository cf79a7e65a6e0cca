"""What posekit's keepers of checkpoints have in common."""

from __future__ import annotations

from lightning.pytorch.callbacks import ModelCheckpoint


class Keeper(ModelCheckpoint):
    """A ModelCheckpoint whose state stands in checkpoints under Lightning's own key, whatever the class is called."""

    @property
    def state_key(self) -> str:
        """The key of its base class."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

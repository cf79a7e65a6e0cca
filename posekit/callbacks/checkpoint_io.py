"""Checkpoints that appear whole or not at all."""

from __future__ import annotations

import io
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from posekit.errors import UserError
from posekit.files import atomic_write_bytes


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is complete.

    Lightning's own writer goes through the system's temporary folder, from which a move to another disk is a copy that
    a kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Saves to a local file; remote places (``s3://…``) are left to Lightning.

        Raises:
            UserError: The disk is full, or the folder cannot be written to; an earlier file stays as it was.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            atomic_write_bytes(str(path), buffer.getvalue(), durable=True)
        except OSError as error:
            raise UserError(f"checkpoint {path} cannot be written: {error.strerror or error}") from None

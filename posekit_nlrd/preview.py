"""PosePreview: a picture at each validation of what the running stage makes of a few held-out samples."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from posekit.arrays import Bytes
from posekit.callbacks.run_folder import run_folder
from posekit.data.transforms import denormalize_image
from posekit.skeletons import LIMB17
from posekit.visualization import contact_sheet, draw_label, draw_pose3d, write_picture

_SIZE = 160  # px of a tile
_SPAN = 2.3  # metres a tile shows
_CAPTION = (235, 235, 235)


class PosePreview(Callback):
    """Draws ``previews/val_ITERATION_STREAM.png`` in the run's folder (rank 0), a row per sample: input, result, truth.

    Poses are shown from the camera and from the side.

    For stages on motion the input is the recorded pose and the result what the pose auto-encoder makes of it; for
    stages on pictures it is the crop, and the result what the image network says. A folder that cannot be written to
    stops no run.

    Args:
        count: Samples per stream.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._rows: dict[str, list[list[Bytes]]] = {}

    def add(self, stream: str, images: Tensor | None, pred: Tensor, target: Tensor) -> None:
        """Keeps the first samples of a stream.

        Args:
            stream: Its name.
            images: (B, 3, H, W) normalised, or None.
            pred: (B, 17, 3) metres, camera frame.
            target: (B, 17, 3) metres, camera frame.
        """
        rows = self._rows.setdefault(stream, [])
        for index in range(min(self.count - len(rows), len(pred))):
            tiles = {} if images is None else {"input": _tile(denormalize_image(images[index].cpu()))}
            for name, pose in (("result", pred[index]), ("truth", target[index])):
                joints = pose.float().cpu().numpy()
                for side, yaw in (("", 0.0), (", side", 90.0)):
                    tiles[name + side] = draw_pose3d(joints, LIMB17, _SIZE, yaw, span=_SPAN)
            if not rows:
                for caption, tile in tiles.items():
                    draw_label(tile, caption, (0, 0), _CAPTION, 0.4)
            rows.append(list(tiles.values()))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the picture."""
        self._write(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the picture."""
        self._write(trainer, pl_module, "test")

    def _write(self, trainer: Trainer, pl_module: Any, split: str) -> None:
        kept, self._rows = self._rows, {}
        folder = run_folder(trainer)
        if not kept or folder is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        for stream, rows in kept.items():
            sheet = contact_sheet([tile for row in rows for tile in row], len(rows[0]))
            path = folder / "previews" / f"{split}_{pl_module.iteration:07d}_{stream}.png"
            try:
                write_picture(path, sheet)
            except OSError as error:
                rank_zero_info(f"preview not written: {error}")


def _tile(image: Bytes) -> Bytes:
    scale = _SIZE / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    tile = np.full((_SIZE, _SIZE, 3), 255, dtype=np.uint8)
    tile[: size[1], : size[0]] = small
    return tile

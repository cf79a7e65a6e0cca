"""PosePanelWriter: predictions in 3D, drawn beside the picture from the camera's side and from the person's flank."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bytes
from posekit.callbacks import PredictionWriter3D
from posekit.visualization import draw_people, draw_pose3d, side_by_side

Rows = dict[str, NDArray[Any]]

YAWS = (0.0, 90.0)
SPAN = 2.3  # metres a panel shows, the same for all, so that a video's size does not jump
_PANEL = 384  # px
_MOST = 3  # people with panels in a picture


class PosePanelWriter(PredictionWriter3D):
    """Writes what :class:`~posekit.callbacks.PredictionWriter3D` writes, and draws skeletons beside the picture.

    Two panels a person: as the camera sees it, and from its side. A picture gets those of its three most confident
    people, a frame of a video those of one.

    Args:
        output: Folder; made if it is not there.
        overlays: Draw pictures or a video.
        threshold: Not used: skeletons in 3D have no joint scores.
        meshes: ``none``: NLRD predicts no meshes.
        opacity: Not used.
    """

    def _paint(self, datamodule: Any, image_id: int, rows: Rows, pl_module: Any) -> Bytes:
        image: Bytes = datamodule.read_frame(image_id)
        mine = np.flatnonzero(rows["image_id"].astype(np.int64) == image_id)
        most = 1 if getattr(datamodule, "is_video", False) else _MOST
        chosen = mine[np.argsort(-rows["scores"][mine], kind="stable")][:most]
        blank = np.full((len(pl_module.skeleton), 3), np.nan)
        poses = [rows["joints3d"][row] for row in chosen] or [blank]
        panels = [draw_pose3d(pose, pl_module.skeleton, _PANEL, yaw=yaw, span=SPAN) for pose in poses for yaw in YAWS]
        return side_by_side(_boxed(image, rows["boxes"][chosen], pl_module), panels)


def _boxed(image: Bytes, boxes: NDArray[Any], pl_module: Any) -> Bytes:
    """Draws the people's boxes (N, 4); one that is the whole picture says nothing."""
    finite = boxes[np.isfinite(boxes).all(1)] if len(boxes) else boxes
    height, width = image.shape[:2]
    partial = finite[(finite[:, 2] < width) | (finite[:, 3] < height)] if len(finite) else finite
    nobody = np.zeros((len(partial), len(pl_module.skeleton), 3))
    return draw_people(image, nobody, pl_module.skeleton, partial) if len(partial) else image

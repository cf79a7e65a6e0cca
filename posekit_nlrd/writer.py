"""PosePanelWriter: predictions in 3D, drawn beside the picture from the camera's side and from the person's flank."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from posekit.arrays import Bytes
from posekit.callbacks import PredictionWriter3D
from posekit.callbacks.writer import drawn_larger
from posekit.skeletons import Skeleton
from posekit.visualization import draw_label, draw_pose3d, enlarge, enlarge_boxes, side_by_side, track_color
from posekit.visualization.draw import box_stroke, draw_box

Rows = dict[str, NDArray[Any]]

YAWS = {"camera": 0.0, "side": 90.0}  # of a person's panels, degrees
SPAN = 2.3  # metres a panel shows, the same for all, so that a video's size does not jump
_PANEL = 384  # px
_FONT = 0.7
_LEAST = 256  # px; panels beside a low picture are not lower
_MOST = 3  # people with panels in a picture
_PALE = (235, 235, 235)


class PosePanelWriter(PredictionWriter3D):
    """Writes what :class:`~posekit.callbacks.PredictionWriter3D` writes, and draws skeletons beside the picture.

    Two panels a person: as the camera sees it, and from its side. A picture gets those of its three most confident
    people, a frame of a video those of one. Where there are several people, a box and its panels have a number and a
    colour in common, and the picture says of how many people there are panels.

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
        is_video = getattr(datamodule, "is_video", False)
        chosen = mine[np.argsort(-rows["scores"][mine], kind="stable")][: 1 if is_video else _MOST]
        factor = drawn_larger(datamodule, image)
        picture, _ = enlarge(image, np.zeros((0, 2)), factor)
        _draw_boxes(picture, enlarge_boxes(rows["boxes"][chosen].reshape(-1, 4), factor), len(mine))
        blank = np.full((len(pl_module.skeleton), 3), np.nan)
        poses = [rows["joints3d"][row] for row in chosen] or [blank]
        panels = [
            _panel(pose, pl_module.skeleton, side, number if len(mine) > 1 else None)
            for number, pose in enumerate(poses, 1)
            for side in YAWS
        ]
        return side_by_side(picture, panels, least=1 if is_video else _LEAST)


def _panel(pose: NDArray[Any], skeleton: Skeleton, side: str, number: int | None) -> Bytes:
    """Draws a person from a side, with its number and colour where there are several."""
    panel = draw_pose3d(pose, skeleton, _PANEL, yaw=YAWS[side], span=SPAN)
    text, color = (f"from the {side}", _PALE) if number is None else (f"{number}: from the {side}", track_color(number))
    draw_label(panel, text, (0, 0), color, _FONT)
    return panel


def _draw_boxes(canvas: Bytes, boxes: NDArray[Any], people: int) -> None:
    """Draws boxes (N, 4) with numbers where there are several people; the only one's, where it is a part, without.

    Args:
        canvas: The picture.
        boxes: Of those who have panels.
        people: How many there are.
    """
    height, width = canvas.shape[:2]
    font = max(height / 600, 0.6)  # read beside panels as wide as the picture
    for number, box in enumerate(boxes, 1):
        if people > 1:
            draw_box(canvas, box, track_color(number), 1 + box_stroke(canvas, box))
            draw_label(canvas, str(number), box[:2], track_color(number), font)
        elif box[2] < width or box[3] < height:
            draw_box(canvas, box, _PALE)
    if people > len(boxes):
        draw_label(canvas, f"{len(boxes)} of {people} people", (0, height), _PALE, font)

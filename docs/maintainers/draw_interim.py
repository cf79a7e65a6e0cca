"""Draws what TIP makes of a key frame and its neighbours (docs/images/tip_interim.jpg).

    python docs/maintainers/draw_interim.py out.jpg CHECKPOINT

A row per window: the previous frame, the key frame, the next one; the pose found in the key frame; the interim poses in
the key frame (previous place green, next one cyan, poses between them stars), and the fastest joints enlarged.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from posekit.data import SyntheticPeople
from posekit.data.transforms import denormalize_image
from posekit.visualization import contact_sheet, draw_people, enlarge, interim_figure
from posekit_tip import TIP

SHOWN = (0, 1)  # windows of the validation split
FACTOR = 3
SKELETON = "POSETRACK15"
GAP = 4


@torch.no_grad()
def main() -> None:
    """Reads the arguments and writes the picture."""
    output, checkpoint = sys.argv[1:]
    model = TIP.load_from_checkpoint(checkpoint).eval()
    model.interim = True
    data = SyntheticPeople(
        view="clips", difficulty="video_hard", skeleton=SKELETON, image_size=(96, 128), val_size=300, val_batch_size=64
    )
    clips = next(iter(data.loader("val")))
    found = model.predict_step(clips, 0)
    rows = []
    for index in SHOWN:
        frames = [denormalize_image(frame) for frame in clips["image"][index]]
        before, key, after = (enlarge(frame, np.zeros((0, 2)), FACTOR)[0] for frame in frames)
        joints, ends, interim = (
            enlarge(frames[1], found[name][index].numpy(), FACTOR)[1] for name in ("keypoints", "ends", "interim")
        )
        pose = draw_people(key, joints[None], model.skeleton)
        tiles = [before, key, after, pose, interim_figure(key, ends, interim)]
        gap = np.full((key.shape[0], GAP, 3), 255, np.uint8)
        rows.append(np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1))
    sheet = contact_sheet(rows, 1, GAP)
    cv2.imwrite(output, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 75])


if __name__ == "__main__":
    main()

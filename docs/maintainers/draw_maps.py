"""Draws the maps of several networks for the same joints of the same crops (docs/images/hdm_maps.jpg).

    python docs/maintainers/draw_maps.py out.jpg CHECKPOINT [CHECKPOINT ...]

First column: the crop with the label; then a column per checkpoint.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from posekit.data import SyntheticPeople
from posekit.data.transforms import denormalize_image
from posekit.visualization import contact_sheet, draw_heatmap, enlarge
from posekit_hdm import HDM

SHOWN = ((0, 9), (3, 15), (5, 10))  # crop of the validation split, joint


def main() -> None:
    """Reads the arguments and writes the picture."""
    output, *checkpoints = sys.argv[1:]
    models = [HDM.load_from_checkpoint(path).eval() for path in checkpoints]
    batch = next(iter(SyntheticPeople(image_size=models[0].image_size).loader("val")))
    tiles = []
    for index, joint in SHOWN:
        image, points = enlarge(denormalize_image(batch["image"][index]), batch["keypoints"][index].numpy(), 2)
        x, y = np.round(points[joint]).astype(int).tolist()
        tiles.append(cv2.circle(image.copy(), (x, y), 4, (255, 255, 255), 1, cv2.LINE_AA))
        for model in models:
            with torch.inference_mode():
                heatmap = model.readout(model(batch["image"][index : index + 1]))[0, joint]
            tiles.append(draw_heatmap(image, heatmap.clamp(min=0).numpy(), 0.65))
    cv2.imwrite(output, cv2.cvtColor(contact_sheet(tiles, 1 + len(models)), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()

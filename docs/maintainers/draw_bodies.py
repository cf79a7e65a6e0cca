"""Draws MAED's bodies over clips that it has not seen (docs/images/maed_bodies.jpg).

    python docs/maintainers/draw_bodies.py out.jpg CHECKPOINT

First row: the frames; below them the bodies that the frames were drawn from, then those that the network finds.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from posekit.data import SyntheticPeople
from posekit.data.transforms import denormalize_image
from posekit.geometry import axis_angle_to_matrix
from posekit.visualization import contact_sheet, draw_mesh, enlarge
from posekit_maed import MAED

SHOWN = (0, 1)  # clips of the validation split, side by side
FACTOR = 2


@torch.no_grad()
def main() -> None:
    """Reads the arguments and writes the picture."""
    output, checkpoint = sys.argv[1:]
    model = MAED.load_from_checkpoint(checkpoint).eval()
    data = SyntheticPeople(
        view="clips", skeleton="SPIN49", frames=4, frame_step=3, image_size=(96, 128), difficulty="easy", occluders=1.5,
        val_size=200, val_batch_size=32,
    )  # fmt: skip
    clips = next(iter(data.loader("val")))
    found = model.predict_step(clips, 0)
    rows: list[list[np.ndarray]] = [[], [], []]
    for clip in SHOWN:
        body = model.body(axis_angle_to_matrix(clips["body_pose"][clip]), clips["body_shape"][clip])
        true = body.vertices + clips["body_translation"][clip][:, None]
        for k in range(true.shape[0]):
            frame, camera = denormalize_image(clips["image"][clip, k]), clips["camera"][clip, k]
            row = clip * true.shape[0] + k
            center = torch.stack([camera[:2, 2], found["center"][row]]).numpy()
            big, (middle, other) = enlarge(frame, center, FACTOR)
            rows[0].append(big)
            rows[1].append(draw_mesh(big, true[k], model.mesh_faces, FACTOR * float(camera[0, 0]), middle))
            focal = FACTOR * float(found["focal"][row])
            rows[2].append(draw_mesh(big, found["vertices"][row], model.mesh_faces, focal, other))
    sheet = contact_sheet([tile for row in rows for tile in row], len(rows[0]))
    cv2.imwrite(output, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 64])


if __name__ == "__main__":
    main()

"""Draws walks through NLRD's pose latent and random draws from its prior (docs/images/nlrd_latents.jpg).

    python docs/maintainers/draw_latents.py out.jpg CHECKPOINT

First rows: two held-out poses at the ends (decoded), and the poses halfway between their latents. Last row: poses
decoded from random latents.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch

from posekit.data import SyntheticPeople
from posekit.skeletons import LIMB17
from posekit.visualization import contact_sheet, draw_pose3d
from posekit_nlrd import NLRD
from posekit_nlrd.geometry import fit_canonical
from posekit_nlrd.streams import motion_batch

WALKS = (10, 33)  # windows of the validation split; each walk ends at the pose farthest from its start
STEPS = 7
SIZE = 150
METRES = 0.11


@torch.no_grad()
def main() -> None:
    """Reads the arguments and writes the picture."""
    output, checkpoint = sys.argv[1:]
    networks = NLRD.load_from_checkpoint(checkpoint).eval().networks
    data = SyntheticPeople(view="motion", frames=60, skeleton="LIMB17", val_size=1000, val_batch_size=1000)
    windows = motion_batch(next(iter(data.loader("val"))), "LIMB17")["joints3d"]
    rows = []
    middle = fit_canonical(windows[:, 15])
    for first in WALKS:
        last = int((middle - middle[first]).square().sum((1, 2)).argmax())
        ends = networks.encode_pose(middle[[first, last]])
        share = torch.linspace(0, 1, STEPS)[:, None]
        rows.append(torch.lerp(ends[:1], ends[1:], share))
    prior = torch.rand(STEPS, 32, generator=torch.Generator().manual_seed(0))
    poses = networks.pose_decoder.pose(torch.cat([*rows, networks.prior(prior)])) * METRES
    tiles = [draw_pose3d(pose.numpy(), LIMB17, SIZE, yaw=30, up="z", span=2.2) for pose in poses]
    sheet = contact_sheet(tiles, STEPS)
    cv2.imwrite(output, cv2.cvtColor(np.asarray(sheet), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()

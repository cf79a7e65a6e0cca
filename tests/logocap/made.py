"""What the heads of LOGO-CAP's network see, which the network itself never makes."""

import torch
import torch.nn.functional as F


def joined_maps(network, images):
    """All maps of the backbone, upsampled to the first one's grid: (B, C, ceil(H / 4), ceil(W / 4))."""
    maps, (height, width) = network.branches(images)
    size = maps[0].shape[-2:]
    joined = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps]
    return torch.cat(joined, dim=1)[..., :height, :width]

"""Small networks and batches for the tests of MAED."""

import pytest
import torch

from posekit.skeletons import SPIN49
from posekit_maed import MAED

SIZE = (48, 64)
SMALL = {
    "image_size": list(SIZE), "backbone": "small", "num_blocks": 2, "num_heads": 2, "embed_dim": 16, "hidden_dim": 24,
    "max_frames": 8, "dropout": 0.0, "eval_joints": "spin14",
}  # fmt: skip


@pytest.fixture
def make():
    def build(**options):
        torch.manual_seed(0)
        return MAED(**{**SMALL, **options})

    return build


@pytest.fixture
def clips():
    """Makes a batch of clips with all labels."""

    def build(count=2, frames=4, seed=0, **changes):
        random = torch.Generator().manual_seed(seed)

        def normal(*shape, scale=1.0):
            return scale * torch.randn(*shape, generator=random)

        lead = (count, frames)
        batch = {
            "image": normal(*lead, 3, SIZE[1], SIZE[0]),
            "keypoints": 24 + normal(*lead, len(SPIN49), 2, scale=8.0),
            "visible": torch.full((*lead, len(SPIN49)), 2),
            "affine": torch.eye(2, 3).expand(*lead, 2, 3).clone(),
            "box": torch.tensor([0.0, 0, 48, 64]).expand(*lead, 4).clone(),
            "box_score": torch.ones(count),
            "frame": torch.arange(frames).expand(lead).clone(),
            "valid": torch.ones(lead, dtype=torch.bool),
            "key": torch.full((count,), frames // 2),
            "image_id": torch.arange(count * frames).view(lead),
            "sample_id": torch.arange(count),
            "joints3d": normal(*lead, len(SPIN49), 3, scale=0.3),
            "joints3d_weight": torch.ones(*lead, len(SPIN49)),
            "body_pose": normal(*lead, 24, 3, scale=0.3),
            "body_shape": normal(*lead, 10, scale=0.5),
            "body_weight": torch.ones(lead),
        }
        return {**batch, **changes}

    return build


def crops_of(clips):
    """Takes the first frame of each clip as a crop."""
    whole = ("box_score", "sample_id")
    skipped = ("frame", "valid", "key", "joints3d_weight", "body_weight")
    return {n: v if n in whole else v[:, 0] for n, v in clips.items() if n not in skipped}

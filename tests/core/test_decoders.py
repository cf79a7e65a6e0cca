import pytest
import torch

from posekit.heatmaps import DECODERS, decode_heatmaps, gaussian_heatmaps


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_autocast_rounds_no_decoder(decoder):
    points = 4 + torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 28.0])
    maps = gaussian_heatmaps(points, torch.ones(4, 5), (32, 40), 2.0)
    plain = decode_heatmaps(maps, decoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = decode_heatmaps(maps, decoder)
    for ours, theirs in zip(rounded, plain, strict=True):
        assert torch.equal(ours, theirs)

"""Sampling by matrices against a plain bilinear loop, against grid_sample, and the official rule at the far border."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from posekit.errors import UserError
from posekit.skeletons import COCO17, CROWDPOSE14
from posekit_logocap.refine import Expansion
from posekit_logocap.sampling import axis_weights, patch_cells, to_cells, to_pixels


def official(row, x):
    """The rule of the method page, section 5, for one row of a map and one position."""
    last = len(row) - 1
    low = int(np.clip(np.floor(x), 0, last))
    high = min(low + 1, last)
    return np.clip(high - x, 0, 1) * row[low] + np.clip(x - low, 0, 1) * row[high]


def sample(row, positions, sampling):
    cells = patch_cells(float(positions[-1] - positions[0]))
    weights = axis_weights(positions[None], torch.tensor([len(row)]), cells, sampling)
    index = (weights.start[0] + torch.arange(cells)).clamp(max=len(row) - 1)
    return weights.weight[0] @ row[index]


@pytest.mark.parametrize("start", [-7.3, -0.5, 0.0, 2.25, 5.0, 6.9, 7.0, 12.0])
def test_official_rule(start):
    row = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    positions = start + torch.arange(9, dtype=torch.float64) * 0.25
    expected = [official(row.numpy(), x) for x in positions.numpy()]
    np.testing.assert_allclose(sample(row, positions, "official").numpy(), expected, atol=1e-12)


def test_official_rule_is_zero_exactly_on_the_last_cell():
    row = torch.ones(8)
    values = sample(row, torch.tensor([6.5, 7.0, 7.25, 8.0, 8.5]), "official")
    torch.testing.assert_close(values, torch.tensor([1.0, 0.0, 0.25, 1.0, 1.0]))
    assert (sample(row, torch.tensor([6.5, 7.0, 7.25, 8.0, 8.5]), "border") == 1).all()


@pytest.mark.parametrize("mapping", ["legacy", "half_pixel"])
def test_local_maps_are_grid_sample_with_border_padding(mapping):
    torch.manual_seed(0)
    expansion = Expansion(COCO17.sigmas, sampling="border", mapping=mapping)
    maps, poses = torch.randn(2, 3, 20, 24), 110 * torch.rand(5, 17, 2) - 8
    image, sizes = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([[80, 96]]).expand(5, 2)
    found = expansion.local_maps(maps, image, poses, sizes).view(5, 17, 3, 11, 11)
    mesh = expansion.mesh(poses)
    points = torch.stack(torch.broadcast_tensors(mesh[:, :, 0, None, :], mesh[:, :, 1, :, None]), -1)
    cells = to_cells(points, 4, mapping) / torch.tensor([23.0, 19.0]) * 2 - 1
    expected = F.grid_sample(maps[image], cells.view(5, 17 * 11, 11, 2), padding_mode="border", align_corners=True)
    torch.testing.assert_close(found, expected.view(5, 3, 17, 11, 11).transpose(1, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prior_sigma", [6.0, 3.0])  # the second one has values below the least
@pytest.mark.parametrize("sampling", ["official", "border"])
def test_global_maps_equal_upsampling_then_sampling(sampling, prior_sigma):
    torch.manual_seed(0)
    expansion = Expansion(COCO17.sigmas, window=24, prior_sigma=prior_sigma, sampling=sampling)
    maps, poses = torch.randn(1, 17, 9, 11), 60 * torch.rand(2, 17, 2) - 6
    image, sizes = torch.zeros(2, dtype=torch.long), torch.tensor([[36, 44]]).expand(2, 2)
    found = expansion.global_maps(maps, image, poses, sizes)
    prior = np.exp(-(np.arange(-12, 13)[:, None] ** 2 + np.arange(-12, 13) ** 2) / (2 * prior_sigma**2))
    prior[prior < 1e-4] = 0
    full = F.interpolate(maps, scale_factor=4, mode="bilinear")[0].numpy()
    for person, joint in ((0, 0), (1, 5), (0, 16), (1, 11)):
        x, y = (poses[person, joint, axis].item() + np.arange(-12, 13) for axis in (0, 1))
        rule = official if sampling == "official" else lambda row, x: np.interp(x, np.arange(len(row)), row)
        rows = np.stack([[rule(row, value) for value in x] for row in full[joint]])
        window = np.stack([[rule(column, value) for value in y] for column in rows.T]).T
        np.testing.assert_allclose(found[person, joint].numpy(), window * prior, atol=1e-4)


def test_mappings_are_inverse_to_each_other():
    points = torch.rand(5, 2) * 50
    for mapping in ("legacy", "half_pixel"):
        torch.testing.assert_close(to_pixels(to_cells(points, 4, mapping), 4, mapping), points)
    assert to_cells(torch.tensor(1.5), 4, "half_pixel") == 0  # the middle of four pixels


def test_mesh_steps_follow_the_deviations():
    steps = Expansion(COCO17.sigmas).scales
    assert steps[1] == 1
    assert steps[11] == pytest.approx(4.28)
    assert Expansion(CROWDPOSE14.sigmas).scales[6] == pytest.approx(4.28)  # a hip is a hip in any joint set


@pytest.mark.parametrize(
    "options",
    [{"radius": 0}, {"window": 5}, {"prior_sigma": 0.0}, {"unit_sigma": 0.0}, {"sampling": "edge"}, {"mapping": "udp"}],
)
def test_bad_values_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Expansion(COCO17.sigmas, **options)

"""The pose synthesizer: on the line, in order, and learning when a joint is where."""

import pytest
import torch

from posekit.heatmaps import gaussian_heatmaps
from posekit_tip.losses import synthesis_loss
from posekit_tip.synthesizer import PoseSynthesizer, locate, sample_features, soft_argmax

SIZE = (24, 18)


def located(seed=0, joints=15, frames=2, channels=8):
    random = torch.Generator().manual_seed(seed)
    points = torch.rand(frames, joints, 2, generator=random) * torch.tensor([SIZE[1] - 5.0, SIZE[0] - 5.0]) + 2
    rough = gaussian_heatmaps(points, torch.ones(frames, joints), SIZE, 1.5)
    return locate(torch.randn(frames, channels, *SIZE, generator=random), rough), points


def scrambled(synthesizer, seed=1):
    torch.manual_seed(seed)
    for layer in (synthesizer.steps[0], synthesizer.steps[2]):
        torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(layer.bias, std=0.5)
    return synthesizer


def test_soft_argmax_finds_sharp_and_broad_peaks():
    points = torch.tensor([[[4.0, 7.0], [11.0, 15.0]]])
    maps = gaussian_heatmaps(points, torch.ones(1, 2), SIZE, 2.0)
    torch.testing.assert_close(soft_argmax(maps), points, atol=0.05, rtol=0)


def test_features_are_read_at_pixel_centres():
    x, y = torch.arange(SIZE[1]).float(), torch.arange(SIZE[0]).float()
    ramp = torch.stack([x.expand(SIZE), y[:, None].expand(SIZE)])[None]
    points = torch.tensor([[[0.0, 0.0], [17.0, 23.0], [3.25, 8.5]]])
    torch.testing.assert_close(sample_features(ramp, points), points)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_fractions_start_even_and_always_increase(count):
    ends, _ = located()
    first, second = ends.take(torch.tensor([0])), ends.take(torch.tensor([1]))
    synthesizer = PoseSynthesizer(8, count)
    even = torch.arange(1, count + 1) / (count + 1)
    torch.testing.assert_close(synthesizer.fractions(first, second, SIZE), even.expand(1, 15, count))
    learned = scrambled(synthesizer).fractions(first, second, SIZE)
    assert (learned > 0).all()
    assert (learned < 1).all()
    assert (learned.diff(dim=-1) > 0).all()
    assert (learned - even).abs().max() > 0.05


def test_interim_poses_lie_on_the_segment():
    ends, _ = located()
    first, second = ends.take(torch.tensor([0])), ends.take(torch.tensor([1]))
    interim = scrambled(PoseSynthesizer(8, 3)).forward(first, second, SIZE)
    line = (second.points - first.points)[:, :, None]
    step = interim.points - first.points[:, :, None]
    cross = line[..., 0] * step[..., 1] - line[..., 1] * step[..., 0]
    torch.testing.assert_close(cross, torch.zeros_like(cross), atol=1e-3, rtol=0)
    share = (step * line).sum(-1) / line.square().sum(-1)
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(interim.confidence, torch.minimum(first.confidence, second.confidence))
    assert interim.heatmaps.shape == (1, 15, 3, *SIZE)


def test_swapping_the_ends_reverses_the_poses_at_the_start():
    ends, _ = located()
    first, second = ends.take(torch.tensor([0])), ends.take(torch.tensor([1]))
    synthesizer = PoseSynthesizer(8, 3)
    there, back = synthesizer(first, second, SIZE), synthesizer(second, first, SIZE)
    torch.testing.assert_close(there.points, back.points.flip(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(there.heatmaps, back.heatmaps.flip(2), atol=1e-4, rtol=0)


def test_without_motion_all_poses_coincide():
    ends, _ = located()
    first = ends.take(torch.tensor([0]))
    interim = scrambled(PoseSynthesizer(8, 3))(first, first, SIZE)
    torch.testing.assert_close(interim.points, first.points[:, :, None].expand(-1, -1, 3, -1))


def test_linear_interpolation_has_nothing_to_learn():
    ends, _ = located()
    synthesizer = PoseSynthesizer(8, 3, learned=False, residual_offset=True)
    assert not list(synthesizer.parameters())
    interim = synthesizer(ends.take(torch.tensor([0])), ends.take(torch.tensor([1])), SIZE)
    middle = ends.points.mean(0)
    torch.testing.assert_close(interim.points[0, :, 1], middle)


def test_a_residual_offset_starts_on_the_line_and_is_bounded():
    ends, _ = located()
    first, second = ends.take(torch.tensor([0])), ends.take(torch.tensor([1]))
    synthesizer = PoseSynthesizer(8, 3, residual_offset=True)
    on_line = PoseSynthesizer(8, 3)(first, second, SIZE).points
    torch.testing.assert_close(synthesizer(first, second, SIZE).points, on_line)
    scrambled(synthesizer)
    off = synthesizer(first, second, SIZE).points
    line = second.points - first.points
    fractions = synthesizer.fractions(first, second, SIZE)
    away = off - (first.points[:, :, None] + fractions[..., None] * line[:, :, None])
    assert away.abs().max() > 0.1
    assert (away.abs() <= 0.5 * line.norm(dim=-1)[..., None, None] + 1e-4).all()


@pytest.mark.parametrize("a", [1.0, 1.8, 0.2])
def test_learned_fractions_follow_accelerated_motion(a):
    # x(t) = p + (n - p)(a t + (1 - a) t^2): at t = 1/2 the joint has gone (1 + a) / 4 of the way.
    torch.manual_seed(0)
    synthesizer = PoseSynthesizer(8, 3, sigma=1.5)
    p = torch.rand(8, 15, 2) * 8 + 2
    n = p + torch.tensor([5.0, 9.0])
    rough = [gaussian_heatmaps(x, torch.ones(8, 15), SIZE, 1.5) for x in (p, n)]
    truth = gaussian_heatmaps(p + (n - p) * (1 + a) / 4, torch.ones(8, 15), SIZE, 1.5)
    features = torch.randn(8, 8, *SIZE)
    first, second = (locate(features, maps) for maps in rough)
    optimizer = torch.optim.Adam(synthesizer.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        maps = synthesizer(first, second, SIZE).heatmaps
        synthesis_loss(maps, truth, torch.ones(8, 15), torch.ones(8, dtype=torch.bool)).backward()
        optimizer.step()
    middle = synthesizer.fractions(first, second, SIZE)[..., 1]
    assert middle.mean().item() == pytest.approx((1 + a) / 4, abs=0.02)


def test_locating_gives_bounded_confidence():
    ends, points = located()
    assert ((ends.confidence > 0.8) & (ends.confidence <= 1)).all()
    torch.testing.assert_close(ends.points, points, atol=0.2, rtol=0)
    flat = locate(torch.zeros(1, 8, *SIZE), torch.full((1, 2, *SIZE), -3.0))
    assert (flat.confidence == 0).all()
    torch.testing.assert_close(flat.points[0, 0], torch.tensor([8.5, 11.5]))

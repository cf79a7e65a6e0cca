"""The rivals' values against plain formulas, and the paper's Theorem 1."""

import pytest
import torch

from posekit.heatmaps import dot_heatmaps, gaussian_heatmaps
from posekit_hdm.bench import make_inputs
from posekit_hdm.losses import LOSSES, build_loss

SIZE = (16, 12)


@pytest.fixture
def example():
    maps, dots = make_inputs(2, 4, SIZE)
    return maps.double(), dots.double(), torch.ones(2, 4)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"hdm"}))
def test_gradcheck(name, example):
    maps, dots, weight = (t[:1, :2] for t in example)
    loss = build_loss(name, reduction="none")
    small = maps[..., :6, :5].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda h: loss(h, dots.clamp(max=4), weight), (small,), atol=1e-6)


def test_values(example):
    maps, dots, weight = example
    h, (x, y) = maps[0, 1], dots[0, 1]
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(12.0), indexing="ij")
    distance = torch.hypot(columns - x, rows - y)
    soft = torch.softmax(10 * h.flatten(), 0).view(SIZE)
    mean = torch.stack([(soft * columns).sum(), (soft * rows).sum()])
    expected = {
        "gaussian_mse": ((h - torch.exp(-(distance**2) / 8)) ** 2).mean(),
        "expected_distance": (soft * distance).sum(),
        "soft_argmax": (mean - dots[0, 1]).abs().sum(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(build_loss(name, reduction="none")(maps, dots, weight)[0, 1], value)


def test_corner_cross_entropy_is_least_at_the_corners(example):
    _, dots, weight = example
    maps = torch.zeros(2, 4, *SIZE, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([maps], 0.05)
    loss = build_loss("corner_ce", scale=1.0)
    for _ in range(400):
        optimiser.zero_grad()
        loss(maps, dots, weight).backward()
        optimiser.step()
    mean = build_loss("soft_argmax", scale=1.0, reduction="none")(maps, dots, weight)
    assert mean.max() < 0.2


def test_names_and_kinds():
    for name, kind in LOSSES.items():
        assert kind.name == name
        assert kind.is_distribution is (not name.endswith("_mse"))


@pytest.mark.parametrize("integer", [True, False])
def test_theorem_1(integer):
    """R(dot) = R(Gau) + 2<P,G> - 2<P,d> - |G-d|^2, up to 2 (1 - G[dot]): the theorem needs a peak of one."""
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(50, 64, 48, generator=random, dtype=torch.float64)
    points = torch.rand(50, 2, generator=random, dtype=torch.float64) * torch.tensor([47.0, 63.0])
    dot = dot_heatmaps(points, torch.ones(50), (64, 48))
    gaussian = gaussian_heatmaps(points, torch.ones(50), (64, 48), 2.0, round_center=integer)

    def dots(a, b):
        return (a * b).sum((-2, -1))

    left = dots(maps - dot, maps - dot)
    right = dots(maps - gaussian, maps - gaussian) + 2 * dots(maps, gaussian) - 2 * dots(maps, dot)
    right = right - dots(gaussian - dot, gaussian - dot)
    rest = 2 * (1 - dots(gaussian, dot))
    assert (left - right - rest).abs().max() < 1e-9
    assert (left.sum() - right.sum() - rest.sum()).abs() < 1e-9
    assert (rest.abs().max() < 1e-9) if integer else (0 < rest.max() <= 0.1212)

"""The matching loss against recorded values and gradients of POT and of a float64 Newton solver."""

import numpy as np
import pytest
import torch

from posekit_hdm.bench import log_sinkhorn, make_inputs
from posekit_hdm.losses import HeatmapMatchingLoss
from posekit_hdm.transport import anneal_schedule, bilinear_demand, solve
from tests.shared import SHARED, requires_shared


@requires_shared
@pytest.mark.parametrize("epsilon", ["0.1", "0.05"])
@pytest.mark.parametrize("name", ["hdm_64x48", "hdm_small_16x12"])
def test_golden(name, epsilon):
    z = np.load(SHARED / "golden" / "hdm" / f"{name}.npz")
    maps = torch.tensor(z["heatmap"])[:, None].requires_grad_()
    dots, weight = torch.tensor(z["dot_xy"])[:, None], torch.tensor(z["weight"])[:, None]
    values = HeatmapMatchingLoss(float(epsilon), "relu", reduction="none")(maps, dots, weight)
    (gradient,) = torch.autograd.grad(values.sum(), maps)
    on = z["weight"] > 0
    values = values.detach().numpy()[:, 0]
    assert np.abs(values - z[f"ot_eps_{epsilon}"])[on].max() < 5e-5
    expected = z[f"grad_heatmap_eps_{epsilon}"].reshape(len(on), -1)
    gradient = gradient.numpy().reshape(len(on), -1)
    scale = np.abs(expected).max(1) + 1e-12
    assert (np.abs(gradient - expected).max(1) / scale)[on & z["grad_unique"]].max() < 2e-5
    assert not gradient[~on].any()
    assert not values[~on].any()
    bias = values[on] - z["emd"][on]
    assert bias.min() > -1e-4
    assert bias.max() < float(epsilon) * np.log(4) + 1e-4


@requires_shared
@pytest.mark.parametrize("name", ["hdm_64x48", "hdm_small_16x12"])
def test_exact_solver_golden(name):
    z = np.load(SHARED / "golden" / "hdm" / f"{name}.npz")
    on = z["weight"] > 0
    maps = torch.tensor(z["heatmap"])[on, None].double().requires_grad_()
    dots = torch.tensor(z["dot_xy"])[on, None]
    loss = HeatmapMatchingLoss(suppliers="relu", solver="pot", reduction="none")
    values = loss(maps, dots, torch.ones(dots.shape[:2]))
    (gradient,) = torch.autograd.grad(values.sum(), maps)
    assert np.abs(values.detach().numpy()[:, 0] - z["emd"][on]).max() < 1e-11
    unique = z["grad_unique"][on]
    expected = z["grad_heatmap"][on]
    error = np.abs(gradient.numpy()[:, 0] - expected).max((1, 2)) / (np.abs(expected).max((1, 2)) + 1e-12)
    assert error[unique].max() < 1e-5


def test_agrees_with_sinkhorn():
    size = (12, 10)
    maps, dots = make_inputs(1, 8, size, seed=3)
    mass = maps[0].double().flatten(1).softmax(-1)
    demand = bilinear_demand(dots[0].double(), *size)
    newton = solve(mass, demand, size, schedule=anneal_schedule(0.1, 6), refine=6)
    sinkhorn = log_sinkhorn(mass, demand, size, 0.1, 500)
    torch.testing.assert_close(newton.value, sinkhorn.value, rtol=0, atol=1e-9)
    centre = lambda a: a - a.mean(-1, keepdim=True)  # noqa: E731
    torch.testing.assert_close(centre(newton.potential), centre(sinkhorn.potential), rtol=0, atol=1e-8)


@pytest.mark.parametrize("truncate", [0.7, 2.0, 4.0])
def test_truncated_against_pot(truncate):
    maps, dots = make_inputs(2, 10, (14, 12), seed=1)
    maps = maps.double().requires_grad_()
    weight = torch.ones(2, 10)
    exact = HeatmapMatchingLoss(truncate=truncate, solver="pot", reduction="none")(maps, dots, weight)
    close = HeatmapMatchingLoss(0.005, truncate=truncate, anneal=12, refine=20, reduction="none")(maps, dots, weight)
    assert (close - exact).min() > -1e-9
    assert (close - exact).max() < 0.005 * np.log(4) + 1e-9
    assert exact.max() <= truncate + 1e-9
    one, other = (torch.autograd.grad(v.sum(), maps)[0] for v in (exact, close))
    scale = one.abs().amax((-2, -1))
    relative = (one - other).abs().amax((-2, -1)) / scale
    assert relative.median() < 0.05

"""Properties of the transport loss."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posekit.errors import UserError
from posekit.heatmaps import corner_targets, decode_window
from posekit_hdm.bench import bench_transport, make_inputs
from posekit_hdm.losses import (
    LEAST_EPSILON,
    LOSSES,
    HeatmapMatchingLoss,
    build_loss,
    default_anneal,
    default_refine,
)
from posekit_hdm.transport import ANNEAL_START, anneal_schedule, bilinear_demand, solve

SIZE = (16, 12)


def example(batch=2, joints=4, size=SIZE, seed=0, dtype=torch.float64):
    maps, dots = make_inputs(batch, joints, size, seed)
    return maps.to(dtype).requires_grad_(), dots.to(dtype), torch.ones(batch, joints)


def gradient_of(loss, maps, dots, weight):
    values = loss(maps, dots, weight)
    return values, torch.autograd.grad(values.sum(), maps)[0]


def matched(dots, size):
    index, share = corner_targets(dots, size)
    return dots.new_zeros(*dots.shape[:-1], size[0] * size[1]).scatter_add(-1, index, share).unflatten(-1, size)


def exact_emd(maps, dots, weight, loss):
    return HeatmapMatchingLoss(suppliers="relu", solver="pot", reduction="none")(loss.normalize(maps), dots, weight)


@pytest.mark.parametrize("truncate", [None, 2.0])
@pytest.mark.parametrize("suppliers", ["relu", "softplus", "softmax"])
def test_gradient_is_the_central_difference(suppliers, truncate):
    maps, dots, weight = example(1, 4, (7, 6))
    loss = HeatmapMatchingLoss(0.1, suppliers, "none", truncate, softmax_scale=2.0, refine=12)
    _, gradient = gradient_of(loss, maps, dots, weight)
    step = 1e-6
    for flat in range(0, 7 * 6, 5):
        move = torch.zeros(7 * 6, dtype=torch.float64)
        move[flat] = step
        move = move.view(7, 6)
        with torch.no_grad():
            slope = (loss(maps + move, dots, weight) - loss(maps - move, dots, weight)) / (2 * step)
        near_kink = suppliers == "relu" and (maps.view(1, 4, -1)[..., flat].abs() < 2 * step).any()
        if not near_kink:
            torch.testing.assert_close(slope, gradient.flatten(2)[..., flat], rtol=1e-6, atol=1e-7)


def test_float32_is_near_float64():
    maps, dots, weight = example(4, 17, (64, 48))
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none")
    v64, g64 = gradient_of(loss, maps, dots, weight)
    v32, g32 = gradient_of(loss, maps.detach().float().requires_grad_(), dots.float(), weight)
    assert (v64 - v32).abs().max() < 1e-4
    assert ((g64 - g32).abs().amax((-2, -1)) / g64.abs().amax((-2, -1))).max() < 1e-4


@pytest.mark.parametrize("suppliers", ["relu", "softplus", "softmax"])
@pytest.mark.parametrize("truncate", [None, 2.0])
def test_dots_a_rounding_step_beside_a_grid_line(suppliers, truncate):
    near = torch.rand(2000, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    away = torch.where(near > 0.5, 1.0, -1.0) * 10 ** (-8 + 8 * near)  # 1e-8 to 1 px of either side
    dots = (torch.tensor([5.0, 9.0]) + away).clamp(min=0).float()[None]
    maps = torch.full((1, len(near), *SIZE), -1.0 if suppliers == "relu" else 0.0)
    index = torch.arange(len(near))
    maps[0, index, 8 + index % 3, 4 + index // 3 % 3] = 5.0  # sure and right, to a pixel
    maps[0, ::2, 12, 1] = 4.8
    loss = HeatmapMatchingLoss(suppliers=suppliers, truncate=truncate, reduction="none")
    value, gradient = gradient_of(loss, maps.requires_grad_(), dots, torch.ones(1, len(near)))
    assert gradient.isfinite().all()
    steps = HeatmapMatchingLoss(suppliers=suppliers, truncate=truncate, reduction="none", anneal=60, refine=60)
    with torch.no_grad():
        precise = steps(maps.double(), dots.double(), torch.ones(1, len(near)))
    torch.testing.assert_close(value.double(), precise, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (9, 3), (16, 12), (33, 21)])
def test_schedule_has_converged(size):
    maps, dots, weight = example(3, 8, size, seed=5)
    one = gradient_of(HeatmapMatchingLoss(suppliers="relu", reduction="none"), maps, dots, weight)
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none", anneal=20, refine=30)
    other = gradient_of(loss, maps, dots, weight)
    assert (one[0] - other[0]).abs().max() < 1e-6
    scale = other[1].abs().amax((-2, -1)).clamp(min=1e-3)
    assert ((one[1] - other[1]).abs().amax((-2, -1)) / scale).max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), pixels=st.integers(1, 5), epsilon=st.sampled_from([0.05, 0.1]))
def test_sparse_maps(seed, pixels, epsilon):
    random = torch.Generator().manual_seed(seed)
    maps = torch.zeros(16, 20 * 16, dtype=torch.float64)
    index = torch.randint(0, 20 * 16, (16, pixels), generator=random)
    maps.scatter_(1, index, torch.rand(16, pixels, generator=random, dtype=torch.float64) + 1e-3)
    dots = torch.rand(16, 2, generator=random, dtype=torch.float64) * torch.tensor([15.0, 19.0])
    dots[:4] = dots[:4].round()
    dots[4:8] = dots[4:8].round() + 1e-4
    dots = torch.minimum(dots, torch.tensor([15.0, 19.0], dtype=torch.float64))
    mass, demand = maps / maps.sum(1, keepdim=True), bilinear_demand(dots, 20, 16)
    single = type(demand)(*demand[:2], demand.weight.float())
    schedule, steps = anneal_schedule(epsilon, default_anneal(epsilon)), default_refine(epsilon)
    default = solve(mass.float(), single, (20, 16), schedule=schedule, refine=steps)
    converged = solve(mass, demand, (20, 16), schedule=anneal_schedule(epsilon, 20), refine=40)
    assert (default.value - converged.value).abs().max() < 1e-4
    assert torch.isfinite(default.potential).all()


def test_bounds_against_exact():
    maps, dots, weight = example()
    loss = HeatmapMatchingLoss(0.1, "relu", "none", refine=8)
    entropic, exact = loss(maps, dots, weight), exact_emd(maps, dots, weight, loss)
    expected = build_loss("expected_distance", suppliers="relu", reduction="none")(maps, dots, weight)
    assert (entropic - exact).min() > -1e-9
    assert (entropic - exact).max() < 0.1 * math.log(4) + 1e-9
    assert (exact - expected).abs().max() < 0.7072


@pytest.mark.parametrize("truncate", [None, 1.0])
@pytest.mark.parametrize("epsilon", [LEAST_EPSILON, 0.01, 0.05])
def test_bounds_against_exact_at_a_small_epsilon(epsilon, truncate):
    """Dots next to a pixel leave the other corners a demand of 1e-4 and 1e-8, which the first steps cannot resolve."""
    size, random = (64, 48), torch.Generator().manual_seed(0)
    dots = torch.rand(80, 2, generator=random) * torch.tensor([46.0, 62.0])
    dots[40:] = dots[40:].round() + 1e-4
    square = (torch.arange(48) - dots[:, :1, None]) ** 2 + (torch.arange(64)[:, None] - dots[:, 1:, None]) ** 2
    maps = torch.exp(-0.5 * square)
    maps[20:60] = 0
    far = torch.randint(0, 64 * 48, (40, 3), generator=random)
    maps[20:60] = maps[20:60].flatten(1).scatter(1, far, torch.rand(40, 3, generator=random) + 1e-3).view(40, *size)
    options = {"suppliers": "relu", "reduction": "none", "truncate": truncate}
    batch = (maps[None], dots[None], torch.ones(1, 80))
    found = HeatmapMatchingLoss(epsilon, **options)(*batch)
    over = found - HeatmapMatchingLoss(solver="pot", **options)(*batch)
    assert over.min() > -1e-4
    assert over.max() < epsilon * math.log(4) + 1e-4


def test_the_default_epsilon_has_its_steps():
    assert (default_anneal(0.1), default_refine(0.1)) == (default_anneal(0.5), default_refine(0.5)) == (6, 4)
    assert [default_anneal(epsilon) for epsilon in (0.05, 0.01, LEAST_EPSILON)] == [12, 25, 30]


def test_scale_invariance_and_euler():
    maps, dots, weight = example()
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none")
    value, gradient = gradient_of(loss, maps, dots, weight)
    value3, gradient3 = gradient_of(loss, (3 * maps).detach().requires_grad_(), dots, weight)
    torch.testing.assert_close(value, value3)
    torch.testing.assert_close(gradient, 3 * gradient3)
    assert (maps * gradient).sum((-2, -1)).abs().max() < 1e-12


def test_potential_is_lipschitz():
    maps, dots, _ = example(1, 8)
    demand = bilinear_demand(dots[0], *SIZE)
    mass = HeatmapMatchingLoss().normalize(maps[0][None])[0].flatten(1)
    a = solve(mass, demand, SIZE, schedule=anneal_schedule(0.1, 6), refine=6).potential.view(-1, *SIZE)
    assert a.diff(dim=-1).abs().max() <= 1 + 1e-9
    assert a.diff(dim=-2).abs().max() <= 1 + 1e-9


def test_perfect_map():
    _, dots, weight = example()
    maps = matched(dots, SIZE).requires_grad_()
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none")
    value, gradient = gradient_of(loss, maps, dots, weight)
    assert value.max() <= 0.1 * math.log(4)
    assert torch.isfinite(gradient).all()
    assert exact_emd(maps, dots, weight, loss).abs().max() < 1e-9


def test_mirror_and_translation():
    maps, dots, weight = example()
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none", refine=6)
    value, gradient = gradient_of(loss, maps, dots, weight)
    mirrored = torch.stack([SIZE[1] - 1 - dots[..., 0], dots[..., 1]], -1)
    value2, gradient2 = gradient_of(loss, maps.detach().flip(-1).requires_grad_(), mirrored, weight)
    torch.testing.assert_close(value, value2, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, gradient2.flip(-1), rtol=0, atol=1e-7)
    padded = torch.nn.functional.pad(maps, (3, 2, 5, 1))
    torch.testing.assert_close(loss(padded, dots + torch.tensor([3.0, 5.0]), weight), value, rtol=0, atol=1e-9)


def test_joints_do_not_mix():
    maps, dots, weight = example(16, 17)
    loss = HeatmapMatchingLoss(suppliers="relu", reduction="none")
    value, gradient = gradient_of(loss, maps, dots, weight)
    alone, alone_gradient = gradient_of(loss, maps.detach()[5:6].requires_grad_(), dots[5:6], weight[5:6])
    torch.testing.assert_close(value[5:6], alone, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient[5:6], alone_gradient, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_masked_joints_leak_nothing(name):
    maps, dots, weight = example(2, 4, dtype=torch.float32)
    clean, clean_gradient = gradient_of(build_loss(name, reduction="none"), maps, dots, weight)
    weight[0, 1] = weight[1, 2] = 0
    spoiled = maps.detach().clone()
    spoiled[0, 1] = float("nan")
    spoiled[1, 2] = float("inf")
    dots[0, 1] = float("nan")
    dots[1, 2, 0] = float("inf")
    dots[1, 0] = torch.tensor([-3.0, 2.0])
    value, gradient = gradient_of(build_loss(name, reduction="none"), spoiled.requires_grad_(), dots, weight)
    off = torch.tensor([[False, True, False, False], [True, False, True, False]])
    assert not value[off].any()
    assert not gradient[off].any()
    torch.testing.assert_close(value[~off], clean[~off], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient[~off], clean_gradient[~off], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_all_masked_gives_zero_with_a_live_graph(name):
    maps, dots, weight = example()
    for reduction in ("sum_joints_mean_batch", "mean_valid"):
        value, gradient = gradient_of(build_loss(name, reduction=reduction), maps, dots, 0 * weight)
        assert value == 0
        assert not gradient.any()


@pytest.mark.parametrize("suppliers", ["relu", "softplus", "softmax"])
@pytest.mark.parametrize("level", [-1e4, -50.0, -1.0, 0.0])
def test_empty_maps_are_finite_and_alive(suppliers, level):
    noise = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    maps = (level + 0.01 * noise.abs().neg()).requires_grad_()
    dots = torch.tensor([[[3.3, 4.4], [8.0, 2.0]]])
    value, gradient = gradient_of(HeatmapMatchingLoss(suppliers=suppliers), maps, dots, torch.ones(1, 2))
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax((-2, -1)) > 0).all()
    constant = torch.full((1, 2, *SIZE), level, requires_grad=True)
    value, gradient = gradient_of(HeatmapMatchingLoss(suppliers=suppliers), constant, dots, torch.ones(1, 2))
    assert torch.isfinite(value)
    assert (gradient.abs().amax((-2, -1)) > 0).all()
    loss = HeatmapMatchingLoss(suppliers="relu")
    assert loss.count_empty(maps, torch.tensor([[1.0, 0.0]])) == int(level <= 0)


def test_reductions():
    maps, dots, weight = example()
    weight[0, 0] = 0
    each = build_loss("hdm", reduction="none")(maps, dots, weight)
    assert each.shape == (2, 4)
    torch.testing.assert_close(build_loss("hdm")(maps, dots, weight), each.sum() / 2)
    torch.testing.assert_close(build_loss("hdm", reduction="mean_valid")(maps, dots, weight), each.sum() / 7)
    torch.testing.assert_close(build_loss("hdm", reduction="sum")(maps, dots, weight), each.sum())


def test_rim_clamps_and_outside_masks():
    maps, _, _ = example(1, 4)
    weight = torch.ones(1, 4)
    dots = torch.tensor([[[-0.5, 3.0], [11.49, 15.49], [11.5, 3.0], [2.0, -0.51]]])
    edge = torch.tensor([[[0.0, 3.0], [11.0, 15.0], [0.0, 0.0], [0.0, 0.0]]])
    loss = HeatmapMatchingLoss(reduction="none")
    value = loss(maps, dots, weight)
    torch.testing.assert_close(value[:, :2], loss(maps, edge, weight)[:, :2])
    assert not value[:, 2:].any()


def test_beyond_the_cap_no_pull():
    maps = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    maps[0, 0, 14, 10] = maps[0, 0, 13, 10] = 1
    maps.requires_grad_()
    loss = HeatmapMatchingLoss(suppliers="relu", truncate=2.0)
    value, gradient = gradient_of(loss, maps, torch.tensor([[[2.3, 2.6]]]), torch.ones(1, 1))
    assert value.item() == pytest.approx(2.0)
    assert gradient.abs().max() < 1e-12


def test_bfloat16_under_autocast():
    maps, dots, weight = example(dtype=torch.float32)
    half = maps.detach().bfloat16().requires_grad_()
    loss = HeatmapMatchingLoss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, dots, weight)
    value.backward()
    assert value.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(value, loss(half.detach().float(), dots, weight))


@pytest.mark.parametrize(("suppliers", "rate"), [("softplus", 1.0), ("softmax", 0.2)])
def test_descent_from_noise_reaches_the_dot(suppliers, rate):
    """Not so with relu: free pixels that die next to the dot stay dead, and the mass settles around them."""
    torch.manual_seed(0)
    maps = (0.3 * torch.randn(1, 6, *SIZE)).requires_grad_()
    dots = torch.rand(1, 6, 2) * torch.tensor([11.0, 15.0])
    loss = HeatmapMatchingLoss(suppliers=suppliers, softmax_scale=1.0)
    optimiser = torch.optim.Adam([maps], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 500)
    for _ in range(500):
        optimiser.zero_grad()
        loss(maps, dots, torch.ones(1, 6)).backward()
        optimiser.step()
        schedule.step()
    points, scores = decode_window(loss.normalize(maps.detach()))
    assert (points - dots).norm(dim=-1).max() < 0.02
    assert scores.min() > 0.95


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_relu_maps_descend(seed):
    """A small step against the gradient lowers the loss of relu maps, and moves no pixel that supplies nothing."""
    maps, dots, weight = example(1, 4, seed=seed)
    loss = HeatmapMatchingLoss(0.1, "relu", "none", refine=12)
    before, gradient = gradient_of(loss, maps, dots, weight)
    step = 1e-3 * maps.detach().relu().amax((-2, -1), keepdim=True) / gradient.abs().amax((-2, -1), keepdim=True)
    with torch.no_grad():
        moved = maps - step * gradient
        assert (loss(moved, dots, weight) < before).all()
        assert torch.equal(moved[maps <= 0], maps[maps <= 0])


@pytest.mark.slow
def test_compiles_without_a_break():
    maps, dots, weight = example(2, 4, dtype=torch.float32)
    loss = HeatmapMatchingLoss()
    compiled = torch.compile(loss, fullgraph=True)
    value, gradient = gradient_of(loss, maps, dots, weight)
    value2, gradient2 = gradient_of(compiled, maps, dots, weight)
    torch.testing.assert_close(value, value2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient, gradient2, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_no_number_of_the_schedule_becomes_a_symbol_of_a_dynamic_graph():
    """Arithmetic on such symbols gives the graph a guard that fails as soon as it is made, under inductor."""
    symbols = set()

    def backend(graph, inputs):
        symbols.update(float(value) for value in inputs if isinstance(value, torch.Tensor) and value.ndim == 0)
        return graph.forward

    torch._dynamo.reset()
    loss = HeatmapMatchingLoss()
    compiled = torch.compile(loss, dynamic=True, fullgraph=True, backend=backend)
    maps, dots, weight = example(2, 4, dtype=torch.float32)
    for found, expected in zip(
        gradient_of(compiled, maps, dots, weight), gradient_of(loss, maps, dots, weight), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not symbols & {ANNEAL_START, loss.epsilon}


def test_bad_input():
    maps, dots, weight = example()
    loss = HeatmapMatchingLoss()
    for bad in [
        (maps[0], dots, weight),
        (maps, dots[:1], weight),
        (maps, dots, weight[:, :2]),
        (maps[..., :1], dots, weight),
        (maps.long(), dots, weight),
    ]:
        with pytest.raises(UserError):
            loss(*bad)
    with pytest.raises(UserError, match="2x2"):
        loss(maps[..., :1, :], dots, weight)
    dots[0, 0, 0] = float("nan")
    with pytest.raises(UserError, match="points"):
        HeatmapMatchingLoss(check_finite=True)(maps, dots, weight)
    weight[0, 0] = 0
    HeatmapMatchingLoss(check_finite=True)(maps, dots, weight)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_maps_that_are_not_finite_are_refused_by_every_loss(name, value):
    maps, dots, weight = example()
    maps = maps.detach().clone()
    maps[0, 1, 3, 3] = value
    if value == -float("inf") and LOSSES[name].is_distribution:  # a pixel without mass
        maps[0, 1, 0, 0] = float("inf")
    for check in (None, True):
        with pytest.raises(UserError, match="1 of 8 joints"):
            build_loss(name, check_finite=check)(maps, dots, weight)
    weight[0, 1] = 0
    assert torch.isfinite(build_loss(name)(maps, dots, weight))
    weight[0, 1] = 1
    assert not torch.isfinite(build_loss(name, check_finite=False, reduction="none")(maps, dots, weight)[0, 1])


def test_minus_infinity_is_a_pixel_without_mass():
    maps, dots, weight = example()
    dots[...] = 5.3
    masked, low = maps.detach().clone(), maps.detach().clone()
    masked[..., :3], low[..., :3] = -float("inf"), -1e4
    for suppliers in ("softmax", "softplus", "relu"):
        value, gradient = gradient_of(HeatmapMatchingLoss(suppliers=suppliers), masked.requires_grad_(), dots, weight)
        expected, other = gradient_of(HeatmapMatchingLoss(suppliers=suppliers), low.requires_grad_(), dots, weight)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"epsilon": 0}, r"loss 'hdm': epsilon must be a number of at least 0\.005, not 0"),
        ({"epsilon": 1e-9}, r"epsilon must be a number of at least 0\.005, not 1e-09"),
        ({"epsilon": "a"}, r"epsilon must be a number of at least 0\.005, not 'a'"),
        ({"suppliers": "sigmoid"}, "softplus"),
        ({"truncate": 0}, "truncate must be a number above 0"),
        ({"solver": "x"}, "newton"),
        ({"reduction": "mean"}, "mean_valid"),
        ({"refine": 0}, r"refine must be a whole number in \[1, 100\] \(or null\), not 0"),
        ({"refine": 1.2}, r"refine must be a whole number in \[1, 100\] \(or null\), not 1\.2"),
        ({"epsilom": 0.1}, "epsilon"),
        ({"anneal": 2.7}, r"loss 'hdm': anneal must be a whole number in \[0, 100\] \(or null\), not 2\.7"),
        ({"anneal": "x"}, r"anneal must be a whole number in \[0, 100\] \(or null\), not 'x'"),
        ({"anneal": True}, "not True"),
        ({"anneal": 10**9}, "anneal"),
        ({"check_finite": "maybe"}, r"loss 'hdm': check_finite must be true or false \(or null\), not 'maybe'"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(UserError, match=text) as caught:
        build_loss("hdm", **options)
    assert "\n" not in str(caught.value)


def test_unknown_loss_names_the_nearest():
    with pytest.raises(UserError, match="gaussian_mse"):
        build_loss("gausian_mse")


@pytest.mark.slow
def test_speed():
    result = bench_transport()
    assert result["emd2_loop_ratio"] > 4
    assert result["sinkhorn50_ratio"] > 10


def test_the_exact_solver_and_the_benchmark_say_that_pot_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    maps, dots, weight = example()
    for run in (
        lambda: HeatmapMatchingLoss(solver="pot")(maps, dots, weight),
        lambda: bench_transport(1, 2, repeats=1),
    ):
        with pytest.raises(UserError, match="needs POT: pip install pot"):
            run()


def test_masked_pixels_of_an_empty_map_are_no_minimum():
    maps = -torch.ones(1, 1, 8, 8)
    maps[..., 0, 0] = -torch.inf
    maps.requires_grad_()
    value = HeatmapMatchingLoss(suppliers="relu")(maps, torch.tensor([[[3.0, 3.0]]]), torch.ones(1, 1))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(maps.grad).all()
    assert maps.grad[0, 0, 0, 0] == 0

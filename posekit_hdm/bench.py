"""Measures the transport solver against its rivals: ``python -m posekit_hdm.bench``."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from posekit.bench.timing import one_thread
from posekit.cli import exit_in_one_line
from posekit.resources import best_cpu_ms
from posekit_hdm import transport
from posekit_hdm.base import make_supply
from posekit_hdm.exact import each_problem, import_pot
from posekit_hdm.losses import HeatmapMatchingLoss, build_loss
from posekit_hdm.module import HDM


def bench_transport(
    batch: int = 32,
    joints: int = 17,
    size: tuple[int, int] = (64, 48),
    epsilon: float = 0.1,
    repeats: int = 5,
    backbone: str | None = None,
) -> dict[str, float]:
    """Times loss and gradient of one batch on one CPU thread, all methods in one run.

    The inputs are four equal families: white noise, a broad blob 3 px off, a sharp blob, and two modes. Exact transport
    and log-Sinkhorn are timed on a tenth of the joints and scaled up.

    Args:
        batch: People.
        joints: Joints a person.
        size: (H, W) of the maps.
        epsilon: Entropic weight, heatmap px.
        repeats: Runs, of which the quickest counts.
        backbone: Also times one forward and backward pass of this network on the batch, e.g. ``hrnet_w32``, for the
            loss's share of a step.

    Returns:
        Process CPU time in ms under ``*_ms``, the ratios to the solver under ``*_ratio``, and memory in MB:
        ``kept_mb`` until backward, ``working_mb`` for the solver's temporaries (computed). With a backbone also
        ``network_ms`` and ``hdm_share`` of network and loss together.
    """
    with one_thread():
        maps, dots = make_inputs(batch, joints, size)
        weight = torch.ones(batch, joints)
        maps.requires_grad_()
        result = {
            f"{name}_ms": best_cpu_ms(lambda loss=loss: torch.autograd.grad(loss(maps, dots, weight), maps), repeats)  # type: ignore[misc]
            for name, loss in (
                ("hdm", HeatmapMatchingLoss(epsilon, "relu")),
                ("hdm_softmax", HeatmapMatchingLoss(epsilon, "softmax")),
                ("mse", build_loss("gaussian_mse")),
                ("corner_ce", build_loss("corner_ce")),
                ("expected_distance", build_loss("expected_distance")),
            )
        }
        part = max(batch * joints // 10, 1)
        mass = make_supply(maps.detach().flatten(0, 1).flatten(1)[:part], "relu", 1.0).mass
        demand = transport.bilinear_demand(dots.flatten(0, 1)[:part], *size)
        scale = batch * joints / part
        # Not timed: the import of POT and the first calls would be scaled up with the rest.
        emd2_loop(mass[:2], transport.Demand(*(d[:2] for d in demand)), size)
        log_sinkhorn(mass[:2], transport.Demand(*(d[:2] for d in demand)), size, epsilon, 2)
        result["emd2_loop_ms"] = scale * best_cpu_ms(lambda: emd2_loop(mass, demand, size), repeats)
        result["sinkhorn50_ms"] = scale * best_cpu_ms(lambda: log_sinkhorn(mass, demand, size, epsilon, 50), repeats)
        if backbone is not None:
            result["network_ms"] = _network_ms(backbone, batch, joints, size)
            result["hdm_share"] = result["hdm_ms"] / (result["hdm_ms"] + result["network_ms"])
    for name in ("emd2_loop", "sinkhorn50", "mse"):
        result[f"{name}_ratio"] = result[f"{name}_ms"] / result["hdm_ms"]
    pixels = size[0] * size[1]
    result["kept_mb"] = batch * joints * pixels * 4 / 1e6
    rows = min(transport.CPU_ROWS, batch * joints)
    result["working_mb"] = (rows * 4 * 3 + batch * joints * 4) * pixels * 4 / 1e6
    return result


def make_inputs(batch: int, joints: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draws maps (batch, joints, H, W) of four families and dots (batch, joints, 2)."""
    height, width = size
    random = torch.Generator().manual_seed(seed)
    count = batch * joints
    dots = torch.rand(count, 2, generator=random) * torch.tensor([width - 1.0, height - 1.0])
    x, y = torch.arange(width), torch.arange(height)[:, None]

    def blob(sigma: float, off: float) -> Tensor:
        center = dots + off * torch.randn(count, 2, generator=random)
        square = (x - center[:, :1, None]) ** 2 + (y - center[:, 1:, None]) ** 2
        return torch.exp(-0.5 * square / sigma**2)

    noise = torch.randn(count, height, width, generator=random)
    families = torch.stack(
        [
            noise,
            blob(6.0, 3.0) + 0.05 * noise,
            blob(1.0, 0.5) + 0.001 * noise,
            blob(2.0, 0.0) + 0.6 * blob(2.0, 8.0) + 0.01 * noise,
        ]
    )
    index = torch.arange(count)
    maps = families[index % 4, index]
    return maps.view(batch, joints, height, width), dots.view(batch, joints, 2)


def log_sinkhorn(
    supply: Tensor, demand: transport.Demand, size: tuple[int, int], epsilon: float, iterations: int
) -> transport.Plan:
    """Reference: batched log-domain Sinkhorn on the same KL-entropic problem; arguments as `transport.solve`."""
    table = transport.offset_table(*size, None, supply.device).to(supply.dtype)
    window = transport.take_windows(table, demand, *size)
    costs = torch.cat([window[:, :1], window[:, 1:] + window[:, :1]], dim=1)
    tiny = torch.finfo(supply.dtype).tiny
    log_s, log_d = supply.clamp(min=tiny).log(), demand.weight.clamp(min=tiny).log()
    b = torch.zeros_like(demand.weight)
    a = supply
    for _ in range(iterations):
        a = -epsilon * torch.logsumexp(log_d[..., None] + (b[..., None] - costs) / epsilon, dim=1)
        b = -epsilon * torch.logsumexp(log_s[:, None] + (a[:, None] - costs) / epsilon, dim=2)
    a = -epsilon * torch.logsumexp(log_d[..., None] + (b[..., None] - costs) / epsilon, dim=1)
    return transport.Plan((demand.weight * b).sum(-1) + (supply * a).sum(-1), a)


def emd2_loop(supply: Tensor, demand: transport.Demand, size: tuple[int, int]) -> float:
    """Reference: `ot.emd2` with its dual, joint by joint in float64; returns the sum of the values."""
    ot = import_pot()
    return sum(float(ot.emd2(s, d, c, log=True)[0]) for s, d, c in each_problem(supply, demand, size))


def _network_ms(backbone: str, batch: int, joints: int, size: tuple[int, int]) -> float:
    """Times forward and backward pass of a network with maps of ``size``, once after a pass of one picture."""
    network = HDM(backbone=backbone, image_size=[4 * size[1], 4 * size[0]]).network
    pictures = torch.randn(batch, 3, 4 * size[0], 4 * size[1])
    gradient = torch.randn(batch, joints, *size)
    network(pictures[:1]).sum().backward()
    return best_cpu_ms(lambda: network(pictures).backward(gradient), 1)


if __name__ == "__main__":
    with exit_in_one_line():
        print(json.dumps({name: round(value, 2) for name, value in bench_transport().items()}, indent=2))

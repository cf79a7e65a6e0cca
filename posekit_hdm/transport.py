"""Entropic transport between heatmaps and the four corners of a dot's cell, by batched Newton.

The problem (Qu et al., "Heatmap Distribution Matching for Human Pose Estimation", NeurIPS 2022, Eq. 1-3): the pixels of
a map supply S (N values, sum 1), the four pixels around the dot demand D (bilinear weights, sum 1), and a unit of mass
costs the distance in heatmap px. The paper names a regularised EMD but neither its solver nor its regulariser; the
solver here is a reconstruction. It maximises the KL-entropic semi-dual over the four potentials b of the corners,

    F(b) = <D, b> - eps sum_n S_n log sum_m D_m exp((b_m - C_nm) / eps),

a smooth concave function of three free variables whatever the number of pixels. Two ideas make it quick:

* The cost depends on a pixel's offset to the cell only, so one small table serves all joints, each as a window of it.
* The annealing runs on a summary of the map (exact pixels near the dot, block centroids far away); only the last few
  steps see every pixel. Newton converges quadratically, so a summary that is off by a percent costs one step.

Nothing here depends on the data's values for control flow, so no step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from posekit.heatmaps import bilinear_cells
from posekit.nn.constants import finest, kept

ANNEAL_START = 0.7
"""First epsilon of the annealing, heatmap px: wide enough for one Newton step to be safe from any start."""

_NEAR = 8  # side of the window whose pixels the summary keeps, px
_BLOCK = 4  # side of the blocks that the summary merges, px
CPU_ROWS = 64  # rows a CPU handles at once, so that a pass stays in its cache
_SAFE_EXPONENT = 40.0  # up to this, squares of exponentials stay within float32


class Demand(NamedTuple):
    """Four corners of the cells that hold M dots."""

    column: Tensor  # (M,) int64, x of the left corners, 0 .. W - 2
    row: Tensor  # (M,) int64, y of the upper corners, 0 .. H - 2
    weight: Tensor  # (M, 4), bilinear weights of (0,0), (1,0), (0,1), (1,1) as (dx, dy); sum 1


class Plan(NamedTuple):
    """Solution of M transport problems."""

    value: Tensor  # (M,), transport cost, heatmap px
    potential: Tensor  # (M, N), dValue/dS up to a constant, heatmap px


def bilinear_demand(points: Tensor, height: int, width: int) -> Demand:
    """Splits dots over the four pixels of their cells so that the mean is the dot.

    Args:
        points: (M, 2) finite dots (x, y), heatmap px, within [0, W - 1] x [0, H - 1].
        height: H of the map, at least 2.
        width: W of the map, at least 2.
    """
    return Demand(*bilinear_cells(points, (height, width)))


def corner_costs(dx: Tensor, dy: Tensor, truncate: float | None = None) -> Tensor:
    """Costs from pixels to the four corners: the first, and the others relative to it.

    The relative costs are formed without subtracting two distances, which would cancel far from the dot. Shape (4, …).

    Args:
        dx: Pixel's x minus the left corner's, px.
        dy: Pixel's y minus the upper corner's, px.
        truncate: Largest cost, px; None for the plain distance.
    """
    first = torch.hypot(dx, dy)
    costs = [first if truncate is None else first.clamp(max=truncate)]
    for cx, cy in ((1, 0), (0, 1), (1, 1)):
        other = torch.hypot(dx - cx, dy - cy)
        if truncate is None:
            costs.append((cx + cy - 2 * (cx * dx + cy * dy)) / (first + other))
        else:
            costs.append(other.clamp(max=truncate) - costs[0])
    return torch.stack(costs)


def offset_table(height: int, width: int, truncate: float | None, device: torch.device) -> Tensor:
    """Corner costs over all offsets of a pixel to a cell, (4, 2 H - 2, 2 W - 2) float64, offset 0 at [H - 2, W - 2]."""
    dx = torch.arange(2 - width, width, device=device, dtype=finest(device))
    dy = torch.arange(2 - height, height, device=device, dtype=finest(device))
    return corner_costs(dx[None, :], dy[:, None], truncate)


def kernel_table(height: int, width: int, truncate: float | None, epsilon: float, device: torch.device) -> Tensor:
    """Returns :func:`offset_table`, with relative costs as exp(-cost / epsilon) where that needs no shift."""
    table = offset_table(height, width, truncate, device)
    if _is_safe(epsilon):
        table[1:].div_(-epsilon).exp_()
    return table


def take_windows(table: Tensor, demand: Demand, height: int, width: int) -> Tensor:
    """Cuts each dot's window out of a table over offsets (4, …): values of all pixels of M maps, (M, 4, H * W)."""
    windows = table.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
    return windows[height - 2 - demand.row, width - 2 - demand.column].flatten(2)


def solve(
    supply: Tensor,
    demand: Demand,
    size: tuple[int, int],
    *,
    schedule: Sequence[float],
    refine: int,
    truncate: float | None = None,
) -> Plan:
    """Solves M KL-entropic problems by a fixed schedule of Newton steps.

    Args:
        supply: (M, N) masses of the pixels, row by row, each sum 1.
        demand: The dots' corners.
        size: (H, W) with H * W = N.
        schedule: Falling epsilons (entropic weights), heatmap px, of the steps on the summary of the map, see
            :func:`anneal_schedule`; the last is the problem's own.
        refine: Steps at the last epsilon with every pixel.
        truncate: Largest cost, px; None for the plain distance.

    Returns:
        Value within log 4 times the last epsilon above the exact EMD, and the exact gradient of that value; both once
        the steps have converged (with too few the value can lie below).
    """
    demand = _without_slivers(demand)
    mass, relative = summarise(supply.unflatten(1, size), demand, truncate)
    start = newton(torch.zeros_like(demand.weight), mass, relative, demand.weight, schedule)
    epsilon = schedule[-1]
    table = kept(kernel_table, supply, *size, truncate, epsilon)
    if supply.device.type != "cpu" or torch.compiler.is_compiling():
        return _finish(supply, demand, start, size, table, epsilon, refine)
    parts = zip(
        supply.split(CPU_ROWS),
        zip(*(d.split(CPU_ROWS) for d in demand), strict=True),
        start.split(CPU_ROWS),
        strict=True,
    )
    plans = [_finish(s, Demand(*d), p, size, table, epsilon, refine) for s, d, p in parts]
    return Plan(torch.cat([p.value for p in plans]), torch.cat([p.potential for p in plans]))


def _without_slivers(demand: Demand) -> Demand:
    """Takes off corners whose demand is as small as the dot's rounding: their flow is lost among the others'."""
    weight = demand.weight
    weight = torch.where(weight > 8 * torch.finfo(weight.dtype).eps, weight, 0.0)
    return demand._replace(weight=weight / weight.sum(-1, keepdim=True))


def anneal_schedule(epsilon: float, steps: int) -> tuple[float, ...]:
    """Returns geometric steps from 0.7 px towards ``epsilon``, and two at ``epsilon`` itself."""
    start = max(ANNEAL_START, epsilon)
    return (*(start * (epsilon / start) ** (k / max(steps, 1)) for k in range(steps)), epsilon, epsilon)


def _finish(
    supply: Tensor,
    demand: Demand,
    potential: Tensor,
    size: tuple[int, int],
    table: Tensor,
    epsilon: float,
    refine: int,
) -> Plan:
    """Runs the steps that see every pixel, then reads value and dual potential off."""
    window = take_windows(table, demand, *size)
    others, safe = window[:, 1:], _is_safe(epsilon)
    potential = newton(potential, supply, others, demand.weight, [epsilon] * refine, is_kernel=safe)
    logit, top = _logits(potential, demand.weight, epsilon)
    terms = _terms(logit, others, epsilon, safe)
    log_sum = terms.total().log_()
    if terms.shift is not None:
        log_sum += terms.shift
    dual = torch.sub(window[:, 0], log_sum, alpha=epsilon)
    # The softmax's common factor does not depend on the pixel: it belongs to the value alone.
    value = (demand.weight * potential).sum(-1) - epsilon * top[:, 0] + (supply * dual).sum(-1)
    return Plan(value, dual)


def summarise(supply: Tensor, demand: Demand, truncate: float | None) -> tuple[Tensor, Tensor]:
    """Merges far pixels into block centroids.

    Args:
        supply: (M, H, W).
        demand: The dots' corners.
        truncate: As in `solve`.

    Returns:
        Masses (M, n) and relative costs (M, 3, n) of the nodes.
    """
    _, height, width = supply.shape
    near_h, near_w = min(_NEAR, height), min(_NEAR, width)
    top = (demand.row - (near_h // 2 - 1)).clamp(0, height - near_h)
    left = (demand.column - (near_w // 2 - 1)).clamp(0, width - near_w)
    windows = supply.unfold(1, near_h, 1).unfold(2, near_w, 1)
    near = windows[torch.arange(len(supply), device=supply.device), top, left]
    x = torch.arange(width, device=supply.device)
    y = torch.arange(height, device=supply.device)
    inside_x = (x >= left[:, None]) & (x < left[:, None] + near_w)
    inside_y = (y >= top[:, None]) & (y < top[:, None] + near_h)
    # s - s * 1 * 1 is exactly zero, and cheaper than a mask.
    far = torch.addcmul(
        supply, supply * inside_y[:, :, None].to(supply.dtype), inside_x[:, None, :].to(supply.dtype), value=-1
    )
    mass, far_x, far_y = _block_moments(far)
    near_x = (left[:, None] + torch.arange(near_w, device=supply.device))[:, None, :].expand(-1, near_h, -1)
    near_y = (top[:, None] + torch.arange(near_h, device=supply.device))[:, :, None].expand(-1, -1, near_w)
    node_x = torch.cat([near_x.flatten(1).to(supply.dtype), far_x], dim=1) - demand.column[:, None]
    node_y = torch.cat([near_y.flatten(1).to(supply.dtype), far_y], dim=1) - demand.row[:, None]
    costs = corner_costs(node_x, node_y, truncate)[1:]
    return torch.cat([near.flatten(1), mass], dim=1), costs.movedim(0, 1)


def _block_moments(supply: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mass and centroid (x, y) of the blocks of maps (M, H, W), each (M, blocks)."""
    _, height, width = supply.shape
    y = torch.arange(height, device=supply.device, dtype=supply.dtype)
    x = torch.arange(width, device=supply.device, dtype=supply.dtype)
    into_x = _block_matrix(width, supply)
    into_y = _block_matrix(height, supply)
    by_column = supply @ torch.cat([into_x, into_x * x[:, None]], dim=1)
    blocks = into_x.shape[1]
    moments = torch.cat([into_y, into_y * y[:, None]], dim=1).T @ by_column
    rows = into_y.shape[1]
    mass = moments[:, :rows, :blocks]
    floor = torch.finfo(supply.dtype).tiny
    center_x = moments[:, :rows, blocks:] / mass.clamp(min=floor)
    center_y = moments[:, rows:, :blocks] / mass.clamp(min=floor)
    return mass.flatten(1), center_x.flatten(1), center_y.flatten(1)


def _block_matrix(length: int, like: Tensor) -> Tensor:
    """Membership (length, blocks) of pixels in blocks along one axis."""
    index = torch.arange(length, device=like.device) // _BLOCK
    return functional.one_hot(index, -(-length // _BLOCK)).to(like.dtype)


def newton(
    potential: Tensor,
    supply: Tensor,
    others: Tensor,
    weight: Tensor,
    schedule: Sequence[float],
    is_kernel: bool = False,
) -> Tensor:
    """Damped Newton ascent of the semi-dual, one step per epsilon of the schedule.

    Args:
        potential: (M, 4) start, px.
        supply: (M, n) masses.
        others: (M, 3, n) costs to the last three corners minus the cost to the first, px; or their kernel.
        weight: (M, 4) demands; corners of weight 0 keep potential 0; others are well above rounding.
        schedule: Epsilon of each step, px.
        is_kernel: ``others`` holds exp(-cost / epsilon), for the one epsilon of the schedule.
    """
    active = (weight > 0).to(weight.dtype)
    for epsilon in schedule:
        logit, _ = _logits(potential, weight, epsilon)
        terms = _terms(logit, others, epsilon, is_kernel)
        total = terms.total()
        flow = terms.last * (supply / total.square_())[:, None]
        coupling = torch.bmm(flow, terms.last.transpose(1, 2))
        # Shares add up to one in every pixel, so the masses follow from the couplings.
        mass = coupling.sum(-1) + _weighted_sum(flow, terms.first)
        mass = torch.cat([1 - mass.sum(-1, keepdim=True), mass], dim=1)
        step = _newton_step(mass, coupling, (weight - mass) * active, active, epsilon)
        potential = potential + step.clamp(-3 * epsilon, 3 * epsilon)
    return potential


class _Terms(NamedTuple):
    """Numerators of the softmax over corners in every pixel, up to a factor exp(shift) per pixel."""

    first: Tensor  # (M, 1) or (M, n)
    last: Tensor  # (M, 3, n)
    shift: Tensor | None  # (M, n); None for zero

    def total(self) -> Tensor:
        """Returns the denominator (M, n)."""
        return self.last.sum(1).add_(self.first)


def _is_safe(epsilon: float) -> bool:
    """Tells whether exponents are small enough to go without a shift: relative costs are at most sqrt(2) px."""
    return math.sqrt(2) / epsilon <= _SAFE_EXPONENT


def _logits(potential: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Log weights plus potentials / epsilon, (M, 4), less their maximum (M, 1)."""
    # A corner without demand drops out through a logit so low that its exponential is exactly zero.
    floor = torch.finfo(weight.dtype).tiny
    logit = torch.where(weight > 0, weight.clamp(min=floor).log() + potential / epsilon, -1e30)
    top = logit.amax(-1, keepdim=True)
    return logit - top, top


def _terms(logit: Tensor, others: Tensor, epsilon: float, is_kernel: bool) -> _Terms:
    """Combines corner logits (M, 4) with the pixels' relative costs or their kernel (M, 3, n)."""
    if is_kernel:
        factor = logit.exp()
        return _Terms(factor[:, :1], others * factor[:, 1:, None], None)
    exponent = torch.sub(logit[:, 1:, None], others, alpha=1 / epsilon)
    if _is_safe(epsilon):
        return _Terms(logit[:, :1].exp(), exponent.exp_(), None)
    peak = torch.maximum(exponent.amax(1), logit[:, :1])
    return _Terms((logit[:, :1] - peak).exp_(), exponent.sub_(peak[:, None]).exp_(), peak)


def _weighted_sum(flow: Tensor, first: Tensor) -> Tensor:
    """Sum over pixels of flow (M, 3, n) times first (M, 1) or (M, n)."""
    if first.shape[-1] == 1:
        return flow.sum(-1) * first
    return torch.einsum("mkn,mn->mk", flow, first)


def _newton_step(mass: Tensor, coupling: Tensor, gradient: Tensor, active: Tensor, epsilon: float) -> Tensor:
    """Solves the damped 4x4 Newton system.

    Args:
        mass: (M, 4) mass that each corner receives.
        coupling: (M, 3, 3) sum_n S_n p_n p_n^T of the last three corners; the first follows from the row sums.
        gradient: (M, 4) demand minus mass.
        active: (M, 4) 1 where the corner has demand.
        epsilon: Entropic weight of the step, px.
    """
    border = mass[:, 1:] - coupling.sum(-1)
    first = mass[:, :1] - border.sum(-1, keepdim=True)
    full = torch.cat(
        [torch.cat([first, border], dim=1)[:, None], torch.cat([border[:, :, None], coupling], dim=2)], dim=1
    )
    # The least damping is as large as what rounding leaves of a small corner's rows beside the gauge's.
    damping = 1e-2 * gradient.abs().amax(-1, keepdim=True) + 4 * torch.finfo(mass.dtype).eps
    # A constant added to all potentials changes nothing: a rank-one term of the Laplacian's size fixes it.
    gauge = mass.amax(-1)[:, None, None] * active[:, :, None] * active[:, None, :]
    system = torch.diag_embed(mass + damping + (1 - active)) - full + gauge
    return epsilon * _solve_positive(system, gradient)


def _solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """Solves positive definite systems (M, 4, 4) x = (M, 4), unrolled: no status check, so no wait for the device."""
    a = [[matrix[:, i, j] for j in range(4)] for i in range(4)]
    b = list(right.unbind(-1))
    for k in range(4):
        pivot = a[k][k].clamp(min=torch.finfo(matrix.dtype).tiny)
        a[k][k] = pivot
        for i in range(k + 1, 4):
            factor = a[i][k] / pivot
            for j in range(k + 1, 4):
                a[i][j] = a[i][j] - factor * a[k][j]
            b[i] = b[i] - factor * b[k]
    x: list[Tensor] = [torch.empty(0)] * 4
    for k in reversed(range(4)):
        rest = b[k]
        for j in range(k + 1, 4):
            rest = rest - a[k][j] * x[j]
        x[k] = rest / a[k][k]
    return torch.stack(x, dim=-1)

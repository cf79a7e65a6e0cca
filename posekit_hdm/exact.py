"""Exact Earth Mover's Distance by POT's network simplex, for checks. Serial, on the CPU, float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from posekit.errors import UserError
from posekit_hdm import transport


def import_pot() -> Any:
    """Returns the package POT.

    Raises:
        UserError: It is not installed.
    """
    try:
        import ot
    except ImportError:
        raise UserError("the exact solver needs POT: pip install pot") from None
    return ot


def each_problem(
    supply: Tensor, demand: transport.Demand, size: tuple[int, int], truncate: float | None = None
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Gives M problems as POT takes them, each supply (N,) and demand (4,) of sum 1, costs (N, 4).

    Arguments as `transport.solve`.
    """
    window = transport.take_windows(transport.offset_table(*size, truncate, supply.device), demand, *size).cpu()
    costs = torch.cat([window[:, :1], window[:, :1] + window[:, 1:]], dim=1).transpose(1, 2).contiguous()
    mass, weight = supply.detach().double().cpu(), demand.weight.detach().double().cpu()
    mass, weight = mass / mass.sum(-1, keepdim=True), weight / weight.sum(-1, keepdim=True)
    return zip(mass.numpy(), weight.numpy(), costs.numpy(), strict=True)


def solve_exact(
    supply: Tensor, demand: transport.Demand, size: tuple[int, int], truncate: float | None = None
) -> transport.Plan:
    """Solves M unregularised problems one after the other; arguments and result as `transport.solve`.

    Where the dual is not unique (a perfect map, some symmetric ones) the potential is one of the optimal ones.

    Raises:
        UserError: POT is not installed.
    """
    ot = import_pot()
    values, potentials = [], []
    for s, d, c in each_problem(supply, demand, size, truncate):
        value, log = ot.emd2(s, d, c, log=True, numItermax=1_000_000)
        values.append(float(value))
        # The simplex leaves pixels without mass at an arbitrary level: the corners' potentials say what they are.
        active = d > 0
        potentials.append(torch.from_numpy((c[:, active] - log["v"][active]).min(1)))
    if not values:
        return transport.Plan(supply.new_zeros(0), supply.new_zeros(supply.shape))
    return transport.Plan(torch.tensor(values, dtype=torch.float64).to(supply), torch.stack(potentials).to(supply))

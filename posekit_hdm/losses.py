"""The Heatmap-Distribution-Matching loss, and one constructor for it and its rivals.

Paper: Qu et al., "Heatmap Distribution Matching for Human Pose Estimation", NeurIPS 2022; equation numbers are its
supplement's. Solver, regulariser, demand weights and the treatment of empty maps are not given there and are ours.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from posekit.errors import UserError, in_range, one_of
from posekit_hdm import rivals, transport
from posekit_hdm.base import HeatmapLoss, SupplyLoss, empty_supply, make_supply, supply_gradient
from posekit_hdm.exact import solve_exact

__all__ = ["LOSSES", "HeatmapMatchingLoss", "build_loss"]

SOLVERS = ("newton", "pot")
MOST_STEPS = 100
"""Newton steps that may be asked for; far fewer converge."""
LEAST_EPSILON = 0.005
"""Below it the steps do not reach the optimum of every map, and the value would lie below the exact distance."""


class HeatmapMatchingLoss(SupplyLoss):
    """Earth mover's distance between a joint's map and the four pixels around its dot (Eq. 1-3), heatmap px.

    The map supplies S = relu(h) / sum relu(h) (the paper's) or softplus / softmax in place of relu; the corners of the
    dot's cell demand their bilinear weights; cost is the distance in heatmap px. The value is the KL-entropic transport
    cost, at most ``epsilon * log 4`` above the exact one and not below it (with the default steps, in float32: to 2e-4
    px at ``epsilon`` of 0.02 and above, to 2e-3 px below; rare dots next to a grid line, most maps reach 1e-5); its
    gradient is the closed form dL/dh = s'(h) (a - <a, S>) / Z with the dual potential a (Eq. 3 and the
    chain rule). Points get no gradient. The loss does not change when a relu map is scaled, so the size of h carries no
    confidence.

    Args:
        epsilon: Entropic weight, heatmap px, at least 0.005. Above 0.1 the optimum drifts to the nearest pixel; 0.5
            loses sub-pixel.
        suppliers: ``softmax`` (default: learns best, see the README's study), ``softplus``, or ``relu`` (the paper's;
            its maps can die).
        reduction: See `HeatmapLoss`.
        truncate: Cost min(|x - y|, truncate) in px, a departure from the paper which ignores far outliers. A map whose
            mass all lies beyond the cap has (next to) no gradient, by construction; softplus and softmax keep mass
            everywhere.
        solver: ``newton``, or ``pot`` for the exact, unregularised EMD by network simplex on the CPU (for checks; slow;
            ``epsilon``, ``anneal`` and ``refine`` then do nothing).
        anneal: Newton steps with falling epsilon, 0 to 100; None takes 6 at epsilon 0.1 and above, more below (30 at
            0.005).
        refine: Newton steps at the final epsilon on all pixels, 1 to 100; None takes 4 at epsilon 0.1 and above, 6 down
            to 0.05 and 12 below. On dense maps 3 are enough; maps of a few pixels with supply need the rest (measured
            on 2,400 of them: value within 1e-5 px, potential within 4e-5 px at 0.1 and 6e-5 px at 0.05).
        softmax_scale: Factor on the maps under ``softmax``; 1 to 10, 20 trains badly.
        check_finite: See `HeatmapLoss`.

    Raises:
        UserError: An option out of range.
    """

    name: ClassVar[str] = "hdm"

    def __init__(
        self,
        epsilon: float = 0.1,
        suppliers: str = "softmax",
        reduction: str = "sum_joints_mean_batch",
        truncate: float | None = None,
        solver: str = "newton",
        anneal: int | None = None,
        refine: int | None = None,
        softmax_scale: float = 10.0,
        check_finite: bool | None = None,
    ) -> None:
        super().__init__(suppliers, softmax_scale, reduction, check_finite)
        self.epsilon = float(in_range("loss 'hdm'", "epsilon", epsilon, f"[{LEAST_EPSILON}, inf)"))
        self.truncate = None if truncate is None else self.positive("truncate", truncate)
        self.solver = one_of("solver", solver, SOLVERS)
        in_range("loss 'hdm'", "anneal", anneal, f"[0, {MOST_STEPS}]", whole=True, none=True)
        in_range("loss 'hdm'", "refine", refine, f"[1, {MOST_STEPS}]", whole=True, none=True)
        # Made once: under torch.compile(dynamic=True) arithmetic on numbers of Python becomes symbolic.
        self.schedule = transport.anneal_schedule(
            self.epsilon, default_anneal(self.epsilon) if anneal is None else anneal
        )
        self.refine = default_refine(self.epsilon) if refine is None else refine

    def per_joint(self, heatmaps: Tensor, points: Tensor, valid: Tensor) -> Tensor:
        """Returns each joint's transport cost (B, K) in heatmap px."""
        return _Match.apply(heatmaps, points, valid, self)

    def count_empty(self, heatmaps: Tensor, weight: Tensor) -> Tensor:
        """Counts the joints with weight above 0 whose relu supply is empty; logged as ``empty_maps``."""
        return (empty_supply(heatmaps.float().flatten(2)) & (weight > 0)).sum()

    def solve(self, mass: Tensor, points: Tensor, size: tuple[int, int]) -> transport.Plan:
        """Solves M problems for masses (M, H * W) and dots (M, 2)."""
        demand = transport.bilinear_demand(points, *size)
        if self.solver == "pot":
            return solve_exact(mass, demand, size, self.truncate)
        return transport.solve(mass, demand, size, schedule=self.schedule, refine=self.refine, truncate=self.truncate)

    def extra_repr(self) -> str:
        """Names the options that change the result."""
        return f"epsilon={self.epsilon}, suppliers={self.suppliers}, truncate={self.truncate}, solver={self.solver}"


def default_refine(epsilon: float) -> int:
    """Returns the Newton steps that the final epsilon (heatmap px) needs; fewer pixels share a corner as it falls."""
    return 4 if epsilon >= 0.1 else 6 if epsilon >= 0.05 else 12


def default_anneal(epsilon: float) -> int:
    """Returns the annealing steps down to the final epsilon (heatmap px).

    A step moves a potential by at most 3 epsilon, and the first ones can be wrong where a corner demands next to
    nothing; so epsilon must fall the slower, the lower it ends.
    """
    return 6 if epsilon >= 0.1 else 6 + math.ceil(8 * math.log(0.1 / epsilon))


class _Match(torch.autograd.Function):
    """Transport cost of each joint. The gradient comes with the solution, so forward keeps it and nothing else."""

    @staticmethod
    def forward(ctx: Any, heatmaps: Tensor, points: Tensor, valid: Tensor, loss: HeatmapMatchingLoss) -> Tensor:
        height, width = heatmaps.shape[-2:]
        rows = heatmaps.reshape(-1, height * width)
        supply = make_supply(rows, loss.suppliers, loss.softmax_scale)
        plan = loss.solve(supply.mass, points.reshape(-1, 2), (height, width))
        if ctx.needs_input_grad[0]:
            # Rows never mix, so what a joint that does not count holds, NaN even, ends here.
            gradient = supply_gradient(supply, plan.potential).masked_fill_(~valid.reshape(-1, 1), 0.0)
            ctx.save_for_backward(gradient.view_as(heatmaps))
        return plan.value.view(valid.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * upstream[0][..., None, None], None, None, None


LOSSES: dict[str, type[HeatmapLoss]] = {
    loss.name: loss
    for loss in (
        HeatmapMatchingLoss,
        rivals.GaussianMSE,
        rivals.DotMSE,
        rivals.CornerCrossEntropy,
        rivals.ExpectedDistance,
        rivals.SoftArgmaxL1,
        rivals.JSGaussian,
    )
}


def build_loss(name: str, **options: Any) -> HeatmapLoss:
    """Builds a loss by name.

    Args:
        name: Key of ``LOSSES``: ``hdm``, ``gaussian_mse``, ``dot_mse``, ``corner_ce``, ``expected_distance``,
            ``soft_argmax`` or ``dsnt``.
        options: Its constructor's arguments.

    Raises:
        UserError: An unknown name or option, or a value out of range.
    """
    one_of("loss", name, LOSSES)
    known = inspect.signature(LOSSES[name]).parameters
    for option in options:
        one_of(f"option of loss {name!r}", option, known)
    try:
        return LOSSES[name](**options)
    except TypeError as error:
        raise UserError(f"loss {name!r}: {error}") from None

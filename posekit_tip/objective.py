"""The objective: which terms a run has, and what they see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from posekit.errors import in_range, one_of
from posekit_tip.losses import (
    REDUCTIONS,
    complementary_loss,
    localisation_loss,
    redundancy_loss,
    synthesis_loss,
    variety_loss,
)
from posekit_tip.network import TemporalOutput, TemporalPart
from posekit_tip.sharing import Windows

TERMS = ("com", "var", "red")


@dataclass(frozen=True)
class Objective:
    """Adds up the terms of weight above 0; the others are not computed.

    Args:
        weights: Weight by the term's name: com, var, red, s. L_loc has weight 1.
        temperature: Of the softmaxes in L_com.
        reduction: Of L_loc over pixels.
        rough: Whether the rough maps of the key frame are learned as well.

    Raises:
        UserError: An unknown reduction.
    """

    weights: Mapping[str, float]
    temperature: float = 0.05
    reduction: str = "pixel_sum"
    rough: bool = False

    def __post_init__(self) -> None:
        """Checks the name."""
        one_of("loc_reduction", self.reduction, REDUCTIONS)

    def single(self, maps: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of single-frame maps (B, J, h, w), and the terms to log."""
        loss = localisation_loss(maps, target, weight, self.reduction)
        return loss, {"loc": loss}

    def temporal(
        self,
        output: TemporalOutput,
        part: TemporalPart,
        windows: Windows,
        target: Tensor,
        weight: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the temporal part, and the terms to log.

        Args:
            output: The temporal part's.
            part: The temporal part itself, for its task heads.
            windows: The key frames' windows.
            target: (B, J, h, w) heatmaps.
            weight: (B, J) 1 for labelled joints.
        """
        total, logs = self.single(output.heatmaps, target, weight)
        if self.rough:
            logs["rough"] = localisation_loss(output.key.rough, target, weight, self.reduction)
            total = total + logs["rough"]
        for name, gamma in self.weights.items():
            if name == "com":
                added = part.motion.additions(output.distilled)
                term = complementary_loss(output.key.rough, added, part.order, target, weight, self.temperature)
            elif name == "var":
                term = variety_loss(output.distilled)
            elif name == "red":
                term = redundancy_loss(output.distilled, output.key.features)
            else:
                assert output.interim is not None
                term = synthesis_loss(output.interim.heatmaps, target, weight, windows.whole)
            logs[name] = term
            total = total + gamma * term
        return total, logs


def active_weights(temporal: str, gammas: Mapping[str, float]) -> dict[str, float]:
    """Returns the weight of each term that is computed: those above 0 that the mode has.

    Args:
        temporal: ``tip`` has all terms, ``interpolation`` no L_s, the others L_loc alone.
        gammas: ``info``, ``com``, ``var``, ``red`` and ``s``.

    Raises:
        UserError: A weight is no number of at least 0.
    """
    for name, value in gammas.items():
        in_range("TIP", f"gamma_{name}", value, "[0, inf)")
    info = gammas["info"] if temporal in ("tip", "interpolation") else 0.0
    weights = {name: info * gammas[name] for name in TERMS}
    weights["s"] = gammas["s"] if temporal == "tip" else 0.0
    return {name: value for name, value in weights.items() if value > 0}

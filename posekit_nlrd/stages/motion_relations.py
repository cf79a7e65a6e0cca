"""Stage A5: relation networks of motions (section 5.4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from posekit_nlrd.augment import ViewAugmentation
from posekit_nlrd.geometry import fit_canonical
from posekit_nlrd.stages.base import Logs, Tools
from posekit_nlrd.stages.pose_relation import RelationStage


class MotionRelationsStage(RelationStage):
    """Trains a T per relation of motions, in E_m's latent space."""

    name = "motion_relations"
    needs = ("pose", "motion")
    stream = "motion"
    motion = True

    def frames(self, stream: str) -> int:
        """Returns the longest window of its relations."""
        return max(self.networks.kinds[name].frames for name in self.names)

    def decode(self, latent: Tensor) -> Tensor:
        """Decodes motion latents."""
        return self.networks.decode_motion(latent)

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Takes one step of each relation network; views are drawn for the window, before pairs are cut from it."""
        options = self.options
        view = ViewAugmentation(options.tilt, options.tilt_probability, options.flip, options.reverse)
        window = fit_canonical(view(batch["motion"]["joints3d"], tools.draws))
        logs: Logs = {}
        for turn, name in enumerate(self.names):
            first, second = self.networks.kinds[name].motion_pair(window)
            with torch.no_grad():
                anchor, positive = self.networks.encode_motion(first), self.networks.encode_motion(second)
            logs |= self.teach(turn, anchor, positive, second, tools)
        return {"loss": torch.stack([logs[name] for name in self.names]).mean(), **logs}

"""Stage B: self-adaptation on unlabelled target clips (section 5.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from posekit.errors import UserError, counted, one_of
from posekit_nlrd.augment import Draws, contrast_view, jitter
from posekit_nlrd.image import LAYERS
from posekit_nlrd.losses import TEMPERATURE, info_nce, relation_energy
from posekit_nlrd.motion import LENGTH
from posekit_nlrd.ranks import float_buffers, share
from posekit_nlrd.stages.base import Logs, Stage, StageOptions, Tools
from posekit_nlrd.stages.options import Count, NotNegative, Positive, Share
from posekit_nlrd.stages.source import SourceOptions, supervised_step

CONTRASTIVE = ("lcr", "hcr")
SUPERVISED = "supervised"


@dataclass(frozen=True)
class AdaptationOptions(StageOptions):
    """Options of the adaptation.

    Attributes:
        lr: Learning rate of the relation terms.
        contrastive_lr: Learning rate of L_LCR and L_HCR.
        terms: The losses, one per iteration in turn; None takes ``lcr``, ``hcr`` and every relation of the model.
            ``supervised`` adds labelled pictures (the semi-supervised setting).
        layers: Stages of the trunk that adapt; all else is frozen.
        stop_pose: No gradient through the positives of pose relations.
        stop_motion: No gradient through the positives of motion relations and of L_HCR.
        temperature: Of InfoNCE.
        first_anchor_only: Clip 0 is the only anchor (the release's form).
        random_frame: L_LCR takes a random frame of each clip, the first one otherwise (the release's form).
        heads: Contrast the outputs of projection heads; the features themselves otherwise (the paper's equation).
        jitter: Probability of a colour shift, on either side of every pair.
        frames: Frames of each clip that pose relations use, evenly spread over its whole window, from a random start;
            None takes 30 in a row. Few frames of many clips tell a step more than many of few.
        motion_clips: Clips of each batch that motion relations and L_HCR use, all of whose 30 frames go through G; None
            takes all.
        statistics_steps: First steps that only estimate G's batch statistics anew, on target frames (0: they stay the
            source's, as in the paper, whose network has none); at most all of the stage's.
        supervised_weight: Weight of the supervised term.
    """

    steps: Count | None = 20_000
    lr: Positive = 1e-5
    contrastive_lr: Positive = 2e-5
    terms: Sequence[str] | None = None
    layers: Sequence[str] = ("layer2",)
    stop_pose: bool = False
    stop_motion: bool = True
    temperature: Positive = TEMPERATURE
    first_anchor_only: bool = False
    random_frame: bool = True
    heads: bool = True
    jitter: Share = 1 / 3
    frames: Count | None = None
    motion_clips: Count | None = None
    statistics_steps: Annotated[int, "[0, inf)"] = 0
    supervised_weight: NotNegative = 1.0


class AdaptationStage(Stage):
    """Adapts a middle stage of G so that its latents obey the frozen relations, and tell clips apart."""

    name = "adaptation"
    needs = ("pose", "source")
    stream = "target"
    options_class = AdaptationOptions
    options: AdaptationOptions

    @property
    def terms(self) -> list[str]:
        """Names of the losses, in the order of their turns."""
        chosen = self.options.terms
        return [*CONTRASTIVE, *self.networks.relations] if chosen is None else list(chosen)

    @property
    def streams(self) -> tuple[str, ...]:
        """Target clips, and labelled pictures where a supervised term asks for them."""
        return ("target", "labelled") if SUPERVISED in self.terms else ("target",)

    def batches_at(self, step: int) -> dict[str, int]:
        """Leaves out what a step's term does not look at; step 0 has both, so that its batch can stand for all."""
        return {name: self._taken(name, step) for name in self.streams if step == 0 or self._looks_at(name, step)}

    def _looks_at(self, stream: str, step: int) -> bool:
        late = step - self.options.statistics_steps
        supervised = late >= 0 and self.terms[late % len(self.terms)] == SUPERVISED
        return (stream == "labelled") == supervised

    def _taken(self, stream: str, step: int) -> int:
        """Returns how many batches of a stream the steps before this one take."""
        first = min(step, self.options.statistics_steps)
        wanted = [(term == SUPERVISED) == (stream == "labelled") for term in self.terms]
        rounds, rest = divmod(step - first, len(wanted))
        needless = int(step > 0 and not self._looks_at(stream, 0))
        return first * (stream == "target") + rounds * sum(wanted) + sum(wanted[:rest]) + needless

    def check(self) -> None:
        """Refuses unknown terms and layers.

        Raises:
            UserError: A term is neither a loss nor a relation of the model, or a layer does not exist.
        """
        known = [*CONTRASTIVE, *self.networks.relations, SUPERVISED]
        for term in self.terms:
            one_of("term of stage adaptation", term, known)
        if not self.terms:
            raise UserError("stage adaptation has no terms: leave it out of stages")
        for layer in self.options.layers:
            one_of("layer of stage adaptation", layer, LAYERS)
        if "hcr" in self.terms and self.options.motion_clips == 1:
            raise UserError("stage adaptation: motion_clips must be at least 2 for term hcr, which tells clips apart")
        if not self.options.layers:
            raise UserError(f"stage adaptation needs at least one of the layers {', '.join(LAYERS)}")

    def check_length(self, steps: int) -> None:
        """Refuses more steps of the statistics than there are; as many are the statistics alone.

        Raises:
            UserError: There are more.
        """
        if self.options.statistics_steps > steps:
            raise UserError(
                f"stage adaptation: statistics_steps is {self.options.statistics_steps}, but the stage has "
                f"{counted(steps, 'step')} in all"
            )

    def builds_on(self) -> list[str]:
        """Returns also the stages that teach its terms."""
        kinds = self.networks.kinds
        motion = {kinds[term].is_motion for term in self.terms if term in kinds}
        needed = super().builds_on()
        needed += ["pose_relation"] if False in motion else []
        needed += ["motion_relations"] if True in motion else []
        needed += ["motion"] if True in motion or "hcr" in self.terms else []
        return needed

    def frames(self, stream: str) -> int:
        """Returns the longest window of its relations, and 30 frames at least."""
        kinds = self.networks.kinds
        return max([LENGTH, *(kinds[term].frames for term in self.terms if term in kinds)]) if stream == "target" else 1

    def check_window(self, stream: str, frames: int) -> None:
        """Refuses also windows that have fewer frames than are to be taken out of them."""
        super().check_window(stream, frames)
        wanted = self.options.frames
        if stream == self.stream and wanted is not None and wanted > frames:
            raise UserError(
                f"stage adaptation: frames is {wanted}, but data.{stream} has windows of {counted(frames, 'frame')}"
            )

    def check_samples(self, stream: str, count: int) -> None:
        """Refuses batches of one clip where a term tells clips apart: its loss is 0 on them."""
        terms = [term for term in self.terms if term in CONTRASTIVE]
        if stream == "target" and count < 2 and terms:
            raise UserError(
                "data.target has batches of one clip, but stage adaptation has terms that tell clips apart "
                f"({', '.join(terms)}): set data.target.init_args.batch_size to 2 or more"
            )

    def adapted(self) -> list[nn.Module]:
        """Returns the stages of the trunk that adapt."""
        return [getattr(self.networks.image.trunk, name) for name in self.options.layers]

    def heads(self) -> list[nn.Module]:
        """Returns the contrastive heads in use."""
        return [self.networks.contrast[t] for t in self.terms if t in CONTRASTIVE] if self.options.heads else []

    def trained(self) -> list[nn.Module]:
        """Returns the adapting stages and the contrastive heads."""
        return [*self.adapted(), *self.heads()]

    def make_optimizers(self) -> list[Optimizer]:
        """Builds one optimiser per term: all hold the adapting stages, each with moments of its own."""
        return [self._make_optimizer(term) for term in self.terms]

    def _make_optimizer(self, term: str) -> Optimizer:
        modules = self.adapted()
        if term not in CONTRASTIVE:
            return self.make_optimizer(modules)
        if self.options.heads:
            modules.append(self.networks.contrast[term])
        return self.make_optimizer(modules, self.options.contrastive_lr)

    @property
    def frozen_before(self) -> str:
        """The first stage of the trunk that adapts."""
        return min(self.options.layers, key=LAYERS.index)

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Takes one step of the term whose turn it is, or a first one of the statistics."""
        if tools.step < self.options.statistics_steps:
            return self._estimate_statistics(batch["target"]["image"], tools)
        turn = (tools.step - self.options.statistics_steps) % len(self.terms)
        term = self.terms[turn]
        if term == SUPERVISED:
            options = SourceOptions(steps=1)
            weight = self.options.supervised_weight
            logs = supervised_step(self, batch["labelled"], tools, options, (turn,), self.frozen_before, weight)
            return {"loss": logs["loss"], term: logs["loss"]}
        window = batch["target"]["image"]
        if term == "lcr":
            loss, latent = self._low_contrast(window, tools.draws)
        elif term == "hcr":
            loss, latent = self._high_contrast(window, tools.draws)
        elif self.networks.kinds[term].is_motion:
            loss, latent = self._motion_relation(term, window, tools.draws)
        else:
            loss, latent = self._pose_relation(term, window, tools.draws)
        self.descend(loss, tools, turn)
        return {"loss": loss.detach(), term: loss.detach(), **self._sentinel(latent.detach())}

    def _estimate_statistics(self, window: Tensor, tools: Tools) -> Logs:
        """Makes the batch norms' running statistics the plain mean over the steps so far."""
        norms = [module for module in self.networks.image.modules() if isinstance(module, nn.BatchNorm2d)]
        images = self._clip(window, tools.draws) if self.options.frames is None else self._spread(window, tools.draws)
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.train()
            norm.momentum = 1 / (tools.step + 1)
        with torch.no_grad():
            latent = self.networks.encode_video(images)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.eval()
            norm.momentum = momentum
        share(float_buffers(self.networks.image))
        return {"loss": latent.new_zeros(()), **self._sentinel(latent)}

    # -- the losses ---------------------------------------------------------------------------------------------------

    def _low_contrast(self, window: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """L_LCR: a frame of each clip against its recoloured copy, in G's features."""
        count, length = window.shape[:2]
        frame = draws.integers(length, count) if self.options.random_frame else window.new_zeros(count).long()
        images = window[torch.arange(count, device=window.device), frame]
        latent, anchor = self._features(jitter(images, draws, self.options.jitter))
        _, positive = self._features(jitter(contrast_view(images, draws), draws, self.options.jitter))
        return self._contrast("lcr", anchor, positive), latent

    def _high_contrast(self, window: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """L_HCR: a clip against its recoloured copy, in the motion latent."""
        clip = self._clip(window[: self.options.motion_clips], draws)
        latent = self._encode(clip, draws)
        with torch.set_grad_enabled(not self.options.stop_motion):
            copy = contrast_view(clip.flatten(0, 1), draws).unflatten(0, clip.shape[:2])
            positive = self.networks.motion_encoder(self._encode(copy, draws))
        return self._contrast("hcr", self.networks.motion_encoder(latent), positive), latent

    def _pose_relation(self, name: str, window: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """|T(G(x)) - G(x+)| over all frames."""
        clip = self._clip(window, draws) if self.options.frames is None else self._spread(window, draws)
        anchor, positive = self.networks.kinds[name].video_pair(clip)
        latent = self._encode(anchor, draws)
        with torch.set_grad_enabled(not self.options.stop_pose):
            wanted = self._encode(positive, draws)
        return relation_energy(self.networks.relate(name, latent), wanted), latent

    def _motion_relation(self, name: str, window: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """|T(E_m(G(X))) - E_m(sg[G(X+)])|."""
        kind, window = self.networks.kinds[name], window[: self.options.motion_clips]
        anchor, positive = kind.video_pair(window if kind.frames > LENGTH else self._clip(window, draws))
        latent = self._encode(anchor, draws)
        with torch.set_grad_enabled(not self.options.stop_motion):
            wanted = self.networks.motion_encoder(self._encode(positive, draws))
        predicted = self.networks.relate(name, self.networks.motion_encoder(latent))
        return relation_energy(predicted, wanted), latent

    # -- parts --------------------------------------------------------------------------------------------------------

    def _clip(self, window: Tensor, draws: Draws) -> Tensor:
        """Cuts frames 0 to 29 or 15 to 44 out of windows (B, T, 3, H, W)."""
        room = window.shape[1] - LENGTH
        start = min(LENGTH // 2, room) * draws.number(2)
        return window[:, start : start + LENGTH]

    def _spread(self, window: Tensor, draws: Draws) -> Tensor:
        """Takes ``frames`` frames out of windows (B, T, 3, H, W), evenly spread, from a random start.

        Each frame of the window is as likely as any other; of shorter windows all are taken.
        """
        length = window.shape[1]
        count = min(self.options.frames or LENGTH, length)
        unit = math.gcd(length, count)  # starts that differ by less take the same frames
        start = unit * draws.number(length // unit)
        return window[:, (torch.arange(count, device=window.device) * length + start) // count]

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.networks.image.features(images, self.frozen_before)

    def _encode(self, clip: Tensor, draws: Draws) -> Tensor:
        images = jitter(clip.flatten(0, 1), draws, self.options.jitter)
        return self.networks.encode_video(images.unflatten(0, clip.shape[:2]), self.frozen_before)

    def _contrast(self, term: str, anchor: Tensor, positive: Tensor) -> Tensor:
        if self.options.heads:
            head = self.networks.contrast[term]
            anchor, positive = head(anchor), head(positive)
        return info_nce(anchor, positive, self.options.temperature, self.options.first_anchor_only)

    def _sentinel(self, latent: Tensor) -> Logs:
        """Tells a collapse of the latents: their deviation over the batch, and the share near the range's ends."""
        flat = latent.reshape(-1, latent.shape[-1])
        saturated = (flat.abs() > 0.95 * self.networks.latent_range).float().mean()
        return {"z_std": flat.std(0, correction=0).mean(), "z_saturated": saturated}

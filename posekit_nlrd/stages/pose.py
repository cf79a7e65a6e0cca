"""Stage A1: the adversarial pose auto-encoder (section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from posekit_nlrd.augment import ViewAugmentation
from posekit_nlrd.geometry import fit_canonical, forward_kinematics, to_local, unit
from posekit_nlrd.losses import critic_accuracy, critic_loss, generator_loss, weighted_l1
from posekit_nlrd.pose import LATENT
from posekit_nlrd.ranks import mean_over_ranks
from posekit_nlrd.stages.base import Logs, Stage, StageOptions, Tools
from posekit_nlrd.stages.options import Count, Degrees, NotNegative, Share

WARMUP, CRITIC, AUTOENCODER = "warmup", "critic", "autoencoder"
_FIRST_OWN = 2  # optimisers 0 and 1 are the encoder's and the decoder's


@dataclass(frozen=True)
class PoseOptions(StageOptions):
    """Options of the pose stage.

    Attributes:
        poses: Poses per step, drawn from the batch's windows.
        critic_poses: How many of them the critics judge; they cost four times the auto-encoder. None: all.
        reconstruction: Weight of L_x and L_z.
        adversarial: Weight of L_G.
        local: Weight, within L_x, of the distance of D_p's vectors before they are scaled to length 1 (0 in the paper).
            Without it a bone can end up pointing the opposite way for good: there the scaling passes no gradient on.
        warmup_error: The warm-up (auto-encoder on L_x alone, critic alongside) ends below this L_x, in units.
        warmup_steps: It ends at this step at the latest; None sets no limit, as in the release.
        cap: Most steps that critic or auto-encoder train in a row; None sets no limit, as in the release.
        fake_accuracy: The critic's turn ends when this share of its logits of fakes is right (above 1: at ``cap``) ...
        real_accuracy: ... and this share of those of reals.
        fooled: The auto-encoder's turn ends when this share of the logits of fakes is 0 or more.
        tilt: Largest in-plane rotation of augmentation, degrees (0 in the release).
        flip: Probability of the mirror image.
    """

    steps: Count | None = 200_000
    poses: Count = 256
    critic_poses: Count | None = None
    reconstruction: NotNegative = 100.0
    adversarial: NotNegative = 5.0
    local: NotNegative = 0.0
    warmup_error: NotNegative = 0.05
    warmup_steps: Count | None = 20_000
    cap: Count | None = 20
    fake_accuracy: NotNegative = 0.65
    real_accuracy: NotNegative = 0.80
    fooled: NotNegative = 0.60
    tilt: Degrees = 60.0
    flip: Share = 0.5


@dataclass
class Turn:
    """Whose turn it is: the critic's or the auto-encoder's.

    The last step's numbers are read at the start of the next one: the host waits for work that is done, not for the
    step in flight.

    Attributes:
        phase: ``warmup``, ``critic`` or ``autoencoder``.
        taken: Steps of the phase so far.
        last: L_x, accuracy on fakes, accuracy on reals, of the last step.
    """

    phase: str = WARMUP
    taken: int = 0
    last: list[float] = field(default_factory=list)

    def advance(self, options: PoseOptions) -> None:
        """Moves on where the last step's numbers say so."""
        if self.last and self._over(options, *self.last):
            self.phase = CRITIC if self.phase != CRITIC else AUTOENCODER
            self.taken = 0
        self.taken += 1

    def _over(self, options: PoseOptions, error: float, fake: float, real: float) -> bool:
        limit = options.warmup_steps if self.phase == WARMUP else options.cap
        if limit is not None and self.taken >= limit:
            return True
        if self.phase == WARMUP:
            return error < options.warmup_error
        if self.phase == CRITIC:
            return fake >= options.fake_accuracy and real >= options.real_accuracy
        return 1 - fake >= options.fooled


class PoseStage(Stage):
    """Trains E_p, D_p and their critics on poses of motion capture."""

    name = "pose"
    stream = "motion"
    options_class = PoseOptions
    separate_optimizers = True
    options: PoseOptions

    def __init__(self, networks: Any, options: StageOptions) -> None:
        super().__init__(networks, options)
        self.turn = Turn()
        self._pending: Tensor | None = None
        self.view = ViewAugmentation(tilt=self.options.tilt, flip=self.options.flip)

    def trained(self) -> list[nn.Module]:
        """Returns E_p, D_p and the critics."""
        return [self.networks.pose_encoder, self.networks.pose_decoder, *self.networks.critics()]

    def step(self, batch: Mapping[str, Mapping[str, Tensor]], tools: Tools) -> Logs:
        """Trains whose turn it is; see :class:`Turn`."""
        self._read_pending()
        self.turn.advance(self.options)
        pose = fit_canonical(self.view.poses(batch["motion"]["joints3d"], self.options.poses, tools.draws))
        logs = {}
        if self.turn.phase != CRITIC:
            logs = self._train_autoencoder(pose, tools)
        if self.turn.phase != AUTOENCODER:
            logs |= self._train_critics(pose, tools)
        else:
            logs |= self._judge(pose, tools)
        if "reconstruction" not in logs:
            logs["reconstruction"] = self._reconstruction(pose)
        numbers = torch.stack([logs[name].float() for name in ("reconstruction", "fake_accuracy", "real_accuracy")])
        self._pending = mean_over_ranks(numbers)  # all processes have to move on at the same step
        return {"loss": logs["reconstruction"], **logs}

    @torch.no_grad()
    def _reconstruction(self, pose: Tensor) -> Tensor:
        return weighted_l1(self.networks.pose_decoder.pose(self.networks.encode_pose(pose)), pose)

    def _train_autoencoder(self, pose: Tensor, tools: Tools) -> Logs:
        networks, options = self.networks, self.options
        for critic in networks.critics():
            critic.requires_grad_(False)
        latent = networks.encode_pose(pose)
        vectors = networks.pose_decoder.vectors(latent)
        reconstruction = weighted_l1(forward_kinematics(unit(vectors)), pose)
        loss, logs = options.reconstruction * reconstruction, {"reconstruction": reconstruction.detach()}
        if options.local:
            loss = loss + options.reconstruction * options.local * weighted_l1(vectors, to_local(pose))
        if self.turn.phase == AUTOENCODER:
            judged = pose[: options.critic_poses]
            prior = networks.prior(tools.draws.uniform(len(judged), latent.shape[-1]))
            local = networks.pose_decoder(prior)
            cycle = (prior - networks.pose_encoder(local)).abs().mean()
            loss = loss + options.reconstruction * cycle
            fooling = pose.new_zeros(())
            if networks.pose_critic is not None:
                fooling = fooling + generator_loss(networks.pose_critic(forward_kinematics(local)))
            if networks.latent_critic is not None:
                fooling = fooling + generator_loss(networks.latent_critic(latent[: len(judged)]))
            loss = loss + options.adversarial * fooling
            logs |= {"cycle": cycle.detach(), "generator": fooling.detach()}
        # One pass serves both: the encoder has no part in the pose critic's verdict on decoded priors.
        self.descend(loss, tools, 0, 1)
        for critic in networks.critics():
            critic.requires_grad_(True)
        return logs

    def _verdicts(self, pose: Tensor, tools: Tools) -> list[tuple[Tensor, Tensor]]:
        """Returns each critic's logits of reals and of fakes; no gradient reaches the auto-encoder."""
        networks, pose = self.networks, pose[: self.options.critic_poses]
        pairs = []
        prior = networks.prior(tools.draws.uniform(len(pose), LATENT))
        if networks.pose_critic is not None:
            fake = networks.pose_decoder.pose(prior).detach()
            pairs.append((networks.pose_critic(pose), networks.pose_critic(fake)))
        if networks.latent_critic is not None:
            latent = networks.encode_pose(pose).detach()
            pairs.append((networks.latent_critic(prior), networks.latent_critic(latent)))
        return pairs

    def _train_critics(self, pose: Tensor, tools: Tools) -> Logs:
        pairs = self._verdicts(pose, tools)
        loss = sum((critic_loss(real, fake) for real, fake in pairs), start=pose.new_zeros(()))
        self.descend(loss, tools, *range(_FIRST_OWN, _FIRST_OWN + len(pairs)))
        return {"critic": loss.detach(), **_accuracies(pairs)}

    @torch.no_grad()
    def _judge(self, pose: Tensor, tools: Tools) -> Logs:
        return _accuracies(self._verdicts(pose, tools))

    def _read_pending(self) -> None:
        if self._pending is not None:
            self.turn.last = self._pending.tolist()
            self._pending = None

    def state(self) -> dict[str, Any]:
        """Returns whose turn it is."""
        self._read_pending()
        return {"phase": self.turn.phase, "taken": self.turn.taken, "last": list(self.turn.last)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes the turn back."""
        self.turn = Turn(str(state["phase"]), int(state["taken"]), [float(x) for x in state["last"]])
        self._pending = None


def _accuracies(pairs: list[tuple[Tensor, Tensor]]) -> Logs:
    shares = [critic_accuracy(real.detach(), fake.detach()) for real, fake in pairs]
    real = sum((pair[0] for pair in shares), start=shares[0][0].new_zeros(())) / len(shares)
    fake = sum((pair[1] for pair in shares), start=shares[0][1].new_zeros(())) / len(shares)
    return {"real_accuracy": real, "fake_accuracy": fake}

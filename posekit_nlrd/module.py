"""NLRD: Algorithm 1 as one LightningModule, stage after stage, from motion capture to a self-adapted network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import ArrayLike
from torch import Tensor
from torch.optim import Optimizer

from posekit.arrays import Bytes
from posekit.data.batch import Pose3DPrediction
from posekit.data.given_people import given_people, moved
from posekit.errors import UserError, as_names, in_range
from posekit.module import picture_size
from posekit.nn import load_weights
from posekit.nn.modes import evaluating
from posekit.nn.shipped import weight_path
from posekit.searches import searches_batch_size, searches_rate
from posekit.skeletons import LIMB17
from posekit_nlrd.augment import Draws
from posekit_nlrd.image import HEAD_CONVS, HEAD_WIDTHS, Trunk, trunk_names
from posekit_nlrd.judge import JudgedModule
from posekit_nlrd.networks import STAGES, Networks
from posekit_nlrd.relation import WIDTHS
from posekit_nlrd.relations import make_relation
from posekit_nlrd.schedule import Place, Schedule
from posekit_nlrd.stages import Rates, Stage, Tools, build_stages, missing_stages
from posekit_nlrd.streams import prediction_rows

PAPER_RELATIONS = ("flip_inplane", "flip_inplane_backward", "slow_backward")
STATE_KEY = "nlrd"


class NLRD(JudgedModule):
    """Non-Local Latent Relation Distillation (Kundu et al., NeurIPS 2021).

    A pose auto-encoder and a motion auto-encoder are trained on motion capture, an image network G on labelled source
    pictures through the frozen pose decoder, relation networks in the frozen latent spaces; then a middle stage of G
    adapts to unlabelled target clips, since its latents of transformed clips have to obey the relations. One run goes
    through all ``stages``, each freezing the earlier ones; a run of fewer takes ``init_from``.

    Args:
        stages: Names of stages, or mappings of ``name`` and options, in the order of the algorithm (``pose``,
            ``motion``, ``source``, ``pose_relation``, ``motion_relations``, ``adaptation``); all six with the paper's
            settings when None.
        relations: Relations whose networks there are: of ``flip``, ``inplane``, ``flip_inplane``, ``flip_backward``,
            ``inplane_backward``, ``flip_inplane_backward``, ``slow_backward``; those of the camera-ready paper
            when None.
        theta: Degrees of in-plane rotations.
        border: What fills the corners of turned pictures: ``constant`` (black), ``replicate`` or ``reflect``.
        image_size: (W, H) of the pictures in px; None takes the data module's (in Python: 224 x 224).
        backbone: ``resnet50`` and other ResNets, ``small``, or ``tiny``.
        backbone_options: Further arguments of the backbone.
        backbone_weights: Weights that the backbone starts from in training: a file (torchvision's names for ResNets),
            or the name of shipped weights. Weights that went through the stage ``source`` are left as they are.
        head_convs: Channels of G's convolutions behind the trunk.
        head_widths: Fully connected layers behind those.
        head: ``convs`` (the paper's), or ``joints`` for backbone ``small``: the latent from the joints that its
            heatmaps show, without ``head_convs``.
        normalization: ``imagenet``, or ``release`` for RGB / 255 - 0.4.
        latent_range: a of the latents' range (-a, a).
        adversary: What the pose auto-encoder's critic judges: ``pose``, ``latent`` or ``both``.
        relation_widths: Hidden layers of the relation networks.
        feed_latent: Feed the motion latent at every step of the motion decoder, not as its initial state alone.
        critic_relu: ReLU on the pose critic's last logit (the release's).
        contrastive_relu: ReLU after the contrastive heads (the release's).
        protocols: Evaluation protocols: ``gt17``, ``gt14``, ``predicted17``, ``predicted14``.
        seed: Seed of augmentation; that of ``seed_everything`` when None.
        init_from: See :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: An unknown name or option, a value out of its range, or stages in the wrong order.
    """

    prediction_writer: ClassVar[str] = "PosePanelWriter"

    def __init__(
        self,
        stages: list[Any] | None = None,
        relations: list[str] | None = None,
        theta: float = 50.0,
        border: str = "constant",
        image_size: list[int] | None = None,
        backbone: str = "resnet50",
        backbone_options: dict[str, Any] | None = None,
        backbone_weights: str | None = None,
        head_convs: list[int] | None = None,
        head_widths: list[int] | None = None,
        normalization: str = "imagenet",
        latent_range: float = 1.0,
        adversary: str = "pose",
        relation_widths: list[int] | None = None,
        feed_latent: bool = True,
        critic_relu: bool = False,
        contrastive_relu: bool = False,
        protocols: list[str] | None = None,
        seed: int | None = None,
        init_from: str | None = None,
        head: str = "convs",
    ) -> None:
        super().__init__(as_names("NLRD", "protocols", protocols or ["gt17", "predicted17"]), init_from)
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.skeleton = LIMB17
        self.image_size = picture_size(image_size, (224, 224))
        in_range("NLRD", "seed", seed, "[0, inf)", whole=True, none=True)
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        names = PAPER_RELATIONS if relations is None else as_names("NLRD", "relations", relations)
        self.networks = Networks(
            {name: make_relation(name, theta, border) for name in names},
            latent_range=latent_range,
            adversary=adversary,
            relation_widths=relation_widths or WIDTHS,
            feed_latent=feed_latent,
            critic_relu=critic_relu,
            contrastive_relu=contrastive_relu,
            image_size=self.image_size,
            backbone=backbone,
            backbone_options=backbone_options,
            head_convs=head_convs or HEAD_CONVS,
            head_widths=head_widths or HEAD_WIDTHS,
            normalization=normalization,
            head=head,
        )
        wanted = _paper_stages(names) if stages is None else stages
        self.stages: list[Stage] = build_stages(wanted, self.networks)
        self.plan = Schedule([stage.options.steps or 1 for stage in self.stages])
        self.iteration = self.judged = 0
        self._rates: list[Rates] = []
        self._samples: dict[str, int] = {}  # of a step, by stream, of all processes
        self.backbone_weights = backbone_weights
        self.load_initial_weights()
        if init_from is not None:
            self.check_stages()

    def check_stages(self) -> None:
        """Refuses a schedule whose first stage builds on one that these weights have not been through.

        Raises:
            UserError: It does.
        """
        reason = missing_stages(self.stages, self.networks.done())
        if reason is not None:
            raise UserError(reason)

    @property
    def place(self) -> Place:
        """The running stage and its step."""
        return self.plan.place(self.iteration)

    @property
    def stage(self) -> Stage:
        """The running stage."""
        return self.stages[self.place.stage]

    @property
    def phase(self) -> str:
        """The running stage's name."""
        return self.stage.name

    def stages_to_judge(self) -> set[str]:
        """Returns the stages since the last validation; at the schedule's end all that the networks went through."""
        if self.iteration >= self.plan.total:
            return self.networks.done()
        last = max(self.iteration - 1, 0)
        first, now = (self.plan.place(iteration).stage for iteration in (min(self.judged, last), last))
        return {part.name for part in self.stages[first : now + 1]}

    def input_shape(self) -> tuple[int, ...]:
        """Returns (3, H, W) of a picture."""
        width, height = self.image_size
        return 3, height, width

    def training_phases(self) -> dict[str, Callable[[], None]]:
        """Returns the stages by name; see :meth:`posekit.module.PoseModule.training_phases`."""
        return {part.name: partial(self._enter_stage, row) for row, part in enumerate(self.stages)}

    def _enter_stage(self, row: int) -> None:
        """Stays in a stage, or goes to its first step: before its last one too, which would end it."""
        place = self.place
        if place.stage != row or place.step + 1 >= self.plan.steps[row]:
            self.iteration = sum(self.plan.steps[:row])

    # -- set-up -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Works out how long the stages are, where they count passes over their data.

        Raises:
            UserError: The precision rounds batches, the data module is none of NLRD's, a part is missing, its windows
                are too short for a stage, a stage is too short for its options, or one rate is searched for all.
        """
        super().setup(stage)
        if stage != "fit":
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "passes_to_steps"):
            raise UserError("NLRD trains on NLRDData, which holds the data modules of its stages")
        if searches_rate(self.trainer):
            raise UserError(
                "LearningRateFinder finds one rate, but NLRD has one for each stage: set lr in model.stages"
            )
        if searches_batch_size(self.trainer, tuner=True):
            raise UserError(
                "a batch size is searched for one loader, but NLRD has several: set batch_size in the parts of data"
            )
        lengths = []
        self._samples = {}
        for part in self.stages:
            for stream in part.streams:
                self._samples[stream] = data.part(stream).batch_size * self.trainer.world_size
                part.check_samples(stream, data.part(stream).batch_size)
                frames = data.window_frames(stream)
                if frames is not None:
                    part.check_window(stream, frames)
            epochs = part.options.epochs
            steps = part.options.steps
            lengths.append(steps if steps is not None else data.passes_to_steps(part.stream, epochs))
            part.check_length(lengths[-1])
        self.plan = Schedule(lengths)
        # Whoever wraps the module (DDP) has to see every parameter that a stage will train.
        self.networks.requires_grad_(False)
        for part in self.stages:
            for module in part.trained():
                module.requires_grad_(True)

    def configure_optimizers(self) -> list[Optimizer]:  # type: ignore[override]
        """Builds the optimisers of all stages, so that a checkpoint holds the moments of each."""
        optimizers, self._rates = [], []
        for part, steps in zip(self.stages, self.plan.steps, strict=True):
            own = part.make_optimizers()
            self._rates.append(Rates(own, part.options, steps))
            optimizers += own
        return optimizers

    def on_fit_start(self) -> None:
        """Loads the backbone, and checks what could not be checked before weights and strategy were there.

        Raises:
            UserError: An earlier stage is missing, the backbone's weights cannot be read, or the strategy cannot leave
                parameters unused.
        """
        self.check_stages()
        if self.trainer.ckpt_path is None:  # a resumed run has its weights, and the file may be gone
            self._load_backbone()
        options = getattr(self.trainer.strategy, "_ddp_kwargs", None)
        if self.trainer.world_size > 1 and options is not None and not options.get("find_unused_parameters"):
            raise UserError(
                "NLRD trains different networks in turn: set trainer.strategy to ddp_find_unused_parameters_true"
            )

    def _load_backbone(self) -> None:
        if self.backbone_weights is None or "source" in self.networks.done():
            return
        trunk = self.networks.image.trunk
        convert = trunk_names if isinstance(trunk, Trunk) else None
        report = load_weights(trunk, weight_path(self.backbone_weights), convert=convert)
        rank_zero_info(f"backbone_weights {self.backbone_weights}: {report}")

    def on_train_start(self) -> None:
        """Tells the trainer how many epochs the schedule takes, where ``max_epochs: -1`` leaves that open."""
        if self.trainer.max_epochs != -1:
            return
        length, epoch = int(self.trainer.num_training_batches), self.trainer.current_epoch  # limit_train_batches counts
        epochs = math.ceil(self.plan.total / length)
        # Resumed with another epoch_steps: more than enough, the schedule ends the run.
        if epoch != self.iteration // length:
            epochs = epoch + 1 + math.ceil((self.plan.total - self.iteration) / length)
        self.trainer.fit_loop.max_epochs = epochs

    def on_train_end(self) -> None:
        """Warns of a schedule that the trainer's limits have cut off: its last stages have not been trained."""
        stopped = self.trainer.should_stop or getattr(self.trainer, "fast_dev_run", False)
        if stopped or self.iteration >= self.plan.total:
            return  # whatever else stops a run says so
        rank_zero_warn(
            f"the schedule is not done: {self.iteration} of {self.plan.total} iterations, in stage {self.phase}; "
            "trainer.max_epochs: -1 trains all of it, and --ckpt_path goes on"
        )

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, dict[str, Tensor]], batch_idx: int) -> None:  # type: ignore[override]
        """Takes one step of the running stage."""
        place = self.place
        stage = self.stages[place.stage]
        stage.check_batch(batch)
        stage.enter()
        self._rates[place.stage].set(place.step)
        draws = Draws(self.device, self.seed, place.stage, place.step, self.global_rank)
        tools = Tools(self._own_optimizers(place.stage), self.manual_backward, draws, place.step)
        logs = stage.step(batch, tools)
        self._log_step(stage.name, logs)
        self.networks.stages_done[STAGES.index(stage.name)] = True
        self.iteration += 1
        self._leave(place)

    def _log_step(self, stage: str, logs: Mapping[str, Tensor]) -> None:
        """Logs a step's numbers in place of the last step's: the trainer would repeat those that this one lacks."""
        results = self.trainer.fit_loop.epoch_loop._results
        for key in [key for key in results if key.startswith("training_step.")]:
            del results[key]
        self.log("train/loss", logs["loss"].float(), prog_bar=True)
        self.log_dict({f"train/{stage}/{name}": value.float() for name, value in logs.items() if name != "loss"})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips here, where the trainer has undone what half precision scales losses by."""
        self.stage.clip(optimizer)

    def _own_optimizers(self, row: int) -> list[Any]:
        everything = self.optimizers()
        everything = everything if isinstance(everything, list) else [everything]
        before = sum(self._optimizer_counts[:row])
        return everything[before : before + self._optimizer_counts[row]]

    @property
    def _optimizer_counts(self) -> list[int]:
        return [rates.count for rates in self._rates]

    def _leave(self, place: Place) -> None:
        """Says that a stage has ended, and ends the run after the last one."""
        if place.step + 1 < self.plan.steps[place.stage]:
            return
        name = self.stages[place.stage].name
        rank_zero_info(f"stage {name} done after {place.step + 1} steps")
        if self.iteration >= self.plan.total:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Records the place in the schedule, and what stages remember."""
        super().on_save_checkpoint(checkpoint)
        states = {part.name: part.state() for part in self.stages}
        place = {"iteration": self.iteration, "judged": self.judged, "steps": list(self.plan.steps)}
        checkpoint[STATE_KEY] = {**place, "stages": states, "samples": dict(self._samples)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the place in the schedule back.

        Raises:
            UserError: A fit goes on from a run of another schedule.
        """
        super().on_load_checkpoint(checkpoint)
        state = checkpoint.get(STATE_KEY, {})
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._compare_schedules(state)
        self.iteration = int(state.get("iteration", 0))
        self.judged = int(state.get("judged", self.iteration))
        for part in self.stages:
            if remembered := state.get("stages", {}).get(part.name):
                part.load_state(remembered)

    def _compare_schedules(self, state: Mapping[str, Any]) -> None:
        """Refuses a checkpoint whose stages are not the first ones of this run: its place would be another here.

        Raises:
            UserError: They are not, or are of other lengths.
        """
        theirs, ours = list(state.get("stages", {})), [part.name for part in self.stages]
        way = "--ckpt_path continues a run: for another schedule give --model.init_from"
        if ours[: len(theirs)] != theirs:
            stages = f"{', '.join(theirs)}, this run has {', '.join(ours)}"
            raise UserError(f"the checkpoint is of the stages {stages}; {way}")
        steps = list(state.get("steps", []))
        if not steps:
            return
        reached = Schedule(steps).place(int(state["iteration"]))
        for name, before, now in zip(ours[: reached.stage], steps, self.plan.steps, strict=False):
            if before != now:
                raise UserError(f"the checkpoint's stage {name} took {before} steps, this run's takes {now}; {way}")
        now = self.plan.steps[reached.stage]
        if reached.step > now and reached.stage + 1 < len(ours):
            stands = f"the checkpoint stands behind {reached.step} steps of stage {ours[reached.stage]}"
            raise UserError(f"{stands}, this run's takes {now}; {way}")
        self._compare_samples(state, reached, ended=reached.step >= steps[reached.stage])

    def _compare_samples(self, state: Mapping[str, Any], reached: Place, ended: bool) -> None:
        """Warns of a run that goes on with other samples per step: its result is not that of one without a break."""
        begun, ahead = self.stages[: reached.stage + (reached.step > 0)], self.stages[reached.stage + ended :]
        seen, wanted = ({stream for part in parts for stream in part.streams} for parts in (begun, ahead))
        theirs = state.get("samples", {})
        other = [
            f"{theirs[stream]} and now {now} of {stream}"
            for stream, now in self._samples.items()
            if stream in seen & wanted and theirs.get(stream, now) != now
        ]
        if other:
            rank_zero_warn(
                "resumed with batches of another size, or another number of processes: samples per step were "
                f"{', '.join(other)}; the result is not that of a run without a break"
            )

    # -- prediction ---------------------------------------------------------------------------------------------------

    def predict_step(self, batch: Any, batch_idx: int) -> Pose3DPrediction:
        """Returns one pose per person and frame; clips are taken frame by frame."""
        rows = prediction_rows(batch)
        return cast(Pose3DPrediction, {"joints3d": self(rows.pop("image")), **rows})

    @torch.inference_mode()
    def predict(self, image: Bytes, boxes: ArrayLike | None = None, box_scale: float = 1.25) -> Pose3DPrediction:
        """Finds the poses in 3D of the people in a picture; for notebooks.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) xywh in px, or one (4,); None takes the whole picture as one box, not enlarged.
            box_scale: How much boxes are enlarged before cropping.

        Returns:
            A row per box, on the CPU: ``joints3d`` (N, 17, 3) in metres, camera frame, the root at 0, and so on;
            ``image_id`` is 0, ``sample_id`` the box's number.

        Raises:
            UserError: The picture is of another type or shape (a file's name), or a box is no four numbers or has no
                area.
        """
        batch = moved(given_people(image, boxes, self.image_size, box_scale), self)
        with evaluating(self):
            result = self.predict_step(batch, 0)
        return cast(Pose3DPrediction, {name: value.cpu() for name, value in result.items()})  # type: ignore[attr-defined]


def _paper_stages(relations: Sequence[str]) -> list[str]:
    """Returns all stages that these relations call for."""
    kinds = {make_relation(name).is_motion for name in relations}
    unneeded = {"pose_relation": False not in kinds, "motion_relations": True not in kinds}
    return [name for name in STAGES if not unneeded.get(name, False)]

"""MAED as a LightningModule: pictures, clips, or both in one step; body, losses, evaluation, prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from numpy.typing import ArrayLike
from torch import Tensor, nn
from typing_extensions import TypedDict

from posekit.arrays import Bytes, Int64
from posekit.body import BodyOutput, load_body
from posekit.data.batch import Pose3DPrediction
from posekit.data.clips import CLIP_BOXES, ClipBox
from posekit.data.datamodule import PoseDataModule
from posekit.data.one_person import person_windows, predict_windows
from posekit.data.video_clips import BOX_SCALE
from posekit.errors import UserError, in_range, one_of
from posekit.geometry import matrix_to_axis_angle, project_weak_perspective, rot6d_to_matrix
from posekit.module import PoseModule, StepOutput, picture_size
from posekit.nn import LoadReport
from posekit.nn.precision import full_precision
from posekit.skeletons import get_skeleton
from posekit_maed.clips import as_clips, check_length, crop_rule, targets_of
from posekit_maed.evaluation import BodyMetrics, EvaluatedJoints, joints_asked_for
from posekit_maed.interpolation import KeptFrames, interpolate
from posekit_maed.labels import has_joints3d, strange_bodies
from posekit_maed.losses import BodyLoss, Predicted
from posekit_maed.network import BodyParameters, MAEDNetwork
from posekit_maed.prediction import key_points, prediction_rows
from posekit_maed.weights import fit_to_network, require_encoder

HYBRID_WEIGHTS = ("frames", "equal")


class BodyEstimate(TypedDict):
    """What ``forward`` returns; the names are those of the published code."""

    theta: Tensor  # (B, T, 85) camera 3, axis-angle 72, shape 10
    verts: Tensor  # (B, T, V, 3) metres, relative to the body's origin
    kp_3d: Tensor  # (B, T, K, 3) metres
    kp_2d: Tensor  # (B, T, K, 2) half crops from the centre
    rotmat: Tensor  # (B, T, 24, 3, 3)


class MAED(PoseModule):
    """Encoder-decoder with multi-level attention for body shape and pose from clips (Wan et al., ICCV 2021).

    It takes clips (``ClipBatch``), crops (``CropBatch``, clips of one frame), and mixtures of both (``HybridBatch``),
    whose losses are added with weights and give one optimiser step.

    The best state is the one of least ``val/PA-MPJPE``, or of least ``val/loss`` where the evaluated data have no 3D
    labels. Shape coefficients mean nothing on another kind of body (SMPL's on the built-in one, or the other way
    round): the shape term and PVE are then left out, with a warning.

    Args:
        skeleton: Joint set of the labels; MAED's losses and protocols are written for SPIN49.
        image_size: (W, H) of the crops, px; None takes the data module's (in Python: 224 x 224).
        encoder: ``ste`` or ``cnn``; see :class:`~posekit_maed.network.MAEDNetwork`, also for the next ones.
        decoder: ``ktd`` or ``iterative``.
        st_mode: Arrangement of attention; ``vanilla`` sees single frames.
        num_blocks: Transformer blocks.
        num_heads: Heads.
        embed_dim: Channels of a token.
        max_frames: Longest clip.
        backbone: ``hybrid`` (the paper's) or ``small``.
        backbone_options: Its arguments.
        freeze_backbone: Leave the backbone, also its batch norms, as ``init_from`` gave it.
        hidden_dim: Channels of the decoder.
        dropout: Of the decoder.
        body: Body file in SMPL format, or a folder of such; None takes the built-in body.
        joint_regressor_extra: SPIN's regressor of nine joints, which an SMPL file needs.
        joint_regressor_h36m: Human3.6M's regressor, which evaluation on ``h36m14`` or ``h36m17`` needs.
        mean_params: SPIN's mean parameters, where the decoder starts.
        num_betas: Shape coefficients of the body; MAED's decoders give 10.
        loss_weights: Coefficients in place of the paper's; see :data:`posekit_maed.losses.WEIGHTS`.
        loss_form: ``mean`` (published code) or ``sum`` (supplement).
        official_masking: See :class:`~posekit_maed.losses.BodyLoss`.
        hybrid_weights: Weights of clips and pictures in one step: ``frames`` (shares of all real frames; published
            code) or ``equal`` (supplement).
        keep_every: Run only each so-manieth frame and interpolate the rest (2 makes 8 frames of 16).
        official_interpolation: The published code's time axis of that interpolation.
        eval_joints: Joints that are compared: ``h36m14``, ``h36m17``, ``mpii3d17`` or ``spin14``; None takes those that
            the data's own ``eval_joints`` names, or ``h36m14``.
        across_clips: Accelerations across the borders of videos count, as in the published evaluation.
        clip_box: Which box cuts a frame of a video to predict on: ``frame`` (its own, as in the published code),
            ``key`` or ``window``; None takes that of the training clips, or ``frame``.
        box_scale: Enlargement of those boxes; None takes that of the training data, or 1.25.
        init_decoder: Whether ``init_from`` fills the decoder too. The published second stage takes the encoder alone.
        lr: See :class:`~posekit.module.PoseModule`, also for the next one.
        weight_decay: Of the optimiser.
        milestones: Epochs at which the ``step`` schedule decays; None takes 60 and 90 (of 100).
        kwargs: Arguments of :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: An unknown name, a value out of range, or files of the body that do not fit.
    """

    views: tuple[str, ...] = ("clips", "crops", "mixture")
    monitor: ClassVar[str] = "val/PA-MPJPE"
    monitor_mode: ClassVar[str] = "min"
    predicts: ClassVar[str] = "clips"
    learned_options: ClassVar[tuple[str, ...]] = ("clip_box", "box_scale")
    clip_frames: int = 16
    clip_halo: ClassVar[int] = 0
    prediction_writer: ClassVar[str] = "PredictionWriter3D"

    def __init__(
        self,
        skeleton: str | None = None,
        image_size: list[int] | None = None,
        encoder: str = "ste",
        decoder: str = "ktd",
        st_mode: str = "parallel",
        num_blocks: int = 6,
        num_heads: int = 12,
        embed_dim: int = 768,
        max_frames: int = 16,
        backbone: str = "hybrid",
        backbone_options: dict[str, Any] | None = None,
        freeze_backbone: bool = False,
        hidden_dim: int = 1024,
        dropout: float = 0.5,
        body: str | None = None,
        joint_regressor_extra: str | None = None,
        joint_regressor_h36m: str | None = None,
        mean_params: str | None = None,
        num_betas: int = 10,
        loss_weights: dict[str, float] | None = None,
        loss_form: str = "mean",
        official_masking: bool = False,
        hybrid_weights: str = "frames",
        keep_every: int = 1,
        official_interpolation: bool = False,
        eval_joints: str | None = None,
        across_clips: bool = False,
        clip_box: ClipBox | None = None,
        box_scale: float | None = None,
        init_decoder: bool = True,
        lr: float = 1e-4,
        weight_decay: float = 1e-5,
        milestones: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            lr=lr, weight_decay=weight_decay, milestones=[60, 90] if milestones is None else milestones, **kwargs
        )
        self.save_hyperparameters()
        self.skeleton = get_skeleton(skeleton or "SPIN49")
        if self.skeleton.name != "SPIN49":
            raise UserError(f"MAED's joint set is SPIN49: set data.skeleton to SPIN49, not {self.skeleton.name}")
        _check_options(hybrid_weights, keep_every, max_frames, clip_box, box_scale, num_betas)
        self.image_size = picture_size(image_size, (224, 224))
        # Resolved, so that a checkpoint tells a source of pictures what to make of them.
        self.hparams.update(skeleton=self.skeleton.name, image_size=list(self.image_size))
        self.clip_frames = max_frames
        self.clip_box: ClipBox = clip_box or "frame"
        self.box_scale = box_scale or BOX_SCALE
        self.hybrid_weights, self.across_clips = hybrid_weights, across_clips
        self.keep_every, self.official_interpolation = keep_every, official_interpolation
        self._labelled3d: bool | None = None  # whether validation has labels in 3D, once it was looked at
        self.body = load_body(
            body, joint_regressor_extra=joint_regressor_extra, joint_regressor_h36m=joint_regressor_h36m,
            mean_params=mean_params, num_betas=num_betas,
        )  # fmt: skip
        network = MAEDNetwork(
            encoder, decoder, self.image_size, st_mode, num_blocks, num_heads, embed_dim, max_frames, backbone,
            backbone_options, hidden_dim, dropout, self.body.mean_parameters,
        )  # fmt: skip
        # Convolutions run faster with channels last, on CPUs and on tensor cores.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = BodyLoss(loss_weights, loss_form, official_masking, self.skeleton.name)
        self._eval_joints = eval_joints
        self._compare(eval_joints or "h36m14")
        self.init_decoder = init_decoder
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            self._backbone().requires_grad_(False)
        self.load_initial_weights()

    def _backbone(self) -> nn.Module:
        encoder = self.network.encoder
        return cast(nn.Module, encoder.patch_embed.backbone) if hasattr(encoder, "patch_embed") else encoder

    def train(self, mode: bool = True) -> MAED:
        """Sets the mode; a frozen backbone stays in evaluation."""
        super().train(mode)
        if getattr(self, "freeze_backbone", False):
            self._backbone().eval()
        return self

    # -- data ---------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Looks at what the data are labelled with, once they are read."""
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage != "predict":
            self._follow_protocol(datamodule)
        if stage != "predict" and isinstance(datamodule, PoseDataModule):
            self._compare_bodies(datamodule, stage)
            if stage == "fit":
                self._follow_crops(datamodule)

    def check_data(self, datamodule: Any) -> None:
        """Refuses other kinds of batches, and clips of more frames than the encoder tells apart.

        Raises:
            UserError: It is so.
        """
        super().check_data(datamodule)
        if isinstance(datamodule, PoseDataModule):
            limit = getattr(self.network.encoder, "longest", None)
            check_length(datamodule, limit, self.keep_every)

    def _compare(self, joints: str) -> None:
        """Makes the metrics, of joints by their set's name."""
        self.compared = EvaluatedJoints(self.body, joints)
        count = len(self.compared.predicted)
        stages = ("val", "test")
        self.errors = nn.ModuleDict({f"{stage}_errors": BodyMetrics(count, self.across_clips) for stage in stages})

    def _follow_protocol(self, datamodule: Any) -> None:
        """Compares the joints that the data are evaluated by, unless the user has named others."""
        asked, own = joints_asked_for(datamodule), self._eval_joints
        if own is None:
            self._compare(asked or "h36m14")
        elif asked not in (None, own):
            rank_zero_warn(f"of joints {own} (model.eval_joints) data.eval_joints counts those of {asked} alone")

    def _follow_crops(self, datamodule: PoseDataModule) -> None:
        """Notes how the training data are cut: predictions are to see people so."""
        rule = crop_rule(datamodule)
        self.clip_box = self.hparams.get("clip_box") or rule.clip_box or "frame"
        self.box_scale = self.hparams.get("box_scale") or rule.box_scale or BOX_SCALE

    def _compare_bodies(self, datamodule: PoseDataModule, stage: str) -> None:
        kind = "builtin" if self.body.is_builtin else "SMPL"
        strange = strange_bodies(datamodule, stage, kind)
        names = sorted({*strange.trained, *strange.evaluated})
        self.loss.left_out = frozenset({"shape"} if names else ())
        self._errors("test" if stage == "test" else "val").meshes = not strange.evaluated
        if names:
            other, wanted = (
                ("SMPL", "an SMPL file or folder") if kind == "builtin" else ("the built-in body", "builtin")
            )
            rank_zero_warn(
                f"shapes of {', '.join(names)} are of {other}, the model's body is {self.body.name}: the shape loss "
                f"and PVE are left out; set model.body to {wanted} to have them"
            )

    def monitor_for(self, datamodule: Any) -> str:
        """Returns the aligned error, or the loss where the evaluated data have no 3D labels."""
        # Outside of a fit there may be no data for validation.
        fitting = self._trainer is None or self.trainer.state.fn == TrainerFn.FITTING
        if self._labelled3d is None and fitting and isinstance(datamodule, PoseDataModule):
            self._labelled3d = has_joints3d(datamodule)
            if not self._labelled3d:
                rank_zero_info(f"{type(datamodule).__name__} has no 3D labels to evaluate: val/loss tells what is best")
        return "val/loss" if self._labelled3d is False else self.monitor

    # -- weights ------------------------------------------------------------------------------------------------------

    def load_initial_weights(self) -> LoadReport | None:
        """Loads ``init_from`` and reports what matched; the encoder has to get something.

        Raises:
            UserError: The file is missing or broken, or nothing in it fits the encoder.
        """
        report = super().load_initial_weights()
        if report is not None:
            require_encoder(report, str(self.init_from))
        return report

    def convert_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Renames the tensors of a published file, and leaves the decoder out where ``init_decoder`` says so."""
        return fit_to_network(state, self.network, self.init_decoder)

    def input_shape(self) -> tuple[int, ...]:
        """Returns the shape of one clip, with the frames that ``keep_every`` interpolates."""
        return (self.clip_frames, 3, self.image_size[1], self.image_size[0])

    def export_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns rotations, shape, camera, vertices and joints of clips (B, T, 3, H, W)."""
        parameters, output = self.estimate(images)
        lead = parameters.shape.shape[:2]
        joints = self._joints(output).unflatten(0, lead)
        return {
            "rotations": parameters.rotations,
            "shape": parameters.shape,
            "camera": parameters.camera,
            "vertices": output.vertices.unflatten(0, lead),
            "joints3d": joints,
            "joints2d": project_weak_perspective(joints, parameters.camera),
        }

    # -- inference ----------------------------------------------------------------------------------------------------

    def forward(
        self, images: Tensor, valid: Tensor | None = None, joint_regressor: Tensor | None = None
    ) -> BodyEstimate:
        """Estimates bodies.

        Args:
            images: (B, T, 3, H, W) normalised clips, or crops (B, 3, H, W), which are clips of one frame.
            valid: (B, T) bool, False on padding.
            joint_regressor: (J, V) rows that take vertices to joints, in place of SPIN49.
        """
        parameters, output = self.estimate(images[:, None] if images.ndim == 4 else images, valid)
        lead = parameters.shape.shape[:2]
        with full_precision(output.vertices):
            joints = self._joints(output) if joint_regressor is None else joint_regressor @ output.vertices
        joints = joints.unflatten(0, lead)
        axis_angle = matrix_to_axis_angle(parameters.rotations).flatten(-2)
        return {
            "theta": torch.cat([parameters.camera, axis_angle, parameters.shape], -1),
            "verts": output.vertices.unflatten(0, lead),
            "kp_3d": joints,
            "kp_2d": project_weak_perspective(joints, parameters.camera),
            "rotmat": parameters.rotations,
        }

    def estimate(self, images: Tensor, valid: Tensor | None = None) -> tuple[BodyParameters, BodyOutput]:
        """Returns parameters of (B, T) frames and bodies of B T; frames that ``keep_every`` skips are interpolated."""
        step, frames = self.keep_every, images.shape[1]
        if step == 1 or frames == 1:
            parameters: BodyParameters = self.network(images, valid)
            return parameters, self._pose(parameters)
        if valid is None:
            parameters = self.network(images[:, ::step])
            return self._between(parameters, self._pose(parameters), frames)
        kept = KeptFrames.of(valid, step)
        parameters = kept.filled(self.network(images[kept.rows, kept.place], kept.valid))
        filled, output = self._between(parameters, self._pose(parameters), frames)
        back = kept.back(frames)
        bodies = (value.unflatten(0, valid.shape)[back].flatten(0, 1) for value in output)
        return BodyParameters(*(value[back] for value in filled)), BodyOutput(*bodies)

    def _pose(self, parameters: BodyParameters) -> BodyOutput:
        return cast(BodyOutput, self.body(parameters.rotations.flatten(0, 1), parameters.shape.flatten(0, 1)))

    def _between(
        self, parameters: BodyParameters, output: BodyOutput, frames: int
    ) -> tuple[BodyParameters, BodyOutput]:
        """Interpolates everything linearly; the result's rotations are the interpolated 6D form's."""
        lead = parameters.shape.shape[:2]

        def fill(value: Tensor) -> Tensor:
            return interpolate(value, self.keep_every, frames, self.official_interpolation)

        rotations = rot6d_to_matrix(fill(parameters.pose6d), columns="interleaved")
        filled = BodyParameters(rotations, *(fill(value) for value in parameters[1:]))
        bodies = BodyOutput(*(fill(value.unflatten(0, lead)).flatten(0, 1) for value in output))
        return filled, bodies

    def _joints(self, output: BodyOutput) -> Tensor:
        return self.body.joints(output, self.skeleton.name)

    # -- steps --------------------------------------------------------------------------------------------------------

    def step(self, batch: Any, stage: str) -> StepOutput[Any]:
        """Computes the loss of a batch of clips, crops or both; outside training the predictions of its clips."""
        parts = as_clips(batch)
        outputs = [self._part(part, stage) for part in parts.values()]
        if len(outputs) == 1:
            return outputs[0]
        shares = self._shares([part["valid"].sum() for part in parts.values()])
        merged: StepOutput[Any] = StepOutput(
            sum((share * output.loss for share, output in zip(shares, outputs, strict=True)), torch.zeros(())),
            batch_size=sum(output.batch_size for output in outputs),
        )
        for name, output in zip(parts, outputs, strict=True):
            merged.logs |= {f"{name}/{key}": value for key, value in output.logs.items()}
        merged.predictions = outputs[0].predictions
        return merged

    def _shares(self, frames: list[Tensor]) -> list[Tensor]:
        """Returns the parts' weights; ``frames`` are their numbers of real frames, scalars that nobody waits for."""
        if self.hybrid_weights == "equal":
            return [torch.full_like(count, 1 / len(frames), dtype=torch.float32) for count in frames]
        total = torch.stack(frames).sum().clamp(min=1)
        return [count / total for count in frames]

    def _part(self, batch: dict[str, Any], stage: str) -> StepOutput[Any]:
        images = batch["image"]
        parameters, output = self.estimate(images, self._mask(batch))
        lead = images.shape[:2]
        joints = self._joints(output).unflatten(0, lead)
        points = project_weak_perspective(joints, parameters.camera)
        predicted = Predicted(points, joints, parameters.rotations, parameters.shape)
        total, terms = self.loss(predicted, targets_of(batch))
        result: StepOutput[Any] = StepOutput(total, batch_size=images.shape[0], logs=terms)
        if stage != "train":
            key = torch.arange(len(images), device=images.device), batch["key"]
            shown = key_points(points[key], batch["affine"][key], images.shape[-2:])
            result.predictions = {"parameters": parameters, "output": output, "batch": batch, "keypoints": shown}
        return result

    @staticmethod
    def _mask(batch: dict[str, Any]) -> Tensor | None:
        """Returns which frames may be attended to, or None where no frame is padding."""
        if not batch["padded"]:
            return None
        valid = cast(Tensor, batch["valid"])
        return valid | ~valid.any(1, keepdim=True)  # a clip without any real frame counts nowhere

    # -- prediction ---------------------------------------------------------------------------------------------------

    def predict_step(self, batch: Any, batch_idx: int) -> Pose3DPrediction:
        """Returns every real frame's body of a batch; clips that overlap give a frame once."""
        (part,) = as_clips(batch).values()
        parameters, output = self.estimate(part["image"], self._mask(part))
        return prediction_rows(part, parameters, output, self._joints(output))

    def predict(
        self, frames: Sequence[Bytes], boxes: ArrayLike | None = None, box_scale: float | None = None
    ) -> Pose3DPrediction:
        """Finds one person's body in consecutive frames, as ``posekit predict`` does; for notebooks.

        Args:
            frames: (T, H, W, 3) uint8 RGB, or a list of such pictures; one picture is a clip of one frame.
            boxes: (T, 4) the person's box in each frame, xywh in px; None takes whole frames, not enlarged.
            box_scale: How much boxes are enlarged before cropping; None takes that of the training data, or 1.25.

        Returns:
            A row per frame, on the CPU: ``body_pose``, ``body_shape``, ``vertices``, ``joints3d``, ``keypoints`` in the
            frames' pixels, and so on.

        Raises:
            UserError: The frames or the boxes are of another type or shape.
        """
        size, length = self.image_size, self.clip_frames
        scale = self.box_scale if box_scale is None else box_scale
        windows = person_windows(frames, boxes, self.skeleton, size, length, box_scale=scale, clip_box=self.clip_box)
        return cast(Pose3DPrediction, predict_windows(self, windows))

    @property
    def mesh_faces(self) -> Int64:
        """Triangles (F, 3) of predicted meshes."""
        return self.body.faces.cpu().numpy()

    # -- metrics ------------------------------------------------------------------------------------------------------

    def reset_metrics(self, stage: str) -> None:
        """Empties the stage's metrics."""
        self._errors(stage).reset()

    def update_metrics(self, batch: Any, output: StepOutput[Any], stage: str) -> None:
        """Adds the frames that the batch's windows answer for."""
        found = output.predictions
        if found is None:
            return
        self._errors(stage).add_clips(found["batch"], self.body, self.compared, found["output"])

    def compute_metrics(self, stage: str) -> dict[str, Tensor]:
        """Returns the errors in mm."""
        return self._errors(stage).compute()

    def _errors(self, stage: str) -> BodyMetrics:
        return cast(BodyMetrics, self.errors[stage + "_errors"])


def _check_options(
    hybrid_weights: str,
    keep_every: int,
    max_frames: int,
    clip_box: str | None,
    box_scale: float | None,
    num_betas: int,
) -> None:
    """Checks what neither the network nor the loss does.

    Raises:
        UserError: An unknown name, or a number that is out of range.
    """
    one_of("hybrid_weights", hybrid_weights, HYBRID_WEIGHTS)
    for name, count in {"keep_every": keep_every, "max_frames": max_frames}.items():
        in_range("MAED", name, count, "[1, inf)", whole=True)
    one_of("clip_box of MAED", clip_box, CLIP_BOXES, none=True)
    in_range("MAED", "box_scale", box_scale, "(0, inf)", none=True)
    if num_betas != 10:
        raise UserError(f"MAED's decoders give 10 shape coefficients, so num_betas cannot be {num_betas}")

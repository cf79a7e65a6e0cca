"""TIP as a LightningModule: the objective, its rivals, and prediction on videos."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import ArrayLike
from torch import Tensor, nn

from posekit.arrays import Bytes
from posekit.data.batch import ClipBatch, CropBatch, KeypointPrediction
from posekit.data.clip_windows import Window
from posekit.data.one_person import person_windows, predict_windows
from posekit.errors import UserError, in_range, one_of
from posekit.heatmaps import DECODERS, MAPPINGS, GaussianCodec
from posekit.module import StepOutput
from posekit.nn import LoadReport, build_backbone
from posekit.nn.shipped import shipped_names
from posekit.signatures import arguments_of
from posekit.topdown import TopDownModule
from posekit_tip.groups import coco_rows, resolve_groups, slot_indices
from posekit_tip.network import TEMPORAL, TemporalPart, TIPNetwork
from posekit_tip.objective import Objective, active_weights
from posekit_tip.scoring import PoseTrackScoring
from posekit_tip.sharing import Windows, as_clips, key_crops, key_windows, trim
from posekit_tip.video import predict_clips


class TIP(PoseTrackScoring, TopDownModule):
    """Temporal-interim pose synthesis and distillation (Zhang et al., TNNLS 2025; TPSD in the literature).

    A reconstruction from the paper's supplement: see this package's README for what is inferred. Training has two
    steps: ``temporal: single`` on key frames, then the temporal part with ``init_from`` that run's checkpoint.

    Args:
        skeleton: Name of the joint set; None takes the data module's (in Python: POSETRACK15).
        image_size: (W, H) of the crops in px; None takes the data module's (in Python: 192 x 256).
        backbone: Heatmap network, e.g. ``hrnet_w48``, ``small``.
        backbone_options: Further arguments of the network.
        temporal: ``tip``, or a rival in the same module: ``single`` (the backbone alone, on key frames),
            ``interpolation`` (interim poses at even steps, no L_s), ``difference`` (feature differences, no L_info, no
            L_s).
        num_support: Neighbours a side: 1 for windows of three frames, 2 for five; None takes the data module's (in
            Python: 1).
        num_interim: Interim poses K; odd, so that the middle one belongs to the key frame.
        part_groups: Joint names by the group's name; None takes the head and four limbs.
        num_slots: 17 keeps POSETRACK15's joints in the 17 slots of the 2018 files; None has one map per joint.
        group_channels: Channels of a group's feature; None takes the backbone's.
        gamma_info: Weight of L_info, that is of the next three.
        gamma_com: Weight of L_com within L_info: complementary information.
        gamma_var: Weight of L_var: different groups, different features.
        gamma_red: Weight of L_red: no repetition of the key frame's features.
        gamma_s: Weight of L_s: the middle interim pose is the key pose. A weight of 0 skips its term.
        temperature: Of the softmaxes in L_com.
        loc_reduction: ``pixel_sum`` or ``mean`` over the pixels of a map, in L_loc.
        sigma: Of targets and interim poses, heatmap px: 3 suits maps of 96 x 72.
        round_center: Centre targets on the nearest heatmap pixel, as the peers do.
        beta: Factor of the maps in the soft argmax that finds the ends of a line.
        residual_offset: Let interim poses leave the line.
        start_from_single: Set the temporal part's weights so that the final maps are the single-frame network's at
            first; False starts from random ones, as the peers do.
        freeze_backbone: Keep the single-frame network as it is. False trains it too, its rough maps supervised.
        backbone_lr: Its learning rate as a share of ``lr``, where it is trained with the temporal part.
        decoder: How a map is read, see :data:`posekit.heatmaps.DECODERS`.
        mapping: Map between crop and heatmap pixels: ``udp`` (unbiased), ``half_pixel`` or ``legacy``.
        flip_test: Average the maps of the clip and of its mirror image in evaluation and prediction.
        interim: Predictions hold the interim poses and their ends too, for pictures.
        init_head: Take the rough head from ``init_from`` too. False starts it anew, for networks that were trained by
            another loss than squared errors: their maps have another scale. None does so for shipped weights.
        monitor: Number that the best checkpoint is chosen by; on PoseTrack ``val/PoseTrack/AP`` is the benchmark's.
        kwargs: Arguments of :class:`~posekit.topdown.TopDownModule` and :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: An unknown name, a value out of range, or part groups that do not divide the joints.
    """

    predicts: ClassVar[str] = "clips"
    clip_frames: ClassVar[int] = 42
    clip_halo: int = 1

    def __init__(
        self,
        skeleton: str | None = None,
        image_size: list[int] | None = None,
        backbone: str = "hrnet_w48",
        backbone_options: dict[str, Any] | None = None,
        temporal: str = "tip",
        num_support: int | None = None,
        num_interim: int = 3,
        part_groups: dict[str, list[str]] | None = None,
        num_slots: int | None = None,
        group_channels: int | None = None,
        gamma_info: float = 1.0,
        gamma_com: float = 1.0,
        gamma_var: float = 1.0,
        gamma_red: float = 1.0,
        gamma_s: float = 0.1,
        temperature: float = 0.05,
        loc_reduction: str = "pixel_sum",
        sigma: float = 3.0,
        round_center: bool = True,
        beta: float = 25.0,
        residual_offset: bool = False,
        start_from_single: bool = False,
        freeze_backbone: bool = True,
        backbone_lr: float = 0.1,
        decoder: str = "argmax_shift",
        mapping: str = "udp",
        flip_test: bool = False,
        interim: bool = False,
        init_head: bool | None = None,
        monitor: str = "val/AP",
        **kwargs: Any,
    ) -> None:
        joints = skeleton or "POSETRACK15"
        super().__init__(skeleton=joints, image_size=image_size, flip_test=flip_test, monitor=monitor, **kwargs)
        self.save_hyperparameters()
        num_support = 1 if num_support is None else num_support
        gammas = {"info": gamma_info, "com": gamma_com, "var": gamma_var, "red": gamma_red, "s": gamma_s}
        _check_options(
            temporal, decoder, mapping, num_support, num_interim, group_channels, temperature=temperature, sigma=sigma,
            beta=beta, backbone_lr=backbone_lr,
        )  # fmt: skip
        weights = active_weights(temporal, gammas)
        if "s" in weights and num_interim % 2 == 0:
            raise UserError(
                f"num_interim must be odd for gamma_s to find the key pose in the middle, not {num_interim}"
            )
        self.temporal = temporal
        self.views = ("crops", "clips") if temporal == "single" else ("clips",)
        self.groups = resolve_groups(part_groups, self.skeleton)
        self.num_support = self.clip_halo = num_support
        self.sigma, self.round_center, self.backbone_lr = sigma, round_center, backbone_lr
        self.decoder, self.mapping = decoder, mapping
        self.interim = interim
        self.start_from_single = start_from_single
        self.init_head = self.init_from not in shipped_names() if init_head is None else init_head
        learns_rough = temporal != "single" and not freeze_backbone
        self.objective = Objective(weights, temperature, loc_reduction, learns_rough)
        network = self._build_network(
            backbone, backbone_options, num_slots, num_interim, group_channels, beta, residual_offset, freeze_backbone
        )
        # Convolutions run a quarter to a half faster with channels last, on CPUs and on tensor cores.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.load_initial_weights()

    def _build_network(
        self,
        backbone: str,
        backbone_options: dict[str, Any] | None,
        num_slots: int | None,
        num_interim: int,
        group_channels: int | None,
        beta: float,
        residual_offset: bool,
        frozen: bool,
    ) -> TIPNetwork:
        """Returns the network for the objective, joints and groups that are set by now."""
        slots = slot_indices(self.skeleton, num_slots)
        num_maps = len(self.skeleton) if slots is None else cast(int, num_slots)
        single = build_backbone(backbone, num_joints=num_maps, **(backbone_options or {}))
        if self.temporal == "single":
            return TIPNetwork(single, None, slots, frozen)
        part = TemporalPart(
            single.feature_channels, self.groups, num_maps, self.temporal, num_interim, self.num_support,
            group_channels, self.sigma, beta, residual_offset,
        )  # fmt: skip
        # Heads that no loss reaches would be unused parameters to DistributedDataParallel.
        part.motion.task_heads.requires_grad_("com" in self.objective.weights)
        return TIPNetwork(single, part, slots, frozen)

    def load_initial_weights(self) -> LoadReport | None:
        """Loads ``init_from``; says so where the backbone, not just the temporal part, starts anew.

        Raises:
            UserError: The file is missing or broken, or nothing in it matched.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "init_from .* fits less than half")
            report = super().load_initial_weights()
        part = self.network.temporal
        trained = report is not None and any(name.startswith("network.temporal.") for name in report.matched)
        if self.start_from_single and part is not None and not trained:
            part.start_from(cast(nn.Conv2d, self.network.backbone.final_layer))
        missing = [name for name in report.missing if name.startswith("network.backbone.")] if report else []
        missing = [name for name in missing if self.init_head or "final_layer." not in name]
        if missing:
            rank_zero_warn(
                f"init_from {self.init_from} lacks {len(missing)} tensors of the backbone: {missing[0]}, ..."
            )
        return report

    def convert_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fits the head of a network of COCO's 17 joints to this joint set, by name; eyes start neck and head top."""
        if not self.init_head:
            state = {name: value for name, value in state.items() if "final_layer." not in name}
        return coco_rows(state, self.skeleton, cast(Tensor, self.network.backbone.final_layer.weight).shape[0])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Returns the temporal part's parameters, and at a lower rate the backbone's where both are trained."""
        own = [p for n, p in self.network.named_parameters() if p.requires_grad and not n.startswith("backbone.")]
        single = [p for p in self.network.backbone.parameters() if p.requires_grad]
        if not own:
            return [{"params": single}]
        rest = [{"params": single, "lr": self.lr * self.backbone_lr}] if single else []
        return [{"params": own}, *rest]

    # -- inference ----------------------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Tensor:
        """Returns raw heatmaps (B, J, H/4, W/4) of the middle frames of clips (B, T, 3, H, W), or of crops."""
        return cast(Tensor, self.network(images))

    def codec(self, size: Sequence[int]) -> GaussianCodec:
        """Returns what draws targets of a size (h, w) and reads maps."""
        width, height = self.image_size
        heatmap = (size[0], size[1])
        return GaussianCodec((height, width), heatmap, self.decoder, self.mapping, self.sigma, self.round_center)

    def decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Reads joints in crop px and scores from maps."""
        return self.codec(heatmaps.shape[-2:]).decode(heatmaps)

    def input_shape(self) -> tuple[int, ...]:
        """Returns the shape of one clip; of the single-frame network, of one crop."""
        crop = (3, self.image_size[1], self.image_size[0])
        return crop if self.temporal == "single" else (2 * self.num_support + 1, *crop)

    def predictions(self, batch: CropBatch, points: Tensor, scores: Tensor) -> KeypointPrediction:
        """Maps joints to the original image; a joint's score is its map's height times the box's score."""
        found = super().predictions(batch, points, scores)
        found["keypoints"][..., 2] *= batch["box_score"][:, None]
        return found

    def predict_step(self, batch: CropBatch | ClipBatch, batch_idx: int) -> KeypointPrediction:
        """Returns the people of the key frames, or of every frame but the halo of clips longer than a window."""
        self.check_size(batch["image"])
        return predict_clips(self, as_clips(batch))

    def predict(
        self,
        image: Bytes | Sequence[Bytes],
        boxes: ArrayLike | None = None,
        box_scale: float = 1.25,
    ) -> KeypointPrediction:
        """Finds one person's joints in consecutive frames, as ``posekit predict`` does; for notebooks.

        Args:
            image: (T, H, W, 3) uint8 RGB, or a list of such frames. One picture (H, W, 3) may show several people, and
                each is found without neighbours.
            boxes: (T, 4) the person's box in each frame (of one picture (N, 4), of each person), xywh in px; None takes
                whole frames, not enlarged.
            box_scale: How much boxes are enlarged before cropping.

        Returns:
            A row per frame (of one picture per box), in the frames' pixels, on the CPU; ``image_id`` counts the frames.

        Raises:
            UserError: The frames or the boxes are of another type or shape.
        """
        if isinstance(image, np.ndarray) and image.ndim == 3:
            return super().predict(image, boxes, box_scale)
        size, length = self.image_size, self.clip_frames
        windows = person_windows(image, boxes, self.skeleton, size, length, self.clip_halo, box_scale)
        return cast(KeypointPrediction, predict_windows(self, windows))

    # -- training -----------------------------------------------------------------------------------------------------

    def check_data(self, datamodule: Any) -> None:
        """Refuses data of a wrong view, and clips that are shorter than a window.

        Raises:
            UserError: It is so.
        """
        super().check_data(datamodule)
        if self.temporal == "single" or getattr(datamodule, "view", None) != "clips":
            return
        window = getattr(datamodule, "window", None)
        ruled = isinstance(window, Window)  # elsewhere the option names a kind of window, and frames its length
        frames, wanted = getattr(window if ruled else datamodule, "frames", None), 2 * self.num_support + 1
        if isinstance(frames, int) and frames < wanted:
            known = arguments_of(type(datamodule))
            options = ["num_support", "window"] if ruled else ["frames"]
            ways = [*(f"data.{option}" for option in options if option in known), "model.num_support"]
            raise UserError(
                f"the clips of {type(datamodule).__name__} have {frames} frames, but windows of num_support "
                f"{self.num_support} have {wanted}: set {' or '.join(ways)} to match"
            )

    def check_crops(self, batch: Any) -> None:
        """Refuses batches that are no clips (or, for the single-frame network, crops) of the right size.

        Raises:
            UserError: The batch holds whole scenes, crops, or pictures of another size than ``image_size``.
        """
        dims = (4, 5) if self.temporal == "single" else (5,)
        if not isinstance(batch["keypoints"], Tensor) or batch["image"].ndim not in dims:
            raise UserError(f"TIP with temporal: {self.temporal} learns from clips of people: set data.view to clips")
        self.check_size(batch["image"])

    def step(self, batch: CropBatch | ClipBatch, stage: str) -> StepOutput[KeypointPrediction]:
        """Computes the objective on the key frames of a batch; outside training also the predictions."""
        self.check_crops(batch)
        clips = trim(as_clips(batch), self.num_support)
        crops = key_crops(clips)
        if self.temporal == "single":
            windows, output = None, None
            maps = self.network.encode(crops["image"]).rough
        else:
            windows = key_windows(clips["frame"], clips["valid"], clips["key"], self.num_support)
            output = self.network.estimate(self.network.encode(clips["image"].flatten(0, 1)), windows)
            maps = output.heatmaps
        target, _, weight = self.codec(maps.shape[-2:]).encode(crops["keypoints"], crops["visible"])
        part = self.network.temporal
        if part is None or output is None or windows is None:
            loss, logs = self.objective.single(maps, target, weight)
        else:
            loss, logs = self.objective.temporal(output, part, windows, target, weight)
        result: StepOutput[KeypointPrediction] = StepOutput(
            loss, batch_size=len(maps), logs=logs, labelled=(crops["visible"] > 0).any()
        )
        if stage != "train":
            maps = maps.float()
            if self.flip_test:
                maps = self.merge_mirrored(maps, self._mirrored(clips, windows))
            result.predictions = self.predictions(crops, *self.decode(maps))
        return result

    def _mirrored(self, clips: ClipBatch, windows: Windows | None) -> Tensor:
        """Returns the maps (B, J, h, w) that the mirrored clips give."""
        if windows is None:
            return self.network.encode(key_crops(clips)["image"].flip(-1)).rough
        return self.network.estimate(self.network.encode(clips["image"].flatten(0, 1).flip(-1)), windows).heatmaps

    def update_metrics(self, batch: CropBatch | ClipBatch, output: StepOutput[KeypointPrediction], stage: str) -> None:
        """Adds the people of a batch's key frames."""
        super().update_metrics(key_crops(as_clips(batch)), output, stage)


def _check_options(
    temporal: str,
    decoder: str,
    mapping: str,
    num_support: int,
    num_interim: int,
    group_channels: int | None,
    **positive: float,
) -> None:
    """Checks names, numbers of things, and what must be above 0.

    Raises:
        UserError: An unknown name, or a number that is out of range.
    """
    choices = (("temporal", temporal, TEMPORAL), ("decoder", decoder, DECODERS), ("mapping", mapping, MAPPINGS))
    for kind, name, known in choices:
        one_of(kind, name, known)
    for option, count in (("num_support", num_support), ("num_interim", num_interim)):
        in_range("TIP", option, count, "[1, inf)", whole=True)
    in_range("TIP", "group_channels", group_channels, "[1, inf)", whole=True, none=True)
    for option, value in positive.items():
        in_range("TIP", option, value, "(0, inf)")

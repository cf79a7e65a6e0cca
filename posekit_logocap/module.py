"""LogoCap: bottom-up pose estimation by centres, offsets and local-global contextual adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import NotRequired

from posekit.arrays import Bytes
from posekit.data.batch import CropBatch, SceneBatch
from posekit.data.pictures import PictureInput
from posekit.errors import UserError, each_in_range
from posekit.geometry import uncrop_points
from posekit.module import StepOutput, picture_size
from posekit.nn.modes import evaluating
from posekit.nn.precision import full_precision
from posekit.skeletons import get_skeleton
from posekit_logocap.drawing import overlay, whole_people, with_attraction
from posekit_logocap.inference import DecodeOptions, People, decode_people, maps_by_size, no_people
from posekit_logocap.network import DenseMaps, LogoCapNetwork
from posekit_logocap.pictures import dense_maps, network_input
from posekit_logocap.refine import Expansion
from posekit_logocap.scene_module import SceneModule, ScenePrediction
from posekit_logocap.targets import stack_persons
from posekit_logocap.training import Trained, TrainOptions, make_targets, output_mask, train_losses
from posekit_logocap.weights import convert_official
from posekit_logocap.winograd import FastMessagePassing

if TYPE_CHECKING:
    from typing_extensions import Self


PEOPLE_IDS = 1024
"""A person's ``sample_id`` is the picture's times this, plus its rank in the picture."""


class LogoCapPrediction(ScenePrediction):
    """People of a batch, in original pixels."""

    attraction: NotRequired[Tensor]  # (N, K, P, P) attraction maps, on request
    mesh: NotRequired[Tensor]  # (N, K, P, P, 2) their mesh in original px, on request


class LogoCap(SceneModule):
    """LOGO-CAP (Xue et al., CVPR 2022), on whole pictures.

    Args:
        skeleton: Name of the joint set; None takes the data module's (in Python: COCO17).
        image_size: [W, H] of the network's input in px; None takes the data module's (in Python: 512 x 512). Pictures
            of :meth:`predict` are scaled to its shorter side.
        backbone: ``hrnet_w32``, ``hrnet_w48``, ``small`` or another backbone of stride 4.
        backbone_options: Further arguments of the backbone.
        embedding: Channels of the message passing's features.
        heatmap_channels: Hidden channels of the heatmap head; None takes the backbone's width.
        offset_channels: Hidden channels of the offset head.
        message_channels: Channels of the message passing's three layers.
        attention_kernels: Affine maps of its attentive norm.
        radius: The local window has 2 radius + 1 mesh points a side.
        window: The global window has ``window`` + 1 px a side.
        prior_sigma: Deviation of the global window's Gaussian prior, px.
        unit_sigma: OKS deviation of a joint whose mesh has steps of 1 px (COCO's least one).
        sampling: ``official`` or ``border``: what lies beyond the last row and column of a map.
        mapping: ``legacy`` (the official code's) or ``half_pixel`` (cells are areas; flips agree).
        level: Adaptation: ``full``, ``partial`` (mesh point of the largest attraction) or ``none``.
        flip_test: Average maps with those of the mirror image in evaluation and prediction.
        test_scales: Factors of the input's size whose maps are averaged, 1 among them; None stands for [1].
        top_k: Centres per picture.
        centre_threshold: Least score of a centre, from 0 to 1.
        early_nms: Refine only centres that pose NMS leaves; False is the official order.
        nms_joints: Poses with more close joints than this are double; None takes half of the joints.
        max_people: People kept per picture.
        oks_threshold: Least OKS that a pose's mesh must reach with its person to be trained.
        offset_factor: Factor of the offset loss.
        attraction_factor: Factor of the attraction loss.
        refined_factor: Factor of the refined maps' loss.
        least_area: People of less area (px^2, original picture) have neither centre nor offsets.
        overlap: Whose offsets a cell shared by several people holds: ``official`` or ``smaller``.
        attraction_maps: Return each person's attraction maps and mesh in predictions, for drawings.
        milestones: Epochs at which the ``step`` schedule decays; None takes 90 and 120 (of 140).
        kwargs: Arguments of :class:`~posekit.module.PoseModule`.

    Raises:
        UserError: An unknown name, or a value out of its range.
    """

    least_score: ClassVar[float] = 0.05
    """Of a person: candidates below it are kept for evaluation, but neither counted nor drawn. A score is the product
    of two heatmap values, as of a centre of 0.25 and joints of 0.2."""
    flip_index: Tensor
    sigmas: Tensor

    def __init__(
        self,
        skeleton: str | None = None,
        image_size: list[int] | None = None,
        backbone: str = "hrnet_w32",
        backbone_options: dict[str, Any] | None = None,
        embedding: int = 64,
        heatmap_channels: int | None = None,
        offset_channels: int = 256,
        message_channels: list[int] | None = None,
        attention_kernels: int = 20,
        radius: int = 5,
        window: int = 96,
        prior_sigma: float = 16.0,
        unit_sigma: float = 0.025,
        sampling: str = "official",
        mapping: str = "legacy",
        level: str = "full",
        flip_test: bool = True,
        test_scales: list[float] | None = None,
        top_k: int = 30,
        centre_threshold: float = 0.01,
        early_nms: bool = True,
        nms_joints: int | None = None,
        max_people: int = 30,
        oks_threshold: float = 0.5,
        offset_factor: float = 0.01,
        attraction_factor: float = 0.01,
        refined_factor: float = 1.0,
        least_area: float = 1024.0,
        overlap: str = "official",
        attraction_maps: bool = False,
        milestones: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(milestones=[90, 120] if milestones is None else milestones, **kwargs)
        self.save_hyperparameters()
        self.skeleton = get_skeleton(skeleton or "COCO17")
        self.image_size = picture_size(image_size, (512, 512))
        joints = len(self.skeleton)
        self.network = LogoCapNetwork(
            backbone, joints, backbone_options, embedding, heatmap_channels, offset_channels,
            message_channels or (512, 256, 128), attention_kernels,
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # fmt: skip
        self.expansion = Expansion(self.skeleton.sigmas, radius, window, prior_sigma, unit_sigma, sampling, mapping)
        self.decoding = DecodeOptions(
            top_k, centre_threshold, level, early_nms, nms_joints=nms_joints, max_people=max_people
        )
        self.training_options = TrainOptions(
            top_k, oks_threshold, offset_factor, attraction_factor, refined_factor, least_area, overlap
        )
        self.flip_test = flip_test
        self.test_scales = _scales(test_scales or [1.0])
        self.attraction_maps = attraction_maps
        self.fast_message_passing = FastMessagePassing(self.network.joints_mlp)
        self.register_buffer("flip_index", torch.tensor(self.skeleton.flip_index), persistent=False)
        self.register_buffer("sigmas", torch.tensor(self.skeleton.sigmas), persistent=False)
        self.add_metrics(self.skeleton.sigmas)
        self.load_initial_weights()

    def convert_weights(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Renames the tensors of official files (the method's, or ImageNet's HRNet)."""
        return convert_official(state)

    # -- network ------------------------------------------------------------------------------------------------------

    def input_shape(self) -> tuple[int, ...]:
        """Returns the shape of one picture."""
        return (3, self.image_size[1], self.image_size[0])

    def export_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the dense part: heatmaps, offsets and embedding; people are found and refined outside."""
        return cast(DenseMaps, self(images))._asdict()

    def forward(self, images: Tensor) -> DenseMaps:
        """Returns heatmaps, offsets and features at stride 4 of normalised pictures (B, 3, H, W)."""
        return self.network(images.contiguous(memory_format=torch.channels_last))

    def message_passing(self, local: Tensor) -> Tensor:
        """Returns raw attraction maps (N, K, P, P) of local maps (N, K C, P, P)."""
        return self.network.joints_mlp(local)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; in training the transformed weights of inference are dropped."""
        if mode:
            self.fast_message_passing.forget()
        return super().train(mode)

    def picture_input(self) -> PictureInput:
        """Returns what makes the network's input of a picture, as :meth:`predict` does; see there."""
        return partial(network_input, short_side=min(self.image_size), mapping=self.expansion.mapping)

    # -- training -----------------------------------------------------------------------------------------------------

    def step(self, batch: SceneBatch, stage: str) -> StepOutput[LogoCapPrediction]:
        """Computes the losses of a batch; outside training also the people."""
        self.check_scenes(batch)
        maps = self(batch["image"])
        trained = self.losses(maps, batch)
        output: StepOutput[LogoCapPrediction] = StepOutput(
            trained.terms.total(),
            batch_size=batch["image"].shape[0],
            logs={f"loss_{name}": value for name, value in trained.terms._asdict().items()},
        )
        if stage != "train":
            people = self.infer(batch["image"], maps)
            output.predictions = self.predictions(people, batch)
        return output

    def losses(self, maps: DenseMaps, batch: SceneBatch) -> Trained:
        """Computes the losses of a batch's maps."""
        persons = stack_persons(batch["keypoints"], batch["visible"], batch["area"])
        size = (maps.heatmaps.shape[-2], maps.heatmaps.shape[-1])
        options = self.training_options
        with full_precision(maps.heatmaps):
            targets = make_targets(persons, batch["affine"], size, self.expansion.mapping, options)
        mask = output_mask(batch["mask"], size)
        return train_losses(maps, targets, mask, persons, self.expansion, self.message_passing, self.sigmas, options)

    # -- inference ----------------------------------------------------------------------------------------------------

    def infer(self, images: Tensor | Sequence[Tensor], maps: DenseMaps | None = None) -> People:
        """Finds the people of pictures, in px of the network's input.

        Args:
            images: (B, 3, H, W) normalised pictures of one size, or a list of (3, H, W) of different sizes. Pictures of
                one size share a pass of the backbone, all share one of the message passing; the result is that of one
                picture after another.
            maps: Their maps, where the caller has them already (of one size, without the flip test).
        """
        if not len(images):
            return no_people(len(self.skeleton), self.device)
        stacked = self.dense(images, maps) if isinstance(images, Tensor) else maps_by_size(self.dense, images)
        sizes = torch.tensor([image.shape[-2:] for image in images], device=stacked.heatmaps.device)
        return decode_people(stacked, sizes, self.expansion, self.inference_message_passing, self.decoding)

    def dense(self, images: Tensor, maps: DenseMaps | None = None) -> DenseMaps:
        """Returns the maps (B, …, ceil(H / 4), ceil(W / 4)) that are decoded: with flip test and all test scales."""
        return dense_maps(self, images, self.flip_index if self.flip_test else None, self.test_scales, maps)

    def inference_message_passing(self, local: Tensor) -> Tensor:
        """Returns raw attraction maps; on a CPU in evaluation by the transformed convolutions."""
        return self.fast_message_passing(local)

    def predictions(self, people: People, batch: SceneBatch | CropBatch) -> LogoCapPrediction:
        """Maps people back to the original pictures."""
        affine = batch["affine"][people.image]
        points, start = (uncrop_points(rows[..., :2], affine) for rows in (people.keypoints, people.initial))
        low, high = points.amin(1), points.amax(1)
        same = people.image[:, None] == people.image
        rank = (same & torch.ones_like(same).tril(-1)).sum(1)
        result: LogoCapPrediction = {
            "keypoints": torch.cat([points, people.keypoints[..., 2:].to(points.dtype)], -1),
            "scores": people.scores,
            "boxes": torch.cat([low, high - low], -1),
            "image_id": batch["image_id"][people.image],
            "sample_id": batch["sample_id"][people.image] * PEOPLE_IDS + rank,
            "initial": torch.cat([start, people.initial[..., 2:].to(points.dtype)], -1),
        }
        if self.attraction_maps and people.attraction.shape[1]:
            mesh = self.expansion.mesh(people.initial[..., :2])
            x, y = mesh[:, :, 0, None, :], mesh[:, :, 1, :, None]
            result["attraction"] = people.attraction
            result["mesh"] = uncrop_points(torch.stack(torch.broadcast_tensors(x, y), -1), affine)
        return result

    def predict_step(self, batch: SceneBatch | CropBatch, batch_idx: int) -> LogoCapPrediction:
        """Returns the people of a batch of whole pictures, of one size or a list of any, in original pixels."""
        return self.predictions(self.infer(batch["image"]), batch)

    @torch.inference_mode()
    def predict(self, images: Bytes | Sequence[Bytes]) -> LogoCapPrediction:
        """Finds the people of one picture or several of any sizes; for notebooks.

        The shorter side becomes that of ``image_size``, rounded up to a multiple of 64; the aspect ratio is kept.

        Args:
            images: (H, W, 3) uint8 RGB, or a list of them.

        Returns:
            Predictions in the pictures' pixels, on the CPU; ``image_id`` is the number of the picture.

        Raises:
            UserError: A picture is of another type or shape (a file's name).
        """
        pictures: list[Any] = list(images) if isinstance(images, list | tuple) else [images]
        make_input = self.picture_input()
        inputs = [make_input(picture) for picture in pictures]
        numbers = torch.arange(len(inputs), device=self.device)
        affine = torch.tensor(np.array([a for _, a in inputs]).reshape(-1, 2, 3), dtype=torch.float32)
        batch = {"affine": affine.to(self.device), "image_id": numbers, "sample_id": numbers}
        weight = self.network.final_layer_cls.weight  # double after a fit in 64-true
        with evaluating(self):
            people = self.infer([image.to(weight) for image, _ in inputs])
        result = self.predictions(people, cast(SceneBatch, batch))
        return cast(LogoCapPrediction, {name: value.cpu() for name, value in result.items()})  # type: ignore[attr-defined]

    def drawn_people(self, rows: Mapping[str, NDArray[Any]], threshold: float) -> NDArray[Any]:
        """Returns the people of at least a share ``threshold`` of the best one's score, all joints of each."""
        return whole_people(rows, threshold)

    def draw_overlay(self, image: Bytes, rows: Mapping[str, NDArray[np.floating]], threshold: float) -> Bytes:
        """Draws a picture's people over their initial poses; with ``attraction_maps`` also those of the best people."""
        picture = overlay(image, rows, self.skeleton, threshold)
        return with_attraction(image, picture, rows, self.skeleton) if "attraction" in rows else picture


def _scales(given: Sequence[float]) -> tuple[float, ...]:
    """Returns the test scales, the input's own size first.

    Raises:
        UserError: They are no numbers above 0, or 1 is not among them.
    """
    numbers = each_in_range("LogoCap", "test_scales", given, "(0, inf)")
    scales = sorted((float(scale) for scale in numbers), key=lambda scale: scale != 1)
    if scales[0] != 1:
        raise UserError(f"LogoCap: test_scales must contain 1, not {scales}")
    return tuple(scales)

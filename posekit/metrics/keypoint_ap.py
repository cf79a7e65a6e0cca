"""KeypointAP: COCO's OKS AP as a torchmetrics class, for scenes, for crops, and for distributed runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from posekit.arrays import Bool, Int64
from posekit.errors import in_range
from posekit.metrics._coco_match import DetectionRows, TruthRows
from posekit.metrics._stack import stack_detections, stack_truth
from posekit.metrics.oks_ap import AP_NAMES, evaluate_coco, group_ap, oks_nms, summarise
from posekit.metrics.rows import RowsMetric, first_dict_of_sample, process_rank
from posekit.skeletons import COCO17

if TYPE_CHECKING:
    from posekit.data.batch import ImageTarget, KeypointPrediction

_ANONYMOUS = -(2**62)  # images without an id are numbered from here
_WITHOUT_AREAS = tuple(name for name in AP_NAMES if name[-1] not in "ML")


class KeypointAP(RowsMetric):
    """OKS average precision and recall, equal to pycocotools' numbers.

    Two ways to use it:

    - ``update(preds, target)`` with one dict per image each, complete: a bottom-up evaluation.
    - ``set_targets(targets)`` once with the ground truth of all images, then ``update(preds)`` or
      ``update_rows(rows)``: top-down, where the people of one image arrive in different batches and the ground truth
      also holds people that are never cropped (crowds, people without keypoints).

    Repeated samples are dropped: rows whose ``sample_id`` came in an earlier dict (or from another process), and
    without sample ids a whole image whose ``image_id`` came with a target before. Ties of score are broken by image id,
    then by sample id, then by order of arrival, so that the result does not depend on the number of processes.

    Args:
        sigmas: (K,) OKS standard deviations of the joints; any skeleton.
        max_dets: People per image that count, the highest scores first.
        oks_nms: OKS above which the lower-scored of two people of one image is dropped, above 0 and at most 1; None
            keeps all. HRNet's rule, but for the area: that of a detection here (see ``update``), that of the enlarged
            box there.
        only_seen: With :meth:`set_targets`, evaluate only images of which a prediction dict came (for runs limited to
            some batches). By default every image counts, as in COCO's tool.
        groups: Sets of joints by name; each adds an entry ``AP/name``, the AP whose OKS looks at these joints alone
            (people without any of them labelled are ignored). One joint per set gives AP by joint.
        kwargs: Arguments of ``torchmetrics.Metric``.

    Raises:
        UserError: ``max_dets`` or ``oks_nms`` is out of its range.

    >>> person = torch.tensor([[[10.0, 10.0, 2.0], [30.0, 50.0, 2.0]]])
    >>> metric = KeypointAP(sigmas=(0.05, 0.05))
    >>> metric.update(
    ...     [{"keypoints": person, "scores": torch.ones(1)}],
    ...     [{"keypoints": person, "area": torch.tensor([2000.0]), "boxes": torch.tensor([[5.0, 5.0, 40.0, 50.0]]),
    ...       "iscrowd": torch.zeros(1)}],
    ... )
    >>> round(metric.compute()["AP"].item(), 6)
    1.0
    """

    is_differentiable = False
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    det_xy: list[Tensor]  # (N, K, 2)
    det_values: list[Tensor]  # (N, 2) score, area
    det_ids: list[Tensor]  # (N, 3) image, sample (-1 without), dict
    gt_points: list[Tensor]  # (M, K, 3) x, y, labelled
    gt_values: list[Tensor]  # (M, 5) box xywh, area
    gt_ids: list[Tensor]  # (M, 4) image, crowd, ignore, dict
    seen: list[Tensor]  # (S, 3) image, dict, whether a target came with it

    def __init__(
        self,
        sigmas: Sequence[float] = COCO17.sigmas,
        max_dets: int = 20,
        oks_nms: float | None = None,
        only_seen: bool = False,
        groups: Mapping[str, Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sigmas = tuple(float(s) for s in sigmas)
        self.max_dets = in_range("KeypointAP", "max_dets", max_dets, "[1, inf)", whole=True)
        self.oks_nms = in_range("KeypointAP", "oks_nms", oks_nms, "(0, 1]", none=True)
        self.only_seen = only_seen
        self.groups = {name: tuple(joints) for name, joints in (groups or {}).items()}
        self.targets: TruthRows | None = None  # the ground truth given by set_targets; no state: it outlives reset()
        self._target_images: Int64 = np.zeros(0, np.int64)
        self.image_groups: dict[str, Int64] = {}  # of set_targets, too
        self._dicts = 0  # never reset: torchmetrics' forward() merges states from before and after a reset
        for name in ("det_xy", "det_values", "gt_points", "gt_values"):
            self.add_rows(name)
        for name in ("det_ids", "gt_ids", "seen"):
            self.add_rows(name, torch.int64)

    # -- input --------------------------------------------------------------------------------------------------------

    def set_targets(
        self, targets: Sequence[ImageTarget], image_groups: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Sets the complete ground truth, one entry per image; it stays for the whole run.

        Every process sets the same. Images without people are needed as well where detections may come for them.

        Args:
            targets: The ground truth.
            image_groups: Image ids by name: each adds an entry ``APname``, the AP of these images alone, and the
                numbers by area are left out, as in CrowdPose's evaluation (``easy``, ``medium``, ``hard``).

        Raises:
            ValueError: Rows of different length, or an image given twice.
        """
        images = np.array([int(t["image_id"]) for t in targets], dtype=np.int64)
        unique, counts = np.unique(images, return_counts=True)
        if len(unique) != len(images):
            raise ValueError(f"set_targets: image {unique[counts.argmax()]} is given twice")
        rows, _ = stack_truth(targets, len(self.sigmas))
        self.targets = replace(rows, image=images[rows.image])
        self._target_images = unique
        self.image_groups = {name: _integers(list(ids)) for name, ids in (image_groups or {}).items()}
        self._computed = None

    def clear_targets(self) -> None:
        """Forgets the ground truth of :meth:`set_targets`."""
        self.targets = None
        self._target_images = np.zeros(0, np.int64)
        self.image_groups = {}
        self._computed = None

    def emptied(self) -> Self:
        """Returns a copy without rows and ground truth."""
        new = super().emptied()
        new.clear_targets()
        return new

    def update(
        self,
        preds: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        target: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds predictions.

        Args:
            preds: Dicts with ``keypoints`` (N, K, 2 or more) in original px, ``scores`` (N,), optional ``boxes`` (N, 4)
                xywh px (the area of a detection comes from it then, as in COCO's tool), optional ``image_id`` (one
                number, or (N,) where rows belong to different images), optional ``sample_ids`` (or ``sample_id``) (N,).
                One dict per image, or with :meth:`set_targets` any number.
            target: One dict per image with ``keypoints`` (M, K, 3), ``area`` (M,) px^2, ``boxes`` (M, 4), ``iscrowd``
                (M,), optional ``num_keypoints`` (M,), optional ``image_id``; None with :meth:`set_targets`.

        Raises:
            ValueError: Lists or rows of different length, a missing field, or no ground truth.
        """
        entries: Sequence[Mapping[str, Any]] = [preds] if isinstance(preds, Mapping) else list(preds)
        if (target is None) == (self.targets is None):
            raise ValueError("KeypointAP needs either set_targets(...) once or a target in every update, not both")
        if target is not None and len(target) != len(entries):
            raise ValueError(f"{len(entries)} predictions for {len(target)} targets: one dict per image is needed")
        self._append(entries, target)

    def update_rows(self, rows: KeypointPrediction) -> None:
        """Adds the people of a batch of crops, each with its ``image_id`` and ``sample_id``; needs :meth:`set_targets`.

        The ``boxes`` are the crops' and do not count as detected areas: results of top-down methods carry no box,
        so COCO's tool takes the extent of the joints. So does the suppression, where HRNet's code takes the area of the
        enlarged box.
        """
        self.update([{k: v for k, v in rows.items() if k != "boxes"}])

    def _append(self, entries: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]] | None) -> None:
        """Turns dicts into rows; every dict gets a number that is unique among all processes."""
        det, counts = stack_detections(entries, len(self.sigmas))
        numbers = ((self._dicts + np.arange(len(entries))) << 20) | process_rank()
        images = [self._images(entry, n, None if target is None else target[i]) for i, (entry, n) in
                  enumerate(zip(entries, numbers.tolist(), strict=True))]  # fmt: skip
        ids = [
            _ids(entry, image, int(count), number)
            for entry, image, count, number in zip(entries, images, counts, numbers.tolist(), strict=True)
        ]
        # A dict without people still tells that its image was seen.
        given = int(target is not None)
        seen = [[i, n, given] for k, n in zip(images, numbers.tolist(), strict=True) for i in set(k.tolist())]
        self._dicts += len(entries)
        self.append(
            det_xy=torch.from_numpy(det.xy),
            det_values=torch.from_numpy(np.stack([det.score, det.area], 1)),
            det_ids=torch.from_numpy(np.concatenate([np.zeros((0, 3), np.int64), *ids])),
            seen=torch.tensor(seen, dtype=torch.int64).reshape(-1, 3),
        )
        if target is not None:
            truth, _ = stack_truth(target, len(self.sigmas))
            image = np.array([i[0] for i in images], dtype=np.int64)[truth.image]
            keys = np.stack([image, truth.crowd, truth.ignore, numbers[truth.image]], 1)
            self.append(
                gt_points=torch.from_numpy(np.concatenate([truth.xy, truth.labelled[..., None]], -1)),
                gt_values=torch.from_numpy(np.concatenate([truth.boxes, truth.area[:, None]], 1)),
                gt_ids=torch.from_numpy(keys.astype(np.int64)),
            )

    @staticmethod
    def _images(entry: Mapping[str, Any], number: int, target: Mapping[str, Any] | None) -> Int64:
        """Returns the image ids of a dict: one, or one per person."""
        image = entry.get("image_id")
        if target is None and image is None:
            raise ValueError("predictions without a target need an image_id")
        if target is None:
            return _integers(image)
        image = target.get("image_id", image)
        ids = np.unique(_integers(_ANONYMOUS + number if image is None else image))
        if len(ids) != 1:
            raise ValueError(f"a prediction with a target must belong to one image, not to {ids.tolist()}")
        return ids

    # -- output -------------------------------------------------------------------------------------------------------

    def compute(self) -> dict[str, Tensor]:
        """Returns ``AP AP50 AP75 APM APL AR AR50 AR75 ARM ARL`` in [0, 1], -1 where nobody is annotated.

        With groups of images: ``AP AP50 AP75 AR AR50 AR75`` and the AP of each group.
        """
        return self.computed()

    def names(self) -> list[str]:
        """Returns the names of the numbers and of the groups."""
        names = _WITHOUT_AREAS if self.image_groups else AP_NAMES
        return [*names, *(f"AP{name}" for name in self.image_groups), *(f"AP/{name}" for name in self.groups)]

    def values(self) -> dict[str, float]:
        """Computes the numbers from the rows of all processes."""
        det, truth = self.collected()
        result = summarise(evaluate_coco(det, truth, self.sigmas, self.max_dets))
        for name, images in self.image_groups.items():
            some = det.take(np.isin(det.image, images)), truth.take(np.isin(truth.image, images))
            result[f"AP{name}"] = summarise(evaluate_coco(*some, self.sigmas, self.max_dets))["AP"]
        return result | group_ap([(truth, det)], self.sigmas, self.groups, self.max_dets)

    def collected(self) -> tuple[DetectionRows, TruthRows]:
        """Returns what is evaluated: rows without repeated samples, in canonical order, after suppression.

        Raises:
            ValueError: A detection belongs to an image of which no ground truth is known.
        """
        joints = len(self.sigmas)
        ids = self.rows("det_ids", 3).numpy()
        seen = self.rows("seen", 3).numpy()
        if self.targets is None:
            truth, keep = self._given_truth(seen, ids)
        else:
            truth, keep = self._set_truth(seen, ids)
        keep &= first_dict_of_sample(ids)
        ids = ids[keep]
        xy = self.rows("det_xy", joints, 2).numpy()[keep]
        values = self.rows("det_values", 2).numpy()[keep]
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        det = DetectionRows(ids[:, 0], xy, values[:, 0], values[:, 1]).take(order)
        if self.oks_nms is not None:
            kept = oks_nms(det.xy, det.score, det.area, self.oks_nms, self.sigmas, det.image)
            det = det.take(np.sort(kept))
        return det, truth

    def _given_truth(self, seen: Int64, ids: Int64) -> tuple[TruthRows, Bool]:
        """Ground truth that came with updates; of an image that came twice (sampler padding) the first."""
        _, first = np.unique(seen[:, 0], return_index=True)
        originals = seen[first, 1]
        points = self.rows("gt_points", len(self.sigmas), 3).numpy()
        values, keys = self.rows("gt_values", 5).numpy(), self.rows("gt_ids", 4).numpy()
        truth = TruthRows(
            keys[:, 0], points[..., :2], points[..., 2] > 0, values[:, 4], values[:, :4], keys[:, 1] > 0, keys[:, 2] > 0
        )
        return truth.take(np.isin(keys[:, 3], originals)), (ids[:, 1] >= 0) | np.isin(ids[:, 2], originals)

    def _set_truth(self, seen: Int64, ids: Int64) -> tuple[TruthRows, Bool]:
        """Ground truth of :meth:`set_targets`; all detections stay."""
        assert self.targets is not None
        unknown = np.setdiff1d(ids[:, 0], self._target_images)
        if len(unknown):
            raise ValueError(f"predictions for image {unknown[0]}, of which set_targets got no ground truth")
        truth = self.targets
        return truth.take(np.isin(truth.image, seen[:, 0])) if self.only_seen else truth, np.ones(len(ids), dtype=bool)


def _integers(value: Any) -> Int64:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.int64).reshape(-1)


def _ids(entry: Mapping[str, Any], image: Int64, count: int, number: int) -> Int64:
    """Returns (N, 3): image, sample (-1 without) and dict of each person of a dict."""
    ids = np.full((count, 3), -1, dtype=np.int64)
    sample = entry.get("sample_ids", entry.get("sample_id"))
    for column, value in ((0, image), (1, None if sample is None else _integers(sample))):
        if value is not None and value.size not in (1, count):
            name = ("image_id", "sample_ids")[column]
            raise ValueError(f"{name} has {value.size} values for {count} people")
        if value is not None and count:
            ids[:, column] = value
    ids[:, 2] = number
    return ids

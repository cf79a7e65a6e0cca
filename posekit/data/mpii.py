"""MPII: single people of the MPII Human Pose data set, from HRNet's JSON files or the official .mat."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from posekit.data.annotated import AnnotatedPeople
from posekit.data.coco_file import CocoPeople
from posekit.data.datamodule import Split
from posekit.data.mpii_file import (
    EvaluationTargets,
    PeopleFile,
    mat_split,
    match_heads,
    read_people,
    read_targets,
    targets_of,
    to_coco,
)
from posekit.data.transforms import PersonAugmentation
from posekit.errors import UserError
from posekit.metrics.pck import HEAD_SHARE

log = logging.getLogger(__name__)

RELEASE = "mpii_human_pose_v1_u12_1.mat"


class HeadTargets(NamedTuple):
    """The targets of PCKh for some people, in original px; the order of ``PCKh.update``'s arguments after ``pred``."""

    joints: Tensor  # (B, 16, 2) float64
    head_boxes: Tensor  # (B, 4) float64, corners x1, y1, x2, y2; NaN where there is none
    weight: Tensor  # (B, 16) float64, 0 where a joint is not labelled or the person has no head box


class MPII(AnnotatedPeople):
    """MPII Human Pose (Andriluka et al., CVPR 2014) with HRNet's conventions (``lib/dataset/mpii.py``), as crops.

    ``root`` holds ``images/`` and HRNet's ``annot/train.json`` and ``annot/valid.json``. Where neither JSON is there,
    the official ``mpii_human_pose_v1_u12_1.mat`` is taken (in ``root``, ``root/annot`` or its archive's folder): the
    people with joints in its training pictures, divided by a checksum of the picture's name into 88 % training and 12 %
    validation. That is NOT HRNet's division, so numbers do not compare with published ones. Test and prediction use the
    validation people: the test set's joints are not public.

    Joint set: MPII16, or another one, to which joints are mapped by name. Sample ids are row numbers of the annotation
    file (of the .mat: of its training people with joints). The crop is a square around the centre, moved down by
    15 * scale, of side 200 * scale * ``box_scale``. Coordinates count from 0: 1 is taken off those of the files.

    Evaluation: PCKh by :meth:`head_targets`, whose joints are always MPII16's; OKS AP by :meth:`ground_truth`, with the
    joints of the samples, where a person's area is 0.53 of the square of side 200 * scale (no MPII convention; compare
    such AP only among runs on these data). Head boxes come from ``gt_<name>.mat`` beside the JSON (HRNet's
    ``annot/gt_valid.mat``, whose joints are then the targets as well), else from the official .mat, else NaN.

    Args:
        root: Folder of the data.
        image_size: [W, H] in px of the crops.
        train_annotations: Training annotations, JSON or the official .mat, relative to ``root``. None: as said above.
        val_annotations: Validation annotations. Both are JSON or both are the .mat.
        images: Folder of the pictures.
        val_head_boxes: File like ``gt_valid.mat`` for the validation people. None: as said above.
        augmentation: Random views; HRNet's recipe for MPII when None (rotation 30, scale 0.25, no half bodies).
        skeleton: Joint set of the samples and of :meth:`ground_truth`.
        options: Of :class:`~posekit.data.annotated.AnnotatedPeople`, by name; none of detections or test files.
    """

    LAYOUT: ClassVar[dict[str, tuple[str, str]]] = {
        "train": ("annot/train.json", "images"),
        "val": ("annot/valid.json", "images"),
    }
    HOME: ClassVar[str] = (
        f"http://human-pose.mpi-inf.mpg.de (images and {RELEASE}, which is enough; annot/*.json: HRNet's repository)"
    )

    def __init__(
        self,
        root: str = "data/mpii",
        image_size: tuple[int, int] = (256, 256),
        train_annotations: str | None = None,
        val_annotations: str | None = None,
        images: str = "images",
        val_head_boxes: str | None = None,
        *,
        augmentation: PersonAugmentation | None = None,
        skeleton: str = "MPII16",
        **options: Any,
    ) -> None:
        train, val = _choose(Path(root).expanduser(), train_annotations, val_annotations)
        recipe = PersonAugmentation(rotation=30.0, scale=0.25, half_body=0.0)
        super().__init__(
            root,
            image_size,
            train_annotations=train,
            train_images=images,
            val_annotations=val,
            val_images=images,
            test_annotations=None,
            test_images=None,
            detections=None,
            test_detections=None,
            detection_threshold=0.0,
            augmentation=augmentation or recipe,
            skeleton=skeleton,
            annotated_skeleton="MPII16",
            **options,
        )
        self.val_head_boxes = self.root / val_head_boxes if val_head_boxes else None
        self._files: dict[Path, PeopleFile] = {}
        self._tables: dict[str, CocoPeople] = {}
        self._targets: dict[str, EvaluationTargets] = {}

    @classmethod
    def linked_values(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what a method takes over: the joint set and the size of the crops."""
        return {
            "skeleton": arguments.get("skeleton") or "MPII16",
            "image_size": arguments.get("image_size") or (256, 256),
        }

    # -- files --------------------------------------------------------------------------------------------------------

    def people(self, split: Split) -> CocoPeople:
        """Returns a split's annotations with MPII16's joints, read at the first call.

        Raises:
            UserError: The file is missing or faulty, or nobody in it has joints.
        """
        part = "train" if split == "train" else "val"
        if part not in self._tables:
            file = self._file(part)
            table = to_coco(file.path, file.people)
            if not table.labelled.any():
                kind = f" of split {part}" if file.path.suffix.lower() == ".mat" else ""
                raise UserError(f"{file.path} has no person{kind} with labelled joints ({len(file.people)} people)")
            self._tables[part] = table
        return self._tables[part]

    def setup(self, stage: str | None = None) -> None:
        """Builds the data sets that a stage needs, and reads what its evaluation needs."""
        super().setup(stage)
        if stage != "predict":
            self._evaluation("val")

    def _file(self, part: str) -> PeopleFile:
        """Returns the people of a part, whole for JSON, and its share of the .mat's."""
        path = self.files[part].annotations
        if path not in self._files:
            self._files[path] = read_people(path, self.on_bad_annotation)
        everybody = self._files[path]
        if path.suffix.lower() != ".mat":
            return everybody
        return everybody._replace(people=[p for p in everybody.people if mat_split(p.image) == part])

    def _check_options(self) -> None:
        super()._check_options()
        if len({self.files[part].annotations.suffix.lower() == ".mat" for part in ("train", "val")}) > 1:
            raise UserError(
                f"{type(self).__name__}: train_annotations and val_annotations must both be JSON or both the official "
                ".mat, or people could be in both splits"
            )

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def _evaluation(self, split: Split) -> EvaluationTargets:
        """Returns what PCKh needs of a split, read at the first call."""
        part = "train" if split == "train" else "val"
        if part not in self._targets:
            self._targets[part] = self._read_evaluation(part)
        return self._targets[part]

    def _read_evaluation(self, part: str) -> EvaluationTargets:
        file = self._file(part)
        named = self.val_head_boxes if part == "val" else None
        beside = file.path.with_name(f"gt_{file.path.stem}.mat")
        if named is not None or beside.is_file():
            return read_targets(named or beside, file)
        if file.path.suffix.lower() == ".mat":
            return targets_of(file)
        official = _find_release(self.root)
        if official is not None:
            return match_heads(file, read_people(official, "skip"))
        log.warning("%s has no head boxes: neither %s nor %s is there, so PCKh is NaN", file.path, beside.name, RELEASE)
        return targets_of(file)

    def has_head_boxes(self, split: Split) -> bool:
        """Tells whether anybody of a split has a head box, so that PCKh is a number.

        Raises:
            UserError: A file is missing or faulty, or belongs to other people.
        """
        return bool(np.isfinite(self._evaluation(split).heads).all(-1).any())

    def head_sizes(self, split: Split) -> dict[int, float]:
        """Returns the head size in px (0.6 of the head box's diagonal) by sample id; NaN where there is no head box.

        Raises:
            UserError: A file is missing or faulty, or belongs to other people.
        """
        heads = self._evaluation(split).heads
        sizes = HEAD_SHARE * np.linalg.norm(heads[:, 2:] - heads[:, :2], axis=-1)
        return {int(i): float(sizes[i]) for i in self.people(split).ids}

    def head_targets(self, split: Split, sample_ids: Tensor) -> HeadTargets:
        """Returns PCKh's targets in original px; joints outside the crop count, as in the published evaluation.

        ``metric.update(found["keypoints"][..., :2], *datamodule.head_targets("val", ids), ids)``, where ``ids`` are
        ``found["sample_id"]``.

        Args:
            split: The split.
            sample_ids: (B,) of a batch of that split.

        Returns:
            The targets, on the device of ``sample_ids``.

        Raises:
            UserError: A file is missing or faulty, or belongs to other people.
        """
        targets = self._evaluation(split)
        rows = sample_ids.cpu().numpy()
        joints, heads = targets.joints[rows], targets.heads[rows]
        weight = (joints[..., 2] > 0) & np.isfinite(heads).all(-1)[:, None]
        arrays = (joints[..., :2], heads, weight.astype(np.float64))
        # Apple's devices have no float64; elsewhere the metric gets the file's numbers as they are.
        dtype = torch.float32 if sample_ids.device.type == "mps" else torch.float64
        return HeadTargets(*(torch.from_numpy(a).to(dtype).to(sample_ids.device) for a in arrays))


def _find_release(root: Path) -> Path | None:
    """Returns the official .mat, or None."""
    for folder in ("", "annot", "mpii_human_pose_v1_u12_2"):
        if (root / folder / RELEASE).is_file():
            return root / folder / RELEASE
    return None


def _choose(root: Path, train: str | None, val: str | None) -> tuple[str | None, str | None]:
    """Returns the names of the annotation files, None for HRNet's own."""
    if train is None and val is None:
        official = None if any((root / name).exists() for name, _ in MPII.LAYOUT.values()) else _find_release(root)
        name = official.relative_to(root).as_posix() if official else None
        return name, name
    if train is None and val is not None and val.lower().endswith(".mat"):
        return val, val
    if val is None and train is not None and train.lower().endswith(".mat"):
        return train, train
    return train, val

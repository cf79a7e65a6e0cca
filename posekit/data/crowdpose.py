"""CrowdPose and OCHuman: crowded scenes in COCO's format, as person crops or as whole images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from posekit.data.coco import COCOKeypoints
from posekit.data.coco_file import CocoPeople
from posekit.data.datamodule import Split
from posekit.errors import UserError, one_of
from posekit.json_file import read_json
from posekit.metrics.crowdpose import AREA_SHARE, LEVELS, LIMITS, crowd_levels


class CrowdPose(COCOKeypoints):
    """CrowdPose (Li et al., CVPR 2019), with its 14 joints.

    ``root`` holds ``json/crowdpose_{train,val,trainval,test}.json`` (or ``annotations/…``) and ``images/``. The files
    give no areas; 0.53 of the box is a person's, as in the data set's evaluation. Its nine numbers, with those of easy,
    medium and hard images (:meth:`image_groups`), are a validation's and :func:`~posekit.metrics.evaluate_crowdpose`'s.

    Args:
        root: Folder of the data.
        train_split: ``"trainval"``, as published numbers on the test part are trained, or ``"train"``.
        val_split: ``"test"`` or ``"val"``; ``val`` is part of ``trainval``, so it goes with ``train``.
        skeleton: Joint set of the samples; another one than CROWDPOSE14 for crops only.
        kwargs: Arguments of :class:`~posekit.data.COCOKeypoints`.
    """

    HOME: ClassVar[str] = "https://github.com/Jeff-sjtu/CrowdPose"

    def __init__(
        self,
        root: str = "data/crowdpose",
        train_split: Literal["trainval", "train"] = "trainval",
        val_split: Literal["test", "val"] = "test",
        skeleton: str = "CROWDPOSE14",
        **kwargs: Any,
    ) -> None:
        for option, value, known in (
            ("train_split", train_split, ("trainval", "train")),
            ("val_split", val_split, ("test", "val")),
        ):
            one_of(f"{option} of CrowdPose", value, known)
        named = kwargs.get("train_annotations") or kwargs.get("val_annotations")
        if (train_split, val_split) == ("trainval", "val") and not named:
            raise UserError("CrowdPose: val is part of trainval: set train_split to train, or val_split to test")
        folder = _folder(Path(root).expanduser(), f"crowdpose_{val_split}.json")
        for part, split in (("train", train_split), ("val", val_split)):
            kwargs[f"{part}_annotations"] = kwargs.get(f"{part}_annotations") or f"{folder}/crowdpose_{split}.json"
            kwargs[f"{part}_images"] = kwargs.get(f"{part}_images") or "images"
        super().__init__(root, skeleton=skeleton, annotated_skeleton="CROWDPOSE14", **kwargs)

    def people(self, split: Split) -> CocoPeople:
        """Returns a split's annotations, areas as the evaluation takes them, read at the first call.

        Raises:
            UserError: The file is missing or faulty, or nobody in it has keypoints.
        """
        people = super().people(split)
        return replace(people, area=AREA_SHARE * people.boxes[:, 2] * people.boxes[:, 3])

    def image_groups(self, split: Split, limits: tuple[float, float] = LIMITS) -> dict[str, list[int]]:
        """Returns the ids of the easy, medium and hard images of a split, by the files' ``crowdIndex``.

        Args:
            split: The split.
            limits: See :func:`~posekit.metrics.crowdpose.crowd_levels`.

        Raises:
            UserError: An image has no crowd index.
        """
        path = self.files[split].annotations
        groups: dict[str, list[int]] = {level: [] for level in LEVELS}
        wanted = set(self.people(split).image_ids.tolist())
        images = read_json(path, "annotation file")["images"]
        for image_id, level in crowd_levels(str(path), images, limits).items():
            if image_id in wanted:
                groups[LEVELS[level]].append(int(image_id))
        return groups


class OCHuman(COCOKeypoints):
    """OCHuman (Zhang et al., CVPR 2019): heavily occluded people, in COCO's joints; for evaluation only.

    ``root`` holds ``ochuman_coco_format_{val,test}_range_0.00_1.00.json`` and ``images/``.

    Args:
        root: Folder of the data.
        kwargs: Arguments of :class:`~posekit.data.COCOKeypoints`. ``train_annotations`` may name other data to train
            on, relative to ``root``.
    """

    LAYOUT: ClassVar[dict[str, tuple[str, str]]] = {
        "train": ("", "images"),
        "val": ("ochuman_coco_format_val_range_0.00_1.00.json", "images"),
    }
    TEST: ClassVar[str] = "ochuman_coco_format_test_range_0.00_1.00.json"
    HOME: ClassVar[str] = "https://github.com/liruilong940607/OCHumanApi"

    def __init__(self, root: str = "data/ochuman", **kwargs: Any) -> None:
        named = bool(kwargs.get("test_annotations"))
        kwargs["test_annotations"] = kwargs.get("test_annotations") or self.TEST
        kwargs["test_images"] = kwargs.get("test_images") or "images"
        self._trains = bool(kwargs.get("train_annotations"))
        super().__init__(root, **kwargs)
        if not named:
            self.files["predict"] = self.files["val"]

    def _check_places(self, split: str) -> None:
        if split == "train" and not self._trains:
            raise UserError("OCHuman is for evaluation: it has no training part (train_annotations names other data)")
        super()._check_places(split)


def _folder(root: Path, name: str) -> str:
    """Returns which of the usual folders has the annotations."""
    return next((folder for folder in ("json", "annotations") if (root / folder / name).is_file()), "json")

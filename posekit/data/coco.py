"""COCOKeypoints: COCO's official files as downloaded, as person crops or as whole images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch.utils.data import Dataset

from posekit.arrays import Int64
from posekit.data.annotated import AnnotatedPeople
from posekit.data.coco_file import CocoPeople, read_coco
from posekit.data.collate import collate_scenes
from posekit.data.datamodule import Split
from posekit.data.scenes import Fit, SceneAugmentation, SceneDataset
from posekit.errors import UserError, one_of
from posekit.skeletons import get_skeleton

_SIZES = {"crops": (192, 256), "scenes": (512, 512)}


class COCOKeypoints(AnnotatedPeople):
    """COCO keypoints (Lin et al., ECCV 2014), or any data in its format.

    ``root`` holds ``annotations/person_keypoints_{train,val}2017.json``, ``train2017/`` and ``val2017/``; other places
    can be named, relative to ``root``. Test and prediction use the validation files unless test files are named. A
    subclass with other files sets ``LAYOUT``, ``HOME`` and the skeletons.

    Crops may carry another joint set than the files, and so does :meth:`ground_truth` then; see
    :class:`~posekit.data.annotated.AnnotatedPeople`.

    Args:
        root: Folder of the data.
        view: ``"crops"`` (a ``CropBatch`` of single people) or ``"scenes"`` (a ``SceneBatch`` of whole images).
        image_size: [W, H] in px; 192 x 256 for crops and 512 x 512 for scenes when None.
        augment: Random views in training.
        scene_augmentation: Random views of whole images; DEKR's and LOGO-CAP's recipe when None.
        scene_fit: ``"pad"`` fits whole images into ``image_size``; ``"short_side"`` makes their shorter side as long as
            its shorter side (evaluation only, ``val_batch_size`` 1).
        options: Of :class:`~posekit.data.annotated.AnnotatedPeople`, by name.
    """

    LAYOUT: ClassVar[dict[str, tuple[str, str]]] = {
        "train": ("annotations/person_keypoints_train2017.json", "train2017"),
        "val": ("annotations/person_keypoints_val2017.json", "val2017"),
    }
    VIEW_SIZES: ClassVar[dict[str, tuple[int, int]]] = _SIZES
    HOME: ClassVar[str] = "https://cocodataset.org/#download"

    def __init__(
        self,
        root: str = "data/coco",
        view: Literal["crops", "scenes"] = "crops",
        image_size: tuple[int, int] | None = None,
        *,
        augment: bool = True,
        scene_augmentation: SceneAugmentation | None = None,
        scene_fit: Fit = "pad",
        **options: Any,
    ) -> None:
        one_of("view", view, _SIZES)
        self.view = view
        self.scene_augmentation = (scene_augmentation or SceneAugmentation()) if augment else None
        self.scene_fit: Fit = scene_fit
        self._people: dict[Path, CocoPeople] = {}
        super().__init__(root, image_size or _SIZES[view], augment=augment, **options)

    def _check_options(self) -> None:
        super()._check_options()
        name = type(self).__name__
        self.check_choices(scene_fit=("pad", "short_side"))
        if self.view == "scenes":
            if self.skeleton != self.annotated_skeleton:
                raise UserError(
                    f"{name}: view 'scenes' has the joints of the annotations: skeleton must be "
                    f"{self.annotated_skeleton}, not {self.skeleton} (crops take any)"
                )
            if self.files["val"].detections or self.files["test"].detections:
                raise UserError(f"{name}: detections are boxes for crops, view is 'scenes'")
            if self.scene_fit == "short_side" and self.val_batch_size != 1:
                raise UserError(f"{name}: scene_fit 'short_side' gives images of different sizes: set val_batch_size 1")

    # -- files --------------------------------------------------------------------------------------------------------

    def people(self, split: Split) -> CocoPeople:
        """Returns a split's annotations with the joints of the files, read at the first call.

        Raises:
            UserError: The file is missing or faulty, or nobody in it has keypoints.
        """
        path = self.files[split].annotations
        if path not in self._people:
            people = read_coco(path, get_skeleton(self.annotated_skeleton), self.on_bad_annotation)
            if not people.labelled.any():
                counts = f"{len(people.image_ids)} images, {len(people.ids)} annotations"
                raise UserError(f"{path} has no person with keypoints ({counts})")
            self._people[path] = people
        return self._people[path]

    # -- data sets ----------------------------------------------------------------------------------------------------

    def make_dataset(self, split: Split) -> Dataset[Any]:
        """Builds a split's data set.

        Raises:
            UserError: Files are missing or broken.
        """
        if self.view == "crops":
            return super().make_dataset(split)
        people, read = self._open(split)
        training = split == "train"
        rows = self._scene_rows(people, training)
        broken = self._broken_images(split, read, rows)
        self._kept[split] = rows[~broken[rows]], np.ones(len(people.ids), dtype=bool)
        augmentation = self.scene_augmentation if training else None
        fit: Fit = "pad" if training else self.scene_fit
        return SceneDataset(
            people, self._kept[split][0], read, get_skeleton(self.skeleton), self.image_size, fit, augmentation,
            self.seed, self.on_broken_image,
        )  # fmt: skip

    def _scene_rows(self, people: CocoPeople, training: bool) -> Int64:
        """Returns the rows of the images to use: in training those with a person, labelled or not."""
        persons = np.bincount(people.image_rows, minlength=len(people.image_ids))
        labelled = np.bincount(people.image_rows[people.labelled], minlength=len(people.image_ids))
        rows = np.flatnonzero(persons > 0) if training else np.arange(len(people.image_ids))
        if self.limit is None:
            return rows
        rows = rows[labelled[rows] > 0]
        return rows[: int(np.searchsorted(np.cumsum(labelled[rows]), self.limit)) + 1]

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Whole images differ in their number of people."""
        return collate_scenes if self.view == "scenes" else None

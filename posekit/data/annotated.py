"""AnnotatedPeople: the base of data modules whose pictures and people stand in annotation files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from posekit.arrays import Bool, Bytes, Int64
from posekit.data.batch import ImageTarget
from posekit.data.coco_file import ON_FAULT, CocoPeople, OnFault
from posekit.data.crops import CropDataset, CropTable, FileReader
from posekit.data.datamodule import STAGE_SPLITS, FolderDataModule, Split, checked_size, checked_stage
from posekit.data.detections import read_detections
from posekit.data.images import read_image, report_broken
from posekit.data.joint_maps import map_people
from posekit.data.transforms import PersonAugmentation
from posekit.errors import UserError
from posekit.files import is_there
from posekit.skeletons import get_skeleton


class SplitFiles(NamedTuple):
    """Where a split's data are."""

    annotations: Path
    images: Path
    detections: Path | None


class AnnotatedPeople(FolderDataModule):
    """Crops of annotated people, and what their evaluation needs.

    A subclass implements :meth:`people`, and sets ``LAYOUT`` (annotations and images of each split, where they are not
    named) and ``HOME`` (where the files come from).

    Samples may carry another joint set than the files: joints are mapped by name, those the files lack are not visible.
    :meth:`ground_truth` is mapped in the same way (its people without a joint of the other set count as unlabelled), so
    OKS AP is then over the joints that both sets have, and no number of the benchmark's. ``posekit evaluate`` compares
    results in the files' own joint set.

    Args:
        root: Folder of the data. All other places are relative to it.
        image_size: [W, H] of the crops in px.
        train_annotations: Training annotations; the data set's own name when None. So are the next three.
        train_images: Folder of training images.
        val_annotations: Validation annotations.
        val_images: Folder of validation images.
        test_annotations: Test annotations; those of validation when None.
        test_images: Folder of test images; that of validation when None.
        detections: Person boxes in COCO's results format for validation, test and prediction; annotated boxes when
            None. A file under ``root``, else under the working folder; crops only. PoseTrack's frames are named by
            ``image_id`` or ``file_name``.
        test_detections: Person boxes for named test annotations.
        detection_threshold: Least score of a box.
        box_scale: Enlargement of boxes.
        augment: Random views in training.
        augmentation: Random views; HRNet's recipe when None.
        limit: Use only the first so many people of each split (of whole images all people in theirs; of PoseTrack the
            first so many sequence files); the ground truth is cut to the same people.
        on_broken_image: ``"error"`` or ``"skip"``: images that are absent or broken are left out, counted and named.
            Evaluation then decodes all images beforehand, and the ground truth is without the broken ones. Broken
            neighbours in PoseTrack's clips are replaced by the key frame.
        on_bad_annotation: ``"error"`` or ``"skip"``: faulty annotations are left out, counted and named.
            TIP's PoseTrack AP leaves out the same, faulty ignore regions too.
        verify_images: Look at the beginning and end of every image file at the start, and at the size it says; False
            looks only whether they are there, for slow network folders.
        apply_exif: Turn images as their EXIF orientation says, for annotations that were made on turned images.
        skeleton: Joint set of the samples; of whole images that of the annotations.
        annotated_skeleton: Joint set of the annotations, for other data in the same format.
        batch_size: Samples per process and step.
        num_workers: Loader processes.
        val_batch_size: Samples per evaluation batch; ``batch_size`` when None.
        seed: Seed of shuffling and augmentation.
        pin_memory: Page-locked batches, for CUDA.
    """

    view: str = "crops"
    LAYOUT: ClassVar[dict[str, tuple[str, str]]] = {}
    LIMITS_PEOPLE: ClassVar[bool] = True
    """Whether ``limit`` counts people; otherwise it counts files, and the class reads no more of them."""

    def __init__(
        self,
        root: str,
        image_size: tuple[int, int],
        train_annotations: str | None = None,
        train_images: str | None = None,
        val_annotations: str | None = None,
        val_images: str | None = None,
        test_annotations: str | None = None,
        test_images: str | None = None,
        detections: str | None = None,
        test_detections: str | None = None,
        detection_threshold: float = 0.0,
        box_scale: float = 1.25,
        augment: bool = True,
        augmentation: PersonAugmentation | None = None,
        limit: int | None = None,
        on_broken_image: OnFault = "error",
        on_bad_annotation: OnFault = "error",
        verify_images: bool = True,
        apply_exif: bool = False,
        skeleton: str = "COCO17",
        annotated_skeleton: str = "COCO17",
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton, batch_size, num_workers, val_batch_size, seed, pin_memory)
        self.annotated_skeleton = get_skeleton(annotated_skeleton).name
        self.root = Path(root).expanduser()
        self.image_size = checked_size(type(self).__name__, image_size)
        self.box_scale = box_scale
        self.detection_threshold = detection_threshold
        self.augmentation = (augmentation or PersonAugmentation()) if augment else None
        self.limit = limit
        self.on_broken_image: OnFault = on_broken_image
        self.on_bad_annotation: OnFault = on_bad_annotation
        self.verify_images = verify_images
        self.apply_exif = apply_exif
        val = self._files_of("val", val_annotations, val_images, detections)
        own_test = bool(test_annotations or test_images)
        test = SplitFiles(
            self.root / test_annotations if test_annotations else val.annotations,
            self.root / test_images if test_images else val.images,
            self._boxes_file(test_detections) or (None if own_test else val.detections),
        )
        train = self._files_of("train", train_annotations, train_images, None)
        self.files: dict[str, SplitFiles] = {"train": train, "val": val, "test": test, "predict": test}
        self._kept: dict[str, tuple[Int64, Bool]] = {}
        self._check_options()

    def _files_of(self, split: str, annotations: str | None, images: str | None, detections: str | None) -> SplitFiles:
        usual = self.LAYOUT.get(split, ("", ""))
        annotated, pictures = self.root / (annotations or usual[0]), self.root / (images or usual[1])
        return SplitFiles(annotated, pictures, self._boxes_file(detections))

    def _boxes_file(self, name: str | None) -> Path | None:
        """Returns where a file of boxes is: users make it themselves, so it need not stand with the data."""
        if not name:
            return None
        own, here = self.root / name, Path(name).expanduser()
        return here if here.is_file() and not own.is_file() else own

    def _check_options(self) -> None:
        name = type(self).__name__
        self.check_choices(on_broken_image=ON_FAULT, on_bad_annotation=ON_FAULT)
        if self.box_scale <= 0:
            raise UserError(f"{name}: box_scale is {self.box_scale}, but must be positive")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"{name}: limit is {self.limit}, but must be at least 1 (or null)")

    # -- files --------------------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Builds the data sets that a stage needs; all their files are looked for before the first is read."""
        self.prepare_data()
        for split in STAGE_SPLITS[checked_stage(stage)]:
            self._check_places(split)
        super().setup(stage)

    def _check_places(self, split: str) -> None:
        files = self.files[split]
        wanted = {
            "annotation file": files.annotations,
            "image folder": files.images,
            "detections file": files.detections,
        }
        for what, path in wanted.items():
            if path is None or (path.is_dir() if path == files.images else path.is_file()):
                continue
            source = f"; the files come from {self.HOME}"
            if path == files.detections:
                source = " (looked for under root, and under the working folder)"
            raise UserError(f"{type(self).__name__}: {what} {path} of split {split} does not exist{source}")

    def people(self, split: Split) -> CocoPeople:
        """Returns a split's annotations with the joints of the files, read at the first call.

        Raises:
            UserError: The file is missing or faulty, or nobody in it has keypoints.
        """
        raise NotImplementedError(f"{type(self).__name__} has no people")

    def labels(self, split: Split) -> CocoPeople:
        """Returns a split's annotations with the joints of the samples.

        Raises:
            UserError: As :meth:`people`; or nobody has a joint of the samples' set.
        """
        people = self.people(split)
        if self.skeleton == self.annotated_skeleton:
            return people
        labels = map_people(people, get_skeleton(self.annotated_skeleton), get_skeleton(self.skeleton))
        if people.labelled.any() and not labels.labelled.any():
            raise UserError(f"{people.path} has nobody with a joint of {self.skeleton} ({self.annotated_skeleton})")
        return labels

    # -- data sets ----------------------------------------------------------------------------------------------------

    def make_dataset(self, split: Split) -> Dataset[Any]:
        """Builds a split's data set.

        Raises:
            UserError: Files are missing or broken.
        """
        people, read = self._open(split)
        table, images, targets = self._crop_table(split, people)
        broken = self._broken_images(split, read, np.unique(table.image_rows))
        self._kept[split] = images[~broken[images]], targets
        return CropDataset(
            table.take(~broken[table.image_rows]), read, get_skeleton(self.skeleton), self.image_size, self.box_scale,
            self.augmentation if split == "train" else None, self.seed, self.on_broken_image,
        )  # fmt: skip

    def _open(self, split: Split) -> tuple[CocoPeople, FileReader]:
        """Returns a split's people, with the joints of the samples, and the reader of its pictures."""
        self.prepare_data()
        self._check_places(split)
        people = self.labels(split)
        files = [self.files[split].images / name for name in people.file_names]
        return people, FileReader(files, people.image_sizes, self.apply_exif)

    def _crop_table(self, split: Split, people: CocoPeople) -> tuple[CropTable, Int64, Bool]:
        """Returns the people to crop, the rows of the images to evaluate, and which annotations are their targets."""
        everybody = np.ones(len(people.ids), dtype=bool)
        detections = self.files[split].detections
        if detections is not None:
            rows_by_id = {int(i): row for row, i in enumerate(people.image_ids)}
            found = read_detections(
                detections, rows_by_id, self.detection_threshold, self.on_bad_annotation, people.category
            )
            joints = np.zeros((len(found.boxes), *people.keypoints.shape[1:]))
            table = CropTable(people.image_ids, found.image_rows, found.boxes, found.scores, found.sample_ids, joints)
        else:
            # In the images' order: outside training, neighbours then share a picture that is decoded once.
            rows = np.flatnonzero(people.labelled)
            rows = rows[np.argsort(people.image_rows[rows], kind="stable")]
            scores = np.ones(len(rows))
            table = CropTable(
                people.image_ids, people.image_rows[rows], people.boxes[rows], scores, people.ids[rows],
                people.keypoints[rows],
            )  # fmt: skip
        if self.limit is None or not self.LIMITS_PEOPLE:
            return table, np.arange(len(people.image_ids)), everybody
        table = table.take(np.arange(min(self.limit, len(table))))
        # A limited run predicts these people alone; others must not count as missed.
        targets = everybody if detections is not None else ~people.labelled | np.isin(people.ids, table.sample_ids)
        return table, np.unique(table.image_rows), targets

    def _broken_images(self, split: str, read: FileReader, rows: Int64) -> Bool:
        """Returns which of all images (I,) are absent or broken; only ``rows`` are looked at.

        Raises:
            UserError: There are some and they are not to be skipped, or nothing is left.
        """
        files = read.files
        if self.on_broken_image == "skip" and split != "train":
            # They must be known before evaluation, so that their people do not count as missed.
            reasons = {files[row]: reason for row, reason in read.broken(rows.tolist()).items()}
        elif self.verify_images:
            reasons = read.suspect(rows.tolist())
        else:
            reasons = {files[row]: "does not exist" for row in rows if not is_there(files[row])}
        broken = np.array([path in reasons for path in files], dtype=bool)
        report_broken(type(self).__name__, reasons, len(rows), self.on_broken_image, f" of split {split}")
        return broken

    # -- evaluation ---------------------------------------------------------------------------------------------------

    def ground_truth(self, split: Split) -> list[ImageTarget]:
        """Returns the annotations of every image that is evaluated, crowds and people without keypoints included.

        Their joints are those of the samples.
        """
        self.dataset(split)
        people = self.labels(split)
        images, targets = self._kept[split]
        order = np.argsort(people.image_rows, kind="stable")
        starts = np.searchsorted(people.image_rows[order], np.arange(len(people.image_ids) + 1))
        result = []
        for image in images.tolist():
            rows = order[starts[image] : starts[image + 1]]
            result.append(_image_target(people, image, rows[targets[rows]]))
        return result

    @property
    def people_category(self) -> Any:
        """Id of the people's category in the annotations of a prediction, which its results have."""
        return self.people("predict").category

    @property
    def frames(self) -> dict[int, str]:
        """File names of the images of a prediction by image id, for overlays."""
        people = self.people("predict")
        return dict(zip(people.image_ids.tolist(), people.file_names, strict=True))

    def read_frame(self, image_id: int) -> Bytes:
        """Returns an image of ``frames`` as RGB bytes (H, W, 3)."""
        return read_image(self.files["predict"].images / self.frames[image_id], self.apply_exif)


def _image_target(people: CocoPeople, image: int, rows: Int64) -> ImageTarget:
    return ImageTarget(
        image_id=int(people.image_ids[image]),
        keypoints=torch.from_numpy(people.keypoints[rows]),
        area=torch.from_numpy(people.area[rows]),
        boxes=torch.from_numpy(people.boxes[rows]),
        iscrowd=torch.from_numpy(people.iscrowd[rows]),
        num_keypoints=torch.from_numpy(people.num_keypoints[rows]),
    )

"""PoseTrack: the benchmark's 2017, 2018 and 21 files as downloaded, as person crops or as clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch.utils.data import Dataset

from posekit.arrays import Bool, Int64
from posekit.data.annotated import AnnotatedPeople
from posekit.data.clip_transforms import ClipAugmentation, resolve_augmentation
from posekit.data.clip_windows import Window
from posekit.data.clips import ClipBox, ClipDataset
from posekit.data.coco_file import CocoPeople
from posekit.data.crops import CropTable, FileReader
from posekit.data.datamodule import Split
from posekit.data.joint_maps import source_of
from posekit.data.posetrack_file import PoseTrackPeople, read_posetrack
from posekit.data.posetrack_tracks import build_tracks, find_frames, ranks, read_boxes
from posekit.errors import UserError, one_of
from posekit.metrics.crowdpose import AREA_SHARE
from posekit.posetrack import sequence_files
from posekit.skeletons import POSETRACK15, get_skeleton

VERSIONS = ("auto", "2017", "2018", "21")
VIEWS = ("crops", "clips")
_FOLDERS = ("annotations/{}", "posetrack_data/{}", "posetrack_data/annotations/{}")


class PoseTrack(AnnotatedPeople):
    """PoseTrack 2017, 2018 (Andriluka et al., CVPR 2018) and 21 (Doering et al., CVPR 2022).

    ``root`` holds ``annotations/{train,val}/*.json`` (or PoseTrack21's ``posetrack_data/{train,val}``), one file per
    sequence, and ``images/``; the files' image names are relative to ``root``. Joints are taken by their names in the
    files, 15 or 17 of them, and are those of POSETRACK15 (the ids of the benchmark's tool) or, by name, of another set.
    A joint with coordinates and visibility 0 is annotated, as for the benchmark's tool: ``visible`` 1. Boxes are the
    files'; where there are none (2017), the joints' extent and 15 % of it on every side, as the 2018 files have it, and
    no side under 16 px. Image ids are the files', for 2017 running numbers over the frames of the sorted files, as
    :class:`~posekit.metrics.PoseTrackAP` counts them.

    A clip is ``2 * num_support + 1`` frames around a labelled one, cut by that one's box. A neighbour that is missing
    (before the first frame, behind the last, no picture) is the key frame again and not ``valid``. Neighbours need not
    be listed in the files: pictures beside the listed ones count by their numbers.

    Evaluation: ``PoseTrackAP(datamodule.posetrack_annotations(split))``. OKS AP by :meth:`ground_truth`, with areas of
    0.53 of the box, is no convention of PoseTrack; compare it among own runs only. People in frames that were skipped
    as broken count as missed in PoseTrackAP.

    Args:
        root: Folder of the data.
        view: ``"crops"`` (a ``CropBatch`` of labelled frames) or ``"clips"`` (a ``ClipBatch``).
        image_size: [W, H] of the crops in px.
        version: ``"auto"``, or ``"2017"``, ``"2018"``, ``"21"``, which the files must then be of the form of.
        train_annotations: Folder of the training sequences' files, or one file. None: as said above. So are the next.
        val_annotations: Those of validation.
        test_annotations: Those of test and prediction. None: the test's folder if there is one, else validation's, and
            validation's for prediction.
        images: Folder that the files' image names are relative to.
        detection_threshold: Least score of a detected box.
        key_frames: ``"labelled"``: detected boxes of frames without annotation are left out, for they are not
            evaluated (unless the split has no labelled frame at all); ``"all"`` keeps them.
        num_support: Neighbours a side of clips: 1 for three frames, 2 for five; None takes the method's (in Python: 1).
        stride: Distance between the frames of a clip, in frame numbers.
        window: Other windows over the labelled frames of a track, e.g. ``kind: pool``; replaces the two above.
        clip_box: Which box cuts a frame of a clip: ``"key"``, ``"frame"`` (its own) or ``"window"`` (around all).
        augment: Random views in training.
        clip_augmentation: Random views of clips, as values or as a recipe's name; ``pose_track`` when None.
        skeleton: Joint set of the samples.
        options: Of :class:`~posekit.data.annotated.AnnotatedPeople`, by name.
    """

    VIEW_SIZES: ClassVar[dict[str, tuple[int, int]]] = dict.fromkeys(VIEWS, (288, 384))
    RESULT_WRITER: ClassVar[str | None] = "posekit.callbacks.PoseTrackWriter"
    HOME: ClassVar[str] = "https://posetrack.net (2017, 2018) and https://github.com/anDoer/PoseTrack21"
    LIMITS_PEOPLE: ClassVar[bool] = False

    def __init__(
        self,
        root: str = "data/posetrack",
        view: Literal["crops", "clips"] = "clips",
        image_size: tuple[int, int] | None = None,
        version: Literal["auto", "2017", "2018", "21"] = "auto",
        train_annotations: str | None = None,
        val_annotations: str | None = None,
        test_annotations: str | None = None,
        images: str = ".",
        *,
        detection_threshold: float = 0.2,
        key_frames: Literal["labelled", "all"] = "labelled",
        num_support: int | None = None,
        stride: int = 1,
        window: Window | None = None,
        clip_box: ClipBox = "key",
        augment: bool = True,
        clip_augmentation: ClipAugmentation | str | None = None,
        skeleton: str = "POSETRACK15",
        **options: Any,
    ) -> None:
        for option, value, known in (("view", view, VIEWS), ("version", version, VERSIONS)):
            one_of(f"{option} of PoseTrack", value, known)
        one_of("key_frames of PoseTrack", key_frames, ("labelled", "all"))
        folder = Path(root).expanduser()
        own_test = test_annotations or _default_folder(folder, "test", None)
        super().__init__(
            root,
            image_size or self.VIEW_SIZES[view],
            train_annotations=train_annotations or _default_folder(folder, "train"),
            train_images=images,
            val_annotations=val_annotations or _default_folder(folder, "val"),
            val_images=images,
            test_annotations=own_test,
            test_images=images if own_test else None,
            detection_threshold=detection_threshold,
            augment=augment,
            skeleton=skeleton,
            annotated_skeleton=skeleton,
            **options,
        )
        if not test_annotations:  # a folder of test files mostly has no people: it is for the test alone
            self.files["predict"] = self.files["val"]
        self.view = view
        self.version = version
        self.key_frames = key_frames
        self.window = window or Window.around_keys(num_support or 1, stride)
        self.clip_box: ClipBox = clip_box
        recipe = resolve_augmentation("pose_track" if clip_augmentation is None else clip_augmentation)
        self.clip_augmentation = recipe if augment else None
        self._sequences: dict[str, PoseTrackPeople] = {}
        self._tables: dict[str, CocoPeople] = {}
        detected = self.files["val"].detections or self.files["test"].detections
        if view == "clips" and detected and (self.clip_box != "key" or self.window.kind != "key"):
            raise UserError(
                "PoseTrack: detections are single boxes: clips of them need clip_box key and windows of keys"
            )

    # -- files --------------------------------------------------------------------------------------------------------

    def _check_places(self, split: str) -> None:
        files, name = self.files[split], type(self).__name__
        if not files.annotations.exists():
            raise UserError(
                f"{name}: annotations {files.annotations} of split {split} do not exist (a folder of one JSON file per "
                f"sequence, or a file); they come from {self.HOME}"
            )
        if not files.images.is_dir():
            raise UserError(f"{name}: image folder {files.images} of split {split} does not exist")
        if files.detections is not None and not files.detections.is_file():
            where = "looked for under root, and under the working folder"
            raise UserError(f"{name}: detections file {files.detections} of split {split} does not exist ({where})")

    def posetrack_annotations(self, split: Split) -> list[Path]:
        """Returns the sequences' files of a split, for :class:`~posekit.metrics.PoseTrackAP`.

        Raises:
            UserError: There are none.
        """
        files = list(sequence_files(self.files[split].annotations, f"{type(self).__name__} split {split}").values())
        return files[: self.limit]

    def sequences(self, split: Split) -> PoseTrackPeople:
        """Returns a split's frames and people as the files have them, read at the first call.

        Raises:
            UserError: A file is missing or faulty.
        """
        key = str(self.files[split].annotations)
        if key not in self._sequences:
            files = self.posetrack_annotations(split)
            self._sequences[key] = read_posetrack(files, self.version, self.on_bad_annotation)
        return self._sequences[key]

    def people(self, split: Split) -> CocoPeople:
        """Returns a split's people in the joint set of the samples.

        Raises:
            UserError: A file is missing or faulty, or nobody has joints and there are no detections either.
        """
        key = str(self.files[split].annotations)
        if key not in self._tables:
            self._tables[key] = _as_coco(self.files[split].annotations, self.sequences(split), self.skeleton)
        table = self._tables[key]
        if not table.labelled.any() and self.files[split].detections is None:
            counts = f"{len(table.image_ids)} frames, {len(table.ids)} entries of people"
            raise UserError(f"{table.path} has no person with keypoints ({counts})")
        return table

    # -- data sets ----------------------------------------------------------------------------------------------------

    def make_dataset(self, split: Split) -> Dataset[Any]:
        """Builds a split's data set.

        Raises:
            UserError: Files are missing or broken.
        """
        if self.view == "crops":
            return super().make_dataset(split)
        self.prepare_data()
        self._check_places(split)
        people, frames = self.people(split), self.sequences(split)
        files, sequences = find_frames(frames, self.files[split].images)
        sizes = np.concatenate([frames.sizes, np.zeros((len(files) - len(frames.sizes), 2), np.int64)])
        read = FileReader(files, sizes, self.apply_exif)
        table, images, targets = self._crop_table(split, people)
        broken = self._broken_images(split, read, np.unique(table.image_rows))[: len(people.image_ids)]
        self._kept[split] = images[~broken[images]], targets
        table = table.take(~broken[table.image_rows])
        detected = self.files[split].detections is not None
        if detected:
            track_ids = ranks(table.image_rows)
        else:
            order = np.argsort(frames.ids)
            track_ids = frames.track_ids[order[np.searchsorted(frames.ids, table.sample_ids, sorter=order)]]
        tracks = build_tracks(frames, table, track_ids, sequences, read, self._offsets(), not detected)
        return ClipDataset(
            tracks, get_skeleton(self.skeleton), self.image_size, self.window, self.box_scale, self.clip_augmentation,
            self.clip_box, self.on_broken_image, split == "train", self.seed,
        )  # fmt: skip

    def _offsets(self) -> list[int]:
        if self.window.kind != "key":
            return []
        side = self.window.frames // 2
        return [self.window.stride * step for step in range(-side, side + 1)]

    def _crop_table(self, split: Split, people: CocoPeople) -> tuple[CropTable, Int64, Bool]:
        path = self.files[split].detections
        if path is None:
            return super()._crop_table(split, people)
        frames = self.sequences(split)
        found = read_boxes(path, frames, self.detection_threshold, self.on_bad_annotation)
        joints = np.zeros((len(found.boxes), *people.keypoints.shape[1:]))
        table = CropTable(people.image_ids, found.image_rows, found.boxes, found.scores, found.sample_ids, joints)
        if self.key_frames == "labelled" and frames.labelled.any():
            table = table.take(frames.labelled[table.image_rows])
        if not len(table):
            raise UserError(f"detections file {path} has no box in a labelled frame (key_frames=all keeps the others)")
        return table, np.arange(len(people.image_ids)), np.ones(len(people.ids), dtype=bool)


def _default_folder(root: Path, split: str, otherwise: str | None = "") -> str | None:
    """Returns where a split's files are below the root, or where they should be."""
    places = [folder.format(split) for folder in _FOLDERS]
    return next((place for place in places if (root / place).is_dir()), places[0] if otherwise == "" else otherwise)


def _as_coco(path: Path, frames: PoseTrackPeople, skeleton: str) -> CocoPeople:
    joints = source_of(POSETRACK15).map_to(get_skeleton(skeleton))(frames.joints[..., :2], frames.joints[..., 2])
    keypoints = np.concatenate([joints.points, joints.weight[..., None]], axis=-1)
    boxes = np.nan_to_num(frames.boxes)
    area = AREA_SHARE * boxes[:, 2] * boxes[:, 3]
    count = np.asarray((joints.weight > 0).sum(-1), dtype=np.int64)
    crowd = np.zeros(len(boxes), dtype=bool)
    return CocoPeople(
        path, frames.image_ids, frames.names, frames.sizes, frames.ids, frames.image_rows, keypoints, boxes, area,
        crowd, count, skipped=frames.skipped,
    )  # fmt: skip

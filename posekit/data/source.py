"""ImageSource: a picture, a folder of pictures or a video, to predict on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from posekit.arrays import Bool, Bytes, Int64
from posekit.data.coco_file import ON_FAULT, OnFault, escapes_folder, outside_fault, report_faults
from posekit.data.crops import CropDataset, CropTable, FileReader
from posekit.data.datamodule import PoseDataModule, Split, checked_size
from posekit.data.detections import Boxes, box_entries, entry_fault, make_boxes, results_category
from posekit.data.images import report_broken
from posekit.data.picture_files import IMAGE_SUFFIXES, is_picture_source, other_kinds, pictures_in, warn_of_others
from posekit.data.picture_ids import picture_ids
from posekit.data.pictures import PictureDataset, PictureInput, collate_pictures
from posekit.data.video import VIDEO_SUFFIXES, VideoReader
from posekit.errors import UserError, counted, named
from posekit.json_file import read_json
from posekit.skeletons import get_skeleton


class ImageSource(PoseDataModule):
    """Pictures to predict on, without labels: crops of people, or whole pictures for a bottom-up method.

    A method with ``picture_input()`` gets whole pictures, in the sizes that it makes of them (see :meth:`adapt_to`).
    The batch's ``image`` is then a list of (3, H, W).

    Image ids are frame numbers for a video; for pictures the ids of the boxes file where it lists ``images``, else the
    numbers that the files are named by (``000000000785.jpg`` is 785; others get higher ones that no box has), else,
    where no file is named by a number, places in the sorted folder, from 0.

    Args:
        source: Image file, folder of images (its sub-folders are not read), or video file. A GIF of several frames is
            a video; of one in a folder the first frame is taken.
        boxes: JSON of person boxes: a list of objects with ``bbox`` (xywh px), ``image_id`` or ``file_name``, and
            perhaps ``score``, or a COCO file with images and annotations. Boxes of a video may have ``frame``, from 0
            on, in place of ``image_id``. Images without a box are left out.
            None takes each whole image as one box.
        image_size: [W, H] of the crops in px; the model's (in Python: 192 x 256) when None. Whole pictures get the
            size that the method makes of its own.
        box_scale: Enlargement of the boxes; whole-image boxes are not enlarged.
        score_threshold: Boxes of a lower score are left out.
        on_broken_image: ``"error"`` or ``"skip"``: broken images of a folder are left out, counted and named.
        on_bad_annotation: ``"error"`` or ``"skip"``: faulty boxes, and those wholly outside their image, are left out,
            counted and named.
        apply_exif: Turn images as their EXIF orientation says.
        skeleton: Joint set of the samples; the model's (in Python: COCO17) when None.
        batch_size: Samples per process and step.
        num_workers: Loader processes. For a video each decodes the whole file.
        val_batch_size: Samples per batch of prediction; ``batch_size`` when None.
        seed: Unused; nothing is random here.
        pin_memory: Page-locked batches, for CUDA.

    Attributes:
        frames: File name (of a video: its name and the frame's number) by image id, once set up.
        is_video: Whether the source is a video.
        fps: Frames per second of a video, if its file says.
        people_category: Id of the people's category in a COCO file of boxes, once set up, else 1; results have it.
    """

    view: str = "crops"

    def __init__(
        self,
        source: str,
        boxes: str | None = None,
        image_size: tuple[int, int] | None = None,
        box_scale: float = 1.25,
        score_threshold: float = 0.0,
        on_broken_image: OnFault = "error",
        on_bad_annotation: OnFault = "error",
        apply_exif: bool = True,
        skeleton: str | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        val_batch_size: int | None = None,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(skeleton or "COCO17", batch_size, num_workers, val_batch_size, seed, pin_memory)
        self.source = Path(source).expanduser()
        self.boxes = Path(boxes).expanduser() if boxes else None
        self.image_size = checked_size("ImageSource", image_size or (192, 256))
        self.box_scale = box_scale
        self.score_threshold = score_threshold
        self.on_broken_image: OnFault = on_broken_image
        self.on_bad_annotation: OnFault = on_bad_annotation
        self.apply_exif = apply_exif
        self.frames: dict[int, str] = {}
        self.is_video = False
        self.fps: float | None = None
        self.people_category: Any = 1
        self._rows: dict[int, int] = {}
        self._read: FileReader | VideoReader | None = None
        self._picture_input: PictureInput | None = None
        if not box_scale > 0:
            raise UserError(f"ImageSource: box_scale is {box_scale}, but must be positive")
        self.check_choices(on_broken_image=ON_FAULT, on_bad_annotation=ON_FAULT)

    def adapt_to(self, method: Any) -> None:
        """Takes over how a bottom-up method makes inputs of whole pictures, so that results are its ``predict``'s.

        ``method.picture_input()`` returns a function that can travel to other processes: it takes a picture (H, W, 3)
        uint8 RGB and returns the normalised input (3, H', W') and the map (2, 3) from picture to input, px.

        Args:
            method: The method that is going to predict; any without ``picture_input`` gets crops.

        Raises:
            UserError: There are boxes, which such a method does not need.
        """
        own = getattr(method, "picture_input", None)
        if own is None:
            return
        if self.boxes is not None:
            raise UserError(
                f"{type(method).__name__} finds people in whole pictures and needs no boxes: leave out --boxes "
                f"{self.boxes} (data.boxes)"
            )
        self.view = "scenes"
        self._picture_input = own()
        self._datasets.pop("predict", None)  # crops, if it was made before

    def setup(self, stage: str | None = None) -> None:
        """Builds the data set; in a trainer for its method."""
        if self.trainer is not None and self._picture_input is None:
            self.adapt_to(self.trainer.lightning_module)
        super().setup(stage)

    def collate(self) -> Callable[[list[Any]], Any] | None:
        """Whole pictures differ in size."""
        return None if self._picture_input is None else collate_pictures

    def make_dataset(self, split: Split) -> CropDataset | PictureDataset:
        """Builds the data set of prediction.

        Raises:
            UserError: The source or the boxes cannot be used.
        """
        if split != "predict":
            raise UserError(f"ImageSource has no labels, so there is nothing to {split} on; it is for predict")
        with named("ImageSource"):
            return self._make()

    def _make(self) -> CropDataset | PictureDataset:
        read, names = self._open_source()
        content = read_json(self.boxes, "boxes file") if self.boxes else None
        ids = self._image_ids(names, content)
        self._read = read
        self.frames = dict(zip(ids, names, strict=True))
        self._rows = {image_id: row for row, image_id in enumerate(ids)}
        if self._picture_input is not None:
            rows = self._readable_rows(read, np.arange(len(ids), dtype=np.int64))
            every = np.array(ids, dtype=np.int64)
            return PictureDataset(read, rows, every, self._picture_input, self.on_broken_image)
        found = _whole_images(len(ids)) if content is None else self._read_boxes(content, names)
        skeleton = get_skeleton(self.skeleton)
        joints = np.zeros((len(found.boxes), len(skeleton), 3))
        image_ids = np.array(ids, dtype=np.int64)
        table = CropTable(image_ids, found.image_rows, found.boxes, found.scores, found.sample_ids, joints)
        table = table.take(np.isin(table.image_rows, self._readable_rows(read, np.unique(table.image_rows))))
        if content is not None:
            table = table.take(self._inside(table, read, names))
        return CropDataset(table, read, skeleton, self.image_size, self.box_scale, on_broken_image=self.on_broken_image)

    def read_frame(self, image_id: int) -> Bytes:
        """Returns an image of ``frames`` as RGB bytes (H, W, 3); videos are read fastest in order.

        Raises:
            UserError: It is broken.
            KeyError: There is no such image.
        """
        self.dataset("predict")
        assert self._read is not None
        return self._read(self._rows[image_id])

    # -- pictures -----------------------------------------------------------------------------------------------------

    def _open_source(self) -> tuple[FileReader | VideoReader, list[str]]:
        source = self.source
        if source.is_dir():
            files = pictures_in(source)
            if not files:
                raise UserError(f"folder {source} holds no image (of {', '.join(IMAGE_SUFFIXES)}){_hint(source)}")
            warn_of_others("ImageSource", source, files)
            return FileReader(files, apply_exif=self.apply_exif), [path.name for path in files]
        if not source.exists():
            raise UserError(f"source {source} does not exist (option data.source)")
        if not source.stat().st_size:
            raise UserError(f"source {source} is empty (0 bytes)")
        if is_picture_source(source):
            return FileReader([source], apply_exif=self.apply_exif), [source.name]
        video = VideoReader(source)
        self.is_video, self.fps = True, video.fps
        return video, [f"{source.name}#{number}" for number in range(video.count)]

    def _image_ids(self, names: list[str], content: Any) -> list[int]:
        if self.is_video:
            return list(range(len(names)))
        return picture_ids(self.boxes, names, content)

    def _readable_rows(self, read: FileReader | VideoReader, rows: Int64) -> Int64:
        """Returns the rows whose images can be read.

        A single broken image stops the run before the model is built; decoding a folder takes far less than predicting.
        """
        broken = read.broken(rows.tolist()) if isinstance(read, FileReader) else {}
        if not broken:
            return rows
        assert isinstance(read, FileReader)
        reasons = {read.files[row]: reason for row, reason in broken.items()}
        report_broken("ImageSource", reasons, len(rows), self.on_broken_image)
        return rows[~np.isin(rows, list(broken))]

    # -- boxes --------------------------------------------------------------------------------------------------------

    def _read_boxes(self, content: Any, names: list[str]) -> Boxes:
        assert self.boxes is not None
        entries = box_entries(self.boxes, content)
        self.people_category = results_category(self.boxes, content)
        rows_by_name = {} if self.is_video else {name: row for row, name in enumerate(names)}
        kept: list[tuple[int, list[float], float, int]] = []
        faults: list[str] = []
        unknown: dict[str, None] = {}
        for number, entry in entries:
            if self.is_video:
                entry = _with_image_id(entry)
            reason = _box_entry_fault(entry)
            if reason is not None:
                faults.append(f"box number {number} {reason}")
                continue
            label, row = self._box_row(entry, rows_by_name)
            if row is None:
                unknown[label] = None
            elif entry.get("score", 1.0) >= self.score_threshold:
                kept.append((row, entry["bbox"], entry.get("score", 1.0), number))
        report_faults(self.boxes, faults, "box", self.on_bad_annotation)
        one_of_many = kept and len(names) == 1 and not self.is_video  # a file for a whole set serves one image of it
        if unknown and not one_of_many:
            listed = ", ".join(list(unknown)[:3]) + (", …" if len(unknown) > 3 else "")
            raise UserError(f"boxes file {self.boxes} names {len(unknown)} images that {self.source} lacks: {listed}")
        if not kept:
            raise UserError(f"boxes file {self.boxes} has no box of score {self.score_threshold:g} or more")
        return make_boxes(kept)

    def _inside(self, table: CropTable, read: FileReader | VideoReader, names: list[str]) -> Bool:
        """Returns which boxes (N,) touch their image.

        Raises:
            UserError: Some do not and are not to be left out, or none does.
        """
        assert self.boxes is not None
        faults = [
            outside_fault(box, read.size(row), names[row])
            for box, row in zip(table.boxes, table.image_rows.tolist(), strict=True)
        ]
        rows = zip(table.sample_ids, faults, strict=True)
        found = [f"box number {number} {fault}" for number, fault in rows if fault]
        report_faults(self.boxes, found, "box", self.on_bad_annotation)
        if len(found) == len(faults):
            raise UserError(f"boxes file {self.boxes}: no box of it touches its image")
        return np.array([fault is None for fault in faults], dtype=bool)

    def _box_row(self, entry: dict[str, Any], rows_by_name: dict[str, int]) -> tuple[str, int | None]:
        name = entry.get("file_name")
        if isinstance(name, str):
            return name, None if escapes_folder(name) else rows_by_name.get(name)
        image_id = entry["image_id"]
        return f"image_id {image_id}", self._rows.get(image_id)


def _hint(folder: Path) -> str:
    """Returns what is in a folder without images."""
    films = sum(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.iterdir() if not path.name.startswith("._"))
    if films:
        return f", but {counted(films, 'video')}: give one of them (methods for clips take the folder)"
    others = other_kinds(folder)
    if others:
        return f", but {others}, which are not read: convert them to JPEG or PNG"
    deeper = min((p.parent for p in folder.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES), default=None)
    return f"; only its top level is read: give one of its sub-folders, e.g. {deeper}" if deeper else ""


def _whole_images(count: int) -> Boxes:
    rows = np.arange(count, dtype=np.int64)
    return Boxes(rows, np.full((count, 4), np.nan), np.ones(count), rows.copy())


def _with_image_id(entry: Any) -> Any:
    """Returns a video's box with its ``frame`` as the image's id, as boxes of clips have it."""
    if isinstance(entry, dict) and "frame" in entry and "image_id" not in entry:
        return {**entry, "image_id": entry["frame"]}
    return entry


def _box_entry_fault(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return "is no object"
    if not isinstance(entry.get("file_name"), str) and type(entry.get("image_id")) is not int:
        return "has neither file_name nor an integer image_id (or frame, of a video)"
    return entry_fault(entry)

"""ImageSource: a picture, a folder of pictures or a video, to predict on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from posekit.data.coco_file import OnFault, box_fault, escapes_folder, numbers, read_json
from posekit.data.crops import CropDataset, CropTable, FileReader
from posekit.data.datamodule import PoseDataModule, Split
from posekit.data.detections import Boxes, make_boxes
from posekit.data.images import report_broken
from posekit.data.video import VideoReader
from posekit.errors import UserError, counted, listed, named, unknown_name
from posekit.skeletons import get_skeleton

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageSource(PoseDataModule):
    """Pictures to predict on, without labels.

    Image ids are frame numbers for a video; for pictures the ids of the boxes file where it lists ``images``, else the
    numbers that the files are named by (``000000000785.jpg`` is 785), else places in the sorted folder.

    Args:
        source: Image file, folder of images, or video file.
        boxes: JSON of person boxes: a list of objects with ``bbox`` (xywh px), ``image_id`` or ``file_name``, and
            perhaps ``score``, or a COCO file with images and annotations. Images without a box are left out.
            None takes each whole image as one box.
        image_size: [W, H] of the crops in px; the model's (in Python: 192 x 256) when None.
        box_scale: Enlargement of the boxes; whole-image boxes are not enlarged.
        score_threshold: Boxes of a lower score are left out.
        on_broken_image: ``"error"`` or ``"skip"``: broken images of a folder are left out, counted and named.
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
        width, height = image_size or (192, 256)
        self.image_size = (int(width), int(height))
        self.box_scale = box_scale
        self.score_threshold = score_threshold
        self.on_broken_image: OnFault = on_broken_image
        self.apply_exif = apply_exif
        self.frames: dict[int, str] = {}
        self.is_video = False
        self.fps: float | None = None
        self._rows: dict[int, int] = {}
        self._read: FileReader | VideoReader | None = None
        if on_broken_image not in ("error", "skip"):
            raise unknown_name("on_broken_image of ImageSource", str(on_broken_image), ("error", "skip"))

    def make_dataset(self, split: Split) -> CropDataset:
        """Builds the data set of prediction.

        Raises:
            UserError: The source or the boxes cannot be used.
        """
        if split != "predict":
            raise UserError(f"ImageSource has no labels, so there is nothing to {split} on; it is for predict")
        with named("ImageSource"):
            return self._make()

    def _make(self) -> CropDataset:
        read, names = self._open_source()
        content = read_json(self.boxes, "boxes file") if self.boxes else None
        ids = self._image_ids(names, content)
        self._read = read
        self.frames = dict(zip(ids, names, strict=True))
        self._rows = {image_id: row for row, image_id in enumerate(ids)}
        found = _whole_images(len(ids)) if content is None else self._read_boxes(content, ids, names)
        skeleton = get_skeleton(self.skeleton)
        joints = np.zeros((len(found.boxes), len(skeleton), 3))
        image_ids = np.array(ids, dtype=np.int64)
        table = CropTable(image_ids, found.image_rows, found.boxes, found.scores, found.sample_ids, joints)
        table = table.take(np.isin(table.image_rows, self._readable_rows(read, np.unique(table.image_rows))))
        return CropDataset(table, read, skeleton, self.image_size, self.box_scale, on_broken_image=self.on_broken_image)

    def read_frame(self, image_id: int) -> NDArray[np.uint8]:
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
            files = sorted(p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not files:
                raise UserError(f"folder {source} holds no image (of {', '.join(IMAGE_SUFFIXES)})")
            return FileReader(files, apply_exif=self.apply_exif), [path.name for path in files]
        if not source.exists():
            raise UserError(f"source {source} does not exist (option data.source)")
        if not source.stat().st_size:
            raise UserError(f"source {source} is empty (0 bytes)")
        if source.suffix.lower() in IMAGE_SUFFIXES or cv2.haveImageReader(str(source)):
            return FileReader([source], apply_exif=self.apply_exif), [source.name]
        video = VideoReader(source)
        self.is_video, self.fps = True, video.fps
        return video, [f"{source.name}#{number}" for number in range(video.count)]

    def _image_ids(self, names: list[str], content: Any) -> list[int]:
        if self.is_video:
            return list(range(len(names)))
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            listed = {e.get("file_name"): e.get("id") for e in content["images"] if isinstance(e, dict)}
            ids = [listed.get(name) for name in names]
            known = [i for i in ids if type(i) is int]
            if known and len(set(known)) == len(known):
                # Images without an entry have no boxes; they get numbers that nothing else has.
                free = iter(range(max(known) + 1, max(known) + 1 + len(ids)))
                return [i if type(i) is int else next(free) for i in ids]
        stems = [Path(name).stem for name in names]
        numbered = [int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) < 19]
        return numbered if len(set(numbered)) == len(names) else list(range(len(names)))

    def _readable_rows(self, read: FileReader | VideoReader, rows: NDArray[np.int64]) -> NDArray[np.int64]:
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

    def _read_boxes(self, content: Any, ids: list[int], names: list[str]) -> Boxes:
        assert self.boxes is not None
        entries = _box_entries(self.boxes, content)
        rows_by_name = {} if self.is_video else {name: row for row, name in enumerate(names)}
        kept: list[tuple[int, list[float], float, int]] = []
        faults: list[str] = []
        unknown: dict[str, None] = {}
        for number, entry in enumerate(entries):
            reason = _box_entry_fault(entry)
            if reason is not None:
                faults.append(f"box number {number} {reason}")
                continue
            label, row = self._box_row(entry, rows_by_name)
            if row is None:
                unknown[label] = None
            elif entry.get("score", 1.0) >= self.score_threshold:
                kept.append((row, entry["bbox"], entry.get("score", 1.0), number))
        if faults:
            _raise_faults(self.boxes, faults)
        one_of_many = kept and len(names) == 1 and not self.is_video  # a file for a whole set serves one image of it
        if unknown and not one_of_many:
            listed = ", ".join(list(unknown)[:3]) + (", …" if len(unknown) > 3 else "")
            raise UserError(f"boxes file {self.boxes} names {len(unknown)} images that {self.source} lacks: {listed}")
        if not kept:
            raise UserError(f"boxes file {self.boxes} has no box of score {self.score_threshold:g} or more")
        return make_boxes(kept)

    def _box_row(self, entry: dict[str, Any], rows_by_name: dict[str, int]) -> tuple[str, int | None]:
        if "file_name" in entry:
            name = str(entry["file_name"])
            return name, None if escapes_folder(name) else rows_by_name.get(name)
        image_id = entry["image_id"]
        return f"image_id {image_id}", self._rows.get(image_id)


def _whole_images(count: int) -> Boxes:
    rows = np.arange(count, dtype=np.int64)
    return Boxes(rows, np.full((count, 4), np.nan), np.ones(count), rows.copy())


def _box_entries(path: Path, content: Any) -> list[Any]:
    """Returns the box entries of a list or of a COCO file, crowds and other categories left out.

    Raises:
        UserError: It is neither.
    """
    if isinstance(content, list):
        return [e for e in content if not isinstance(e, dict) or e.get("category_id", 1) == 1]
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise UserError(f"boxes file {path} holds neither a list of boxes nor a COCO file with annotations")
    categories = [c for c in content.get("categories") or [] if isinstance(c, dict)]
    person = next((c.get("id") for c in categories if c.get("name") == "person"), 1)
    return [
        e
        for e in content["annotations"]
        if not isinstance(e, dict) or (e.get("category_id", person) == person and not e.get("iscrowd"))
    ]


def _box_entry_fault(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return "is no object"
    if not isinstance(entry.get("file_name"), str) and type(entry.get("image_id")) is not int:
        return "has neither file_name nor an integer image_id"
    if numbers([entry.get("score", 1.0)], 1) is None:
        return "has a score that is no finite number"
    return box_fault(entry.get("bbox"))


def _raise_faults(path: Path, faults: list[str]) -> None:
    raise UserError(f"boxes file {path}: {counted(len(faults), 'faulty box', 'faulty boxes')}: {listed(faults)}")

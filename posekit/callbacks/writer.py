"""PredictionWriter: COCO-format results and overlay pictures (or a video) of a prediction run."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from posekit.arrays import Bytes
from posekit.callbacks.gather import from_all
from posekit.callbacks.joint_set import drawn_people, joint_set
from posekit.callbacks.progress import end_progress
from posekit.data.opencv_log import set_opencv_log, silence_opencv
from posekit.errors import UserError, counted
from posekit.files import atomic_write_text
from posekit.visualization import (
    TrackPainter,
    draw_people,
    enlarge,
    enlarge_boxes,
    enlargement,
    interim_figure,
    write_picture,
)

_ROOM = 1 << 16  # bytes; a disk with less is full


def coco_results(rows: dict[str, NDArray[np.floating]], category: Any = 1) -> list[dict[str, Any]]:
    """Returns COCO results entries of prediction rows.

    They have no ``bbox``: COCO's tool would take the crop's box for the person's area.

    Args:
        rows: ``keypoints`` (N, K, 3), ``scores`` (N,), ``boxes`` (N, 4) and ``image_id`` (N,); ``track_id`` (N,) where
            people are followed through a video, -1 for those who are not.
        category: Id of the people's category.
    """
    tracks = rows.get("track_id", np.full(len(rows["scores"]), -1)).astype(np.int64).tolist()
    return [
        {
            "image_id": int(image),
            "category_id": category,
            "keypoints": [round(float(value), 3) for value in joints.reshape(-1)],
            "score": round(float(score), 6),
        }
        | ({"track_id": track} if track >= 0 else {})
        for image, joints, score, track in zip(rows["image_id"], rows["keypoints"], rows["scores"], tracks, strict=True)
    ]


class PredictionWriter(Callback):
    """Writes ``results.json`` (COCO format), ``images.json`` (image id to file) and overlays to a folder.

    People are of the data module's ``people_category``, the id that their annotations or boxes have; without one of 1.
    Of people who are followed through a video, ``results.json`` has the ``track_id``; ``tracks.json`` says who that is.

    ``images.json`` is written where the data module has ``frames``, a dictionary of file names by image id. Overlays
    are drawn where it can also give the original pictures (``read_frame(image_id)``), small ones enlarged; a video
    becomes a video of its own size.
    People with a ``track_id`` have their track's colour, number and path. Interim poses (``interim`` and ``ends`` of a
    method that synthesizes poses between frames) are drawn in pictures, or a video, of their own. A method with
    ``draw_overlay(image, rows, threshold)`` draws its pictures itself.
    All files appear whole or not at all. In a run of several processes each draws its own share; process 0 writes the
    results of all, as one process would.

    Args:
        output: Folder; made if it is not there.
        overlays: Draw pictures or a video.
        threshold: Least joint score drawn.
        score_threshold: Least score of a person who is counted and drawn; the file has everybody, as evaluation needs
            it. None takes the method's ``least_score``, where it gives candidates rather than people.
    """

    def __init__(
        self,
        output: str = "predictions",
        overlays: bool = True,
        threshold: float = 0.2,
        score_threshold: float | None = None,
    ) -> None:
        self.output = Path(output)
        self.overlays = overlays
        self.threshold = threshold
        self.score_threshold = score_threshold
        self._rows: list[dict[str, NDArray[np.floating]]] = []
        self._looked_at: set[int] = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the folder before any work is done.

        Raises:
            UserError: The folder cannot be made or written to.
        """
        self._rows, self._looked_at = [], set()
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"output folder {self.output} cannot be made: {error.strerror}") from None
        if not os.access(self.output, os.W_OK):
            raise UserError(f"output folder {self.output} cannot be written to")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch's people.

        Raises:
            UserError: The method's predictions are no 2D keypoints.
        """
        if not isinstance(outputs, dict) or "keypoints" not in outputs:
            raise UserError(
                f"PredictionWriter writes 2D keypoints, which {type(pl_module).__name__} does not predict; a method of "
                "poses in 3D has prediction_writer = 'PredictionWriter3D' in its class"
            )
        self._rows.append({name: to_numpy(value) for name, value in outputs.items()})
        # Pictures, in which nobody may have been found; those of different sizes are a list.
        if isinstance(batch, dict) and (isinstance(batch["image"], list) or batch["image"].ndim == 4):
            self._looked_at.update(batch["image_id"].tolist())

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the files and says where they are."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = self._merged(self._rows)
        everyone = self._merged(from_all(trainer, rows))
        end_progress(trainer)
        console = Console(quiet=not trainer.is_global_zero)
        if trainer.is_global_zero:
            results = coco_results(everyone, getattr(datamodule, "people_category", 1))
            atomic_write_text(self._results, json.dumps(results) + "\n")
            self._write_names(datamodule)
        shown = self._sure(rows, pl_module)
        self._count(everyone, pl_module, console)
        if self._draws(trainer):
            painter = TrackPainter(shown, list(datamodule.frames)) if "track_id" in rows else None
            written = self._draw(
                datamodule, "overlay", rows, lambda i: self._overlay(datamodule, i, shown, pl_module, painter)
            )
            console.print(f"overlays: {written}", soft_wrap=True, markup=False)
            if "interim" in rows:
                written = self._draw(datamodule, "interim", rows, lambda i: self._interim(datamodule, i, shown))
                console.print(f"interim poses: {written}", soft_wrap=True, markup=False)

    @property
    def _results(self) -> Path:
        return self.output / "results.json"

    def _draws(self, trainer: Trainer) -> bool:
        """Tells whether there are overlays: of a video they are one file, which a single process writes."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        shown = hasattr(datamodule, "read_frame") and isinstance(getattr(datamodule, "frames", None), dict)
        one_file = getattr(datamodule, "is_video", False) and trainer.world_size > 1
        return self.overlays and shown and not one_file

    def _write_names(self, datamodule: Any) -> None:
        """Writes which file each image id is, and who each track is, where the data module knows."""
        frames = getattr(datamodule, "frames", None)
        if isinstance(frames, dict):
            names = {str(image_id): str(name) for image_id, name in frames.items()}
            atomic_write_text(self.output / "images.json", json.dumps(names, indent=1) + "\n")
        if people := getattr(datamodule, "track_names", None):
            atomic_write_text(self.output / "tracks.json", json.dumps(people, indent=1) + "\n")

    def _least(self, method: Any) -> float:
        given = self.score_threshold
        return float(getattr(method, "least_score", 0.0)) if given is None else given

    def _sure(self, rows: dict[str, NDArray[np.floating]], method: Any) -> dict[str, NDArray[np.floating]]:
        """Returns the rows of people of a sufficient score."""
        sure = rows["scores"] >= self._least(method)
        return {name: value[sure] for name, value in rows.items()}

    def _count(self, rows: dict[str, NDArray[np.floating]], method: Any, console: Console) -> None:
        """Says how many people there are, and how many candidates of a lower score."""
        least = self._least(method)
        sure = int((rows["scores"] >= least).sum())
        weak = len(rows["scores"]) - sure
        more = f"; further {counted(weak, 'candidate')} of a score below {least:g} in the file" if weak else ""
        console.print(f"{counted(sure, 'person', 'people')}: {self._results}{more}", soft_wrap=True, markup=False)

    def _merged(self, parts: list[dict[str, NDArray[np.floating]]]) -> dict[str, NDArray[np.floating]]:
        """Joins batches' (or processes') rows in the order of the samples, each once."""
        parts = [part for part in parts if len(part["scores"])]
        if not parts:
            return _no_rows()
        merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        _, first = np.unique(merged["sample_id"], return_index=True)  # a distributed sampler may have repeated some
        return {name: value[first] for name, value in merged.items()}

    def _draw(
        self,
        datamodule: Any,
        name: str,
        rows: dict[str, NDArray[np.floating]],
        paint: Callable[[int], Bytes],
    ) -> Path:
        if getattr(datamodule, "is_video", False):
            return self._draw_video(datamodule, name, paint)
        folder = self.output / ("overlays" if name == "overlay" else name)
        names = overlay_names(datamodule.frames)
        for image_id in self._own_frames(datamodule, rows):
            write_picture(folder / names[image_id], paint(image_id))
        return folder

    def _own_frames(self, datamodule: Any, rows: dict[str, NDArray[np.floating]]) -> list[int]:
        seen = {int(i) for i in rows["image_id"]} | self._looked_at
        return [i for i in datamodule.frames if i in seen]

    def _draw_video(self, datamodule: Any, name: str, paint: Callable[[int], Bytes]) -> Path:
        path, part = self.output / f"{name}.mp4", self.output / f"{name}.part.mp4"
        try:
            count = _write_video(part, (paint(image_id) for image_id in datamodule.frames), datamodule.fps or 25.0)
            if count:
                _check_video(part, count)
                part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return path

    def _overlay(
        self,
        datamodule: Any,
        image_id: int,
        rows: dict[str, NDArray[np.floating]],
        pl_module: Any,
        painter: TrackPainter | None,
    ) -> Bytes:
        image: Bytes = datamodule.read_frame(image_id)
        of_picture = rows["image_id"].astype(np.int64) == image_id
        mine = {name: value[of_picture] for name, value in rows.items()}
        if hasattr(pl_module, "draw_overlay"):
            own: Bytes = pl_module.draw_overlay(image, mine, self.threshold)
            return own
        factor = drawn_larger(datamodule, image)
        picture, people = enlarge(image, drawn_people(pl_module, mine, self.threshold), factor)
        all_shown = painter is None and len(people) == len(mine["boxes"])  # a method may leave some people out
        boxes = enlarge_boxes(mine["boxes"], factor) if all_shown else None
        if len(people):  # rows of nobody have no joints to count
            joints = joint_set(pl_module, datamodule, people.shape[1])
            picture = draw_people(picture, people, joints, boxes, self.threshold)
        return picture if painter is None else painter.paint(picture, image_id, factor)

    def _interim(self, datamodule: Any, image_id: int, rows: dict[str, NDArray[np.floating]]) -> Bytes:
        shown = (rows["image_id"].astype(np.int64) == image_id)[:, None] & (rows["keypoints"][..., 2] > self.threshold)
        image: Bytes = datamodule.read_frame(image_id)
        factor = drawn_larger(datamodule, image)
        picture, ends = enlarge(image, rows["ends"][shown], factor)
        return interim_figure(picture, ends, enlarge(image, rows["interim"][shown], factor)[1])


def drawn_larger(datamodule: Any, image: Bytes) -> int:
    """Returns by what factor a picture is enlarged to be drawn on; the frames of a video keep their size."""
    return 1 if getattr(datamodule, "is_video", False) else enlargement(image)


def _write_video(path: Path, pictures: Iterable[Bytes], fps: float) -> int:
    """Writes pictures to a video, and returns how many there were.

    Raises:
        UserError: OpenCV cannot write it.
    """
    writer, count = None, 0
    try:
        for picture in map(_even, pictures):
            if writer is None:
                size = (picture.shape[1], picture.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise UserError(
                        f"OpenCV cannot write {path}: no codec for mp4 video; --trainer.callbacks.overlays false"
                    )
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def _even(picture: Bytes) -> Bytes:
    """Repeats the last row or column of a picture of odd size, which the codec would cut off."""
    height, width = picture.shape[:2]
    return cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)


def _check_video(path: Path, count: int) -> None:
    """Reads a video's last picture: OpenCV says nothing of what it could not write.

    Raises:
        OSError: The disk is full.
        UserError: The video lacks pictures for another reason.
    """
    level = silence_opencv()
    try:
        reader = cv2.VideoCapture(str(path))
        whole = reader.get(cv2.CAP_PROP_FRAME_COUNT) >= count and reader.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
        whole = whole and reader.read()[0]
        reader.release()
    finally:
        set_opencv_log(level)
    if whole:
        return
    if shutil.disk_usage(path.parent).free < _ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    raise UserError(f"OpenCV could not write {path} to its end; --trainer.callbacks.overlays false leaves it out")


def overlay_names(files: Mapping[int, object]) -> dict[int, str]:
    """Returns the names of pictures' overlays: the pictures' own, with their folders where one name occurs in several.

    Args:
        files: Each picture's file by image id.
    """
    paths = {image_id: Path(str(file)) for image_id, file in files.items()}
    stems = {image_id: path.stem for image_id, path in paths.items()}
    if len({path.parent for path in paths.values()}) > 1 and len(set(stems.values())) < len(stems):
        stems = {image_id: str(path.with_suffix("")).replace("/", "#") for image_id, path in paths.items()}
    count = Counter(stems.values())  # a.png beside a.tif, or frames of a.mp4: one would replace the other
    return {
        image_id: f"{stem if count[stem] == 1 else str(paths[image_id]).replace('/', '#')}.jpg"
        for image_id, stem in stems.items()
    }


def _no_rows() -> dict[str, NDArray[np.floating]]:
    shapes = {"keypoints": (0, 1, 3), "scores": (0,), "boxes": (0, 4), "image_id": (0,), "sample_id": (0,)}
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def to_numpy(value: Tensor) -> NDArray[Any]:
    """Copies a tensor to an array; floating-point values become float32."""
    return (value.float() if value.is_floating_point() else value).cpu().numpy()

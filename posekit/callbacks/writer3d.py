"""PredictionWriter3D: poses and bodies in 3D as npz and JSON, overlays, and meshes for 3D programs."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from rich.console import Console

from posekit.arrays import Bytes
from posekit.body import write_glb, write_obj
from posekit.callbacks.gather import from_all
from posekit.callbacks.joint_set import joint_set
from posekit.callbacks.progress import end_progress
from posekit.callbacks.writer import PredictionWriter, drawn_larger, to_numpy
from posekit.errors import UserError, counted, one_of
from posekit.files import atomic_write_bytes, atomic_write_text
from posekit.skeletons import Skeleton
from posekit.visualization import draw_mesh, draw_people, enlarge

Rows = dict[str, NDArray[Any]]

MESHES = ("none", "obj", "glb")
UNKNOWN_RATE = 30.0  # frames per second of an animation whose data do not say
_KEPT_APART = ("vertices",)  # large; meshes are written on request
_DIGITS = {"keypoints": 2, "boxes": 2, "focal": 2, "center": 2}


class PredictionWriter3D(PredictionWriter):
    """Writes ``results.npz``, ``results.json`` (a row per person and frame), ``images.json``, overlays and meshes.

    Of people who are followed through videos, rows also have the ``video`` and the ``person``, as the boxes name them;
    ``tracks.json`` says which ``sample_id`` (and number of a mesh file) each is. Of data sets of videos they have the
    ``video``. The joint set of ``joints3d`` is named as ``skeleton``, in JSON in each row; ``joints`` of the npz has
    the joints' names in order.
    Overlays show the mesh where the method predicts one and has ``mesh_faces``, else the joints where it predicts those
    in the picture. Meshes are in metres, y up: with ``obj`` a file per person and frame, with ``glb`` an animation per
    person, in the frames' own time from the earliest frame of all people: at the rate of each one's track
    (:class:`~posekit.data.clips.Track`), without tracks at the data module's ``fps``; where nothing says it, at 30
    frames per second, and a line says so. All files appear whole or not at all. In a run of several processes each
    draws its own share, as it does ``obj``; process 0 writes the results of all and ``glb``.

    Args:
        output: Folder; made if it is not there.
        overlays: Draw pictures or a video.
        threshold: Least joint score drawn.
        meshes: ``none``, ``obj`` or ``glb``.
        opacity: Of the drawn mesh, 0 to 1.

    Raises:
        UserError: An unknown kind of mesh.
    """

    def __init__(
        self,
        output: str = "predictions",
        overlays: bool = True,
        threshold: float = 0.2,
        meshes: str = "none",
        opacity: float = 0.85,
    ) -> None:
        super().__init__(output, overlays, threshold)
        one_of("kind of mesh file", meshes, MESHES)
        self.meshes = meshes
        self.opacity = opacity

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
            UserError: The method's predictions are no poses in 3D.
        """
        if not isinstance(outputs, dict) or "joints3d" not in outputs:
            raise UserError(f"PredictionWriter3D writes poses in 3D, which {type(pl_module).__name__} does not predict")
        if self.meshes != "none" and "vertices" not in outputs:
            raise UserError(f"meshes {self.meshes}: {type(pl_module).__name__} predicts no mesh")
        self._rows.append({name: to_numpy(value) for name, value in outputs.items()})

    def on_predict_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes the files and says where they are."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = self._merged(self._rows)
        self._rows = []
        apart = () if self.meshes == "glb" else _KEPT_APART  # an animation needs all frames of a person
        everyone = self._merged(from_all(trainer, {n: v for n, v in rows.items() if n not in apart}))
        end_progress(trainer)
        console = Console(quiet=not trainer.is_global_zero)
        if trainer.is_global_zero:
            who = who_is_who(everyone["sample_id"], getattr(datamodule, "track_names", {}))
            self._write_rows(_with_videos(everyone, datamodule) | who, _joint_set(everyone, pl_module))
            self._write_names(datamodule)
        console.print(
            f"{counted(len(everyone['scores']), 'pose')}: {self._results} and .npz", soft_wrap=True, markup=False
        )
        bodies = rows if self.meshes == "obj" else everyone
        writes = self.meshes == "obj" or (self.meshes == "glb" and trainer.is_global_zero)
        if writes and len(bodies["scores"]):
            rates = frame_rates(trainer, bodies["sample_id"])
            written = self._write_meshes(bodies, pl_module.mesh_faces, np.nan_to_num(rates, nan=UNKNOWN_RATE))
            console.print(f"meshes: {written}", soft_wrap=True, markup=False)
            if self.meshes == "glb" and (said := _of_unknown_rate(bodies["sample_id"], rates, datamodule)):
                console.print(said, soft_wrap=True, markup=False)
        if self._draws(trainer) and len(rows["scores"]):
            written = self._draw(datamodule, "overlay", rows, lambda i: self._paint(datamodule, i, rows, pl_module))
            console.print(f"overlays: {written}", soft_wrap=True, markup=False)

    def _merged(self, parts: list[Rows]) -> Rows:
        """Joins batches' (or processes') rows by person and frame; windows that overlap give a frame once."""
        parts = [part for part in parts if len(part["scores"])]
        if not parts:
            return {name: np.zeros(0) for name in ("scores", "frame", "image_id", "sample_id")}
        merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        keys = np.stack([merged["sample_id"], merged["frame"], merged["image_id"]], 1)
        _, first = np.unique(keys, axis=0, return_index=True)
        return {name: value[first] for name, value in merged.items()}

    # -- files --------------------------------------------------------------------------------------------------------

    def _write_rows(self, rows: Rows, joint_set: Skeleton | None) -> None:
        kept = {name: value for name, value in rows.items() if name not in _KEPT_APART}
        names = {} if joint_set is None else {"skeleton": joint_set.name, "joints": joint_set.joints}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **kept, **{name: np.array(text) for name, text in names.items()})  # type: ignore[arg-type]
        atomic_write_bytes(self.output / "results.npz", buffer.getvalue())
        rounded = {
            name: np.round(value.astype(np.float64), _DIGITS.get(name, 5)) if value.dtype.kind == "f" else value
            for name, value in kept.items()
        }
        lists = {name: value.tolist() for name, value in rounded.items()}
        same = {} if joint_set is None else {"skeleton": joint_set.name}
        entries = [dict(zip(lists, values, strict=True)) | same for values in zip(*lists.values(), strict=True)]
        atomic_write_text(self._results, json.dumps(entries) + "\n")

    def _write_meshes(self, rows: Rows, faces: NDArray[Any], fps: NDArray[Any] | float) -> Path:
        folder = self.output / "meshes"
        rates = np.broadcast_to(fps, rows["frame"].shape)  # of each row's video
        seconds = rows["frame"] / rates
        seconds -= seconds.min()
        for person in np.unique(rows["sample_id"]).tolist():
            mine = np.flatnonzero(rows["sample_id"] == person)
            if self.meshes == "glb":
                # A person may come late or be missing in between; no moment shows two meshes.
                mine = mine[np.unique(rows["frame"][mine], return_index=True)[1]]
                path, rate = folder / f"person_{person}.glb", float(rates[mine[0]])
                write_glb(path, rows["vertices"][mine], faces, fps=rate, times=seconds[mine])
                continue
            for row in mine.tolist():
                name = f"person_{person}_frame_{int(rows['frame'][row]):06d}.obj"
                write_obj(folder / name, rows["vertices"][row], faces)
        return folder

    # -- pictures -----------------------------------------------------------------------------------------------------

    def _paint(self, datamodule: Any, image_id: int, rows: Rows, pl_module: Any) -> Bytes:
        image: Bytes = datamodule.read_frame(image_id)
        mine = rows["image_id"].astype(np.int64) == image_id
        factor = drawn_larger(datamodule, image)
        picture, people = enlarge(image, rows["keypoints"][mine] if "keypoints" in rows else np.zeros((0, 2)), factor)
        if not mine.any():
            return picture
        if "vertices" in rows and hasattr(pl_module, "mesh_faces"):
            vertices, focal = rows["vertices"][mine], rows["focal"][mine]
            if "center" in rows:
                vertices = about_image_center(vertices, focal, rows["center"][mine], image.shape[:2])
            return draw_mesh(picture, vertices, pl_module.mesh_faces, focal * factor, opacity=self.opacity)
        if "keypoints" in rows:
            joints = joint_set(pl_module, datamodule, people.shape[1])
            return draw_people(picture, people, joints, threshold=self.threshold)
        return picture


def _joint_set(rows: Rows, method: Any) -> Skeleton | None:
    """Returns the joint set of the rows' ``joints3d``: the method's, where it has as many joints."""
    joint_set = getattr(method, "skeleton", None)
    if not isinstance(joint_set, Skeleton) or "joints3d" not in rows or rows["joints3d"].shape[1] != len(joint_set):
        return None
    return joint_set


def frame_rates(trainer: Any, ids: NDArray[Any]) -> NDArray[Any]:
    """Returns the frames per second (N,) of the people in a run of prediction, NaN where nothing says them.

    Args:
        trainer: The run's: of its data set's tracks each says its own; without tracks all are at the data module's.
        ids: (N,) tracks.
    """
    dataset = getattr(getattr(trainer, "predict_dataloaders", None), "dataset", None)
    tracks = getattr(dataset, "tracks", None)
    people, place = np.unique(ids.astype(np.int64), return_inverse=True)
    if tracks is None:
        found = [getattr(trainer.datamodule, "fps", None)] * len(people)
    else:
        found = [getattr(tracks[who], "fps", None) if 0 <= who < len(tracks) else None for who in people.tolist()]
    rates = np.array([np.nan if rate is None else rate for rate in found], dtype=np.float64)
    rates[~((rates > 0) & np.isfinite(rates))] = np.nan
    return np.asarray(rates[place])


def _of_unknown_rate(ids: NDArray[Any], rates: NDArray[Any], datamodule: Any) -> str:
    """Returns a line about animations at a rate that nobody has told; none where all are known."""
    people, counts = np.unique(ids, return_counts=True)
    animations = people[counts > 1]
    guessed = int(np.isin(animations, ids[np.isnan(rates)]).sum())
    if not guessed:
        return ""
    way = " (option data.source_fps tells it)" if hasattr(datamodule, "source_fps") else ""
    total = counted(len(animations), "animation")
    return f"no frame rate is known of {guessed} of {total}, shown at {UNKNOWN_RATE:g} frames per second{way}"


def _with_videos(rows: Rows, datamodule: Any) -> Rows:
    """Adds the column ``video`` (N,) where the data module names its videos."""
    videos_of = getattr(datamodule, "videos_of", None)
    return rows if videos_of is None else rows | {"video": np.array(videos_of(rows["image_id"]), dtype=str)}


def who_is_who(ids: NDArray[Any], names: Mapping[int, Mapping[str, str]]) -> Rows:
    """Returns the columns ``video`` and ``person`` (N,) of tracks, as text; none where not every id has a name.

    Args:
        ids: (N,) tracks.
        names: What the data module says of each.
    """
    known = [names.get(int(number)) for number in ids]
    people = [who for who in known if who is not None]
    if not names or len(people) < len(known):
        return {}
    return {name: np.array([who[name] for who in people], dtype=str) for name in ("video", "person")}


def about_image_center(
    vertices: NDArray[Any], focal: NDArray[Any], center: NDArray[Any], size: tuple[int, int]
) -> NDArray[Any]:
    """Moves meshes so that they project to the same pixels with the picture's centre as principal point.

    People whose cameras have different principal points can then be drawn together. It is a shear along the line of
    sight: depths stay.

    Args:
        vertices: (N, V, 3) metres, camera frames.
        focal: (N,) px.
        center: (N, 2) principal points, px.
        size: (H, W) of the picture.
    """
    middle = (np.array([size[1], size[0]]) - 1) / 2
    slope = (center - middle) / focal[:, None]
    return np.concatenate([vertices[..., :2] + slope[:, None] * vertices[..., 2:], vertices[..., 2:]], -1)

"""Predictions in the files that PoseTrack's tool poseval and the benchmark's server read, one per sequence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from posekit.arrays import Float64, Int64
from posekit.errors import UserError, one_of
from posekit.files import atomic_write_text
from posekit.json_file import read_json
from posekit.posetrack import (
    SLOTS_2018,
    FrameEntry,
    Paths,
    form_of,
    in_joint_order,
    read_frames,
    sequence_files,
    slots_of,
)
from posekit.skeletons import POSETRACK15

_FIELDS = ("id", "file_name", "frame_id", "vid_id", "nframes", "is_labeled", "width", "height")
_DUMMY_SCORE = -100.0


def write_posetrack_results(
    predictions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    ground_truth_files: Paths,
    out_folder: str | Path,
    form: Literal["auto", "2017", "2018"] = "auto",
    dcpose_compat_dummy: bool = False,
) -> list[Path]:
    """Writes one file per sequence, of the ground truth's file names; each appears whole or not at all.

    Frames without people have an empty list; the people of a frame are in the order of their sample ids. People whose
    sample id came before (repeated by a distributed sampler) are left out.

    Args:
        predictions: One dict or several (``predict_step``'s) with ``keypoints`` (N, 15 or 17, 3): x, y in original px
            and the joint's score, in the order of POSETRACK15 or of the 2018 files' 17 slots; a joint whose score is
            NaN is absent; ``image_id`` (N,) as :class:`~posekit.metrics.PoseTrackAP` takes them; optional ``scores``
            (N,) of people, ``sample_id`` (N,) and ``track_id`` (N,).
        ground_truth_files: Folder of the sequences' files of the split, or the files.
        out_folder: Made if it is not there.
        form: ``"2017"`` (``annolist``), ``"2018"`` (also 21's; ``images`` and ``annotations``), or ``"auto"``: that of
            each ground-truth file.
        dcpose_compat_dummy: Give frames without people a person of one joint, the right ankle at (0, 0) with score
            -100, as DCPose does. In labelled frames that is a false positive.

    Returns:
        The files.

    Raises:
        UserError: A ground-truth file is missing or faulty, or a prediction is for a frame that they lack.
        ValueError: A wrong number of joints.
    """
    one_of("form of PoseTrack results", form, ("auto", "2017", "2018"))
    people = _gather([predictions] if isinstance(predictions, Mapping) else predictions)
    files = sequence_files(ground_truth_files, "ground truth")
    # As PoseTrackAP has them, for poseval breaks ties by the order: people without an id (-1) stay as they came.
    order = np.lexsort((np.maximum(people["sample"], -1), people["image_id"]))
    ids = people["image_id"][order]
    running, known, written = 0, 0, []
    for name, path in files.items():
        content = read_json(path, "ground truth")
        frames = read_frames(path, content)  # its people do not matter
        image_ids = [f.image_id if f.image_id >= 0 else running + i for i, f in enumerate(frames)]
        running += len(frames)
        rows = [order[slice(*np.searchsorted(ids, [i, i + 1]))] for i in image_ids]
        known += sum(map(len, rows))
        write = _as_2017 if (form_of(path, content) if form == "auto" else form) == "2017" else _as_2018
        result = write(path, content, frames, image_ids, rows, people, dcpose_compat_dummy)
        written.append(Path(out_folder) / name)
        atomic_write_text(written[-1], json.dumps(result) + "\n")
    if known < len(ids):
        raise UserError(f"{len(ids) - known} predictions are for frames that the PoseTrack annotations lack")
    return written


def _gather(batches: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Returns all people as arrays in POSETRACK15's order, each sample once."""
    columns: dict[str, list[NDArray[Any]]] = {
        "keypoints": [],
        "image_id": [],
        "scores": [],
        "track_id": [],
        "sample": [],
    }
    for batch in batches:
        points = _array(batch["keypoints"])
        if points.size == 0:
            continue
        points = in_joint_order(points)
        count = len(points)
        columns["keypoints"].append(points)
        columns["image_id"].append(np.broadcast_to(_array(batch["image_id"]), count))
        mean = np.nan_to_num(points[..., 2]).mean(1)
        columns["scores"].append(_array(batch["scores"]) if "scores" in batch else mean)
        tracks = batch.get("track_id", batch.get("track_ids"))
        columns["track_id"].append(np.full(count, -1) if tracks is None else _array(tracks))
        # People of one batch are never the same; -1 - place keeps those apart that have no id.
        sample = batch.get("sample_id", batch.get("sample_ids"))
        before = sum(map(len, columns["sample"]))
        columns["sample"].append(-1 - before - np.arange(count) if sample is None else _array(sample))
    if not columns["keypoints"]:
        return {
            "keypoints": np.zeros((0, len(POSETRACK15), 3)),
            **{n: np.zeros(0, np.int64) for n in list(columns)[1:]},
        }
    people = {name: np.concatenate(parts) for name, parts in columns.items()}
    _, first = np.unique(people["sample"], return_index=True)
    people = {name: values[np.sort(first)] for name, values in people.items()}
    for name in ("image_id", "track_id"):
        people[name] = people[name].astype(np.int64)
    return people


def _array(values: Any) -> NDArray[Any]:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def _as_2017(
    path: Path,
    content: Mapping[str, Any],
    frames: Sequence[FrameEntry],
    image_ids: Sequence[int],
    rows: Sequence[Int64],
    people: Mapping[str, NDArray[Any]],
    dummy: bool,
) -> dict[str, Any]:
    listed = content.get("annolist") or [{}] * len(frames)
    annolist = []
    for place, (frame, own) in enumerate(zip(frames, rows, strict=True)):
        persons = [
            {
                "annopoints": [{"point": _points(people["keypoints"][row])}],
                "score": [round(float(people["scores"][row]), 6)],
                "track_id": [int(people["track_id"][row])] if people["track_id"][row] >= 0 else [int(k)],
            }
            for k, row in enumerate(own)
        ]
        if dummy and not persons:
            point = {"id": [0], "x": [0.0], "y": [0.0], "score": [_DUMMY_SCORE]}
            persons = [{"annopoints": [{"point": [point]}], "score": [_DUMMY_SCORE], "track_id": [0]}]
        number = listed[place].get("imgnum") or [place + 1]
        annolist.append({"image": [{"name": frame.name}], "imgnum": number, "annorect": persons})
    return {"annolist": annolist}


def _points(joints: Float64) -> list[dict[str, list[float]]]:
    return [
        {"id": [j], "x": [round(float(x), 4)], "y": [round(float(y), 4)], "score": [round(float(score), 6)]}
        for j, (x, y, score) in enumerate(joints)
        if np.isfinite(x + y + score)
    ]


def _as_2018(
    path: Path,
    content: Mapping[str, Any],
    frames: Sequence[FrameEntry],
    image_ids: Sequence[int],
    rows: Sequence[Int64],
    people: Mapping[str, NDArray[Any]],
    dummy: bool,
) -> dict[str, Any]:
    listed = content.get("images")
    if isinstance(listed, list):
        images = [{key: image[key] for key in _FIELDS if key in image} for image in listed]
        columns, categories = slots_of(path, content), content.get("categories")
    else:
        images = [
            {"id": image_id, "file_name": frame.name, "frame_id": image_id, "vid_id": path.stem, "nframes": len(frames)}
            for image_id, frame in zip(image_ids, frames, strict=True)
        ]
        columns, categories = slots_of(path, {}), None
    annotations: list[dict[str, Any]] = []
    for image_id, own in zip(image_ids, rows, strict=True):
        for k, row in enumerate(own):
            track = int(people["track_id"][row])
            entry = _annotation(people["keypoints"][row], columns)
            entry |= {"image_id": image_id, "track_id": track if track >= 0 else k}
            annotations.append({"id": len(annotations), **entry, "score": round(float(people["scores"][row]), 6)})
        if dummy and not len(own):
            ankle = np.full((len(POSETRACK15), 3), np.nan)
            ankle[0] = 0, 0, _DUMMY_SCORE
            entry = {"id": len(annotations), **_annotation(ankle, columns), "image_id": image_id, "track_id": 0}
            annotations.append({**entry, "score": _DUMMY_SCORE})
    usual = [{"supercategory": "person", "id": 1, "name": "person", "keypoints": list(SLOTS_2018), "skeleton": []}]
    return {"images": images, "annotations": annotations, "categories": categories or usual}


def _annotation(joints: Float64, columns: Sequence[int]) -> dict[str, Any]:
    """Returns one person's keypoints and scores in a file's slots; absent joints are zeros."""
    *places, slots = columns
    present = np.isfinite(joints.sum(1))
    values, scores = np.zeros((slots, 3)), np.zeros(slots)
    values[np.array(places)[present]] = np.column_stack([joints[present, :2], np.ones(present.sum())])
    scores[np.array(places)[present]] = joints[present, 2]
    points = [round(float(value), 4) for value in values.reshape(-1)]
    return {"category_id": 1, "keypoints": points, "scores": [round(float(score), 6) for score in scores]}

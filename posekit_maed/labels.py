"""What a run's data are labelled with: joints in 3D, and poses and shapes of one kind of body or another."""

from __future__ import annotations

from typing import Any, NamedTuple

from posekit.data.datamodule import PoseDataModule, Split
from posekit.data.mixture import Mixture


class StrangeBodies(NamedTuple):
    """Data modules, by class name, whose shapes are those of another kind of body than the model's.

    Attributes:
        trained: In training.
        evaluated: In validation or test.
    """

    trained: list[str]
    evaluated: list[str]


def strange_bodies(datamodule: PoseDataModule, stage: str, kind: str) -> StrangeBodies:
    """Finds the data whose shape coefficients mean something else than the model's.

    Args:
        datamodule: The run's, set up.
        stage: ``fit``, ``validate`` or ``test``.
        kind: The model's body: ``SMPL`` or ``builtin``.
    """
    trained, evaluated = [datamodule], datamodule
    if isinstance(datamodule, Mixture):
        trained, evaluated = [part.data for part in datamodule.parts.values() if part.ratio > 0], datamodule.evaluated
    strange = [name for data in trained if stage == "fit" and (name := _strange(data, "train", kind))]
    name = _strange(evaluated, "test" if stage == "test" else "val", kind)
    return StrangeBodies(sorted(set(strange)), [name] if name else [])


def _strange(data: PoseDataModule, split: Split, kind: str) -> str | None:
    own = getattr(data, "LABEL_BODY", None)
    tracks = getattr(data.dataset(split), "tracks", None) if own not in (None, kind) else []
    labelled = tracks is None or any(track.body_pose is not None for track in tracks)
    return type(data).__name__ if labelled else None


def has_joints3d(datamodule: PoseDataModule) -> bool:
    """Tells whether validation has labels in 3D: by its tracks, else by whether bodies are drawn, or a first sample."""
    dataset: Any = datamodule.dataset("val")
    tracks = getattr(dataset, "tracks", None)
    if tracks is None:
        drawn = getattr(datamodule, "LABEL_BODY", None) is not None
        return drawn or (len(dataset) > 0 and "joints3d" in dataset[0])
    weights = [track.joints3d_weight for track in tracks if track.joints3d is not None]
    return any(weight is None or bool((weight > 0).any()) for weight in weights)

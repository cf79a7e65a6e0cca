"""Rules of fields that both forms share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from posekit.arrays import Float64
from posekit.errors import UserError, one_line
from posekit.posetrack.entries import Form
from posekit.skeletons import POSETRACK15

JOINTS = len(POSETRACK15)
SLOTS_2018 = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
_NECKS = ("neck", "upper_neck")  # other names of head_bottom


@contextmanager
def of_form(form: Form, where: str) -> Iterator[None]:
    """Turns what goes wrong with an entry of another build, e.g. a list for an object, into one line.

    Raises:
        UserError: In place of the other exceptions.
    """
    try:
        yield
    except UserError:
        raise
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{where}: an entry is not of PoseTrack's {form} form ({one_line(error)})") from None


def is_empty(value: Any) -> bool:
    """Tells whether there is no value; MATLAB's export writes an empty list or struct then."""
    return value is None or value == [] or value == {}


def slots_of(path: Path, content: Mapping[str, Any]) -> list[int]:
    """Returns where each joint of POSETRACK15 stands among a file's joints, which its categories name, and their count.

    Raises:
        UserError: A joint is missing.
    """
    with of_form("2018", f"{path}: categories"):
        categories = [c for c in content.get("categories") or [] if isinstance(c, Mapping)]
        names = [str(name) for name in (categories[0].get("keypoints") if categories else None) or SLOTS_2018]
    names = ["head_bottom" if name in _NECKS and "head_bottom" not in names else name for name in names]
    missing = [joint for joint in POSETRACK15.joints if joint not in names]
    if missing:
        raise UserError(f"{path}: categories[0].keypoints has {len(names)} names and lacks {', '.join(missing)}")
    return [names.index(joint) for joint in POSETRACK15.joints] + [len(names)]


def in_joint_order(keypoints: Float64) -> Float64:
    """Returns predicted joints (N, 15, 3) in the order of POSETRACK15.

    Args:
        keypoints: (N, 15 or 17, 3) in that order, or in the slots of the 2018 files.

    Raises:
        ValueError: A wrong number of joints.
    """
    if keypoints.ndim != 3 or keypoints.shape[1] not in (JOINTS, len(SLOTS_2018)) or keypoints.shape[2] != 3:
        raise ValueError(f"keypoints has shape {keypoints.shape}, needed is (N, 15 or 17, 3)")
    if keypoints.shape[1] == JOINTS:
        return keypoints
    return keypoints[:, [SLOTS_2018.index(joint) for joint in POSETRACK15.joints]]

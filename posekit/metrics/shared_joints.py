"""The joints that two files of 3D poses have in common, by the names that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posekit.arrays import Float64
from posekit.errors import UserError, listed, unknown_name
from posekit.plugins import load_plugins
from posekit.skeletons import SKELETONS, Skeleton

if TYPE_CHECKING:
    from posekit.data.joint_maps import JointSource

NAME_KEYS = ("skeleton", "joints")
"""Arrays of a file that name its joint set and its joints in order."""
_LEAST = 3  # joints, for an alignment to mean anything


@dataclass(frozen=True)
class NamedJoints:
    """The joints of a file.

    Attributes:
        names: One per joint, in the file's order.
        skeleton: The set of posekit's that they are of; None where they are of none.
        source: Gives what they are in other sets; None where that is not known.
        title: What to call the set in messages.
    """

    names: tuple[str, ...]
    skeleton: Skeleton | None = None
    source: Callable[[], JointSource] | None = None
    title: str = "a set of its own"


@dataclass(frozen=True)
class SharedJoints:
    """Joints that a ground truth and a prediction both have.

    Attributes:
        names: One per joint, those of the ground truth.
        truth: The ground truth's joints that each is the mean of.
        found: The prediction's joint that each is.
    """

    names: tuple[str, ...]
    truth: tuple[tuple[int, ...], ...]
    found: tuple[int, ...]

    def of_truth(self, points: Float64) -> Float64:
        """Returns the shared ones of a ground truth's joints (..., J, C)."""
        return np.stack([points[..., list(own), :].mean(-2) for own in self.truth], -2)

    def of_weight(self, weight: Float64) -> Float64:
        """Returns their weights, of weights (..., J): a mean has the least of its joints'."""
        return np.stack([weight[..., list(own)].min(-1) for own in self.truth], -1)

    def of_found(self, points: Float64) -> Float64:
        """Returns the shared ones of a prediction's joints (..., K, C)."""
        return points[..., list(self.found), :]

    def note(self, truth: NamedJoints, found: NamedJoints, gt: Path, results: Path) -> str:
        """Says how many joints are compared, and of which sets."""
        sets = f"{results.name} has {len(found.names)} of {found.title}, {gt.name} {len(truth.names)} of {truth.title}"
        left_out = [name for name in found.names if found.names.index(name) not in self.found]
        more = f"; not compared: {', '.join(left_out)}" if 0 < len(left_out) <= 10 else ""
        return f"{len(self.names)} joints compared, by name: {sets}{more}"


def joints_of(skeleton: Skeleton) -> NamedJoints:
    """Returns the joints of a file that names none, and whose order is taken for a set's."""
    source = partial(_source, skeleton, skeleton.joints)
    return NamedJoints(skeleton.joints, skeleton, source, f"{skeleton.name} (by order: it names none)")


def named_joints(arrays: Mapping[str, Any], count: int, path: Path) -> NamedJoints | None:
    """Returns the joints that a file names in :data:`NAME_KEYS`; None where it does not.

    A set of another name than posekit's and the plug-ins' is known by the names of its joints. Numbers under these keys
    are none.

    Args:
        arrays: The file's content.
        count: Joints of its poses.
        path: The file, for messages.

    Raises:
        UserError: The names do not fit the poses or one another, or only a set is named, and none that is known.
    """
    sets, names = (_texts(arrays.get(key)) for key in NAME_KEYS)
    if len(set(sets)) > 1:
        raise UserError(f"{path.name}: poses of several joint sets: {listed(sorted(set(sets)))}")
    if sets and sets[0] not in SKELETONS:
        load_plugins()  # one of them may have brought it
    skeleton = SKELETONS.get(sets[0]) if sets else None
    if sets and not names and skeleton is None:
        raise unknown_name(f"skeleton in {path.name}, which has no joints' names", sets[0], SKELETONS)
    if not names:
        if skeleton is None:
            return None
        names = skeleton.joints
    if len(names) != count:
        raise UserError(f"{path.name}: {len(names)} joints are named, but its poses have {count}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{path.name}: joint {twice[0]!r} is named twice")
    skeleton = skeleton or next((s for s in SKELETONS.values() if set(s.joints) == set(names)), None)
    if skeleton is None:
        return NamedJoints(names)
    strange = [name for name in names if name not in skeleton.joints]
    if strange:
        raise unknown_name(f"joint of {skeleton.name}, the joint set of {path.name},", strange[0], skeleton.joints)
    return NamedJoints(names, skeleton, partial(_source, skeleton, names), skeleton.name)


def shared_joints(truth: NamedJoints, found: NamedJoints, gt: Path, results: Path) -> SharedJoints:
    """Returns the joints that a ground truth and a prediction both have.

    Joints of posekit's sets are mapped as the data modules map labels: Human3.6M's thorax is another set's neck, and
    LIMB17's pelvis the middle of the hips.

    Args:
        truth: The joints of the ground truth.
        found: The joints of the prediction.
        gt: File of the ground truth, for messages.
        results: File of the prediction, for messages.

    Raises:
        UserError: It is not known how the two sets go together, or they share next to nothing.
    """
    pairs: dict[str, tuple[tuple[int, ...], int]] = {}
    if set(truth.names) == set(found.names):
        pairs = {name: ((place,), found.names.index(name)) for place, name in enumerate(truth.names)}
    elif truth.source is not None and found.skeleton is not None:
        matrix = truth.source().map_to(found.skeleton).matrix
        for joint, row in zip(found.skeleton.joints, matrix, strict=True):
            own = tuple(np.flatnonzero(row).tolist())
            if own and joint in found.names:
                name = truth.names[own[0]] if len(own) == 1 else joint
                pairs.setdefault(name, (own, found.names.index(joint)))
    else:
        others = [name for name in found.names if name not in truth.names] or list(found.names)
        raise UserError(
            f"{results.name} has other joints than {gt.name} ({listed(others)}); maps are known between "
            f"{', '.join(SKELETONS)} alone (arrays skeleton and joints; without them joints go by their order)"
        )
    if len(pairs) < _LEAST:
        raise UserError(
            f"{results.name} ({found.title}) and {gt.name} ({truth.title}) share {len(pairs)} joints, "
            f"{_LEAST} are needed"
        )
    names = tuple(sorted(pairs, key=lambda name: truth.names.index(name) if name in truth.names else len(truth.names)))
    return SharedJoints(names, tuple(pairs[name][0] for name in names), tuple(pairs[name][1] for name in names))


def _source(skeleton: Skeleton, names: tuple[str, ...]) -> JointSource:
    """Returns what a set's joints, or some of them in any order, are in other sets."""
    from posekit.data.joint_maps import source_of  # the data modules take seconds to import

    source = source_of(skeleton)
    known = {
        other: {joint: own if own in names else None for joint, own in special.items()}
        for other, special in source.instead.items()
    }
    return replace(source, joints=names, instead=known)


def _texts(value: Any) -> tuple[str, ...]:
    """Returns text of a file, one or several; nothing where it is something else."""
    try:
        texts = np.atleast_1d(np.asarray(value))
    except ValueError:  # lists of different length
        return ()
    if texts.dtype.kind == "S":
        texts = np.char.decode(texts, "utf-8", "replace")
    return tuple(texts.tolist()) if texts.dtype.kind == "U" and texts.ndim == 1 else ()

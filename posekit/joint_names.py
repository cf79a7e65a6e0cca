"""Joint names of files, in whatever spelling, beside those of a joint set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from posekit.errors import excerpt
from posekit.skeletons import SKELETONS, Skeleton

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_GAP = re.compile(r"[\W_]+")
_NUMBERED = re.compile(r"[a-z]{0,8}\d+|[a-z]?")  # "12", "kp3", "x": a count, no name
_SIDES = {"left": "left", "right": "right", "l": "left", "r": "right"}
# Parts of the trunk that data sets call differently. A file and a set may have several of a row; see match_joints.
_SAME = (
    ("headtop", "head", "tophead", "topofhead"),
    ("neck", "upperneck", "headbottom", "neckbase"),
    ("pelvis", "hip", "hips", "root", "midhip", "hipcenter"),
)


class JointMatch(NamedTuple):
    """How a file's joints belong to a set's; one of the three says something, or they are the set's as they stand."""

    order: list[int] | None = None  # (K,) the file's joint for each of the set's, where they stand in another order
    remark: str = ""  # what is taken by its place
    fault: str = ""  # why they cannot be the set's


def match_joints(names: Sequence[str], skeleton: Skeleton) -> JointMatch:
    """Finds each joint of a set among a file's, by name.

    Case, separators, humps (``leftEye``) and the form of the sides (``L_Ankle``, ``ankle-right``, ``rhip``) do not
    matter. The same names in another order are put in the set's order. Joints without a name (``kp_1``, ``12``), or all
    of a file in which no name is known, are taken by their places. Names of other joints are a fault.

    Args:
        names: (K,) of the file's joints, as many as the set has.
        skeleton: The joint set.
    """
    keys = _keys(names)
    places = _places(keys, skeleton)
    if None not in places and len(set(places)) == len(places):
        order = [places.index(place) for place in range(len(places))]
        return JointMatch(None if order == sorted(order) else order)
    unknown = [row for row, place in enumerate(places) if place is None]
    moved = any(place not in (None, row) for row, place in enumerate(places))
    named = len(unknown) < len(places)
    if moved or any(keys[row] in _known() or (named and not _is_numbered(names[row])) for row in unknown):
        strange = [names[row] for row in unknown]
        doubled = [name for row, name in enumerate(names) if places[row] in places[:row] and places[row] is not None]
        return JointMatch(fault=_fault(strange, doubled, skeleton))
    taken, meant = [names[row] for row in unknown], [skeleton.joints[row] for row in unknown]
    return JointMatch(remark=f"joints {_first(taken)} are taken by their places, as {_first(meant)} of {skeleton.name}")


def sets_of(names: Sequence[str]) -> list[str]:
    """Returns the names of posekit's joint sets that a file's joints are, in whatever order."""
    keys = _keys(names)
    alike = (s for s in SKELETONS.values() if len(s) == len(names))
    return [s.name for s in alike if set(_places(keys, s)) == set(range(len(s)))]


def set_hint(names: Sequence[str]) -> str:
    """Returns what a message about a wrong joint set says of the right one."""
    fitting = sets_of(names)
    if fitting:
        return f"they are {fitting[0]}'s: COCOKeypoints with --data.annotated_skeleton {fitting[0]} takes them"
    return "--data.annotated_skeleton of COCOKeypoints names a file's set; categories names its joints"


def _fault(strange: list[str], doubled: list[str], skeleton: Skeleton) -> str:
    parts = [f"{_first(strange, 6)} {'is' if len(strange) == 1 else 'are'} not of it"] if strange else []
    parts += [f"{_first(doubled, 6)} {'is' if len(doubled) == 1 else 'are'} named twice"] if doubled else []
    return f"its joints are not those of skeleton {skeleton.name}: {'; '.join(parts)}"


def _first(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(excerpt(name)[1:-1] for name in names[:shown]) + (", …" if len(names) > shown else "")


def _places(keys: list[str], skeleton: Skeleton) -> list[int | None]:
    """Returns which joint of a set each key names; None for none of it."""
    own = {_key(joint): place for place, joint in enumerate(skeleton.joints)}
    places = [own.get(key) for key in keys]
    for same in _SAME:
        loose = [row for row, key in enumerate(keys) if places[row] is None and key in same]
        free = [own[key] for key in same if key in own and own[key] not in places]
        if len(loose) == len(free) == 1:  # of several nothing would tell which is which
            places[loose[0]] = free[0]
    return places


def _is_numbered(name: str) -> bool:
    return _NUMBERED.fullmatch("".join(_GAP.split(name.lower()))) is not None and _key(name) not in _known()


@cache
def _known() -> frozenset[str]:
    """Returns the keys of all joints of posekit's sets, and of their other names."""
    joints = {_plain_key(joint) for skeleton in SKELETONS.values() for joint in skeleton.joints}
    return frozenset(joints.union(*_SAME))


def _keys(names: Sequence[str]) -> list[str]:
    """Returns the names in the form in which they are compared, without what all begin or end with (``kp_nose``)."""
    keys = [_key(name) for name in names]
    if len(names) < 2 or any(key in _known() for key in keys):
        return keys
    words = [[word for word in _GAP.split(_HUMP.sub("_", name)) if word] for name in names]
    while all(len(own) > 1 for own in words) and len({own[0].lower() for own in words}) == 1:
        words = [own[1:] for own in words]
    while all(len(own) > 1 for own in words) and len({own[-1].lower() for own in words}) == 1:
        words = [own[:-1] for own in words]
    return [_key("_".join(own)) for own in words]


def _key(name: str) -> str:
    """Returns a name in the form in which names are compared: side, if any, and the rest without separators."""
    key = _plain_key(name)
    if key in _known():
        return key
    # "00_nose", "nose_0"; "leftankle", "rhip", "ankleright": only where a joint comes of it.
    digits = "0123456789"
    forms = [form for form in map(_plain_key, (name.lstrip(digits), name.rstrip(digits), name.strip(digits))) if form]
    for form in tuple(forms):
        for side, whole in _SIDES.items():
            forms += [f"{whole}_{form[len(side) :]}"] * form.startswith(side)
            forms += [f"{whole}_{form[: -len(side)]}"] * (form.endswith(side) and len(side) > 1)
    return next((form for form in forms if form in _known()), forms[0] if forms else key)


def _plain_key(name: str) -> str:
    words = [word for word in _GAP.split(_HUMP.sub("_", name).lower()) if word]
    sides = [word for word in words if word in ("left", "right")]
    sides = sides or [word for word in {*words[:1], *words[-1:]} if word in _SIDES]
    if len(sides) != 1 or len(words) < 2:
        return "".join(words)
    return f"{_SIDES[sides[0]]}_{''.join(word for word in words if word != sides[0])}"

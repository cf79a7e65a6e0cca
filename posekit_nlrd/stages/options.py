"""What a stage's options may be: each field's annotation says its type and range, and one function checks them all."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from posekit.errors import as_names, in_range, one_of, yes_or_no

Count = Annotated[int, "[1, inf)"]
Positive = Annotated[float, "(0, inf)"]
NotNegative = Annotated[float, "[0, inf)"]
Share = Annotated[float, "[0, 1]"]
Degrees = Annotated[float, "[0, 180]"]


def checked(options: type, stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that a user gave a stage; a name alone is a list of one, where a list is wanted.

    Args:
        options: The dataclass. An annotated number holds its interval, an annotated string the known ones.
        stage: The stage's name.
        values: Options by name.

    Raises:
        UserError: An option that there is not, or a value of another type or out of its range.
    """
    hints = get_type_hints(options, include_extras=True)
    for name in values:
        one_of(f"option of stage {stage}", name, hints)
    return {name: _checked(stage, name, value, hints[name]) for name, value in values.items()}


def _checked(stage: str, name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    none = NoneType in kinds
    if none and value is None:
        return None
    (kind,) = (kind for kind in kinds if kind is not NoneType)
    owner = f"stage {stage}"
    if kind is bool:
        return yes_or_no(owner, name, value)
    if get_origin(kind) is not Annotated:
        return as_names(owner, name, value)
    base, known = get_args(kind)
    if base is not str:
        return in_range(owner, name, value, known, whole=base is int, none=none)
    one_of(f"{name} of stage {stage}", value, known)
    return value

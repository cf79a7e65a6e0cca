"""The six stages of Algorithm 1, one file each, and what makes a schedule of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posekit.errors import UserError, excerpt, one_of
from posekit_nlrd.networks import STAGES, Networks
from posekit_nlrd.stages.adaptation import AdaptationStage
from posekit_nlrd.stages.base import Rates, Stage, Tools, read_options
from posekit_nlrd.stages.motion import MotionStage
from posekit_nlrd.stages.motion_relations import MotionRelationsStage
from posekit_nlrd.stages.pose import PoseStage
from posekit_nlrd.stages.pose_relation import PoseRelationStage
from posekit_nlrd.stages.source import SourceStage

__all__ = ["STAGES", "STAGE_CLASSES", "Rates", "Stage", "Tools", "build_stages", "missing_stages"]

STAGE_CLASSES: dict[str, type[Stage]] = {
    cls.name: cls
    for cls in (PoseStage, MotionStage, SourceStage, PoseRelationStage, MotionRelationsStage, AdaptationStage)
}


def build_stages(specs: str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]], networks: Networks) -> list[Stage]:
    """Builds the stages of a schedule.

    Args:
        specs: Names, or mappings of ``name`` and the stage's options, in the order in which they run; or one of them.
        networks: All networks.

    Raises:
        UserError: An unknown stage or option, a stage twice, or one in front of another that it builds on.
    """
    if not specs:
        raise UserError(f"stages is empty; known stages: {', '.join(STAGES)}")
    rows: list[Any] = list(specs) if isinstance(specs, Sequence) and not isinstance(specs, str) else [specs]
    stages = [_build_stage(spec, networks) for spec in rows]
    _check_order([stage.name for stage in stages])
    return stages


def _build_stage(spec: str | Mapping[str, Any], networks: Networks) -> Stage:
    if not isinstance(spec, str | Mapping):
        raise UserError(f"stages must list names, or mappings of name and options, not {excerpt(spec)}")
    values = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = str(values.pop("name", None))
    one_of("stage", name, STAGE_CLASSES)
    cls = STAGE_CLASSES[name]
    stage = cls(networks, read_options(cls, values))
    stage.check()
    if stage.options.steps is not None:
        stage.check_length(stage.options.steps)
    return stage


def missing_stages(stages: Sequence[Stage], done: set[str]) -> str | None:
    """Returns the reason why a schedule cannot run on weights that went through the stages ``done``, or None."""
    known = set(done)
    for stage in stages:
        missing = [name for name in STAGES if name in stage.builds_on() and name not in known]
        if missing:
            return (
                f"stage {stage.name} builds on {', '.join(missing)}: put "
                f"{'it' if len(missing) == 1 else 'them'} before it in stages, or give init_from a checkpoint of a run "
                "that has been there"
            )
        known.add(stage.name)
    return None


def _check_order(names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"stages lists {name} twice")
        late = [other for other in names[place + 1 :] if STAGES.index(other) < STAGES.index(name)]
        if late:
            raise UserError(f"stages are in the wrong order: {late[0]} comes before {name} ({' -> '.join(STAGES)})")

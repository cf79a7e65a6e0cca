"""Options of stages: each one is checked when the model is built, before an earlier stage has cost anything."""

from dataclasses import fields

import pytest

from posekit.errors import UserError
from posekit_nlrd.augment import Draws
from posekit_nlrd.stages import STAGE_CLASSES
from posekit_nlrd.stages.options import checked
from posekit_nlrd.stages.source import tilt_angle
from tests.nlrd.conftest import CPU, make_data, make_model, make_trainer

POSE = {"name": "pose", "steps": 2, "poses": 8}
EVERY = [(stage, field.name) for stage, cls in STAGE_CLASSES.items() for field in fields(cls.options_class)]


def refused(stage, **options):
    with pytest.raises(UserError) as caught:
        make_model([POSE, {"name": stage, **options}] if stage != "pose" else [{**POSE, **options}])
    line = str(caught.value)
    assert "\n" not in line
    assert f"stage {stage}" in line
    return line


@pytest.mark.parametrize(("stage", "option"), EVERY)
def test_every_option_refuses_another_type_and_what_no_range_holds(stage, option):
    for value in ("x", float("nan"), -5, [3], {}):
        assert option.rstrip("s") in refused(stage, **{option: value})


@pytest.mark.parametrize(("stage", "option"), EVERY)
def test_every_default_lies_in_its_own_range(stage, option):
    options = STAGE_CLASSES[stage].options_class
    value = getattr(options(), option)
    assert checked(options, stage, {option: value}) == {option: list(value) if isinstance(value, tuple) else value}


@pytest.mark.parametrize(
    ("stage", "options", "text"),
    [
        ("pose", {"poses": 8.5}, "poses must be a whole number of at least 1, not 8.5"),
        ("pose", {"flip": 7}, "flip must be a number in [0, 1], not 7"),
        ("pose", {"steps": 2.5}, "steps must be a whole number of at least 1 (or null), not 2.5"),
        ("pose", {"steps": True}, "not True"),
        ("pose", {"schedule": ["cosine"]}, "unknown schedule of stage pose"),
        ("motion", {"velocity_weight": "a"}, "velocity_weight must be a number of at least 0, not 'a'"),
        ("motion", {"tilt": 181}, "tilt must be a number in [0, 180], not 181"),
        ("source", {"jitter": 3}, "jitter must be a number in [0, 1], not 3"),
        ("pose_relation", {"poses": 0}, "poses must be a whole number of at least 1, not 0"),
        ("adaptation", {"temperature": 0}, "temperature must be a number above 0, not 0"),
        ("adaptation", {"heads": "yes please"}, "heads must be true or false, not 'yes please'"),
        ("adaptation", {"heads": None}, "heads must be true or false, not None"),
        ("adaptation", {"terms": [3]}, "terms must be a list of names, not [3]"),
        (
            "adaptation",
            {"steps": 2, "statistics_steps": 5},
            "statistics_steps is 5, but the stage has 2 steps in all",
        ),
    ],
)
def test_messages_name_stage_option_value_and_choices(stage, options, text):
    assert text in refused(stage, **options)


def test_statistics_longer_than_the_passes_over_the_data_are_found_before_the_first_step(tmp_path):
    model = make_model([POSE, {"name": "source", "steps": 1}, {"name": "adaptation", "terms": "lcr", "epochs": 1,
                                                               "statistics_steps": 99}])  # fmt: skip
    with pytest.raises(UserError, match="statistics_steps is 99, but the stage has 3 steps"):
        make_trainer(tmp_path).fit(model, datamodule=make_data())
    assert model.iteration == 0


def test_a_stage_of_statistics_alone_is_one():
    assert make_model([{"name": "adaptation", "steps": 5, "statistics_steps": 5}]).plan.total == 5


def test_a_name_alone_is_a_list_of_one():
    (stage,) = make_model({"name": "adaptation", "terms": "lcr", "layers": "layer2"}).stages
    assert (stage.terms, stage.options.layers) == (["lcr"], ["layer2"])
    model = make_model("pose_relation", relations="flip", protocols="gt14")
    assert (list(model.networks.relations), [stage.name for stage in model.stages]) == (["flip"], ["pose_relation"])
    assert list(model.evaluations["val_target"].protocols) == ["gt14"]
    for stages in (5, [5], [["pose"]]):
        with pytest.raises(UserError, match="stages must list names, or mappings of name and options, not"):
            make_model(stages)


@pytest.mark.parametrize("limit", [0.25, 0.9, 1, 1.5, 7.5])
def test_small_and_broken_limits_tilt_to_both_sides(limit):
    found = {tilt_angle(limit, Draws(CPU, number)) for number in range(300)}
    assert (min(found), max(found)) == (-limit, limit)
    assert sorted(found) == sorted(-angle for angle in found)
    assert len(found) <= 2 * limit + 3


def test_whole_limits_tilt_as_the_release_does():
    assert {tilt_angle(10.0, Draws(CPU, number)) for number in range(400)} == {float(a) for a in range(-10, 10)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"theta": float("nan")}, "NLRD: theta must be a number in"),
        ({"latent_range": float("nan")}, "NLRD: latent_range must be a number above 0, not nan"),
        ({"relation_widths": [0]}, "NLRD: relation_widths must be a whole number of at least 1, not 0"),
        ({"head_convs": [8.5]}, "NLRD: head_convs must be a whole number"),
        ({"head_widths": "ab"}, "NLRD: head_widths must be a list of numbers, not 'ab'"),
        ({"seed": 1.5}, "NLRD: seed must be a whole number"),
        ({"backbone_options": {"widths": [8, 8]}}, "backbone 'tiny': widths must be four numbers, not"),
        ({"backbone_options": {"widths": [8, 8, 8, "a"]}}, "backbone 'tiny': widths must be a whole number"),
        ({"backbone": "small", "head": "joints", "backbone_options": {"depth": 3}}, "backbone 'small': .*'depth'"),
        ({"relations": [3]}, "NLRD: relations must be a list of names, not"),
    ],
)
def test_options_of_the_model_out_of_range(options, text):
    with pytest.raises(UserError, match=f"^{text}"):
        make_model(["pose"], **options)

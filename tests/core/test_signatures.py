"""Arguments of classes that hand on what they do not name."""

import pytest

from posekit.data import MPII, COCOKeypoints, LSPExtended, PoseTrack
from posekit.data.annotated import AnnotatedPeople
from posekit.data.body3d.module import BodyDataModule
from posekit.signatures import arguments_of, constructors, defaults_of


class Plain:
    def __init__(self, root, size=3):
        pass


class HandsOn(Plain):
    def __init__(self, root="here", own=1, **options):
        super().__init__(root, **options)


class NamesAll(HandsOn):
    def __init__(self, size=4):
        super().__init__(size=size)


def test_arguments_reach_as_far_as_they_are_handed_on():
    assert set(arguments_of(HandsOn)) == {"root", "own", "size"}
    assert set(arguments_of(NamesAll)) == {"size"}
    assert constructors(HandsOn) == [HandsOn.__init__, Plain.__init__]


def test_the_nearer_default_counts():
    assert defaults_of(HandsOn) == {"root": "here", "own": 1, "size": 3}
    assert defaults_of(Plain) == {"size": 3}
    assert arguments_of(object) == {}


def test_data_modules_hand_on_to_their_base():
    known = defaults_of(LSPExtended)
    assert (known["frames"], known["window"], known["batch_size"]) == (1, "pool", 8)
    assert {"annotated_skeleton", "detections", "scene_fit", "num_workers"} <= set(arguments_of(COCOKeypoints))


@pytest.mark.parametrize("cls", [COCOKeypoints, MPII, LSPExtended])
def test_an_unknown_argument_is_named(cls):
    with pytest.raises(TypeError, match="boxscale"):
        cls("data", boxscale=2.0)


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (COCOKeypoints, ("data", "crops", (192, 256), "train.json")),
        (MPII, ("data", (256, 256), None, None, "images", None, 1.25)),
        (PoseTrack, ("data", "clips", None, "auto", None, None, None, ".", "boxes.json")),
        (LSPExtended, ("data", 0.1, "clips")),
    ],
)
def test_options_of_the_base_are_taken_by_name_alone(cls, given):
    with pytest.raises(TypeError, match="positional"):
        cls(*given)


def test_help_of_options_that_differ_between_data_sets_is_true_for_each():
    limit, rate = (" ".join(cls.__doc__.split()) for cls in (AnnotatedPeople, BodyDataModule))
    assert "of PoseTrack the first so many sequence files" in limit
    assert "Not used with 3DPW, whose rate is known" in rate

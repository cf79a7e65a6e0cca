"""Mistakes of a user: one clear line each."""

import pytest
import torch

from posekit.data import Human36M, SyntheticPeople
from posekit.errors import UserError
from posekit_nlrd import NLRD, NLRDData
from posekit_nlrd.streams import target_batch
from tests.nlrd.conftest import CHAIN, make_data, make_model, make_trainer
from tests.nlrd.figures import StickMotion, StickPeople


def refused(match, stages, folder, **parts):
    model = make_model(stages)
    with pytest.raises(UserError, match=match) as info:
        make_trainer(folder).fit(model, datamodule=make_data(**parts))
    assert "\n" not in str(info.value)


POSE = {"name": "pose", "steps": 1, "poses": 4}


@pytest.mark.parametrize(
    ("stages", "parts", "match"),
    [
        ([POSE], {"motion": StickMotion(fault="nan")}, "data.motion: sample 1 holds joints that are NaN"),
        ([POSE], {"motion": StickMotion(fault="missing")}, "data.motion: sample 1 lacks joints"),
        ([POSE], {"motion": StickMotion(skeleton="COCO17")}, "COCO17 lacks neck, head_top"),
        ([POSE], {"motion": StickPeople()}, "data.motion gives no windows of motion"),
        ([POSE], {"motion": None}, "set data.motion"),
        ([POSE, {"name": "motion", "steps": 1}], {"motion": StickMotion(frames=20)}, "windows of 20 frames.*needs 30"),
        ([POSE, {"name": "source", "steps": 1}], {"source": StickMotion()}, "data.source gives no pictures with 3D"),
        (CHAIN, {"target": StickPeople("clips", "target", size=0)}, "data.target has no train clips of 60 frames"),
        (CHAIN, {"target": None}, "set data.target"),
        (
            CHAIN,
            {"target": StickPeople("clips", size=2, batch_size=1)},
            "one clip.*lcr, hcr.*data.target.*batch_size to 2",
        ),
        (CHAIN, {"target": StickPeople(domain="target", labels=False)}, "data.target gives no clips"),
        (CHAIN, {"target": StickPeople("clips", frames=40, size=2, batch_size=2)}, "windows of 40 frames.*needs 60"),
        ([*CHAIN[:2], *CHAIN[3:5]], {"motion": StickMotion(frames=45)}, "motion_relations needs 60"),
    ],
)
def test_data_that_does_not_serve(stages, parts, match, tmp_path):
    refused(match, stages, tmp_path, **parts)


@pytest.mark.parametrize(("frames", "starts"), [(4, [0, 2]), (6, [0])])
def test_clips_of_the_target_hold_no_padding(tmp_path, frames, starts):
    pytest.importorskip("h5py")
    from tests.data3d.test_human36m import write_official

    options = {"view": "clips", "frames": frames, "window": "chunk", "hop": 3, "image_size": [48, 48]}
    target = Human36M(str(write_official(tmp_path)), **options)
    target.dataset("train")  # looked at before
    data = make_data(target=target)
    data.setup("fit")
    clips = target.dataset("train")
    assert [clips[(0, i)]["frame"][0].item() for i in range(len(clips))] == starts
    target = Human36M(str(tmp_path), **{**options, "frames": 7})
    with pytest.raises(UserError, match=r"data.target has no train clips of 7 frames"):
        make_data(target=target).setup("fit")


def test_filled_up_clips_of_the_target_are_refused():
    batch = {"image": torch.zeros(2, 3, 3, 8, 8), "sample_id": torch.tensor([4, 5]), "valid": torch.ones(2, 3).bool()}
    batch["valid"][1, 2] = False
    with pytest.raises(UserError, match=r"data.target: sample 5 has fewer than 3 frames and is filled up"):
        target_batch(batch)


def test_short_windows_of_a_late_stage_are_found_before_the_first_step(tmp_path):
    model = make_model(CHAIN)
    with pytest.raises(UserError, match="stage adaptation needs 60"):
        make_trainer(tmp_path).fit(
            model, datamodule=make_data(target=StickPeople("clips", frames=40, size=2, batch_size=2))
        )
    assert model.iteration == 0


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        (["motion", "pose"], "wrong order: pose comes before motion"),
        (["pose", "pose"], "lists pose twice"),
        (["poes"], "unknown stage 'poes'.*Did you mean pose"),
        ([], "stages is empty"),
        ([{"name": "pose", "step": 3}], "unknown option of stage pose 'step'.*Did you mean steps"),
        ([{"name": "pose", "steps": 0}], "steps must be a whole number of at least 1"),
        ([{"name": "pose", "lr": -1.0}], "lr must be a number above 0, not -1"),
        ([{"name": "pose", "cap": 0}], r"stage pose: cap must be a whole number of at least 1 \(or null\), not 0"),
        ([{"name": "pose", "warmup_steps": 1.5}], "warmup_steps must be a whole number"),
        ([{"name": "pose", "optimizer": "adan"}], "optimizer of stage pose"),
        ([{"name": "pose", "schedule": "step"}], "schedule of stage pose"),
        ([{"name": "pose", "steps": None}], "set steps or epochs"),
        ([{"name": "pose_relation", "loss_space": "pixels"}], "loss_space"),
        ([{"name": "adaptation", "terms": ["flipp"]}], "term of stage adaptation 'flipp'"),
        ([{"name": "adaptation", "terms": []}], "no terms"),
        ([{"name": "adaptation", "layers": ["layer4"]}], "layer of stage adaptation"),
        ([{"name": "adaptation", "frames": 0}], "frames must be a whole number of at least 1"),
        ([{"name": "adaptation", "motion_clips": 0}], "motion_clips must be a whole number of at least 1"),
        ([{"name": "adaptation", "motion_clips": 1}], "motion_clips must be at least 2 for term hcr"),
        ([{"name": "adaptation", "statistics_steps": -1}], "statistics_steps must be a whole number of at least 0"),
        ([{"name": "pose_relation", "mixed": 1.5}], r"mixed must be a number in \[0, 1\]"),
    ],
)
def test_schedules_that_cannot_run(stages, match):
    with pytest.raises(UserError, match=match) as info:
        make_model(stages)
    assert "\n" not in str(info.value)


def test_stages_without_their_ground(tmp_path):
    refused("stage adaptation builds on pose, motion, source, pose_relation, motion_relations", CHAIN[5:], tmp_path)
    refused("stage motion builds on pose: put it before", CHAIN[1:2], tmp_path)


def test_a_start_that_has_not_been_far_enough(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.fit(make_model(CHAIN[:1]), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "pose.ckpt")
    with pytest.raises(UserError, match="stage motion_relations builds on motion"):
        make_model(CHAIN[4:5], init_from=str(tmp_path / "pose.ckpt"))
    assert make_model(CHAIN[1:2], init_from=str(tmp_path / "pose.ckpt")).networks.done() == {"pose"}


def test_options_out_of_range():
    for options, match in (
        ({"latent_range": 0.0}, "latent_range"),
        ({"adversary": "none"}, "adversary"),
        ({"relations": ["flop"]}, "unknown relation"),
        ({"border": "wrap"}, "border"),
        ({"backbone": "vgg"}, "backbone"),
        ({"head": "joint"}, "unknown head of NLRD 'joint'"),
        ({"head": "joints"}, "head 'joints' needs the heatmaps of backbone 'small', not 'tiny'"),
        ({"backbone_options": {"depth": 3}}, "no option 'depth'"),
        ({"protocols": ["gt"]}, "protocol"),
    ):
        with pytest.raises(UserError, match=match):
            make_model(["pose"], **options)
    with pytest.raises(UserError, match="nothing to learn"):
        make_model(["pose_relation"], relations=["slow_backward"])
    with pytest.raises(UserError, match="at least one of its parts"):
        NLRDData()
    with pytest.raises(UserError, match="epoch_steps"):
        make_data(epoch_steps=0)


def test_backbone_weights_are_read_in_training_alone(tmp_path):
    stages = [POSE, {"name": "source", "steps": 1}]
    with pytest.raises(UserError, match="no_such_file"):
        make_trainer(tmp_path).fit(make_model(stages, backbone_weights="no_such_file.pth"), datamodule=make_data())
    options = {"backbone": "small", "backbone_weights": "starter"}
    model = make_model(stages, **options)
    before = model.networks.image.trunk.layer1[0].conv1.weight.clone()
    model.trainer = make_trainer(tmp_path)
    model.trainer.datamodule = make_data()
    model.on_fit_start()
    assert not torch.equal(model.networks.image.trunk.layer1[0].conv1.weight, before)
    model.networks.stages_done[2] = True  # it went through the source stage: its weights are its own
    after = model.networks.image.trunk.layer1[0].conv1.weight.data.zero_()
    model.on_fit_start()
    assert after.abs().max() == 0


def test_nlrd_trains_on_its_own_data_module(tmp_path):
    with pytest.raises(UserError, match="NLRD trains on NLRDData"):
        make_trainer(tmp_path).fit(make_model([POSE]), datamodule=StickMotion())


def test_default_schedule_leaves_out_what_no_relation_needs():
    small = {"backbone": "tiny", "image_size": [48, 48], "head_convs": [8], "head_widths": [8]}
    names = [stage.name for stage in NLRD(relations=["flip"], **small).stages]
    assert names == ["pose", "motion", "source", "pose_relation", "adaptation"]
    steps = {stage.name: stage.options.steps for stage in NLRD(**small).stages}
    assert steps["pose"] == 200_000
    assert steps["source"] is None
    assert steps["adaptation"] == 20_000


def test_shipped_motion_of_the_embedded_data_trains(tmp_path):
    data = SyntheticPeople(view="motion", frames=60, skeleton="LIMB17", train_size=4, val_size=2, batch_size=2)
    model = make_model([POSE, {"name": "motion", "steps": 1}])
    make_trainer(tmp_path).fit(model, datamodule=NLRDData(motion=data, epoch_steps=2))
    assert model.trainer.callback_metrics["val/pose_mm"] > 0

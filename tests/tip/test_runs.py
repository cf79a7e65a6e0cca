"""TIP under a trainer: PoseTrack's AP, missing head boxes, sequences of one frame, joints of 15 and 17 names."""

import lightning
import pytest
import torch

from posekit.callbacks import PredictionPreview
from posekit.cli import main
from posekit.cli.build import build_from_config
from posekit.data import PennAction, PoseTrack, SyntheticPeople
from posekit.data.posetrack_results import write_posetrack_results
from posekit.errors import UserError
from posekit.skeletons import POSETRACK15
from posekit_hdm import HDM
from posekit_tip import TIP
from tests.data.posetrack_made import edit, make_2017, make_2018

COLUMNS = {"AP", "Head", "Shou", "Elb", "Wri", "Hip", "Knee", "Ankl"}


class Oracle(TIP):
    """Predicts the labels."""

    def step(self, batch, stage):
        from posekit_tip.sharing import key_crops

        output = super().step(batch, stage)
        crops = key_crops(batch)
        output.predictions = self.predictions(crops, crops["keypoints"], torch.ones(crops["keypoints"].shape[:2]))
        return output


def make(cls=TIP, **options):
    torch.manual_seed(0)
    small = {"backbone": "small", "backbone_options": {"widths": [8, 8, 8, 8, 8]}, "group_channels": 4}
    return cls(**{**small, "image_size": [48, 64], "sigma": 1.0, **options})


def trainer(**options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return lightning.Trainer(**{**quiet, "enable_checkpointing": False, "max_epochs": 1, **options})


@pytest.fixture(params=[make_2017, make_2018], ids=["2017", "2018"])
def folder(request, tmp_path):
    for split in ("train", "val"):
        request.param(tmp_path, split) if request.param is make_2018 else make_2017(tmp_path / split, split)
    if request.param is make_2017:  # its pictures do not say their split
        (tmp_path / "annotations").mkdir()
        for split in ("train", "val"):
            (tmp_path / split / "annotations" / split).rename(tmp_path / "annotations" / split)
        (tmp_path / "train" / "images").rename(tmp_path / "images")
    return tmp_path


def data(root, **options):
    return PoseTrack(root=str(root), image_size=(48, 64), batch_size=4, **options)


def test_fit_logs_both_measures(folder, tmp_path):
    run = trainer(default_root_dir=tmp_path / "run")
    run.fit(make(num_slots=17), data(folder))
    names = set(run.callback_metrics)
    assert {f"val/PoseTrack/{c}" for c in COLUMNS} <= names
    assert {"val/AP", "val/loss", "val/com", "val/s", "val/red", "val/var", "train/loc"} <= names


@pytest.mark.parametrize(("model", "data", "agreed"), [(None, None, 1), (2, None, 2), (None, 2, 2), (2, 2, 2)])
def test_method_and_clips_agree_on_the_neighbours(folder, model, data, agreed):
    words = ["--model=TIP", "--model.backbone=small", "--data=PoseTrack", f"--data.root={folder}"]
    words += [f"--{side}.num_support={value}" for side, value in (("model", model), ("data", data)) if value]
    method, clips = build_from_config(words)
    assert method.num_support == agreed
    assert clips.window.frames == 2 * agreed + 1


def test_windows_longer_than_the_clips_are_refused(folder):
    with pytest.raises(UserError, match=r"clips of PoseTrack have 3 frames, but windows of num_support 2 have 5"):
        trainer().fit(make(num_support=2), data(folder))
    with pytest.raises(UserError, match=r"model\.num_support=2 but data\.num_support=1"):
        build_from_config(["--model=TIP", "--model.num_support=2", "--data=PoseTrack", "--data.num_support=1"])


@pytest.mark.parametrize(
    ("datamodule", "ways"),
    [
        (lambda: PoseTrack(root="none"), "data.num_support or data.window or model.num_support"),
        (lambda: SyntheticPeople("clips", frames=3), "data.frames or model.num_support"),
        (lambda: PennAction("none", frames=3), "data.frames or model.num_support"),
    ],
)
def test_short_clips_name_the_options_that_the_data_have(datamodule, ways):
    datamodule = datamodule()
    datamodule.skeleton, datamodule.view = "POSETRACK15", "clips"
    with pytest.raises(UserError, match=rf"num_support 2 have 5: set {ways} to match$"):
        make(num_support=2).check_data(datamodule)
    make(num_support=1).check_data(datamodule)


def test_labels_as_predictions_have_all_points(folder):
    (values,) = trainer().validate(make(Oracle), data(folder), verbose=False)
    assert values["val/PoseTrack/AP"] == pytest.approx(100)
    assert values["val/AP"] == pytest.approx(1)


def test_the_single_frame_step_runs_on_crops_and_on_clips(folder):
    for view in ("crops", "clips"):
        (values,) = trainer().validate(make(temporal="single"), data(folder, view=view), verbose=False)
        assert 0 <= values["val/PoseTrack/AP"] <= 100


def test_a_missing_head_box_does_not_stop_a_fit_and_is_named_by_an_evaluation(tmp_path):
    for split in ("train", "val"):
        path = next(make_2018(tmp_path, split).glob("*.json"))
        edit(path, lambda content: content["annotations"][1].pop("bbox_head"))
    run = trainer()
    with pytest.warns(UserWarning, match="person 1 has no head box"):
        run.fit(make(), data(tmp_path))
    assert torch.isnan(run.callback_metrics["val/PoseTrack/AP"])
    assert torch.isfinite(run.callback_metrics["val/AP"])
    with pytest.raises(UserError, match="person 1 has no head box"):
        trainer().validate(make(), data(tmp_path), verbose=False)


def _spoil(content):
    if "annolist" in content:
        content["annolist"][0]["annorect"][1]["annopoints"][0]["point"][0]["id"] = [15]
    else:
        content["annotations"][1]["keypoints"][0] = float("nan")


def test_faulty_people_are_left_out_of_data_metric_and_results(folder, tmp_path):
    for split in ("train", "val"):
        edit(sorted((folder / "annotations" / split).glob("*.json"))[0], _spoil)
    with pytest.raises(UserError, match="1 faulty annotation"):
        trainer().fit(make(), data(folder))
    run, source = trainer(), data(folder, on_bad_annotation="skip")
    with pytest.warns(UserWarning, match="PoseTrack's AP leaves out 1 faulty annotation"):
        run.fit(make(), source)
    (values,) = run.validate(make(Oracle), source, verbose=False)
    assert values["val/PoseTrack/AP"] == pytest.approx(100)
    found = run.predict(make(), datamodule=source)
    files = source.posetrack_annotations("predict")
    assert len(write_posetrack_results(found, files, tmp_path / "out")) == len(files)


def test_sequences_of_one_frame(tmp_path):
    for split in ("train", "val"):
        make_2018(tmp_path, split, listed=range(1))
        for path in (tmp_path / "images" / split).rglob("*.jpg"):
            if path.stem != "000000":
                path.unlink()
    run = trainer()
    run.fit(make(num_support=2), data(tmp_path, num_support=2))
    assert torch.isfinite(run.callback_metrics["train/loss"])
    assert run.callback_metrics["train/s"] == 0


def test_annotations_of_15_names(tmp_path):
    for split in ("train", "val"):
        make_2018(tmp_path, split, names=POSETRACK15.joints)
    (values,) = trainer().validate(make(Oracle), data(tmp_path), verbose=False)
    assert values["val/PoseTrack/AP"] == pytest.approx(100)


def test_predictions_name_the_frames_of_the_files(folder):
    source = data(folder)
    found = trainer().predict(make(), datamodule=source)
    ids = torch.cat([f["image_id"] for f in found])
    assert set(ids.tolist()) <= set(source.sequences("val").image_ids.tolist())
    assert found[0]["keypoints"].shape[1:] == (15, 3)
    assert "track_id" in found[0]


@pytest.mark.parametrize("words", [[], ["--trainer.callbacks+=PoseTrackWriter", "--trainer.callbacks.output=own"]])
def test_predict_writes_the_benchmarks_files(folder, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    run, source = trainer(enable_checkpointing=True), data(folder)
    run.fit(make(), source)
    run.save_checkpoint("tip.ckpt", weights_only=True)
    found = run.predict(run.lightning_module, datamodule=source)
    write_posetrack_results(found, source.posetrack_annotations("predict"), "direct")
    main(["predict", "--ckpt_path=tip.ckpt", "--data=PoseTrack", f"--data.root={folder}", "--output=out", *words])
    assert (tmp_path / "out/results.json").is_file()
    for path in (tmp_path / "direct").iterdir():
        assert (tmp_path / ("own" if words else "out/posetrack") / path.name).read_text() == path.read_text()
    assert (tmp_path / "out/posetrack").exists() == (not words)


def test_predicting_crops_from_clips_is_refused_in_one_line(folder):
    module = HDM(backbone="small", skeleton="POSETRACK15", image_size=[48, 64])
    with pytest.raises(UserError, match=r"HDM needs crops, but PoseTrack gives clips: set data\.view to crops"):
        trainer().predict(module, datamodule=data(folder, view="clips"))


def test_the_preview_draws_key_frames(tmp_path):
    for split in ("train", "val"):
        make_2018(tmp_path, split)
    preview = PredictionPreview(count=3)
    preview._write = lambda *args: None  # keep the tiles
    trainer(callbacks=[preview]).validate(make(), data(tmp_path), verbose=False)
    assert len(preview._tiles) == 3
    assert preview._tiles[0].shape == (2 * 256, 192, 3)

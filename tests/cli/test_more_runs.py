"""Runs that reviews found wanting: two processes, dry runs, refused runs, resumed schedules."""

import subprocess
import sys

import pytest
import torch

from posekit.cli import main

from .test_run import config, refused  # noqa: F401  (a fixture)

TINY = [
    "--config=quickstart", "--data.train_size=16", "--data.val_size=9", "--data.image_size=[48,64]",
    "--data.batch_size=4", "--data.num_render_workers=1", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false",
]  # fmt: skip


def numbers(output):
    """Returns the rows of the result table that do not depend on how samples fall into batches."""
    return [line for line in output.splitlines() if "val/" in line and "loss" not in line]


def test_two_processes_fit_and_agree_with_one(tmp_path):
    def run(command, *words):
        line = [sys.executable, "-m", "posekit", command, *TINY, *words]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True).stdout

    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run("fit", *two)
    checkpoint = "--ckpt_path=runs/quickstart/version_0/checkpoints/last.ckpt"
    one = numbers(run("validate", checkpoint))
    assert len(one) > 10
    assert numbers(run("validate", checkpoint, *two)) == one


@pytest.mark.parametrize("flag", ["--trainer.fast_dev_run=true", "--trainer.logger=false"])
def test_runs_without_a_log_leave_no_file(config, flag):  # noqa: F811
    before = config.read_bytes()
    main(["fit", "--config", str(config), flag])
    assert config.read_bytes() == before
    assert [p.name for p in config.parent.iterdir()] == [config.name]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--data.batch_size=0"], "batch_size must be at least 1"),
        (["--data.num_workers=-1"], "num_workers"),
        (["--trainer.devices=0"], "devices"),
        (["--model.lr=0"], "lr must be positive"),
        (["--model.lr=.nan"], "lr must be positive, not nan"),
        (["--model.weight_decay=-0.1"], "weight_decay must be at least 0, not -0.1"),
        (["--model.lr_warmup_steps=-5"], "lr_warmup_steps must be at least 0, not -5"),
        (["--model.lr_peak=1.5"], "lr_peak must be from 0 to 1, not 1.5"),
        (["--data.skeleton=MPII16", "--model.skeleton=COCO17"], "linked"),
    ],
)
def test_refused_runs_leave_nothing(config, capsys, words, text):  # noqa: F811
    assert text in refused(capsys, "fit", "--config", str(config), *words)
    assert [p.name for p in config.parent.iterdir()] == [config.name]


def test_a_checkpoint_named_in_a_config_is_checked(config, capsys):  # noqa: F811
    more = config.parent / "more.yaml"
    more.write_text("ckpt_path: gone.ckpt\n")
    assert "gone.ckpt does not exist" in refused(capsys, "fit", "--config", str(config), "--config", str(more))


def test_last_checkpoint_is_the_last_state_and_more_epochs_follow(config):  # noqa: F811
    words = ["fit", "--config", str(config), "--model.schedule=onecycle"]
    main([*words, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=3"])
    last = config.parent / "runs/toy/version_0/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 6
    main([*words, "--trainer.max_epochs=4", "--ckpt_path", str(last)])
    last = config.parent / "runs/toy/version_1/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 8


def test_a_run_without_end_needs_a_schedule_without_end(config, capsys):  # noqa: F811
    words = ["fit", "--config", str(config), "--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:02"]
    assert "onecycle" in refused(capsys, *words, "--model.schedule=onecycle")
    main([*words, "--model.schedule=constant"])


def test_scenes_are_refused_by_a_method_for_crops(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "fit", *TINY, "--data.view=scenes", "--data.image_size=[64,64]")
    assert "crops" in line


def test_half_precision_keeps_coordinates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["fit", *TINY, "--trainer.precision=bf16-mixed"])
    assert "val/AP" in capsys.readouterr().out


def test_prediction_without_weights_is_refused(mini_coco, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo = next(mini_coco.rglob("*.jpg"))
    line = refused(capsys, "predict", "--config=quickstart", "--input", str(photo))
    assert "no weights" in line
    assert not list(tmp_path.iterdir())


def test_a_run_without_checkpoints_still_keeps_its_log(config):  # noqa: F811
    main(["fit", "--config", str(config), "--trainer.enable_checkpointing=false"])
    run = config.parent / "runs/toy/version_0"
    assert (run / "metrics.csv").is_file()
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    ("config", "view", "text"),
    [
        ("quickstart", "scenes", "HDM needs crops, but SyntheticPeople gives scenes: set data.view to crops"),
        ("quickstart", "clips", "HDM needs crops, but SyntheticPeople gives clips: set data.view to crops"),
        ("logocap/synthetic_small", "crops", "LogoCap needs scenes, but SyntheticPeople gives crops"),
        ("tip/tiny_synthetic", "crops", "TIP needs clips, but SyntheticPeople gives crops"),
        ("maed/synthetic_small", "motion", "MAED needs clips or crops or mixture, but SyntheticPeople gives motion"),
    ],
)
def test_a_wrong_view_is_found_before_anything_is_made(config, view, text, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["fit", f"--config={config}", f"--data.view={view}", "--trainer.accelerator=cpu"])
    said = capsys.readouterr()
    assert text in said.err
    assert "Modules in train mode" not in said.out + said.err
    assert not list(tmp_path.iterdir())


def test_a_wrong_view_is_found_without_the_command_line():
    from lightning.pytorch import Trainer

    from posekit.data import SyntheticPeople
    from posekit.errors import UserError
    from posekit_hdm import HDM

    data = SyntheticPeople(view="scenes", image_size=(64, 64), train_size=2, val_size=2)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="HDM needs crops, but SyntheticPeople gives scenes"):
        trainer.fit(HDM(backbone="small", image_size=[64, 64]), datamodule=data)

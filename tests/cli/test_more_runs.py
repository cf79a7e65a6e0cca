"""Runs that reviews found wanting: two processes, dry runs, refused runs, resumed schedules."""

import builtins
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posekit.cli import COMMANDS, main
from posekit.cli.quiet import one_line_errors
from posekit.configs import shipped_configs
from posekit.errors import UserError

from .test_run import refused
from .toys import Toy

TINY = [
    "--config=quickstart", "--data.train_size=16", "--data.val_size=9", "--data.image_size=[48,64]",
    "--data.batch_size=4", "--data.num_render_workers=1", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false",
]  # fmt: skip


def test_two_processes_fit_and_agree_with_one(tmp_path):
    def run(command, *words):
        line = [sys.executable, "-m", "posekit", command, *TINY, *words]
        subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True)
        runs = (tmp_path / "runs" / "quickstart").iterdir()
        newest = max(runs, key=lambda path: int(path.name.split("_")[1]))
        return json.loads((newest / "results.json").read_text())

    # Nine samples are no whole number of batches of any of the processes.
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run("fit", *two)
    checkpoint = "--ckpt_path=runs/quickstart/version_0/checkpoints/last.ckpt"
    one = run("validate", checkpoint)
    assert len(one) > 10
    assert "val/loss" in one
    assert run("validate", checkpoint, *two) == pytest.approx(one, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("flag", ["--trainer.fast_dev_run=true", "--trainer.logger=false"])
def test_runs_without_a_log_leave_no_file(config, flag):
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
        (["--model.lr=0"], "Toy: lr must be a number above 0, not 0"),
        (["--model.lr=.nan"], "lr must be a number above 0, not nan"),
        (["--model.weight_decay=-0.1"], "weight_decay must be a number of at least 0, not -0.1"),
        (["--model.lr_warmup_steps=-5"], "lr_warmup_steps must be a whole number of at least 0, not -5"),
        (["--model.lr_peak=1.5"], "lr_peak must be a number in [0, 1], not 1.5"),
        (["--data.skeleton=MPII16", "--model.skeleton=COCO17"], "linked"),
    ],
)
def test_refused_runs_leave_nothing(config, capsys, words, text):
    assert text in refused(capsys, "fit", "--config", str(config), *words)
    assert [p.name for p in config.parent.iterdir()] == [config.name]


def test_a_checkpoint_named_in_a_config_is_checked(config, capsys):
    more = config.parent / "more.yaml"
    more.write_text("ckpt_path: gone.ckpt\n")
    assert "gone.ckpt does not exist" in refused(capsys, "fit", "--config", str(config), "--config", str(more))


def test_last_checkpoint_is_the_last_state_and_more_epochs_follow(config):
    words = ["fit", "--config", str(config), "--model.schedule=onecycle"]
    main([*words, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=3"])
    last = config.parent / "runs/toy/version_0/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 6
    main([*words, "--trainer.max_epochs=4", "--ckpt_path", str(last)])
    last = config.parent / "runs/toy/version_1/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 8


def test_a_run_without_end_needs_a_schedule_without_end(config, capsys):
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


def test_a_run_without_checkpoints_still_keeps_its_log(config):
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
def test_a_wrong_view_is_found_before_anything_is_made(config, view, text, tmp_path, monkeypatch, capsys):
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


@pytest.mark.parametrize("command", ["fit", "validate", "predict"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_checkpoint_is_a_file(config, capsys, command, name):
    line = refused(capsys, command, "--config", str(config), "--ckpt_path", name)
    assert line.endswith(f"checkpoint {name} does not exist; give a file")


def test_a_checkpoint_word_in_a_config_is_a_file(config, capsys):
    more = config.parent / "more.yaml"
    more.write_text("ckpt_path: last\n")
    line = refused(capsys, "fit", "--config", str(config), "--config", str(more))
    assert line.endswith("checkpoint last does not exist; give a file")


def test_judging_random_weights_is_said(config, capsys):
    main(["validate", "--config", str(config)])
    assert capsys.readouterr().err.count("untrained weights: validate judges a random network") == 1
    main(["fit", "--config", str(config)])
    checkpoint = next(config.parent.rglob("best.ckpt"))
    for words in ([f"--ckpt_path={checkpoint}"], [f"--model.init_from={checkpoint}"]):
        main(["validate", "--config", str(config), *words])
    assert "untrained" not in capsys.readouterr().err


def test_a_checkpoint_of_another_method_is_named_first(config, capsys):
    main(["fit", "--config", str(config), "--trainer.max_epochs=1"])
    checkpoint = next(config.parent.rglob("last.ckpt"))
    for command in (["predict", "--input", str(config)], ["validate"], ["export", "--format=pt2"]):
        line = refused(capsys, *command, "--config=quickstart", f"--ckpt_path={checkpoint}")
        assert "Toy, the config's model is HDM" in line


def test_a_fit_that_never_validates_says_so(config, capsys, caplog):
    with caplog.at_level("INFO"):
        main(["fit", "--config", str(config), "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=2"])
        main(["fit", "--config", str(config), "--trainer.limit_val_batches=0"])
        said = caplog.text + capsys.readouterr().err
        caplog.clear()
        main(["fit", "--config", str(config)])
    assert "no validation took place: trainer.check_val_every_n_epoch is 2 and the run had 1 epoch\n" in said
    assert "no validation took place: trainer.limit_val_batches is 0" in said
    assert "no validation" not in caplog.text + capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--trainer.strategy=dpp"], "invalid strategy name: `strategy='dpp'`"),
        (["--trainer.accelerator=foo"], "invalid accelerator name: `accelerator='foo'`"),
        (["--seed_everything=-1"], "seed_everything is -1, but must be from 0 to 4294967295"),
        (["--trainer.val_check_interval=0"], "trainer.val_check_interval is 0, but must be positive"),
        (
            ["--trainer.sync_batchnorm=true", "--trainer.accelerator=cpu", "--trainer.devices=2"],
            "trainer.sync_batchnorm needs a GPU; leave it out on the CPU",
        ),
        (["--config=three.yaml"], "config three.yaml: trainer must hold keys such as max_epochs, not 3"),
        (["--config=beside.yaml"], "model.lr stands beside class_path; options of a class go under model.init_args"),
        (["--trainer.callbacks+=EarlyStoping"], "of trainer.callbacks. Did you mean EarlyStopping? Known: "),
        (
            ["--config=callback.yaml"],
            "unknown class 'ModelChekpoint' of trainer.callbacks. Did you mean ModelCheckpoin",
        ),
        (["--trainer.callbacks+=ResultTabel"], "Did you mean ResultTable"),
        (["--trainer.logger=CSVLoger"], "of trainer.logger. Did you mean CSVLogger"),
        (
            ["--trainer.logger.dir=x"],
            "nothing says which class trainer.logger is: give --trainer.logger NAME first. Known: CSV",
        ),
        (["--trainer.callbacks.patience=3"], "give --trainer.callbacks+=NAME first. Known: "),
        (["--data.dict_kwargs.x=3"], "data.dict_kwargs: ToyData takes no options but those it names"),
    ],
)
def test_mistakes_in_options_of_the_trainer_are_one_line(config, capsys, words, text):
    (config.parent / "three.yaml").write_text("trainer: 3\n")
    (config.parent / "beside.yaml").write_text("model: {class_path: Toy, lr: 3}\n")
    (config.parent / "callback.yaml").write_text("trainer: {callbacks: [{class_path: ModelChekpoint}]}\n")
    line = refused(capsys, "fit", "--config", str(config), *words)
    assert text in line
    assert "HDM" not in line
    assert not (config.parent / "runs").exists()


def test_an_interval_beyond_the_epoch_is_one_line(config, capsys):
    line = refused(capsys, "fit", "--config", str(config), "--trainer.val_check_interval=10000")
    assert "`val_check_interval` (10000) must be less than or equal to the number of the training batches (2)" in line


def test_errors_of_other_code_keep_their_stack():
    def fail():
        raise ValueError("a fault of the library's own")

    with pytest.raises(ValueError, match="own") as raised, one_line_errors():
        fail()
    assert not isinstance(raised.value, UserError)


class Choosy(Toy):
    """Ends with an error of a given kind where it is built.

    Args:
        fault: Builtin error.
        kwargs: Arguments of Toy.
    """

    def __init__(self, fault: str = "ValueError", **kwargs):
        super().__init__(**kwargs)
        raise getattr(builtins, fault)("no good\nin two lines")


def test_what_a_class_refuses_by_itself_is_one_line(config, capsys):
    words = ["--config", str(config), f"--model={__name__}.Choosy"]
    assert refused(capsys, "fit", *words).endswith("Choosy: no good in two lines")
    with pytest.raises(TypeError, match="no good") as raised:
        main(["fit", *words, "--model.fault=TypeError"])
    assert raised.traceback[-1].frame.code.path.name == Path(__file__).name  # the fault's own stack, not the parser's


def test_the_help_of_predict_begins_with_its_own_options(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--help"])
    said = capsys.readouterr()
    assert stop.value.code in (0, None)
    own = [said.out.index(f"  {option} ") for option in ("--input", "--boxes", "--output", "--meshes")]
    assert max(own) < said.out.index("--trainer")
    assert "starter" not in said.err


def test_prediction_without_input_names_the_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "predict needs --input PATH" in refused(capsys, "predict")


@pytest.mark.parametrize("option", ["--model", "--model.class_path"])
def test_a_prediction_s_model_without_weights_is_not_replaced(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "predict", f"{option}=HDM", "--input=.")
    assert "network has no weights" in line


def test_weights_of_one_s_own_are_not_called_the_shipped_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["predict", "--input", str(tmp_path), "--model.init_from", "gone.pth"])
    assert capsys.readouterr().err == "posekit: error: no such weight file: gone.pth\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["table", "--output"], "posekit table: argument --output: expected one argument (see posekit table --help)"),
        (["bench", "--config=quickstart", "--batches=x"], "posekit bench: argument --batches: invalid int value: 'x'"),
        (["export", "--output"], "posekit export: argument --output: expected one argument"),
        (["predict", "--input"], "posekit predict: argument --input: expected one argument"),
        (["body"], "posekit body: the following arguments are required: COMMAND"),
        (["body", "convert", "a.pkl"], "posekit body convert: the following arguments are required: OUT.npz"),
    ],
)
def test_missing_and_wrong_values_are_one_line(capsys, words, text):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"posekit: error: {text}")


def test_a_text_file_is_no_checkpoint(tmp_path, capsys):
    page = tmp_path / "best.ckpt"
    page.write_text("hello: a page in place of a download\n")
    assert "best.ckpt is a text file, no checkpoint" in refused(capsys, "export", f"--ckpt_path={page}", "--format=pt2")


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    words = ["table", "logocap/upper-bound", "--output=file/x"]
    assert refused(capsys, *words) == "posekit: error: file/x/logocap/upper-bound: Not a directory"

    def full(_):
        raise PermissionError(13, "Permission denied", "out/.table.md.k3_x9.part")

    monkeypatch.setitem(COMMANDS, "list", full)
    assert refused(capsys, "list") == "posekit: error: out/table.md: Permission denied"


def test_tables_are_no_configs(capsys):
    assert not [name for name in shipped_configs() if name.startswith("tables/")]
    assert "tables/" not in refused(capsys, "fit", "--config=hdm/table1")
    main(["list"])
    configs, tables = capsys.readouterr().out.split("tables (posekit table NAME)")
    assert "hdm/coco_mini.yaml" in configs
    assert "hdm/table1" in tables

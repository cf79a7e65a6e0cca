"""What a run's folder holds: rows on one axis of steps, those of an evaluation at its checkpoint's, none if refused."""

import csv
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer

from posekit.callbacks.run_folder import unless_refused
from posekit.cli import info, main
from posekit.cli.run import _stand_at
from posekit.errors import UserError
from posekit.module import read_checkpoint

from .test_run import refused
from .toys import Toy


class TwoOptimizers(Toy):
    """Steps two optimisers a batch."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.automatic_optimization = False

    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), lr=0.01) for _ in range(2)]

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self._run_step(batch, "train").loss)
            optimizer.step()


def rows(folder):
    """Returns the rows of a log as (epoch, step, the names beside them)."""
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    names = [{name for name, value in row.items() if value} - {"epoch", "step"} for row in table]
    return [(row["epoch"], row["step"], what) for row, what in zip(table, names, strict=True)]


@pytest.mark.parametrize("model", ["Toy", "TwoOptimizers"])
def test_throughput_stands_at_the_steps_of_the_losses(config, model):
    config.write_text(config.read_text().replace("class_path: Toy,", f"class_path: {model},"))
    main(["fit", "--config", str(config), "--trainer.log_every_n_steps=1"])
    logged = rows(config.parent / "runs/toy/version_0")
    assert [int(step) for _, step, _ in logged] == sorted(int(step) for _, step, _ in logged)
    of = {kind: [(epoch, step) for epoch, step, names in logged if any(n.startswith(kind) for n in names)]
          for kind in ("train/", "val/", "perf/")}  # fmt: skip
    assert of["train/"] == [("0", "0"), ("0", "1"), ("1", "2"), ("1", "3")]
    assert of["perf/"] == of["val/"] == [("0", "1"), ("1", "3")]


def test_an_evaluation_stands_where_its_checkpoint_does(config):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs/toy/version_0"
    in_the_fit = [row[:2] for row in rows(run) if "val/loss" in row[2]]
    for number, name in enumerate(("best", "last"), start=1):
        path = run / f"checkpoints/{name}.ckpt"
        main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(path)])
        assert [row[:2] for row in rows(run.parent / f"version_{number}")] == in_the_fit[-1:] == [("1", "3")]
        trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
        trainer.strategy._lightning_module = Toy()
        _stand_at(trainer, read_checkpoint(path))
        assert (trainer.global_step, trainer.current_epoch) == (4, 1)  # what pictures are named after


def test_an_evaluation_stands_where_a_run_was_told_to_end(config):
    words = ["--data.batch_size=4", "--trainer.callbacks+=tests.cli.toys.StopAt", "--trainer.callbacks.step=6"]
    main(["fit", "--config", str(config), *words])  # four batches an epoch, so within the second
    run = config.parent / "runs/toy/version_0"
    main(["validate", "--config", str(config), "--ckpt_path", str(run / "checkpoints/last.ckpt")])
    expected = [row[:2] for row in rows(run) if "val/loss" in row[2]]
    assert [row[:2] for row in rows(run.parent / "version_1")] == expected[-1:] == [("1", "5")]


def test_a_checkpoint_of_weights_alone_is_evaluated_too(config):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs/toy/version_0"
    best = read_checkpoint(run / "checkpoints/best.ckpt")
    torch.save({name: value for name, value in best.items() if name != "loops"}, "bare.ckpt")
    main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path=bare.ckpt"])
    assert [row[:2] for row in rows(run.parent / "version_1")] == [("0", "0")]


def test_a_run_refused_at_its_set_up_leaves_no_folder(config, capsys):
    assert "BatchSizeFinder" in refused(capsys, "fit", "--config", str(config), "--trainer.callbacks+=BatchSizeFinder")
    assert not (config.parent / "runs").exists()
    main(["fit", "--config", str(config)])
    refused(capsys, "fit", "--config", str(config), "--trainer.callbacks+=BatchSizeFinder")
    assert [path.name for path in (config.parent / "runs/toy").iterdir()] == ["version_0"]


def test_a_resumed_run_that_is_refused_leaves_no_folder(config, capsys):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs/toy/version_0"
    words = ["--trainer.max_epochs=3", "--model.optimizer=sgd", f"--ckpt_path={run / 'checkpoints/last.ckpt'}"]
    assert "another kind of optimizer" in refused(capsys, "fit", "--config", str(config), *words)
    assert list(run.parent.iterdir()) == [run]
    assert (run / "checkpoints/best.ckpt").is_file()


@pytest.mark.parametrize("made", ["before", "rows", "steps", "elsewhere"])
def test_a_folder_that_holds_something_stays(tmp_path, made):
    folder = tmp_path / "runs/a"
    trainer = SimpleNamespace(
        log_dir=str(folder), loggers=[None], fast_dev_run=False, is_global_zero=made != "elsewhere", global_step=0
    )
    if made == "before":
        folder.mkdir(parents=True)

    def run():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").touch()
        if made == "rows":
            (folder / "metrics.csv").touch()
        trainer.global_step += made == "steps"
        raise UserError("no")

    with pytest.raises(UserError), unless_refused(trainer):
        run()
    assert (folder / "config.yaml").exists()


@pytest.mark.parametrize(("command", "said"), [
    ("fit", "Trains a method, or goes on with a run by --ckpt_path."),
    ("validate", "Evaluates on the validation split."),
    ("test", "Evaluates on the test split; on the validation split, where the data's test labels are not public."),
    ("predict", "Finds people's joints in pictures or a video."),
])  # fmt: skip
def test_help_begins_with_the_command_and_whole_sentences(capsys, command, said):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: posekit {command} ")
    assert text.count("usage: ") == 1
    assert said in " ".join(text.split())
    assert "[options] fit" not in text


def test_the_list_s_columns_stand_below_each_other(capsys):
    main(["list"])
    lines = [line for line in capsys.readouterr().out.splitlines() if ":" in line]
    packages = {line.index(" posekit ", 10) for line in lines if " posekit " in line[10:]}
    assert len(packages) == 1


def test_the_word_that_doctor_no_longer_needs_is_named_nowhere(capsys):
    line = refused(capsys, "doctor", "--fats")
    assert line.endswith("posekit doctor does not know '--fats'; it takes --full")
    assert "--fast" not in info.__doc__

"""Stopped runs: the file that they name is the one to go on with, and no validation is left out by the next."""

import csv
import signal
from itertools import product
from math import ceil

import pytest
import torch

from posekit.callbacks.best import BestCheckpoint
from posekit.cli import main
from posekit.module import read_checkpoint

from . import toys

STOP = "--trainer.callbacks+=tests.cli.toys.InterruptAt"
EACH_STEP = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.filename={step}",
    "--trainer.callbacks.every_n_train_steps=1", "--trainer.callbacks.save_top_k=-1",
]  # fmt: skip


@pytest.fixture
def fit(config, caplog, capsys):
    """Returns a function that fits the toy (two steps an epoch) and returns the run's folder and what it said."""
    before = signal.getsignal(signal.SIGINT)  # ignored after a stop
    runs = config.parent / "runs" / "toy"

    def run(*words, stop=None, number=signal.SIGINT):
        caplog.clear()
        with caplog.at_level("INFO"):
            if stop is None:
                main(["fit", "--config", str(config), *words])
            else:
                at = [STOP, f"--trainer.callbacks.step={stop}", f"--trainer.callbacks.number={int(number)}"]
                with pytest.raises(SystemExit) as end:
                    main(["fit", "--config", str(config), *words, *at])
                assert end.value.code == 128 + number
        signal.signal(signal.SIGINT, before)
        told = capsys.readouterr()
        return max(runs.iterdir(), key=lambda p: int(p.name.split("_")[1])), caplog.text + told.out + told.err

    yield run
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_names_the_file_that_it_has_written(fit, number):
    folder, said = fit(stop=1, number=number)  # before the first epoch's end
    assert "stopped after step 1; go on with --ckpt_path runs/toy/version_0/checkpoints/last.ckpt" in said
    assert read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"] == 1
    earlier, _ = fit()
    resume = f"--ckpt_path={earlier / 'checkpoints' / 'last.ckpt'}"
    folder, said = fit(resume, "--trainer.max_epochs=4", stop=5, number=number)
    assert "stopped after step 5; go on with --ckpt_path runs/toy/version_2/checkpoints/last.ckpt" in said
    assert read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"] == 5


def test_a_stop_before_the_first_step_names_what_the_run_began_with(fit, monkeypatch):
    earlier, _ = fit("--trainer.max_epochs=1")
    monkeypatch.setattr(
        toys.InterruptAt, "on_train_start", lambda *_: signal.raise_signal(signal.SIGINT), raising=False
    )
    given = earlier / "checkpoints" / "last.ckpt"
    folder, said = fit(f"--ckpt_path={given}", stop=99)
    assert f"stopped before the first step; go on with --ckpt_path {given}" in said
    assert not (folder / "checkpoints" / "last.ckpt").exists()
    assert "--ckpt_path" not in fit(stop=99)[1]


def validations(*folders):
    """Returns epoch, step and loss of each validation."""
    files = [path for folder in folders for path in folder.glob("metrics.csv")]
    rows = [row for path in files for row in csv.DictReader(path.open())]
    return [(row["epoch"], row["step"], row["val/loss"]) for row in rows if row.get("val/loss")]


def best_score(folder):
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return [state["best_model_score"] for name, state in content["callbacks"].items() if "val/loss" in name]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (2, []),
        (1, ["--trainer.val_check_interval=1"]),
        (3, ["--trainer.val_check_interval=3", "--trainer.check_val_every_n_epoch=null"]),
        (4, ["--trainer.check_val_every_n_epoch=2"]),
    ],
)
def test_a_validation_that_was_due_is_made_by_the_resumed_run(fit, step, words):
    words = ["--trainer.max_epochs=4", "--trainer.num_sanity_val_steps=0", *words]
    whole, _ = fit(*words, *EACH_STEP)
    stopped, _ = fit(*words, stop=step)
    resumed, _ = fit(*words, f"--ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}")
    assert validations(stopped, resumed) == validations(whole)
    assert best_score(resumed) == best_score(whole)
    # A run that was killed before or in the validation goes on from what was written at the step's end.
    killed = whole / "checkpoints" / f"step={step}.ckpt"
    again, _ = fit(*words, f"--ckpt_path={killed}")
    assert validations(again) == [row for row in validations(whole) if int(row[1]) >= step - 1]
    assert torch.equal(
        *(read_checkpoint(f / "checkpoints/last.ckpt")["state_dict"]["net.weight"] for f in (again, whole))
    )


def test_a_termination_does_not_wait_for_the_validation(fit):
    words = ["--trainer.max_epochs=2", "--trainer.num_sanity_val_steps=0"]
    stopped, said = fit(*words, stop=2, number=signal.SIGTERM)
    assert "stopped after step 2" in said
    assert validations(stopped) == []


@pytest.mark.parametrize(
    ("limit", "accumulate", "steps"),
    [*product(("steps", "time"), (1, 2), (2, 4, 6)), ("time", 2, 1), ("time", 2, 5), ("time", 3, 4), ("time", 3, 5)],
)
def test_a_run_that_ended_within_an_epoch_does_the_rest_of_it(fit, steps, limit, accumulate):
    words = ["--data.batch_size=4", f"--trainer.accumulate_grad_batches={accumulate}"]  # four batches an epoch
    until = ["--trainer.callbacks+=tests.cli.toys.StopAt", f"--trainer.callbacks.step={steps}"]
    if limit == "steps":
        until = [f"--trainer.max_steps={steps // accumulate}"]
    short, _ = fit(*words, *until)
    ended = short / "checkpoints" / "last.ckpt"
    made = steps // 4 * ceil(4 / accumulate) + ceil(steps % 4 / accumulate)  # a stop waits for the step's end
    assert read_checkpoint(ended)["global_step"] == made
    runs = [fit(*words, *resume)[0] / "checkpoints/last.ckpt" for resume in ([f"--ckpt_path={ended}"], [])]
    resumed, whole = map(read_checkpoint, runs)
    assert resumed["global_step"] == whole["global_step"]
    assert resumed["epoch"] == whole["epoch"]
    for name, value in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value)


def steps(kind, *folders):
    """Returns the steps of the runs' logged losses."""
    rows = [row for folder in folders for row in csv.DictReader((folder / "metrics.csv").open())]
    return [int(row["step"]) for row in rows if row.get(f"{kind}/loss")]


OFTEN = ["--data.batch_size=4", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1",
         "--trainer.num_sanity_val_steps=0"]  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("batches", [[2], [4], [6], [2, 6]])
def test_steps_are_counted_on_by_a_run_that_ended_within_an_epoch(fit, batches, accumulate):
    words = [*OFTEN, f"--trainer.accumulate_grad_batches={accumulate}"]
    whole, _ = fit(*words)
    folders, resume = [], []
    for end in batches:
        folders.append(fit(*words, *resume, f"--trainer.max_steps={end // accumulate}")[0])
        resume = [f"--ckpt_path={folders[-1] / 'checkpoints' / 'last.ckpt'}"]
    folders.append(fit(*words, *resume)[0])
    for kind in ("train", "val"):
        assert steps(kind, *folders) == steps(kind, whole)
    ends = [read_checkpoint(f / "checkpoints/last.ckpt")["loops"]["fit_loop"] for f in (folders[-1], whole)]
    counted = [end["epoch_loop.state_dict"]["_batches_that_stepped"] for end in ends]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("stop", [3, 6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_loss_of_the_step_that_a_stop_waits_for_is_logged(fit, stop, number):
    words = [*OFTEN, "--trainer.max_epochs=3"]
    stopped, _ = fit(*words, stop=stop, number=number)
    resumed, _ = fit(*words, f"--ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}")
    assert steps("train", stopped) == list(range(stop))
    assert steps("train", stopped, resumed) == list(range(12))


def same_end(one, other):
    """Asserts that two runs' last checkpoints hold the same weights and the same counts of epochs and steps."""
    ends = [read_checkpoint(folder / "checkpoints/last.ckpt") for folder in (one, other)]
    for key in ("epoch", "global_step"):
        assert ends[0][key] == ends[1][key]
    for name in ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"):
        states = [end["loops"]["fit_loop"][name] for end in ends]
        assert states[0] == states[1]
    for name, value in ends[1]["state_dict"].items():
        assert torch.equal(ends[0]["state_dict"][name], value)


@pytest.mark.parametrize("stops", [(4, 6), (4, 8, 9), (3, 8, 12), (5, 8)])
@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.check_val_every_n_epoch=2"],
        ["--trainer.limit_val_batches=0"],
        ["--trainer.val_check_interval=3"],
        ["--trainer.val_check_interval=7", "--trainer.check_val_every_n_epoch=null"],
        ["--trainer.max_epochs=-1", "--trainer.max_steps=15"],
        ["--trainer.accumulate_grad_batches=3"],
    ],
)
def test_runs_that_are_stopped_again_and_again_end_as_one(fit, words, stops):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.max_epochs=4", *words]  # four batches an epoch
    whole, _ = fit(*words)
    folders, resume = [], []
    for stop in stops:
        folders.append(fit(*words, *resume, stop=stop)[0])
        resume = [f"--ckpt_path={folders[-1] / 'checkpoints' / 'last.ckpt'}"]
    folders.append(fit(*words, *resume)[0])
    same_end(folders[-1], whole)
    for kind in ("train", "val"):
        assert steps(kind, *folders) == steps(kind, whole)


@pytest.mark.parametrize("limits", [["max_steps=15"], ["max_steps=15", "max_epochs=4"], ["max_epochs=4"]])
@pytest.mark.parametrize(
    "first", [["max_epochs=1"], ["max_steps=4"], ["max_epochs=3"], ["max_epochs=1", "max_steps=7"]]
)
def test_a_run_goes_on_from_an_epochs_end_whatever_limits_it(fit, limits, first):
    words = [*OFTEN[:1], *OFTEN[2:]]
    told = [["--trainer.max_epochs=-1", *(f"--trainer.{limit}" for limit in each)] for each in (first, limits)]
    whole, _ = fit(*words, *told[1])
    begun, _ = fit(*words, *told[0])
    resumed, _ = fit(*words, *told[1], f"--ckpt_path={begun / 'checkpoints' / 'last.ckpt'}")
    same_end(resumed, whole)
    for kind in ("train", "val"):
        assert steps(kind, begun, resumed) == steps(kind, whole)


IN_VALIDATIONS = [
    "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint", "--trainer.callbacks.filename={step}",
    "--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.save_top_k=-1",
    "--trainer.callbacks.save_on_train_epoch_end=false",
]  # fmt: skip


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_file_of_a_validation_that_a_resumed_run_began_with_is_a_start_like_another(fit, stop):
    words = [*OFTEN, "--trainer.max_epochs=3"]
    whole, _ = fit(*words)
    stopped, _ = fit(*words, stop=stop)
    resumed, _ = fit(*words, f"--ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}", *IN_VALIDATIONS)
    again, _ = fit(*words, f"--ckpt_path={resumed / 'checkpoints' / f'step={stop}.ckpt'}")
    same_end(again, whole)
    assert steps("train", again) == list(range(stop, 12))
    rows = validations(whole)
    assert validations(again) == rows[-len(validations(again)) :]
    assert best_score(again) == best_score(whole)


def test_a_stop_in_a_validation_within_a_step_waits_for_the_step(fit):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.val_check_interval=3", "--trainer.accumulate_grad_batches=2"]
    whole, _ = fit(*words)
    stopped, said = fit(*words, stop=3)
    assert "stopped after step 2" in said
    resumed, _ = fit(*words, f"--ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}")
    same_end(resumed, whole)


@pytest.mark.parametrize("interval", [["3"], ["1"], ["7", "--trainer.check_val_every_n_epoch=null"]])
def test_a_file_of_a_validation_within_a_step_goes_back_to_its_begin(fit, interval):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.val_check_interval", *interval, "--trainer.accumulate_grad_batches=2"]
    whole, _ = fit(*words, *IN_VALIDATIONS)
    for file in sorted((whole / "checkpoints").glob("step=[0-3].ckpt")):  # of four
        resumed, _ = fit(*words, f"--ckpt_path={file}")
        same_end(resumed, whole)
        for kind in ("train", "val"):
            made = steps(kind, resumed)
            assert made == steps(kind, whole)[-len(made) :]


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("step", [2, 3, 4, 5, 6, 8])
def test_a_batch_that_an_error_broke_off_is_trained_by_the_resumed_run(fit, step, accumulate):
    words = [*OFTEN, f"--trainer.accumulate_grad_batches={accumulate}", "--trainer.max_epochs=3"]
    whole, _ = fit(*words)
    fails = ["--trainer.callbacks+=tests.cli.toys.RaiseAt", "--trainer.callbacks.kind=memory"]
    with pytest.raises(SystemExit):
        fit(*words, *fails, f"--trainer.callbacks.step={step}")
    last = max(whole.parent.glob("*/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime)
    if last.parent.parent == whole:
        assert step <= accumulate  # no step had been made
        return
    resumed, _ = fit(*words, f"--ckpt_path={last}")
    same_end(resumed, whole)
    made = steps("train", resumed)
    assert made == steps("train", whole)[-len(made) :]
    assert set(steps("train", last.parent.parent) + made) == set(steps("train", whole))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_own_keepers_get_the_step_that_a_stop_waits_for(fit, number):
    folder, _ = fit(*OFTEN, *EACH_STEP, stop=3, number=number)
    names = {path.name for path in (folder / "checkpoints").glob("step=*.ckpt")}
    assert names == {"step=1.ckpt", "step=2.ckpt", "step=3.ckpt"}


def test_a_run_without_a_validation_in_its_time_says_so(fit):
    _, said = fit("--trainer.val_check_interval=00:00:10:00", "--trainer.check_val_every_n_epoch=null")
    assert "trainer.val_check_interval is 600 s and the run had 2 epochs" in said


@pytest.fixture
def broken(fit, config, monkeypatch):
    """Returns a function that fits until the n-th call of a method fails, and returns the file to go on with."""

    def run(owner, name, count, *words, when=lambda _: True):
        calls, true = iter(range(1, 1000)), getattr(owner, name)

        def method(self, *arguments, **options):
            if when(self) and next(calls) == count:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return true(self, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, method)
            with pytest.raises(SystemExit):
                fit(*words)
        folders = (config.parent / "runs" / "toy").iterdir()
        return max(folders, key=lambda p: int(p.name.split("_")[1])) / "checkpoints/last.ckpt"

    return run


@pytest.mark.parametrize("words", [[], ["--trainer.accumulate_grad_batches=2"], ["--trainer.val_check_interval=1"]])
@pytest.mark.parametrize("batch", [3, 4, 8])
def test_a_batch_that_never_reached_the_device_is_trained_by_the_resumed_run(fit, broken, batch, words):
    words = [*OFTEN[:1], *OFTEN[2:], *words]
    whole, _ = fit(*words)
    last = broken(
        toys.Toy, "on_before_batch_transfer", batch, *words, when=lambda m: m.trainer.training
    )  # fmt: skip
    resumed, _ = fit(*words, f"--ckpt_path={last}")
    same_end(resumed, whole)
    for kind in ("train", "val"):
        made = steps(kind, resumed)
        assert made == steps(kind, whole)[-len(made) :]


@pytest.mark.parametrize("interval", [["1.0"], ["2"], ["3", "--trainer.check_val_every_n_epoch=null"]])
@pytest.mark.parametrize("sample", [9, 13, 17, 25])
def test_rows_are_counted_on_after_a_fault_between_two_batches(fit, broken, sample, interval):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.limit_val_batches=1", "--data.val_batch_size=1"]
    words += ["--trainer.val_check_interval", *interval]
    whole, _ = fit(*words)
    last = broken(toys._Points, "__getitem__", sample, *words)
    resumed, _ = fit(*words, f"--ckpt_path={last}")
    same_end(resumed, whole)
    made = steps("train", resumed)
    assert made == steps("train", whole)[-len(made) :]


def best_file(folder):
    content = read_checkpoint(folder / "checkpoints/best.ckpt")
    return content["global_step"], content["state_dict"]["net.weight"].tolist()


@pytest.mark.parametrize(
    ("owner", "name"), [(BestCheckpoint, "_save_checkpoint"), (toys.Toy, "on_train_epoch_end")]
)  # fmt: skip
@pytest.mark.parametrize("count", [1, 2])
def test_what_breaks_a_run_off_after_a_validation_loses_no_best_state(fit, broken, owner, name, count):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.max_epochs=4", "--model.lr=0.3"]  # later epochs are worse
    whole, _ = fit(*words)
    resumed, _ = fit(*words, f"--ckpt_path={broken(owner, name, count, *words)}")
    assert best_file(resumed) == best_file(whole)
    assert best_score(resumed) == best_score(whole)


def test_each_batch_s_validation_may_be_the_best(fit):
    folder, _ = fit(*OFTEN, "--trainer.val_check_interval=1", "--model.lr=0.3")
    least = min(float(row[2]) for row in validations(folder))
    assert best_score(folder)[0].item() == pytest.approx(least)


def test_a_file_of_an_epoch_s_validation_can_be_resumed_with_early_stopping(fit):
    words = ["--trainer.max_epochs=4", "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
             "--trainer.callbacks.monitor=val/loss"]  # fmt: skip
    whole, _ = fit(*words, *IN_VALIDATIONS)
    resumed, _ = fit(*words, f"--ckpt_path={whole / 'checkpoints' / 'step=2.ckpt'}")
    same_end(resumed, whole)


@pytest.mark.parametrize("stop", [3, 6, 8])
@pytest.mark.parametrize("interval", [["1.0"], ["3", "--trainer.check_val_every_n_epoch=null"]])
def test_a_file_of_the_batch_in_which_a_run_was_told_to_end_is_a_start_like_another(fit, stop, interval):
    words = [*OFTEN[:1], *OFTEN[2:], "--trainer.max_epochs=3", "--trainer.val_check_interval", *interval]
    whole, _ = fit(*words)
    ends = ["--trainer.callbacks+=tests.cli.toys.StopAt", f"--trainer.callbacks.step={stop}"]
    ended, _ = fit(*words, *ends, *EACH_STEP)
    resumed, _ = fit(*words, f"--ckpt_path={ended / 'checkpoints' / f'step={stop}.ckpt'}")
    same_end(resumed, whole)
    for kind in ("train", "val"):
        made = steps(kind, resumed)
        assert made == steps(kind, whole)[-len(made) :]


@pytest.mark.parametrize(("first", "second"), [(4, 2), (2, 4), (4, 8), (3, 4)])
def test_the_validation_of_an_epoch_s_end_is_made_whatever_the_batches_are_now(fit, broken, first, second):
    words = ["--trainer.log_every_n_steps=1", "--trainer.num_sanity_val_steps=0"]
    at = [f"--data.batch_size={size}" for size in (first, second)]
    last = broken(toys.Toy, "on_validation_start", 1, *words, at[0])
    resumed, _ = fit(*words, at[1], f"--ckpt_path={last}")
    begun = 16 // first
    assert [row[:2] for row in validations(resumed)] == [("0", str(begun - 1)), ("1", str(begun + 16 // second - 1))]
    assert steps("train", resumed) == list(range(begun, begun + 16 // second))


def test_the_best_checkpoint_is_one_that_is_judged(fit):
    _, said = fit(*EACH_STEP)
    assert "best checkpoint: runs/toy/version_0/checkpoints/best.ckpt" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("size", "stop", "limit", "left"),
    [(2, 3, 1.0, 2), (8, 3, 1.0, 1), (8, 2, 1.0, 1), (3, 3, 1.0, 1), (1, 3, 1.0, 4), (2, 2, 3, 1)],
)
def test_batches_of_another_size_go_on_behind_the_samples_that_were_seen(fit, size, stop, limit, left):
    words = [*OFTEN[:1], *OFTEN[2:], f"--trainer.limit_train_batches={limit}"]
    stopped, _ = fit(*words, stop=stop)
    resume = [f"--data.batch_size={size}", f"--ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}"]
    with pytest.warns(UserWarning, match="resumed within an epoch with batches of another size"):
        resumed, _ = fit(*words, *resume)
    made = steps("train", resumed)
    assert made == list(range(stop, stop + left + min(16 // size, limit if limit > 1 else 16)))
    assert [row[0] for row in validations(resumed)] == ["0", "1"]


@pytest.mark.filterwarnings("error:resumed within")
@pytest.mark.parametrize("limit", [1.0, 3])
def test_batches_of_another_size_begin_an_epoch_silently(fit, limit):
    words = [*OFTEN[:1], *OFTEN[2:], f"--trainer.limit_train_batches={limit}", "--trainer.max_epochs=1"]
    ended, _ = fit(*words)
    resume = ["--data.batch_size=2", "--trainer.max_epochs=2", f"--ckpt_path={ended / 'checkpoints' / 'last.ckpt'}"]
    made = steps("train", fit(*words, *resume)[0])
    assert len(made) == (8 if limit == 1.0 else 3)


def test_a_stop_that_was_put_off_is_of_its_own_fit_alone(tmp_path):
    from lightning.pytorch import Trainer

    def fit(*callbacks):
        trainer = Trainer(
            max_epochs=2, accumulate_grad_batches=4, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, callbacks=list(callbacks),
        )  # fmt: skip
        trainer.fit(model, toys.ToyData(batch_size=4))
        return trainer.global_step

    model = toys.Toy()
    with pytest.raises(OSError, match="No space"):
        fit(toys.StopAt(1), toys.RaiseAt("disk", 3))
    assert fit() == 2


class OwnLoader(torch.utils.data.DataLoader):
    """A loader with a state of its own, as Lightning's interface for such loaders has it."""

    place = 0
    key = "place"

    def __iter__(self):
        start, self.place = self.place, 0
        for number in range(start, 8):
            self.place = (number + 1) % 8
            yield {"image": torch.full((1, 3), float(number))}

    def __len__(self):
        return 8

    def state_dict(self):
        return {self.key: self.place}

    def load_state_dict(self, state):
        self.place = state[self.key]


@pytest.mark.parametrize("key", ["place", "batches"])
def test_a_loader_of_ones_own_gets_its_place_back(tmp_path, monkeypatch, key):
    from lightning.pytorch import LightningDataModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    monkeypatch.setattr(OwnLoader, "key", key)

    class Own(LightningDataModule):
        def train_dataloader(self):
            return OwnLoader(range(8))

    class Seeing(toys.Toy):
        def step(self, batch, stage):
            seen.append(int(batch["image"][0, 0]))
            return super().step(batch, stage)

    def fit(keep, **resume):
        seen.clear()
        kept = [ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)] if keep else []
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=keep, default_root_dir=tmp_path, callbacks=kept,
        )  # fmt: skip
        trainer.fit(Seeing(), Own(), **resume)
        return list(seen)

    seen: list[int] = []
    assert fit(True) == [*range(8), *range(8)]
    assert fit(False, ckpt_path=tmp_path / "step=3.ckpt") == [*range(3, 8), *range(8)]

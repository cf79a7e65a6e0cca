"""Checkpoints of every place that a run can be in: each is a start like another, whoever wrote it."""

from itertools import product

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger

from .toys import StopAt, Toy, ToyData

HOOKS = [
    f"on_{name}"
    for name in (
        "train_start", "train_epoch_start", "train_batch_start", "train_batch_end", "validation_start",
        "validation_batch_start", "validation_batch_end", "validation_end", "train_epoch_end", "train_end",
    )
]  # fmt: skip


class Rows(DummyLogger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, tuple(sorted((name, float(value)) for name, value in metrics.items()))))


class AtHooks(Callback):
    """Calls a function with the trainer, a hook's name and how often it was called."""

    def __init__(self, act):
        self.act, self.counts = act, dict.fromkeys(HOOKS, 0)


def _hook(name):
    def call(self, trainer, *args, **kwargs):
        if not trainer.sanity_checking:
            self.counts[name] += 1
            self.act(trainer, name, self.counts[name])

    return call


for _name in HOOKS:
    setattr(AtHooks, _name, _hook(_name))


class BreakingOffError(Exception):
    """What goes wrong."""


def fit(folder, words, *callbacks, resume=None, model=Toy):
    """Fits the toy (four batches an epoch, three epochs) and returns weights, steps, epochs, rows, trainer."""
    torch.manual_seed(0)
    model, data = model(lr=0.05, schedule="constant"), ToyData(batch_size=4)
    best = ModelCheckpoint(
        folder, "best", monitor="val/loss", enable_version_counter=False, save_on_train_epoch_end=False
    )
    trainer = Trainer(
        accelerator="cpu", logger=Rows(), log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[*callbacks, best], **{"max_epochs": 3, "num_sanity_val_steps": 0, **words},
    )  # fmt: skip
    try:
        trainer.fit(model, data, ckpt_path=resume)
    except BreakingOffError:
        return None
    return model.net.weight.tolist(), trainer.global_step, trainer.current_epoch, trainer.logger.rows, trainer


def differs(resumed, whole, logged):
    """Says what a resumed run differs in from the whole one, of which so many rows had been logged."""
    faults = [
        name for name, one, other in zip(("weights", "steps", "epochs"), resumed, whole, strict=False) if one != other
    ]
    rows, expected = resumed[3], whole[3]
    if rows != expected[len(expected) - len(rows) :]:
        faults.append("rows")
    elif len(expected) - len(rows) > logged:
        faults.append("rows lost")
    return faults


WORDS = [
    {"val_check_interval": 3},
    {"val_check_interval": 2, "accumulate_grad_batches": 2, "check_val_every_n_epoch": 2},
    {"val_check_interval": 3, "accumulate_grad_batches": 3, "check_val_every_n_epoch": None},
    {"limit_train_batches": 3, "limit_val_batches": 2},
    {"limit_val_batches": 0, "accumulate_grad_batches": 2},
]


@pytest.mark.parametrize(
    ("words", "stop"), [*((words, None) for words in WORDS), *product(WORDS[:2], (3, 4)), (WORDS[2], 8), (WORDS[3], 6)]
)
def test_a_file_of_any_hook_is_a_start_like_another(tmp_path, words, stop):
    files = []

    def save(trainer, name, count):
        # The trainer logs a batch's values after its hooks.
        files.append((tmp_path / f"{name}_{count}.ckpt", len(trainer.logger.rows) + (name == "on_train_batch_end")))
        trainer.save_checkpoint(files[-1][0])

    trainer = fit(tmp_path, words, AtHooks(save), *([StopAt(stop)] if stop else []))[-1]
    save(trainer, "after", 0)
    whole = fit(tmp_path, words)
    found = {path.stem: differs(fit(tmp_path, words, resume=path), whole, logged) for path, logged in files}
    assert len(found) > 12
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize("words", WORDS[:3])
def test_what_breaks_a_run_off_anywhere_leaves_a_start_like_another(tmp_path, words):
    whole, found = fit(tmp_path, words), {}
    for hook in HOOKS:
        for count in range(1, 16, 2):
            logged = []

            def fail(trainer, name, number, place=(hook, count), logged=logged):
                if (name, number) == place:
                    logged.append(len(trainer.logger.rows) + (name == "on_train_batch_end"))
                    raise BreakingOffError

            keeper = OnExceptionCheckpoint(tmp_path / f"{hook}_{count}")
            if fit(tmp_path, words, AtHooks(fail), keeper) is not None:
                break
            resumed = fit(tmp_path, words, resume=keeper.ckpt_path)
            found[hook, count] = differs(resumed, whole, logged[0])
    assert len(found) > 25
    assert {place: faults for place, faults in found.items() if faults} == {}


class Skipping(Toy):
    """Leaves out what is behind the second batch of each epoch."""

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        return -1 if batch_idx == 2 else None


def test_epochs_that_a_method_cuts_short_are_counted(tmp_path):
    files = []

    def save(trainer, name, count):
        if name == "on_train_batch_end":
            files.append(tmp_path / f"{count}.ckpt")
            trainer.save_checkpoint(files[-1])

    whole = fit(tmp_path, {}, AtHooks(save), model=Skipping)
    assert len(files) == whole[1] == 6
    for path in files:
        assert differs(fit(tmp_path, {}, resume=path, model=Skipping), whole, 99) == []

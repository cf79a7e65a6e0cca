"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI over PoseModule and PoseDataModule."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from posekit.callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    CleanInterrupt,
    LastCheckpoint,
    ModelTable,
    OutOfMemoryAdvice,
    PredictionPreview,
    PredictionWriter,
    ProgressLine,
    RecentCheckpoint,
    ResultTable,
    Termination,
    ThroughputMonitor,
)
from posekit.callbacks.run_folder import unless_refused
from posekit.checkpoints import CHECKPOINT_KEY, read_checkpoint
from posekit.cli.build import PoseParser, build_from_config, build_model, link_values
from posekit.cli.drawn_once import DrawnOnce, starts_others
from posekit.cli.quiet import one_line_errors, quieten
from posekit.cli.words import (
    asks_for_help,
    check_class,
    check_classes_named,
    checkpoint_words,
    model_name,
    names_a_model,
    predict_words,
    print_predict_help,
    resolve_configs,
    say_untrained,
    starter_words,
)
from posekit.data.datamodule import PoseDataModule
from posekit.errors import UserError, one_of
from posekit.module import PoseModule
from posekit.plugins import import_class, load_plugins
from posekit.tables.reference import paper_numbers

__all__ = ["PoseCLI", "build_from_config", "build_model", "run_trainer"]


class PoseCLI(LightningCLI):
    """LightningCLI with posekit's base classes, linked values, loggers and callbacks."""

    command = "fit"
    run_name = "run"
    ckpt_given: dict[str, Any] | None = None

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand in ("validate", "test"):
            parser.set_defaults({"verbose": False})  # ResultTable prints the numbers
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; LightningCLI's own form warns that words were passed from Python."""
        self.config = parser.parse_args(args if isinstance(args, list) else None)
        seed = self.config[self.command].get("seed_everything") if self.command in self.config else None
        if isinstance(seed, int) and not 0 <= seed < 2**32:
            raise UserError(f"seed_everything is {seed}, but must be from 0 to {2**32 - 1}")

    def _parse_ckpt_path(self) -> None:
        """Does nothing: the checkpoint's hyper-parameters were put in front of the words (see `checkpoint_words`)."""

    def before_instantiate_classes(self) -> None:
        """Fills in linked values and checks the checkpoint's class."""
        config = self.config[self.command]
        path = config.get("ckpt_path")
        if self.ckpt_given is None and path is not None:
            self.ckpt_given = read_checkpoint(path)  # named in a config
        if self.ckpt_given is not None:
            check_class(self.ckpt_given, config.model.class_path)
        _check_interval(config.trainer)
        link_values(config)
        untrained = path is None and (config.model.get("init_args") or {}).get("init_from") is None
        if self.command == "predict" and untrained:
            raise UserError("the config's network has no weights: give --ckpt_path FILE or --model.init_from FILE")
        if self.command in ("validate", "test") and untrained:
            say_untrained(f"{self.command} judges")
        if self.ckpt_given is not None and config.model.get("init_args"):
            config.model.init_args["init_from"] = None  # the checkpoint has all weights

    def after_instantiate_classes(self) -> None:
        """Reads and checks the data before anything is written, so that a refused run leaves nothing behind."""
        if self.command == "fit" and self.config[self.command].trainer.get("sync_batchnorm"):
            _check_sync_batchnorm(self.trainer)
        self.model.check_precision(self.trainer)
        if self.command != "predict" or not hasattr(self.datamodule, "source"):
            self.model.check_data(self.datamodule)
        if self.ckpt_given is not None and self.command != "fit":
            self.model.recall(self.ckpt_given)
            _stand_at(self.trainer, self.ckpt_given)
        if hasattr(self.datamodule, "adapt_to"):
            self.datamodule.adapt_to(self.model)
        if starts_others(self.trainer):
            self.trainer.callbacks.insert(0, DrawnOnce())  # type: ignore[attr-defined]
        elif self.trainer.world_size > 1:
            return  # each process does so at its own start
        self.datamodule.prepare_data()
        self.datamodule.setup(self.command)

    def _run_subcommand(self, subcommand: str) -> None:
        with unless_refused(self.trainer, (self.ckpt_given or {}).get("global_step", 0)):
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds posekit's loggers and callbacks where the config has none of their kind."""
        config = self._get(self.config_init, "trainer", default={})
        if config.get("logger") in (None, True):
            kwargs["logger"] = (
                default_loggers(self.run_name, config.get("default_root_dir")) if self._keeps_log() else False
            )
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        default = self._prediction_callbacks(given) if self.command == "predict" else self._default_callbacks(config)
        if config.get("enable_progress_bar") is not False:
            default = [ProgressLine(), *default]
        missing = [c for c in default if not any(_takes_the_place(g, c) for g in given)]
        kwargs["callbacks"] = sorted([*given, *missing], key=_rank)
        kwargs["enable_model_summary"] = False  # Lightning's own, which has given way
        kwargs["plugins"] = _with_atomic_writer(config.get("plugins"))
        if not self._keeps_log():
            self.save_config_callback = None
            if not any(isinstance(g, ModelCheckpoint) for g in given):
                kwargs["enable_checkpointing"] = False
        return super().instantiate_trainer(**kwargs)

    def _keeps_log(self) -> bool:
        """Tells whether the run has a folder: not a prediction, a dry run, or one with ``logger: false``."""
        config = self._get(self.config_init, "trainer", default={})
        off = config.get("fast_dev_run", False) or config.get("logger") is False
        return self.command != "predict" and not off

    def _prediction_callbacks(self, given: list[Callback]) -> list[Callback]:
        """Returns a prediction's callbacks; a benchmark's files go into a folder in that of the other results."""
        keypoints = self.model.prediction_writer == PoseModule.prediction_writer
        writer = self.datamodule.RESULT_WRITER if keypoints else None
        folder = next((g.output for g in given if isinstance(g, PredictionWriter)), Path("predictions"))
        own = [import_class(writer)(str(folder / type(self.datamodule).__name__.lower()))] if writer else []
        return [PredictionWriter(str(folder)), OutOfMemoryAdvice(), Termination(), *own]

    def _default_callbacks(self, config: dict[str, Any]) -> list[Callback]:
        reference = paper_numbers(self.run_name, self.config[self.command].as_dict()) or ("", {})
        callbacks: list[Callback] = [
            ThroughputMonitor(), PredictionPreview(), ResultTable(*reference), OutOfMemoryAdvice(), Termination()
        ]  # fmt: skip
        if config.get("enable_model_summary") is not False:
            callbacks.append(ModelTable())
        keeps_state = self.command == "fit" and self._keeps_log() and config.get("enable_checkpointing") is not False
        return callbacks + (self._checkpoints() if keeps_state else [])

    def _checkpoints(self) -> list[Callback]:
        """Returns the keepers of the best state, of the last one and of one in the middle of long epochs.

        The last one is written at each epoch's end and when a run is interrupted, the recent one every few minutes.
        """
        best = BestCheckpoint(self.model.monitor, self.model.monitor_mode)
        return [CleanInterrupt(), best, LastCheckpoint(), RecentCheckpoint(RECENT_EVERY)]


def _check_interval(trainer: Any) -> None:
    """Refuses an interval that the framework would divide by.

    Raises:
        UserError: It is not positive.
    """
    interval = trainer.get("val_check_interval")
    if isinstance(interval, int | float) and interval <= 0:
        raise UserError(
            f"trainer.val_check_interval is {interval}, but must be positive; "
            "trainer.limit_val_batches=0 turns validation off"
        )


def _check_sync_batchnorm(trainer: Trainer) -> None:
    """Refuses batch norm over several processes of the CPU, for which PyTorch has none.

    Raises:
        UserError: The processes are the CPU's.
    """
    if trainer.world_size > 1 and isinstance(trainer.accelerator, CPUAccelerator):
        raise UserError("trainer.sync_batchnorm needs a GPU; leave it out on the CPU")


def _stand_at(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Has an evaluation's rows and pictures stand at its checkpoint's epoch and step, where the fit's own stand."""
    state = checkpoint.get("loops", {}).get("fit_loop")
    if state is None:  # weights alone
        return
    loop: Any = trainer.fit_loop
    loop.load_state_dict(deepcopy(state))
    epochs = loop.epoch_progress.current
    if 0 < epochs.started == epochs.completed:  # the fit's own are of the epoch's last batch
        epochs.completed -= 1
        loop.epoch_loop._batches_that_stepped -= 1
    row = checkpoint.get(CHECKPOINT_KEY, {}).get("row")
    if row is not None:
        loop.epoch_loop._batches_that_stepped = row


def _takes_the_place(given: Callback, default: Callback) -> bool:
    """Tells whether a callback of the config makes one of posekit's needless."""
    if isinstance(given, ModelCheckpoint) and isinstance(default, ModelCheckpoint):
        # A keeper of one's own replaces that of the best state; what a killed run resumes from stays.
        return given.state_key == default.state_key or bool(given.monitor and default.monitor)
    kind = next((of_its_own for own, of_its_own in _KINDS.items() if isinstance(default, own)), type(default))
    return isinstance(given, kind)


_KINDS: dict[type[Callback], type[Callback]] = {ModelTable: ModelSummary, ProgressLine: ProgressBar}
"""What takes the place of a callback, where that is more than its own class."""


def _rank(callback: Callback) -> int:
    """Returns a callback's place: a step begins with the first one's hook and is whole to the end of it.

    A bar comes to its end before others print below it.
    """
    return 0 if isinstance(callback, CleanInterrupt) else 1 if isinstance(callback, ProgressBar) else 2


RECENT_EVERY = timedelta(minutes=10)
"""How much work a run that is killed can lose."""


def _with_atomic_writer(plugins: Any) -> list[Any]:
    """Adds the writer of whole checkpoints to the trainer's plugins, unless there is another one."""
    given = [] if plugins is None else plugins if isinstance(plugins, list) else [plugins]
    return given if any(isinstance(p, CheckpointIO) for p in given) else [*given, AtomicCheckpointIO()]


def default_loggers(name: str, root: str | None = None) -> list[Logger]:
    """Returns a CSV logger, and a TensorBoard logger on the same folder where tensorboard is installed."""
    csv = CSVLogger(save_dir=root or "runs", name=name)
    loggers: list[Logger] = [csv]
    if importlib.util.find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(save_dir=csv.root_dir, name="", version=f"version_{csv.version}"))
    return loggers


def _class_named(model: str | None, classes: dict[str, Any]) -> type[PoseModule]:
    """Returns a model's class by its short name or path; the base where there is none (the parser will say so)."""
    try:
        found = classes.get(model or "") or (import_class(model) if model and "." in model else None)
    except (ImportError, AttributeError):
        found = None
    return found if isinstance(found, type) and issubclass(found, PoseModule) else PoseModule


_SOURCES = {"pictures": "ImageSource", "clips": "VideoClips"}


def _source_for(method: type[PoseModule]) -> str:
    """Returns the data module of ``predict --input``, by what the method says that it ``predicts``.

    Raises:
        UserError: It says something else.
    """
    return _SOURCES[one_of(f"predicts of {method.__name__}", method.predicts, _SOURCES)]


_HELP = {
    "fit": ("posekit fit --config FILE [options]", "Trains a method, or goes on with a run by --ckpt_path."),
    "validate": ("posekit validate [--config FILE] [--ckpt_path FILE] [options]", "Evaluates on the validation split."),
    "test": (
        "posekit test [--config FILE] [--ckpt_path FILE] [options]",
        "Evaluates on the test split; on the validation split, where the data's test labels are not public.",
    ),
    "predict": (argparse.SUPPRESS, "Options of the trainer, the method and the data:"),  # below those of predict itself
}
"""Usage and description of a command."""


def run_trainer(command: str, argv: Sequence[str]) -> None:
    """Runs a command of the trainer.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        argv: The words after it.

    Raises:
        UserError: A mistake in the config, the data or the checkpoint.
    """
    quieten()
    classes = load_plugins()
    words, name = resolve_configs(argv)
    front, checkpoint = checkpoint_words(words)
    if command == "predict":
        method = _class_named(model_name(words, checkpoint), classes)
        if asks_for_help(words):
            print_predict_help()
        else:
            words = predict_words(words, _source_for(method), method.prediction_writer)
            if checkpoint is None and not names_a_model(words):
                front = starter_words(words)
    if not asks_for_help(words):
        check_classes_named([*front, *words])
    skipped = {"model", "datamodule"} | (
        {"train_dataloaders", "val_dataloaders"} if command == "fit" else {"dataloaders"}
    )
    attributes = {
        "command": command,
        "run_name": name,
        "ckpt_given": checkpoint,
        # One sub-parser instead of four: start-up takes a fraction of the time.
        "subcommands": staticmethod(lambda: {command: skipped}),
    }
    cli = type("PoseCLI", (PoseCLI,), attributes)
    usage, description = _HELP[command]
    try:
        with one_line_errors(resumes=command == "fit"):
            cli(
                PoseModule,
                PoseDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                parser_class=PoseParser,
                parser_kwargs={"prog": "posekit", command: {"usage": usage, "description": description}},
                args=[command, *front, *words],
                **({"save_config_callback": None} if command == "predict" else {}),
            )
    except SIGTERMException:  # it would count as a run that has ended by itself
        sys.exit(128 + signal.SIGTERM)

"""A config's method and data module, parsed, linked and built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from posekit.cli.messages import explain
from posekit.cli.misfits import refuse_misfits
from posekit.cli.quiet import one_line_errors
from posekit.cli.words import check_classes_named, checkpoint_words, resolve_configs, say_untrained
from posekit.data.datamodule import LINKED, PoseDataModule
from posekit.errors import UserError
from posekit.module import PoseModule
from posekit.plugins import import_class, load_plugins
from posekit.signatures import defaults_of


class PoseParser(LightningArgumentParser):
    """Refuses bad input with one line instead of a page of usage, and words that only begin like an option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raises the one line.

        Raises:
            UserError: Always.
        """
        raise UserError(explain(message, self)) from None


def link_values(config: Any) -> None:
    """Makes data module and method agree on the linked values: a side that says nothing takes the other's.

    Raises:
        UserError: Both sides say something and differ, or a class is given what it cannot take.
    """
    _agree(config)
    refuse_misfits(config)


def _agree(config: Any) -> None:
    model, data = config.model.get("init_args"), config.data.get("init_args")
    if model is None or data is None:
        return
    offered = import_class(config.data.class_path).linked_values(data.as_dict())
    for key in LINKED:
        if key not in model or key not in offered:
            continue
        ours, theirs = model[key], offered[key]
        if ours is None:
            model[key] = _plain(theirs)
        elif data.get(key, theirs) is None:
            data[key] = ours  # the data's own value is a default, which gives way
        elif _plain(ours) != _plain(theirs):
            advice = f"set data.{key} alone, the model takes it from there"
            cls = import_class(config.model.class_path)
            if _plain(defaults_of(cls).get(key)) == _plain(ours):
                advice = f"give model.{key} as well, or let its default in {cls.__name__} be None, which gives way"
            raise UserError(f"model.{key}={_plain(ours)} but data.{key}={_plain(theirs)}: the two are linked; {advice}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def build_from_config(words: Sequence[str]) -> tuple[PoseModule, PoseDataModule]:
    """Builds a config's method and data module, without a trainer.

    Args:
        words: Command line words, e.g. ``["--config", "x.yaml", "--data.batch_size", "8"]``.

    Raises:
        UserError: A mistake in the config.
    """
    with one_line_errors():
        parser, config = _parse_objects(words)
        objects = parser.instantiate_classes(config)
    return objects.model, objects.data


def build_model(words: Sequence[str]) -> PoseModule:
    """Builds a config's method alone: its data need not be there.

    Args:
        words: Command line words, e.g. ``["--config", "x.yaml"]``.

    Raises:
        UserError: A mistake in the config.
    """
    with one_line_errors():
        parser, config = _parse_objects(words)
        config.pop("data")
        model = parser.instantiate_classes(config).model
    return cast(PoseModule, model)


def build_trained(words: Sequence[str], accept: Callable[[PoseModule], None] | None = None) -> PoseModule:
    """Builds the method of a checkpoint (``--ckpt_path FILE``), a config, or both, with the checkpoint's weights.

    Args:
        words: Command line words, e.g. ``["--ckpt_path", "best.ckpt"]``.
        accept: Looks at the method, before anything is said of its weights.

    Raises:
        UserError: A mistake in the config or the checkpoint, or they do not fit.
    """
    words, _ = resolve_configs(words)
    front, checkpoint = checkpoint_words(words)
    if not any(word.partition("=")[0] in ("--config", "-c", "--data") for word in words):
        front = [*front, "--data=ImageSource", "--data.source=."]  # parsed, never built: it asks nothing of the model
    model = build_model([*front, *words])
    if accept is not None:
        accept(model)
    if checkpoint is not None:
        with one_line_errors():
            model.load_state_dict(checkpoint["state_dict"])
    elif model.hparams.get("init_from") is None:
        say_untrained("this is")
    return model


def check_config(words: Sequence[str]) -> None:
    """Parses a config without building anything.

    Args:
        words: Command line words, e.g. ``["--config", "x.yaml", "--model.lr=0.1"]``.

    Raises:
        UserError: A mistake in the config or the words.
    """
    with one_line_errors():
        _parse_objects(words)


def _parse_objects(words: Sequence[str]) -> tuple[PoseParser, Any]:
    """Parses a config's model and data."""
    load_plugins()
    resolved, _ = resolve_configs(words)
    check_classes_named(resolved)
    parser = PoseParser(prog="posekit")
    parser.add_argument("-c", "--config", action="config")
    parser.add_argument("--seed_everything", type=int | bool, default=0)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(PoseModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(PoseDataModule, "data", subclass_mode=True)
    for key in ("ckpt_path", "weights_only", "verbose"):  # keys that a run's own config.yaml has besides
        parser.add_argument("--" + key, default=None)
    config = parser.parse_args(resolved)
    link_values(config)
    for key in ("trainer", "ckpt_path", "weights_only", "verbose"):
        config.pop(key)
    return parser, config

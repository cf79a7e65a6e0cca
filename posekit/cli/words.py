"""What stands before the parser: config files found and checked, ``predict``'s own options, the checkpoint's model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from posekit.checkpoints import CHECKPOINT_KEY, read_checkpoint
from posekit.cli.configs import find_config, is_text, read_config
from posekit.errors import UserError
from posekit.nn.shipped import shipped_weights


def resolve_configs(argv: Sequence[str]) -> tuple[list[str], str]:
    """Finds and checks the files given to ``--config``; returns the words and the run's name (the last file's stem)."""
    words, name, expects_config = [], "run", False
    for word in argv:
        if expects_config:
            word = _checked_config(word)
            name = _run_name(word)
            expects_config = False
        elif word in ("--config", "-c"):
            expects_config = True
        elif word.startswith("--config="):
            path = _checked_config(word.partition("=")[2])
            name = _run_name(path)
            word = "--config=" + path
        words.append(word)
    if expects_config:
        raise UserError("--config needs a file")
    return words, name


def _run_name(config: str) -> str:
    """Names a run after its config file; ``runs/NAME/version_0/config.yaml`` belongs to NAME. Text has no name."""
    if is_text(config):
        return "run"
    path = Path(config)
    if path.name == "config.yaml" and path.parent.name.startswith("version_"):
        return path.absolute().parent.parent.name
    return path.stem


def _checked_config(name: str) -> str:
    path = find_config(name)
    if is_text(path):
        return path
    read_config(path)
    return path


def predict_words(words: list[str], source_class: str = "ImageSource", writer: str = "PredictionWriter") -> list[str]:
    """Rewrites ``--input``, ``--boxes``, ``--output`` and ``--meshes`` to options of a source and of a writer.

    Args:
        words: The words after ``predict``.
        source_class: The data module of ``--input``: ImageSource, or VideoClips for methods on clips.
        writer: The callback that writes the predictions: PredictionWriter, or PredictionWriter3D for poses in 3D.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--input")
    parser.add_argument("--boxes")
    parser.add_argument("--output", default="predictions")
    parser.add_argument("--meshes")
    known, rest = parser.parse_known_args(words)
    if known.meshes is not None and writer != "PredictionWriter3D":
        raise UserError("--meshes is for methods that predict bodies, as MAED")
    if known.input is None and known.boxes is not None:
        raise UserError("--boxes goes with --input")
    added = []
    if known.input is not None:
        if not Path(known.input).exists():
            raise UserError(f"--input {known.input} does not exist")
        added += [f"--data={source_class}", f"--data.source={known.input}"]
        added += [f"--data.boxes={known.boxes}"] if known.boxes else []
    added += [f"--trainer.callbacks+={writer}", f"--trainer.callbacks.output={known.output}"]
    added += [f"--trainer.callbacks.meshes={known.meshes}"] if known.meshes else []
    return _after_configs(rest, added)


def _after_configs(words: list[str], added: list[str]) -> list[str]:
    """Puts words behind the last config, so that they override it and give way to the user's own options."""
    last = 0
    for index, word in enumerate(words):
        if word in ("--config", "-c"):
            last = index + 2
        elif word.startswith("--config="):
            last = index + 1
    return [*words[:last], *added, *words[last:]]


def model_name(words: Sequence[str], checkpoint: dict[str, Any] | None) -> str | None:
    """Returns the name or class path of the model that words choose, as far as it can be told without parsing them."""
    name = checkpoint[CHECKPOINT_KEY]["class_path"] if checkpoint else None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if option in ("--config", "-c"):
            name = _model_of_config(value) or name
        elif option in ("--model", "--model.class_path"):
            name = value
    return name


def _model_of_config(path: str) -> str | None:
    if is_text(path) or not Path(path).is_file():
        return None
    model = read_config(path).get("model")
    model = model.get("class_path") if isinstance(model, dict) else model
    return model if isinstance(model, str) else None


def names_a_model(words: Sequence[str]) -> bool:
    """Tells whether words choose a model, by a config or by name."""
    return any(word.split("=")[0] in ("--config", "-c", "--model") for word in words)


def starter_words() -> list[str]:
    """Returns words that choose the shipped network for a prediction without a model, and says what it is."""
    record = shipped_weights("starter")
    print(
        f"posekit: no --ckpt_path or --config: using the shipped weights 'starter'. {record['warning']}",
        file=sys.stderr,
    )
    model = {
        "class_path": record["model"]["class_path"],
        "init_args": {**record["model"]["init_args"], "init_from": "starter"},
    }
    return ["--config", yaml.safe_dump({"model": model})]


def checkpoint_words(words: Sequence[str]) -> tuple[list[str], dict[str, Any] | None]:
    """Returns words that describe the checkpoint's model, to stand before the user's, and the checkpoint.

    So a command with ``--ckpt_path`` needs no config for the model, and a config given as well has the last word.
    """
    path = None
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word == "--ckpt_path":
            path = following
        elif word.startswith("--ckpt_path="):
            path = word.partition("=")[2]
    if path is None or (path in ("last", "best", "hpc") and not Path(path).exists()):
        return [], None
    checkpoint = read_checkpoint(path)
    hparams = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
    hparams["init_from"] = None  # the checkpoint has all weights
    model = {"class_path": checkpoint[CHECKPOINT_KEY]["class_path"], "init_args": hparams}
    return ["--config", yaml.safe_dump({"model": model})], checkpoint

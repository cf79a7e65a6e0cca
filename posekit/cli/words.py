"""What stands before the parser: config files found and checked, ``predict``'s own options, the checkpoint's model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from posekit.checkpoints import CHECKPOINT_KEY, read_checkpoint
from posekit.cli.arguments import ArgumentParser
from posekit.cli.messages import nothing_names
from posekit.configs import find_config, is_text, read_config
from posekit.errors import UserError, excerpt
from posekit.nn.shipped import shipped_weights


def resolve_configs(argv: Sequence[str]) -> tuple[list[str], str]:
    """Finds and checks the files given to ``--config``.

    Returns:
        The words, configs first: an option overrides every config, also one that stands behind it. And the run's name,
        that of the last config.
    """
    configs, options, name, expects_config = [], [], "run", False
    for word in argv:
        if not expects_config and word in ("--config", "-c"):
            expects_config = True
        elif expects_config or word.startswith("--config="):
            path = _checked_config(word if expects_config else word.partition("=")[2])
            configs.append("--config=" + path)
            name, expects_config = _run_name(path), False
        else:
            options.append(word)
    if expects_config:
        raise UserError("--config needs a file")
    return [*configs, *options], name


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
    content = read_config(path)
    where = "the config's text" if is_text(path) else f"config {path}"
    trainer = content.get("trainer", {})
    if not isinstance(trainer, dict):
        raise UserError(f"{where}: trainer must hold keys such as max_epochs, not {excerpt(trainer)}")
    for key in ("model", "data"):
        _check_keys_of_class(where, key, content.get(key))
    return path


def _check_keys_of_class(where: str, key: str, entry: Any) -> None:
    """Refuses a class's options beside ``class_path`` (of it the parser would say that it is unknown), or left blank.

    Raises:
        UserError: There are some, or ``init_args`` is blank.
    """
    if not isinstance(entry, dict) or "class_path" not in entry:
        return
    if "init_args" in entry and not isinstance(entry["init_args"], dict):
        raise UserError(
            f"{where}: {key}.init_args must hold the class's options, not {excerpt(entry['init_args'])}; "
            "leave the key out where there are none"
        )
    stray = [str(name) for name in entry if name not in ("class_path", "init_args", "dict_kwargs")]
    if stray:
        raise UserError(
            f"{where}: {key}.{stray[0]} stands beside class_path; options of a class go under {key}.init_args"
        )


def check_classes_named(words: Sequence[str]) -> None:
    """Refuses options of a data module or a method that nothing names: they would be looked for in the base class.

    Args:
        words: All that the parser is to read.

    Raises:
        UserError: There are such options.
    """
    options = [word.partition("=")[0] for word in words]
    configs = [read_config(name) for name in _values(words, "--config")]
    unnamed = [key for key in ("data", "model") if not _is_named(key, options, configs)]
    prefixes = tuple(f"--{key}." for key in unnamed)
    if any(option.startswith(prefixes) for option in options) or any(c.get(key) for c in configs for key in unnamed):
        raise UserError(nothing_names(unnamed))


def _is_named(key: str, options: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> bool:
    """Tells whether an option or a config says which class of a kind is meant, or asks for a class's help."""
    if any(option in (f"--{key}", f"--{key}.class_path", f"--{key}.help") for option in options):
        return True
    entries = [config.get(key) for config in configs]
    return any("class_path" in entry if isinstance(entry, dict) else entry is not None for entry in entries)


def predict_words(words: list[str], source_class: str = "ImageSource", writer: str = "PredictionWriter") -> list[str]:
    """Rewrites ``--input``, ``--boxes``, ``--output`` and ``--meshes`` to options of a source and of a writer.

    Args:
        words: The words after ``predict``.
        source_class: The data module of ``--input``: ImageSource, or VideoClips for methods on clips.
        writer: The callback that writes the predictions: PredictionWriter, or PredictionWriter3D for poses in 3D.
    """
    known, rest = _predict_parser().parse_known_args(words)
    if known.meshes is not None and writer != "PredictionWriter3D":
        raise UserError("--meshes is for methods that predict bodies, as MAED")
    if known.input is None and known.boxes is not None:
        raise UserError("--boxes goes with --input")
    if known.input is None and not any(_names_data(word) for word in words):
        raise UserError("posekit predict needs --input PATH: a picture, a folder of pictures or a video")
    added = []
    if known.input is not None:
        if not Path(known.input).exists():
            raise UserError(f"--input {known.input} does not exist")
        added += [f"--data={source_class}", f"--data.source={known.input}"]
        added += [f"--data.boxes={known.boxes}"] if known.boxes else []
    added += [f"--trainer.callbacks+={writer}", f"--trainer.callbacks.output={known.output}"]
    added += [f"--trainer.callbacks.meshes={known.meshes}"] if known.meshes else []
    return _after_configs(rest, added)


def _predict_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="posekit predict", usage="posekit predict [--ckpt_path FILE] --input PATH [options]", allow_abbrev=False,
        add_help=False, description="Finds people's joints in pictures or a video.",
    )  # fmt: skip
    group = parser.add_argument_group("options of predict")
    group.add_argument("--input", metavar="PATH", help="a picture, a folder of pictures or a video")
    group.add_argument("--boxes", metavar="FILE", help="JSON of person boxes (default: each whole picture is one)")
    group.add_argument(
        "--output", metavar="FOLDER", default="predictions", help="for results and overlays (default predictions)"
    )
    group.add_argument("--meshes", metavar="none|obj|glb", help="files for 3D programs, of methods for bodies")
    return parser


def print_predict_help() -> None:
    """Prints the options that ``predict`` has besides the trainer's, the model's and the data's."""
    print(_predict_parser().format_help())


def asks_for_help(words: Sequence[str]) -> bool:
    """Tells whether words ask for the list of options rather than for a run."""
    return any(word in ("-h", "--help") for word in words)


def _names_data(word: str) -> bool:
    option = word.partition("=")[0]
    return option in ("--config", "-c", "--data", "--data.class_path") or option.endswith(".help")


def _after_configs(words: list[str], added: list[str]) -> list[str]:
    """Puts words behind the configs, so that they override those and give way to the user's own options."""
    last = sum(word.startswith("--config=") for word in words)
    return [*words[:last], *added, *words[last:]]


def model_name(words: Sequence[str], checkpoint: dict[str, Any] | None) -> str | None:
    """Returns the name or class path of the model that words choose, as far as it can be told without parsing them."""
    name = checkpoint[CHECKPOINT_KEY]["class_path"] if checkpoint else None
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if option == "--config":
            name = _model_of_config(value) or name
        elif option in ("--model", "--model.class_path"):
            name = value
    return name


def check_class(checkpoint: Mapping[str, Any], wanted: str) -> None:
    """Compares a checkpoint's class with that of the model.

    Args:
        checkpoint: As read.
        wanted: The model's class path or short name.

    Raises:
        UserError: They differ.
    """
    stored = checkpoint[CHECKPOINT_KEY]["class_path"]
    if stored.rpartition(".")[2] != wanted.rpartition(".")[2]:
        raise UserError(f"the checkpoint is of class {stored}, the config's model is {wanted}")


@rank_zero_only
def say_untrained(what: str) -> None:
    """Warns that a network has its random weights.

    Args:
        what: What is done with it, e.g. ``"validate judges"``.
    """
    print(
        f"posekit: untrained weights: {what} a random network; give --ckpt_path FILE or --model.init_from FILE",
        file=sys.stderr,
    )


def _values(words: Sequence[str], option: str) -> Iterator[str]:
    """Yields what an option is given, as the next word or behind an equals sign."""
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word == option and following is not None:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def _model_of_config(path: str) -> str | None:
    if is_text(path) or not Path(path).is_file():
        return None
    model = read_config(path).get("model")
    model = model.get("class_path") if isinstance(model, dict) else model
    return model if isinstance(model, str) else None


def names_a_model(words: Sequence[str]) -> bool:
    """Tells whether words choose a model, by a config or by name."""
    return any(word.split("=")[0] in ("--config", "-c", "--model", "--model.class_path") for word in words)


def starter_words(words: Sequence[str]) -> list[str]:
    """Returns words that choose the shipped network for a prediction without a model, and says what it is.

    Args:
        words: The user's; with weights of their own the network alone is taken, and nothing said of the shipped ones.
    """
    record = shipped_weights("starter")
    if not any(word.partition("=")[0] == "--model.init_from" for word in words):
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
    paths = list(_values(words, "--ckpt_path"))
    if not paths:
        return [], None
    checkpoint = read_checkpoint(paths[-1])
    wanted = model_name(words, None)
    if wanted is not None and wanted.replace(".", "").isidentifier() and not Path(wanted).is_file():
        check_class(checkpoint, wanted)  # of another class its arguments would not fit the config's either
    hparams = {k: v for k, v in checkpoint["hyper_parameters"].items() if not k.startswith("_")}
    hparams["init_from"] = None  # the checkpoint has all weights
    model = {"class_path": checkpoint[CHECKPOINT_KEY]["class_path"], "init_args": hparams}
    return ["--config", yaml.safe_dump({"model": model})], checkpoint

"""The running commands, on a toy method."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch
import yaml

from posekit.cli import main
from posekit.errors import UserError
from posekit.module import picture_size, read_checkpoint

from . import toys  # noqa: F401  (its classes become known by name)


def refused(capsys, *words):
    """Runs a command that must be refused, and returns its one line."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code not in (0, None)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines
    assert lines[-1].startswith("posekit: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_fit_leaves_config_checkpoints_metrics_and_results(config, capsys):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs" / "toy" / "version_0"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["skeleton"] == "COCO17"
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (run / "metrics.csv").read_text().count("\n") > 1
    results = json.loads((run / "results.json").read_text())
    assert "val/loss" in results
    assert "val/loss" in capsys.readouterr().out


def test_validate_with_a_checkpoint_alone_and_with_the_saved_config(config):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs" / "toy" / "version_0"
    best = str(run / "checkpoints" / "best.ckpt")
    trained = json.loads((run / "results.json").read_text())["val/loss"]
    for words in (["--data", "ToyData", "--data.batch_size", "8"], ["--config", str(run / "config.yaml")]):
        main(["validate", *words, "--ckpt_path", best, "--trainer.default_root_dir", str(run / words[0].strip("-"))])
        found = next((run / words[0].strip("-")).rglob("results.json"))
        assert json.loads(found.read_text())["val/loss"] == pytest.approx(trained, rel=1e-5)


def test_weights_to_start_from_are_not_read_where_a_checkpoint_has_them(config, capsys, caplog):
    main(["fit", "--config", str(config)])
    run = config.parent / "runs" / "toy" / "version_0" / "checkpoints"
    torch.save(torch.load(run / "best.ckpt", weights_only=True)["state_dict"], config.parent / "start.pt")
    start = "--model.init_from=start.pt"
    with caplog.at_level("INFO"):
        main(["fit", "--config", str(config), start, "--trainer.fast_dev_run=true"])
        assert "init_from start.pt" in caplog.text + capsys.readouterr().err
        caplog.clear()
        for command in ("validate", "fit"):
            words = ["--trainer.max_epochs=3"] if command == "fit" else []
            main([command, "--config", str(config), start, f"--ckpt_path={run / 'best.ckpt'}", *words])
    assert "init_from" not in caplog.text + capsys.readouterr().err


def test_resumed_run_ends_like_an_unbroken_one(config):
    main(["fit", "--config", str(config), "--trainer.max_epochs", "3"])
    main(["fit", "--config", str(config), "--trainer.max_epochs", "1"])
    first = config.parent / "runs" / "toy" / "version_1" / "checkpoints" / "last.ckpt"
    main(["fit", "--config", str(config), "--trainer.max_epochs", "3", "--ckpt_path", str(first)])
    ends = [
        torch.load(config.parent / f"runs/toy/version_{k}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for k in (0, 2)
    ]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_later_configs_and_flags_win(config, capsys):
    fragment = config.parent / "more.yaml"
    fragment.write_text("model: {init_args: {lr: 0.5}}\n")
    main_words = ["fit", "--config", str(config), "--config", str(fragment), "--model.width", "2", "--print_config"]
    with pytest.raises(SystemExit) as stop:
        main(main_words)
    assert stop.value.code in (0, None)
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["lr"] == 0.5
    assert printed["model"]["init_args"]["width"] == 2


def test_an_option_wins_over_a_config_behind_it(config):
    main(["fit", "--trainer.max_epochs=3", "--config", str(config), "--model.lr=0.25"])
    run = config.parent / "runs/toy/version_0"
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert (last["epoch"], last["hyper_parameters"]["lr"]) == (2, 0.25)
    # The run's own config says ckpt_path: null.
    words = ["--ckpt_path", str(run / "checkpoints/last.ckpt"), "--config", str(run / "config.yaml")]
    main(["fit", *words, "--trainer.max_epochs=4"])
    again = torch.load(config.parent / "runs/toy/version_1/checkpoints/last.ckpt", weights_only=True)
    assert again["global_step"] == 8
    assert len((config.parent / "runs/toy/version_1/metrics.csv").read_text().splitlines()) < 5  # one epoch


def test_a_run_goes_on_with_the_rate_that_it_has_found(config, capsys, caplog):
    words = ["fit", "--config", str(config), "--trainer.callbacks+=LearningRateFinder",
             "--trainer.callbacks.num_training_steps=40", "--trainer.check_val_every_n_epoch=30"]  # fmt: skip
    main([*words, "--trainer.max_epochs=30"])
    folder = config.parent / "runs/toy"
    with caplog.at_level("INFO"):
        main([*words, "--trainer.max_epochs=31", f"--ckpt_path={folder / 'version_0/checkpoints/last.ckpt'}"])
    said = caplog.text + capsys.readouterr().err
    assert "LearningRateFinder is left out of a resumed run, which goes on with lr" in said
    main([*words, "--trainer.max_epochs=32", f"--ckpt_path={folder / 'version_1/checkpoints/last.ckpt'}"])
    runs = [torch.load(folder / f"version_{n}/checkpoints/last.ckpt", weights_only=True) for n in range(3)]
    rates = [run["optimizer_states"][0]["param_groups"][0]["initial_lr"] for run in runs]
    assert rates[0] == rates[1] == rates[2] != 0.01
    assert [run["hyper_parameters"]["lr"] for run in runs] == rates
    assert [run["global_step"] for run in runs] == [60, 62, 64]


def test_a_batch_size_is_searched_before_the_fit_alone(config, capsys):
    line = refused(capsys, "fit", "--config", str(config), "--trainer.callbacks+=BatchSizeFinder")
    assert "BatchSizeFinder comes after the schedule is planned: leave it out of trainer.callbacks" in line


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_options_of_a_resumed_run_count(config, capsys, caplog, schedule):
    words = ["fit", "--config", str(config), "--model.optimizer=adamw", f"--model.schedule={schedule}"]
    main([*words, "--trainer.max_epochs=1"])
    folder = config.parent / "runs/toy"
    first = f"--ckpt_path={folder / 'version_0/checkpoints/last.ckpt'}"
    with caplog.at_level("INFO"):
        main([*words, "--trainer.max_epochs=2", first, "--model.lr=0.5", "--model.weight_decay=0.3"])
        assert (
            "resumed with lr 0.5 (the checkpoint had 0.01), weight_decay 0.3" in caplog.text + capsys.readouterr().err
        )
        group = torch.load(folder / "version_1/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
        group = group["param_groups"][0]
        assert (group["initial_lr"], group["weight_decay"]) == (0.5, 0.3)
        assert group["lr"] == pytest.approx(0.5 if schedule == "constant" else 0, abs=1e-9)
        caplog.clear()
        capsys.readouterr()
        main([*words, "--trainer.max_epochs=2", first])
        # A cosine is another one in a run of another length; nothing else has changed.
        assert ("resumed with a rate of" in caplog.text + capsys.readouterr().err) == (schedule == "cosine")
    line = refused(capsys, *words, "--trainer.max_epochs=2", first, "--model.optimizer=sgd")
    assert "another kind of optimizer" in line


def test_the_first_step_of_a_resumed_run_has_the_new_schedules_rate(config, capsys, caplog):
    words = ["fit", "--config", str(config), "--trainer.logger=true"]
    main([*words, "--trainer.max_epochs=1"])
    folder = config.parent / "runs/toy"
    first = f"--ckpt_path={folder / 'version_0/checkpoints/last.ckpt'}"
    with caplog.at_level("INFO"):
        main([*words, "--trainer.max_epochs=2", first, "--model.schedule=step", "--model.milestones=[1]"])
    said = caplog.text + capsys.readouterr().err
    assert "resumed with a rate of 0.001 at step 2 (the checkpoint had 0.01)" in said
    found = float(re.search(r"([\d.e+-]+) samples/s", said.split("resumed with")[1])[1])
    assert found > 1  # the clock runs from the resumed run's start


def test_a_linked_value_set_to_another_value_is_refused(config, capsys):
    line = refused(capsys, "fit", "--config", str(config), "--model.skeleton=MPII16", "--data.skeleton=COCO17")
    assert "model.skeleton=MPII16" in line
    assert "data.skeleton=COCO17" in line


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--model.widht", "4"], ["widht", "Did you mean width"]),
        (["--model.width", "four"], ["width", "int", "four"]),
        (["--model", "Toi"], ["unknown class 'Toi'", "HDM"]),
        (["--trainer.max_epohcs=3"], ["max_epohcs", "trainer.max_epochs"]),
        (["--modle.width=3"], ["--modle.width", "model"]),
        (["--trainer.max_epoch=3"], ["--trainer.max_epoch", "trainer.max_epochs"]),
        (["stray"], ["stray", "--config"]),
        (["--config"], ["needs a file"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "does not exist"]),
        (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt", "does not exist"]),
        (["--model.lr", "-1"], ["lr must be a number above 0, not -1"]),
        (["--model.optimizer", "adamm"], ["adamm", "adam"]),
        (["--model.init_from", "nowhere.pth"], ["nowhere.pth"]),
        (["--data.skeleton", "COCO18"], ["COCO18", "COCO17"]),
    ],
    ids=lambda value: "_".join(value)[:30] if isinstance(value, list) else None,
)
def test_mistakes_get_one_line(config, capsys, words, texts):
    line = refused(capsys, "fit", "--config", str(config), *words)
    for text in texts:
        assert text in line


def test_a_dictionary_without_blanks_is_told_its_form(capsys):
    words = ["--model", "HDM", "--data", "SyntheticPeople", "--model.loss_options", "{suppliers:relu,truncate:1.5}"]
    line = refused(capsys, "fit", *words)
    assert "loss_options must be of the form '{name: value}' with a blank after the colon, not '{suppliers:re" in line
    assert "as loss_options.name" in line


@pytest.mark.parametrize(
    ("words", "keys", "choices"),
    [
        (["--data.val_size=7"], "data and model", "--data NAME and --model NAME"),
        (["--model=Toy", "--data.val_size", "7"], "data", "--data NAME"),
        (["--model.class_path=Toy", "--config", "{data: {init_args: {val_size: 7}}}"], "data", "--data NAME"),
        (["--data=ToyData", "--model.width=7"], "model", "--model NAME"),
    ],
    ids=lambda value: "_".join(value)[:30] if isinstance(value, list) else None,
)
@pytest.mark.parametrize("command", ["fit", "validate"])
def test_options_of_a_class_that_nothing_names(capsys, command, words, keys, choices):
    line = refused(capsys, command, *words)
    assert f"nothing says which {keys} to use: give --config FILE, or {choices} (see posekit list)" in line


def test_options_of_data_beside_a_checkpoint_alone(config, capsys):
    main(["fit", "--config", str(config)])
    words = [f"--ckpt_path={config.parent / 'runs/toy/version_0/checkpoints/last.ckpt'}", "--data.size=7"]
    assert "nothing says which data to use" in refused(capsys, "validate", *words)
    assert "unknown key 'size'" in refused(capsys, "validate", *words, "--config={data: ToyData}")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("model: {class_path: Toyy}\n", ["Toyy", "HDM"]),
        ("model: {class_path: Toy, init_args: {widht: 1}}\n", ["widht", "width"]),
        ("modl: {class_path: Toy}\n", ["modl", "model"]),
        ("trainer: {max_epoch: 3}\n", ["max_epoch", "max_epochs"]),
        ("model: {a: [\n", ["not YAML", "line"]),
        ("- just\n- a list\n", ["list"]),
        ("model: {class_path: Toy}\ntrainer: {}\nmodel: {class_path: Toy}\n", ["line 3", "key 'model' is given twice"]),
    ],
)
def test_mistakes_in_a_config_get_one_line(config, capsys, content, texts):
    bad = config.parent / "bad.yaml"
    bad.write_text(content)
    line = refused(capsys, "fit", "--config", str(config), "--config", str(bad))
    for text in texts:
        assert text in line


@pytest.mark.parametrize("size", [[192], [192, 256, 3], [0, 64], []])
def test_the_size_of_pictures_is_two_numbers(size):
    assert picture_size([64, 48], (1, 2)) == (64, 48)
    assert picture_size(None, (1, 2)) == (1, 2)
    with pytest.raises(UserError, match=r"image_size must be \[W, H\], two whole numbers of px, not \["):
        picture_size(size, (1, 2))


def test_configuration_text_can_be_long(config):
    content = yaml.safe_load(config.read_text())
    text = json.dumps({**content, "trainer": {**content["trainer"], "max_epochs": 1}}).ljust(300)
    main(["fit", "--config", text])  # no file has so long a name
    assert (config.parent / "runs" / "run" / "version_0" / "results.json").exists()


def test_an_error_without_words_is_named(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise EOFError

    torch.save({}, tmp_path / "a.ckpt")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UserError, match="EOFError"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_checkpoints_that_cannot_be_used(config, capsys):
    main(["fit", "--config", str(config), "--trainer.max_epochs", "1"])
    good = config.parent / "runs/toy/version_0/checkpoints/last.ckpt"
    words = ["validate", "--config", str(config), "--ckpt_path"]
    truncated = config.parent / "truncated.ckpt"
    truncated.write_bytes(good.read_bytes()[:500])
    assert "truncated" in refused(capsys, *words, str(truncated))
    assert "no checkpoint" in refused(capsys, *words, str(config))
    assert "class" in refused(capsys, *words, str(good), "--model", "OtherToy")
    assert "does not fit" in refused(capsys, *words, str(good), "--model.width", "5")
    from posekit_hdm import HDM

    with pytest.raises(ValueError, match="Toy"):
        HDM.load_from_checkpoint(good)


def test_unknown_command_and_nothing_else(capsys):
    assert "fit" in refused(capsys, "fitt")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["list"], ["doctor"]], ids=lambda w: w[0])
def test_quick_commands_need_no_torch(words):
    code = "import sys; from posekit.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert time.perf_counter() - began < 20  # the second itself is for a benchmark; this catches a hang


def test_a_broken_plug_in_costs_one_line(monkeypatch):
    from importlib.metadata import EntryPoint

    from posekit import plugins

    broken = {"Broken": EntryPoint("Broken", "no_such_package:Thing", plugins.METHODS)}
    monkeypatch.setattr(plugins, "plugins", lambda group: broken if group == plugins.METHODS else {})
    lines = []
    assert plugins.load_plugins(lines.append) == {}
    assert len(lines) == 1
    assert "no_such_package" in lines[0]

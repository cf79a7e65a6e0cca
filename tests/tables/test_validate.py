"""``posekit validate`` with a published checkpoint or an own one shows the paper's row beside what it measures.

Beside a network that is not the paper's it shows none.

No published file is here, so files of their names and shapes are made of random numbers: what is judged is the way from
such a file to the printed table, not its numbers.
"""

from pathlib import Path

import pytest
import torch
import yaml

from posekit.cli import main
from posekit.cli.build import build_model
from posekit.configs import shipped_configs
from tests.small_configs import Roots, shrink

LOGOCAP = [
    "--config", "logocap/coco_w32_512", "--data.num_workers=0", "--data.batch_size=2",
    "--trainer.enable_progress_bar=false",
]  # fmt: skip


def shown(capsys, metric):
    """Returns what a table shows of a metric: ours, and the paper's."""
    text = capsys.readouterr().out
    assert "the paper's numbers: " in text
    (line,) = [line for line in text.splitlines() if f" {metric} " in line]
    ours, paper = line.replace("│", " ").split()[1:]
    return ours, paper


@pytest.mark.slow
def test_logocap_official_and_own_weights(tmp_path, monkeypatch, capsys, mini_coco):
    monkeypatch.chdir(tmp_path)
    words = [*LOGOCAP, f"--data.root={mini_coco}"]
    network = build_model(words).network.state_dict()  # the published names are the network's
    torch.save({f"module.{name}": value for name, value in network.items()}, "official.pth")
    main(["validate", *words, "--model.init_from=official.pth"])
    ours, paper = shown(capsys, "val/AP")
    assert paper == "0.6960"
    assert ours == "-" or 0 <= float(ours) <= 1
    short = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1", "--trainer.limit_val_batches=1"]
    main(["fit", *words, *short, "--model.schedule=constant"])
    capsys.readouterr()
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    main(["validate", *words, "--ckpt_path", str(checkpoint)])
    assert shown(capsys, "val/AP")[1] == "0.6960"


@pytest.mark.slow
def test_maed_official_and_own_weights(tmp_path, monkeypatch, capsys, mini_coco, mini_mpii):
    """The films of 3DPW are drawn here: they cannot be made up; of the six blocks one is enough."""
    monkeypatch.chdir(tmp_path)
    config = shrink(
        yaml.safe_load(shipped_configs()["maed/stage2_hybrid.yaml"].read_text()), Roots(tmp_path, mini_coco, mini_mpii)
    )
    Path("stage2_hybrid.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", "stage2_hybrid.yaml", "--model.num_blocks=1"]
    network = build_model(words).network.state_dict()
    state = {**network, "decoder.smpl.v_template": torch.zeros(6890, 3)}  # published files hold the body too
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in state.items()}}, "official.pth.tar")
    main(["validate", *words, "--model.init_from=official.pth.tar"])
    assert _error(capsys.readouterr().out) > 0
    main(["fit", *words])
    capsys.readouterr()
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    main(["validate", *words, "--ckpt_path", str(checkpoint)])
    assert _error(capsys.readouterr().out) > 0


def _error(text):
    """Returns the error of a table without the paper's numbers: the network is not the paper's."""
    assert "the paper" not in text
    (line,) = [line for line in text.splitlines() if " val/PA-MPJPE " in line]
    return float(line.replace("│", " ").split()[1])

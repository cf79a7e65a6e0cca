"""``posekit validate`` with a published checkpoint or an own one shows the paper's row beside what it measures.

No published file is here, so files of their names and shapes are made of random numbers: what is judged is the way from
such a file to the printed table, not its numbers.
"""

from pathlib import Path

import pytest
import torch
import yaml

from posekit.cli import main
from posekit.cli.build import build_model
from posekit.cli.configs import shipped_configs
from tests.small_configs import Roots, shrink

LOGOCAP = [
    "--config", "logocap/coco_w32_512", "--data.image_size=[128, 128]", "--data.num_workers=0", "--data.batch_size=2",
    "--trainer.enable_progress_bar=false", "--trainer.limit_val_batches=1",
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
    main(["fit", *words, "--trainer.limit_train_batches=1", "--trainer.max_epochs=1", "--model.schedule=constant"])
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
    ours, paper = shown(capsys, "val/PA-MPJPE")
    assert float(ours) > 0
    assert paper == "45.7000"
    main(["fit", *words])
    capsys.readouterr()
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    main(["validate", *words, "--ckpt_path", str(checkpoint)])
    assert shown(capsys, "val/PA-MPJPE")[1] == "45.7000"

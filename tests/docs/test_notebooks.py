"""The notebooks run at a small size, and are stored without outputs."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
SMALL = {
    "train_hdm.ipynb": {"TRAIN_SIZE": 8, "VAL_SIZE": 8, "EPOCHS": 1, "BATCH_SIZE": 8},
    "maed_clip.ipynb": {"TRAIN_SIZE": 2, "VAL_SIZE": 2, "EPOCHS": 1, "FRAMES": 2},
}


def cells(name):
    return json.loads((FOLDER / name).read_text())["cells"]


def run(name, parameters):
    """Runs the code cells in one namespace, the cell of parameters with other values; returns the namespace."""
    space = {"__name__": "__main__"}
    for cell in cells(name):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), space)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert parameters.keys() <= space.keys()
            space.update(parameters)
    return space


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """Counts what is shown, in a folder of its own."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    shown = []

    def keep():
        for axes in plt.gcf().axes:
            shown.extend(image.get_array() for image in axes.get_images())
        plt.close("all")

    monkeypatch.setattr(plt, "show", keep)
    monkeypatch.chdir(tmp_path)
    return shown


def test_every_notebook_is_run():
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_notebooks_are_stored_without_outputs(name):
    code = [cell for cell in cells(name) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_hdm(pictures):
    space = run("train_hdm.ipynb", SMALL["train_hdm.ipynb"])
    labels, found, maps = pictures
    assert labels.shape == found.shape == maps.shape
    assert (labels != found).any()
    assert space["trainer"].global_step == 1
    assert "val/AP" in space["trainer"].callback_metrics
    assert len(space["found"]) == 8


def test_maed(pictures):
    space = run("maed_clip.ipynb", SMALL["maed_clip.ipynb"])
    (sheet,) = pictures
    assert space["trainer"].global_step == 1
    for drawn in (space["true"], space["found"]):
        assert len(drawn) == 2
        changed = (space["frames"][0] != drawn[0]).any(-1)
        assert 0.01 < changed.mean() < 0.9  # a mesh stands in the frame
    covered, joints = (space["frames"][0] != space["true"][0]).any(-1), space["clip"]["keypoints"][0, 0]
    seen = space["clip"]["visible"][0, 0] == 2
    columns, rows = (3 * joints[seen]).round().long().T
    assert covered[rows, columns].mean() > 0.8  # the labelled body covers its joints
    assert sheet.shape[0] > 3 * covered.shape[0]

"""The config of a toy method."""

import pytest

from . import toys  # noqa: F401  (its classes become known by name)


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(
        "model: {class_path: Toy, init_args: {width: 3, lr: 0.01}}\n"
        "data: {class_path: ToyData, init_args: {batch_size: 8}}\n"
        "trainer: {max_epochs: 2, enable_progress_bar: false, enable_model_summary: false, accelerator: cpu}\n"
    )
    return path

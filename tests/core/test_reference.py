"""The paper's numbers stand beside runs that measure what the paper's row does."""

import pytest
import yaml

from posekit.cli.build import _parse_objects
from posekit.tables.reader import load_table, shipped_tables
from posekit.tables.reference import paper_numbers

CONFIGS = sorted({r.config for n in shipped_tables() for r in load_table(n, real=True).rows if r.config and r.paper})


def numbers(config, *words, **trainer):
    run = _parse_objects(["--config", config, *words])[1].as_dict()
    return paper_numbers(config.rpartition("/")[2], {**run, "trainer": trainer})


@pytest.mark.parametrize("config", CONFIGS)
def test_the_shipped_config_has_its_papers_numbers(config):
    assert CONFIGS
    source, found = numbers(config)
    assert source
    assert found
    assert paper_numbers(config.rpartition("/")[2]) == (source, found)


def test_numbers_of_a_test_split_stand_beside_a_test():
    assert set(numbers("maed/stage2_hybrid")[1]) == {"test/PA-MPJPE", "test/MPJPE"}
    assert set(numbers("logocap/coco_w32_512")[1]) == {"val/AP"}


def test_columns_of_other_settings_than_the_config_s_have_none(tmp_path, monkeypatch):
    table = yaml.safe_load(shipped_tables()["tip/table1"].read_text())
    table["rows"][2]["config"] = "tip/posetrack17_w48_384x288"
    for name in ("all.yaml", "one.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(table))
        table["columns"][1].pop("overrides", None)
    monkeypatch.setattr("posekit.tables.reference.shipped_tables", lambda: [str(tmp_path / "all.yaml")])
    assert numbers("tip/posetrack17_w48_384x288") is None
    monkeypatch.setattr("posekit.tables.reference.shipped_tables", lambda: [str(tmp_path / "one.yaml")])
    assert numbers("tip/posetrack17_w48_384x288")[1] == {"val/PoseTrack/AP": 86.2}


def test_how_a_run_is_trained_and_where_its_files_are_do_not_matter():
    words = ["--model.lr=0.1", "--model.init_from=x.pth", "--data.root=elsewhere", "--data.num_workers=2"]
    assert numbers("logocap/coco_w32_512", *words, limit_val_batches=1.0) is not None


@pytest.mark.parametrize(
    "words",
    [
        ["--model.backbone=small"],
        ["--model.level=none"],
        ["--data.image_size=[384, 384]"],
        ["--data.val_annotations=mine.json"],
        ["--data.limit=100"],
        ["--data=SyntheticPeople", "--data.view=scenes"],
    ],
)
def test_a_run_of_something_else_has_none(words):
    assert numbers("logocap/coco_w32_512", *words) is None


@pytest.mark.parametrize("trainer", [{"limit_val_batches": 4}, {"limit_val_batches": 1}, {"fast_dev_run": True}])
def test_a_part_of_the_data_has_none(trainer):
    assert numbers("logocap/coco_w32_512", **trainer) is None

"""A table that is not whole says so: in its cells, in what is kept of it, and before it runs."""

import json
from pathlib import Path

import pytest
import yaml

from posekit.cli import main
from posekit.tables import load_table, shipped_tables
from posekit.tables.options import check_validation
from posekit.tables.plan import Planner
from posekit.tables.plot import can_plot, plot
from posekit.tables.reader import tables_folder
from posekit.tables.results import gather
from posekit.tables.store import Store

TABLE = {
    "title": "unfinished",
    "source": "nobody",
    "seeds": [0, 1],
    "jobs": {
        "fit": {"command": "fit", "config": "quickstart", "minutes": 4},
        "size": {"command": "count", "config": "quickstart", "minutes": 1},
    },
    "columns": [
        {"name": "AP", "metric": "val/AP", "scale": 100},
        {"name": "size", "job": "size", "metric": "parameters"},
    ],
    "rows": [
        {"name": "a", "overrides": {"fit": {"model.lr": 1}}, "paper": {"AP": 60}},
        {"name": "b", "overrides": {"fit": {"model.lr": 2}}},
        {"name": "other", "external": True, "paper": {"AP": 70}},
    ],
}


def table(folder, name="t", **keys):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**json.loads(json.dumps(TABLE)), **keys}))
    return str(path)


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Runs (row's name, seed) that fail; all others give a number at once."""
    monkeypatch.chdir(tmp_path)
    chosen = set()

    def run_one(store, run, keeps_checkpoint):
        if (run.used_by[0], run.seed) in chosen:
            return "diverged"
        value = 0.1 * run.overrides.get("model.lr", 0) + 0.01 * (run.seed or 0)
        store.write(run, {"metrics": {"val/AP": value, "parameters": 7}, "seconds": 60.0})
        return None

    monkeypatch.setattr("posekit.tables.runner._run_one", run_one)
    return chosen


def kept(name="t"):
    folder = folder_of(name)
    return (folder / "table.md").read_text(), json.loads((folder / "table.json").read_text())


def folder_of(name):
    return Path("runs/tables") / name


def test_a_whole_table_says_nothing(tmp_path, broken):
    main(["table", table(tmp_path)])
    text, content = kept()
    assert "| a | 10.5 ± 0.7 | 60.0 | 7.0 |" in text
    assert "missing" not in text
    assert "missing" not in content
    assert "wanted" not in content["rows"][0]["cells"]["AP"]["ours"]


def test_rows_not_asked_for_stay_with_what_they_have(tmp_path, broken):
    path = table(tmp_path)
    main(["table", path, "--seeds", "1"])
    main(["table", path, "--only", "a"])
    text, content = kept()
    assert "| a | 10.5 ± 0.7 | 60.0 | 7.0 |" in text
    assert "| b | 20.0 (1 of 2 seeds) |  | 7.0 |" in text
    assert "- 1 of 5 runs missing, not asked for (--only): b / AP, seed 1" in text
    assert content["rows"][1]["cells"]["AP"]["ours"]["wanted"] == 2
    assert content["missing"] == {
        "needed": 5,
        "runs": [{"run": "b / AP", "seed": 1, "why": "not asked for (--only)"}],
        "rows": [],
    }


def test_rows_not_asked_for_and_without_a_result_of_their_own_are_named(tmp_path, broken, capsys):
    main(["table", table(tmp_path), "--only", "a"])  # the size is the same run in both rows
    text, content = kept()
    assert "| b |" not in text
    assert "- rows not asked for and without a result: b" in text
    assert content["missing"]["rows"] == [{"name": "b", "group": ""}]
    assert "runs missing" not in capsys.readouterr().out


def test_a_budget_leaves_a_mark_in_the_table(tmp_path, broken, capsys):
    path = table(tmp_path)
    main(["table", path, "--seeds", "2", "--only", "a"])
    for cell in (folder_of("t") / "cells").glob("*-s0.json"):
        cell.unlink()
    capsys.readouterr()
    main(["table", path, "--budget", "0", "--only", "a"])
    text, content = kept()
    assert "| a | 11.0 (1 of 2 seeds) | 60.0 | 7.0 |" in text
    assert "- 1 of 3 runs missing, left out for want of time (--budget): a / AP, seed 0" in text
    assert [run["why"] for run in content["missing"]["runs"]] == ["left out for want of time (--budget)"]
    assert "1 of 3 runs missing: table.md names them." in capsys.readouterr().out


def test_a_failed_seed_is_named(tmp_path, broken, capsys):
    broken |= {("a", 1), ("b", 0), ("b", 1)}
    with pytest.raises(SystemExit):
        main(["table", table(tmp_path)])
    assert "failed: a / AP, seed 1: diverged" in capsys.readouterr().out
    text, _ = kept()
    assert "| a | 10.0 (1 of 2 seeds, a seed failed) | 60.0 | 7.0 |" in text
    assert "| b | failed |" in text
    assert "- 3 of 5 runs missing, failed: b / AP, seeds 0, 1; a / AP, seed 1" in text


def test_seeds_that_wait_for_a_choice_are_named(tmp_path, broken):
    rows = [{"name": "a", "tune": {"fit": {"model.lr": [1, 2]}}}]
    path = table(tmp_path, rows=rows, select={"metric": "val/AP"})
    main(["table", path, "--budget", "0"])
    text, _ = kept()
    assert "left out for want of time (--budget): a (model.lr=1) / AP, seed 0" in text
    assert "1 of 4 runs missing, waiting for a tuned row's choice: a (best of 2) / AP, seed 1" in text


@pytest.mark.skipif(not can_plot(), reason="matplotlib is not installed")
def test_the_picture_says_it_too(tmp_path, broken, monkeypatch):
    from matplotlib.figure import Figure

    titles = []
    write = Figure.suptitle
    monkeypatch.setattr(Figure, "suptitle", lambda self, text, **more: titles.append(text) or write(self, text, **more))
    path = table(tmp_path)
    main(["table", path, "--seeds", "1"])
    planner = Planner(load_table(path), [0, 1], {}, read=Store(folder_of("t")).read)
    assert plot(gather(planner))
    assert "runs missing" not in titles[0]
    assert "(2 of 5 runs missing)" in " ".join(titles[1].split())


def test_a_dry_run_says_what_a_budget_leaves_out(tmp_path, broken, capsys):
    main(["table", table(tmp_path), "--dry-run", "--budget", "9m"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 1)[1] for line in lines[1:6]] == [
        "a / AP, seed 0", "a / size", "b / AP, seed 0", "a / AP, seed 1  (left out)", "b / AP, seed 1  (left out)",
    ]  # fmt: skip
    assert lines[-1] == "  within the budget: 3 runs (about 9.0 minutes); left out: 2 runs (about 8.0 minutes)"


def test_a_dry_run_spends_one_budget_on_all_tables(tmp_path, broken, capsys, monkeypatch):
    paths = [table(tmp_path, "one", seeds=[0]), table(tmp_path, "two")]
    monkeypatch.setattr("posekit.cli.table.shipped_tables", lambda: dict.fromkeys(paths))
    main(["table", "--all", "--dry-run", "--budget", "14m"])
    said = [line for line in capsys.readouterr().out.splitlines() if "within the budget" in line]
    assert said == [
        "  within the budget: 3 runs (about 9.0 minutes); left out: 0 runs (about 0.0 minutes)",
        "  within the budget: 2 runs (about 5.0 minutes); left out: 3 runs (about 12.0 minutes)",
    ]


def test_a_dry_run_leaves_out_what_waits_for_a_choice_left_out(tmp_path, broken, capsys):
    jobs = {**TABLE["jobs"], "fit": {**TABLE["jobs"]["fit"], "minutes": 1}}
    rows = [{"name": "a", "tune": {"fit": {"model.lr": [1, 2]}}}, {"name": "b"}]
    main(["table", table(tmp_path, jobs=jobs, rows=rows, select={"metric": "val/AP"}), "--dry-run", "--budget", "1m"])
    shown = capsys.readouterr().out
    assert "a (best of 2) / AP, seed 1  (left out)" in shown
    assert shown.count("(left out)") == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.max_epochs", "1"], "trainer.max_epochs is 1 and trainer.check_val_every_n_epoch 2; give"),
        (["--trainer.max_epochs", "0"], "trainer.max_epochs is 0"),
        (["--trainer.limit_val_batches=0"], "trainer.limit_val_batches is 0"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_run_that_never_validates_is_refused_before_any(tmp_path, broken, capsys, options, said, dry):
    with pytest.raises(SystemExit) as stop:
        main(["table", table(tmp_path), *options, *dry])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"t: a / AP would never validate and so have no number: {said}" in line
    assert not (tmp_path / "runs").exists()


def test_a_run_that_validates_before_its_end_alone_is_refused(tmp_path, broken, capsys):
    with pytest.raises(SystemExit):
        main(["table", table(tmp_path), "--trainer.max_epochs", "5"])
    said = "t: a / AP would have the numbers of epoch 4, not of its end: trainer.max_epochs is 5 and trainer.check_val"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", shipped_tables())
def test_all_shipped_tables_validate_at_the_end(name):
    for real in (False, True):
        spec = load_table(name, real=real)
        check_validation(Planner(spec, spec.seeds, {}))


def test_a_run_that_validates_at_its_end_goes(tmp_path, broken):
    main(["table", table(tmp_path), "--trainer.max_epochs", "2"])
    jobs = {"fit": {**TABLE["jobs"]["fit"], "overrides": {"trainer.check_val_every_n_epoch": None}}}
    main(["table", table(tmp_path, "steps", jobs=jobs, columns=TABLE["columns"][:1]), "--trainer.max_epochs", "1"])


def test_kept_results_are_whole_and_of_shipped_tables():
    results = tables_folder().parent / "results"
    names = [path.parent.relative_to(results).as_posix() for path in results.rglob("store.json")]
    assert names
    assert set(names) <= set(shipped_tables())
    for name in names:
        assert "missing" not in json.loads((results / name / "table.json").read_text())

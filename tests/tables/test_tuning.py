"""Rows with a tuned option: every value at the first seed, the best of them at the others."""

import json
import re

import pytest
import yaml

from posekit.cli import main
from posekit.errors import UserError
from posekit.tables import load_table
from posekit.tables.plan import Planner
from posekit.tables.render import as_json, body, tuned_lines
from posekit.tables.results import gather
from posekit.tables.runner import estimates, run_missing
from posekit.tables.store import Store

LRS = [0.1, 0.2, 0.3]
TABLE = {
    "title": "tuned",
    "source": "nobody",
    "jobs": {
        "fit": {"command": "fit", "config": "quickstart", "minutes": 4},
        "size": {"command": "count", "config": "quickstart", "minutes": 1},
    },
    "columns": [
        {"name": "AP", "metric": "val/AP", "scale": 100},
        {"name": "size", "job": "size", "metric": "parameters"},
    ],
    "rows": [{"name": "a", "tune": {"fit": {"model.lr": LRS}}, "paper": {"AP": 60}}, {"name": "b", "seeds": [0]}],
    "select": {"metric": "val/AP", "better": "higher"},
}


def table(folder, **keys):
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump({**json.loads(json.dumps(TABLE)), **keys}))
    return str(path)


def fake(monkeypatch, score, log):
    """Puts a score in place of training; a score of None fails."""

    def run_one(store, run, keeps_checkpoint):
        log.append((run.job.name, run.overrides.get("model.lr"), run.seed))
        value = score(run)
        if value is None:
            return "diverged"
        store.write(run, {"metrics": {"val/AP": value, "parameters": 7}, "seconds": 60.0})
        return None

    monkeypatch.setattr("posekit.tables.runner._run_one", run_one)


def test_every_value_runs_at_the_first_seed_and_the_best_at_the_others(tmp_path, monkeypatch):
    log = []
    fake(monkeypatch, lambda run: 0.5 - abs(run.overrides.get("model.lr", 0) - 0.2) + 0.01 * (run.seed or 0), log)
    spec, store = load_table(table(tmp_path)), Store(tmp_path / "s")
    planner = Planner(spec, [0, 1, 2], {}, read=store.read)
    assert run_missing(store, planner).failed == {}
    fits = [entry[1:] for entry in log if entry[0] == "fit"]
    assert fits == [(0.1, 0), (0.2, 0), (0.3, 0), (None, 0), (0.2, 1), (0.2, 2)]
    results = gather(planner)
    assert body(results) == [["a", "51.0 ± 1.0", "60.0", "7.0"], ["b", "30.0", "", "7.0"]]
    said = "a: model.lr=0.2 chosen, by val/AP at seed 0 (higher is better; model.lr=0.1: 0.4; model.lr=0.2: 0.5; "
    assert said in "\n".join(tuned_lines(results))
    (tuned,) = json.loads(as_json(results, {}))["rows"][0]["tuned"]
    assert (tuned["chosen"], tuned["seed"], tuned["metric"]) == ({"fit": {"model.lr": 0.2}}, 0, "val/AP")
    assert [t["value"] for t in tuned["tried"]] == pytest.approx([0.4, 0.5, 0.4])


def test_the_lower_the_better_and_failed_values_are_not_chosen(tmp_path, monkeypatch):
    fake(
        monkeypatch, lambda run: None if run.overrides.get("model.lr") == 0.1 else run.overrides.get("model.lr", 1), []
    )
    spec = load_table(table(tmp_path, select={"metric": "val/AP", "better": "lower"}))
    store = Store(tmp_path / "s")
    planner = Planner(spec, [0, 1], {}, ["a"], store.read)
    outcome = run_missing(store, planner)
    assert len(outcome.failed) == 1
    results = gather(planner, outcome.failed)
    assert results.choices[0][0][1].best.options == {"fit": {"model.lr": 0.2}}
    assert results.cells[0, "AP"].values == (20.0, 20.0)
    assert "model.lr=0.1: failed" in "\n".join(tuned_lines(results))


def test_a_row_whose_values_all_fail_has_failed(tmp_path, monkeypatch):
    log = []
    fake(monkeypatch, lambda run: None if run.job.name == "fit" else 1.0, log)
    store = Store(tmp_path / "s")
    planner = Planner(load_table(table(tmp_path)), [0, 1], {}, ["a"], store.read)
    outcome = run_missing(store, planner)
    assert len(log) == 4
    assert body(gather(planner, outcome.failed)) == [["a", "failed", "60.0", "7.0"]]


def test_a_stopped_search_goes_on_and_shows_nothing_before_its_end(tmp_path, monkeypatch):
    log, spec, store = [], load_table(table(tmp_path)), Store(tmp_path / "s")

    def stop(run):
        if len(log) == 3:
            raise KeyboardInterrupt
        return run.overrides.get("model.lr", 0.0)

    fake(monkeypatch, stop, log)
    planner = Planner(spec, [0, 1], {}, ["a"], store.read)
    with pytest.raises(KeyboardInterrupt):
        run_missing(store, planner)
    results = gather(planner)
    assert body(results) == [["a", "-", "60.0", "-"]]
    assert "nothing chosen" in "\n".join(tuned_lines(results))
    log.clear()
    fake(monkeypatch, lambda run: run.overrides.get("model.lr", 0.0), log)
    run_missing(store, planner)
    assert log == [("fit", 0.3, 0), ("size", None, None), ("fit", 0.3, 1)]


def test_a_checkpoint_of_a_tuned_run_is_kept_for_the_run_after_it(tmp_path):
    jobs = {
        "fit": {"command": "fit", "config": "quickstart"},
        "second": {"command": "fit", "config": "quickstart", "after": "fit"},
    }
    columns = [{"name": "AP", "job": "second", "metric": "val/AP"}]
    rows = [{"name": "a", "tune": {"fit": {"model.lr": LRS}}}]
    plan = Planner(load_table(table(tmp_path, jobs=jobs, columns=columns, rows=rows)), [0, 1], {}).plan()
    assert [run.job.name for run in plan.runs] == ["fit", "second"] * 3
    assert [run.before for run in plan.runs[1::2]] == plan.runs[::2]
    assert [run.job.name for run in plan.later] == ["fit", "second"]


def test_several_options_combine_and_the_command_line_s_own_value_ends_the_search(tmp_path):
    rows = [{"name": "a", "tune": {"model.lr": [1, 2], "model.weight_decay": [0, 3]}}]
    spec = load_table(table(tmp_path, rows=rows))
    assert spec.rows[0].tune[1] == {"model.lr": 1, "model.weight_decay": 3}
    assert len([r for r in Planner(spec, [0], {}).plan().runs if r.job.name == "fit"]) == 4
    fixed = Planner(spec, [0], {"model.lr": 5, "model.weight_decay": 0}).plan()
    assert [run.job.name for run in fixed.runs] == ["fit", "size"]
    assert load_table(table(tmp_path, rows=rows), real=True).rows[0].tune == ({},)


def test_dry_run_counts_the_worst_case(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec, store = load_table(table(tmp_path)), Store(tmp_path / "s")
    assert sum(estimates(store, Planner(spec, [0, 1, 2], {}).plan()).values()) == 3 * 4 + 2 * 4 + 4 + 1
    main(["table", table(tmp_path), "--seeds", "3", "--dry-run"])
    shown = capsys.readouterr().out
    assert "a (model.lr=0.3) / AP, seed 0" in shown
    assert "a (best of 3) / AP, seed 2" in shown
    assert "about 25 minutes" in shown


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"select": None}, "a row is tuned, so the table needs select"),
        ({"select": {"better": "higher"}}, "select lacks 'metric'"),
        ({"select": {"metric": "val/AP", "better": "more"}}, "better of select must be higher or lower"),
        ({"select": {"metric": "val/AP", "job": "fitt"}}, "unknown job of select 'fitt'"),
        ({"rows": [{"name": "a", "tune": {"fit": {"model.lr": 1}}}]}, "tune of row a: model.lr must list two values"),
        ({"rows": [{"name": "a", "tune": [1, 2]}]}, "tune of row a must hold options and their values"),
        ({"rows": [{"name": "a", "tune": {"fitt": {"model.lr": [1, 2]}}}]}, "tune of row a: fitt must list two values"),
        ({"rows": [{"name": "a", "external": True, "seeds": [0]}]}, "row a is external, so it has no seeds"),
    ],
)
def test_faults_of_a_search_are_named(tmp_path, keys, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_table(table(tmp_path, **keys))

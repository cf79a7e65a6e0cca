"""``posekit table`` as a command: locks, signals, options of all tables, and what a kill leaves behind."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from posekit.cli import main
from posekit.cli.table import _with_rows
from posekit.errors import UserError
from posekit.tables import load_table, shipped_tables
from posekit.tables.cells import make_run
from posekit.tables.plan import Planner
from posekit.tables.reader import tables_folder
from posekit.tables.runner import run_missing
from posekit.tables.store import Store, origin

TABLE = {
    "title": "sizes",
    "source": "nobody",
    "jobs": {"size": {"command": "count", "config": "quickstart", "minutes": 0.1}},
    "columns": [{"name": "parameters", "metric": "parameters"}],
    "rows": [{"name": "a", "paper": {"parameters": 1}}, {"name": "b", "overrides": {"model.backbone": "hrnet_w33"}}],
}


def table(folder, name="t", **keys):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**TABLE, **keys}))
    return str(path)


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main(["table", *words])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture
def instant(monkeypatch):
    """Cells that take no time."""
    ran = []

    def run_one(store, run, keeps_checkpoint):
        ran.append((store.folder.name, run.used_by))
        history = [{"val/loss": 3.0, "val/AP": 0.25}, {"val/loss": 2.0, "val/AP": 0.5}]
        store.write(run, {"metrics": {"parameters": 5.0, "val/AP": 0.5}, "history": history, "seconds": 6.0})

    monkeypatch.setattr("posekit.tables.runner._run_one", run_one)
    return ran


def test_the_handler_of_a_stop_is_given_back(tmp_path, monkeypatch, instant):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    main(["table", table(tmp_path)])
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit):
        main(["table", "no/such"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_process_runs_cells_into_a_folder(tmp_path, monkeypatch, capsys, instant):
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path)
    with Store(tmp_path / "out/t").locked():
        line = refusal(capsys, path, "--output", "out")
        assert re.search(rf"out/t is in use by process {os.getpid()} on \S+: wait, or give another --output", line)
        main(["table", path, "--output", "elsewhere"])
    assert not instant[0][0].startswith("out")
    main(["table", path, "--output", "out"])
    assert not (tmp_path / "out/t/lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    def hold():
        with Store(tmp_path / "s").locked():
            held.set()
            time.sleep(60)

    fork = multiprocessing.get_context("fork")
    held = fork.Event()
    holder = fork.Process(target=hold)
    holder.start()
    try:
        assert held.wait(20)
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on"), Store(tmp_path / "s").locked():
            pass
    finally:
        holder.kill()
        holder.join()
    assert json.loads((tmp_path / "s/lock").read_text())["pid"] == holder.pid
    with Store(tmp_path / "s").locked():
        assert json.loads((tmp_path / "s/lock").read_text())["pid"] == os.getpid()


def test_rows_over_all_tables(tmp_path):
    specs = [load_table(table(tmp_path, "one")), load_table(table(tmp_path, "two", rows=[{"name": "c"}]))]
    assert [s.name for s in _with_rows(specs, ["a"])] == ["one"]
    assert [s.name for s in _with_rows(specs, ["b", "c"])] == ["one", "two"]
    with pytest.raises(UserError, match="--only d matches no row of any table"):
        _with_rows(specs, ["a", "d"])


def test_all_takes_the_cheapest_first_and_says_what_a_budget_leaves_out(tmp_path, monkeypatch, capsys, instant):
    monkeypatch.chdir(tmp_path)
    rows = [{"name": "a"}, {"name": "x"}]
    jobs = {"size": {"command": "count", "config": "quickstart", "minutes": 40}}
    paths = [table(tmp_path, "dear", jobs=jobs), table(tmp_path, "cheap"), table(tmp_path, "other", rows=rows[1:])]
    monkeypatch.setattr("posekit.cli.table.shipped_tables", lambda: dict.fromkeys(paths))
    main(["table", "--all", "--only", "a", "--budget", "30m"])
    shown = capsys.readouterr().out
    assert instant == [("cheap", "a / parameters")]
    said = (
        "dear: 1 runs left out, no time for them in the budget (about 40 minutes): the same command goes on with them"
    )
    assert said in shown
    main(["table", "--all", "--only", "a"])
    assert instant[1:] == [("dear", "a / parameters")]


def test_all_goes_on_behind_a_table_in_use(tmp_path, monkeypatch, capsys, instant):
    monkeypatch.chdir(tmp_path)
    paths = [table(tmp_path, "one"), table(tmp_path, "two")]
    monkeypatch.setattr("posekit.cli.table.shipped_tables", lambda: dict.fromkeys(paths))
    with Store(tmp_path / "runs/tables/one").locked(), pytest.raises(SystemExit) as stop:
        main(["table", "--all"])
    assert stop.value.code == 1
    assert "one: runs/tables/one is in use" in capsys.readouterr().out
    assert {folder for folder, _ in instant} == {"two"}


def test_wrong_options_are_refused_before_any_cell(tmp_path, monkeypatch, capsys, instant):
    monkeypatch.chdir(tmp_path)
    path = table(tmp_path)
    assert refusal(capsys, path, "--data.root", "nowhere").endswith("--data.root nowhere: there is no such folder")
    line = refusal(capsys, path, "--model.los", "hdm")
    assert "quickstart: " in line
    assert "los" in line
    assert "Did you mean" in line
    assert "loss" in line
    assert instant == []
    assert not (tmp_path / "runs").exists()
    # A fault of a cell's own is the cell's: the options themselves are right.
    main(["table", table(tmp_path, rows=TABLE["rows"][::-1]), "--model.lr", "0.1"])
    assert len(instant) == 2


def test_a_lost_checkpoint_is_made_again(tmp_path, monkeypatch):
    jobs = {n: {"command": "fit", "config": "quickstart"} for n in ("first", "second")}
    jobs["second"] |= {"after": "first", "overrides": {"model.init_from": "{checkpoint}"}}
    columns = [{"name": "AP", "job": "second", "metric": "val/AP"}]
    spec = load_table(table(tmp_path, jobs=jobs, columns=columns, rows=[{"name": "a"}]))
    store, ran = Store(tmp_path / "s"), []

    def run_one(store, run, keeps_checkpoint):
        ran.append(run.job.name)
        if keeps_checkpoint and len(ran) > 1:
            store.checkpoint(run).parent.mkdir(parents=True, exist_ok=True)
            store.checkpoint(run).touch()
        store.write(run, {"metrics": {"val/AP": 0.5}})

    monkeypatch.setattr("posekit.tables.runner._run_one", run_one)
    planner = Planner(spec, [0], {}, read=store.read)
    (reason,) = run_missing(store, planner).failed.values()
    assert reason == "the run before it left no checkpoint (first)"
    assert run_missing(store, planner).failed == {}
    assert ran == ["first", "first", "second"]


def test_a_table_says_where_its_cells_come_from_not_where_it_was_shown():
    here, there = {"device": "here", "cores": 2, "system": "x"}, {"device": "there", "cores": 2, "system": "x"}
    runs = [
        {"machine": here, "versions": {"torch": "1"}, "finished": "2020-01-02T00:00:00", "seconds": 60},
        {"machine": there, "versions": {"torch": "1"}, "finished": "2020-01-01T00:00:00", "seconds": 30},
    ]
    assert origin(runs) == {
        "machines": [here, there],
        "versions": [{"torch": "1"}],
        "finished": ["2020-01-01T00:00:00", "2020-01-02T00:00:00"],
        "minutes": 1.5,
    }


def test_all_shipped_tables_fit_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["table", "--all", "--dry-run", "--only", "*"])
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in shipped_tables())


@pytest.mark.slow
def test_a_kill_loses_the_running_cell_alone_and_leaves_no_process(tmp_path):
    """Kills the command itself with -9 in its second cell; the cell's process ends too, the first cell stays."""
    jobs = {
        "size": {"command": "count", "config": "quickstart", "minutes": 0.1},
        "fit": {"command": "fit", "config": "quickstart", "overrides": {"trainer.max_epochs": 50}},
    }
    columns = [
        {"name": "parameters", "job": "size", "metric": "parameters"},
        {"name": "AP", "job": "fit", "metric": "val/AP"},
    ]
    path = table(tmp_path, jobs=jobs, columns=columns, rows=[{"name": "a"}])
    command = [sys.executable, "-m", "posekit", "table", path]
    parent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    folder = tmp_path / "runs/tables/t"
    try:
        _wait(lambda: _children(parent.pid, "fit-"), 300)
        (child,) = _children(parent.pid, "fit-")
    finally:
        parent.kill()
        parent.wait()
    _wait(lambda: not _alive(child), 60)
    assert len(list((folder / "cells").iterdir())) == 1
    main(["table", path, "--output", str(folder.parent), "--budget", "0"])
    (row,) = json.loads((folder / "table.json").read_text())["rows"]
    assert row["cells"]["parameters"]["ours"]["mean"] > 1e5
    assert row["cells"]["AP"]["ours"]["values"] == []
    assert "left out for want of time (--budget): a / AP, seed 0" in (folder / "table.md").read_text()


def _wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def _children(pid, word):
    lines = subprocess.run(["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()[1:]]
    return [int(child) for child, parent, args in rows if parent == str(pid) and word in args]


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_metric_that_no_run_has_is_said_once(tmp_path, monkeypatch, capsys, instant):
    monkeypatch.chdir(tmp_path)
    columns = [{"name": "A", "metric": "val/APP"}, {"name": "B", "metric": "val/AP"}]
    job = {"fit": {"command": "fit", "config": "quickstart"}}
    rows = [{"name": "a", "tune": {"model.lr": [1, 2]}}, {"name": "b"}]
    curve = {"job": "fit", "x": "val/los", "y": "val/AP"}
    name = table(tmp_path, jobs=job, columns=columns, rows=rows, select={"metric": "val/AQ"}, curve=curve)
    main(["table", name])
    said = capsys.readouterr().out
    assert said.count("curve: the runs so far have no val/los; did you mean val/loss?") == 1
    assert said.count("column A: the runs so far have no val/APP; did you mean val/AP?") == 1
    assert said.count("select: the runs so far have no val/AQ; did you mean val/AP?") == 1
    assert "column B" not in said


def test_a_count_does_not_hang_on_the_data(tmp_path):
    def key(command, **data):
        config = {"model": {"class_path": "HDM"}, "data": {"class_path": "SyntheticPeople", "init_args": data}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        spec = load_table(table(tmp_path, jobs={"size": {"command": command, "config": str(tmp_path / "c.yaml")}}))
        return Planner(spec, [0], {}).plan().runs[0].key

    first = key("count", batch_size=4)
    assert key("count", batch_size=8) == first
    assert key("count", batch_size=8, image_size=[64, 64]) != first
    assert key("fit", batch_size=4) != key("fit", batch_size=8)


def test_a_result_does_not_hang_on_values_that_the_table_replaces(tmp_path):
    def key(sizes, suppliers="relu", **overrides):
        data = {"class_path": "SyntheticPeople", "init_args": sizes}
        model = {"class_path": "HDM", "init_args": {"loss_options": {"suppliers": suppliers}}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
        job = {"command": "fit", "config": str(tmp_path / "c.yaml"), "overrides": overrides}
        return Planner(load_table(table(tmp_path, jobs={"size": job})), [0], {}).plan().runs[0].key

    own = {"data.train_size": 64}
    assert key({"train_size": 8, "val_size": 8}, **own) == key({"train_size": 16, "val_size": 8}, **own)
    assert key({"train_size": 8, "val_size": 8}, **own) != key({"train_size": 8, "val_size": 9}, **own)
    assert key({"train_size": 8}, **own) != key({"train_size": 8}, **{"data.train_size": 65})
    joined = {"model.loss_options": {"truncate": 2}}  # suppliers stays the config's
    assert key({}, "relu", **joined) != key({}, "softmax", **joined)
    one = {"model.loss_options.suppliers": "softmax"}
    assert key({}, "relu", **one) == key({}, "softmax", **one)


@pytest.mark.parametrize(
    "name",
    ["hdm/table1", "logocap/figure1", "maed/figure1", "maed/table2", "maed/table3", "nlrd/ablation", "tip/table1"],
)
def test_kept_results_belong_to_the_tables_as_they_are(name):
    folder = tables_folder().parent / "results" / name
    spec = load_table(name)
    missing = [run.used_by for run in Planner(spec, spec.seeds, {}).plan().runs if Store(folder).read(run) is None]
    assert not missing


def test_a_dry_run_refuses_wrong_options_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "unknown key 'lrr'" in refusal(capsys, "logocap/figure1", "--model.lrr=3", "--dry-run")


def test_the_example_of_the_readme_loads(tmp_path):
    text = (tables_folder() / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    spec = load_table(str(tmp_path / "mine.yaml"))
    assert spec.plot == ("loss", "AP")
    assert load_table(str(tmp_path / "mine.yaml"), real=True).real


def test_options_of_cells_stand_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = table(tmp_path)
    plans = []
    for words in (
        ["--model.lr", "1e-3", name],
        [name, "--model.lr=1e-3"],
        ["--seeds", "1", "--model.lr", "1e-3", name],
    ):
        main(["table", "--dry-run", *words])
        plans.append(capsys.readouterr().out)
    assert len(set(plans)) == 1
    with pytest.raises(SystemExit):
        main(["table", name, "--model.lr"])
    assert "--model.lr needs a value" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["table", name, "--modl.lr", "1"])
    assert "--modl.lr" in capsys.readouterr().err


@pytest.mark.parametrize("name", shipped_tables())
def test_rows_on_real_data_are_runs_of_their_own_at_the_rate_of_the_config(name):
    spec = load_table(name, real=True)
    rows = [row for row in spec.rows if not row.external]
    assert not [row.name for row in rows if "model.lr" in str(row.overrides)]
    cells = [tuple(make_run(spec, spec.jobs[c.job], row, c, 0, {}).key for c in spec.columns) for row in rows]
    assert len(set(cells)) == len(cells)

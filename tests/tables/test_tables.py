"""Tables: what a file may say, which runs it needs, how results are kept and compared."""

import json
import re
from pathlib import Path

import pytest
import yaml

from posekit.cli import main
from posekit.cli.table import minutes, seeds_of
from posekit.cli.worker import history
from posekit.data.synthetic.cache import RENDERED_FOLDER
from posekit.errors import UserError
from posekit.tables import load_table, shipped_tables
from posekit.tables.options import words_of
from posekit.tables.plan import Planner
from posekit.tables.render import as_json, body, headings, markdown, order_lines
from posekit.tables.results import gather, spearman
from posekit.tables.runner import _run_one, _weights, estimates, run_missing
from posekit.tables.store import Store

GRID = {
    "title": "a grid",
    "source": "nobody, table 0",
    "jobs": {"fit": {"command": "fit", "config": "quickstart", "overrides": {"trainer.max_epochs": 2}, "minutes": 4}},
    "columns": [
        {"name": "0", "metric": "val/AP", "scale": 100, "overrides": {"model.lr": 0.1}},
        {"name": "1", "metric": "val/AP", "scale": 100, "overrides": {"model.lr": 0.2}},
    ],
    "rows": [
        {"name": "a", "overrides": {"model.weight_decay": 0}, "paper": {"0": 1, "1": 4}},
        {"name": "b", "overrides": {"model.weight_decay": 1}, "paper": {"0": 2, "1": 3}},
        {"name": "other system", "external": True, "paper": {"1": 9}},
    ],
}
COUNT = {
    "title": "sizes",
    "source": "nobody",
    "jobs": {"size": {"command": "count", "config": "quickstart", "minutes": 0.2}},
    "columns": [
        {"name": "million parameters", "metric": "parameters", "scale": 1e-6, "digits": 2},
        {"name": "G multiply-adds", "metric": "gmacs", "digits": 3, "better": None},
    ],
    "rows": [
        {"name": "small", "paper": {"million parameters": 2}},
        {"name": "broken", "overrides": {"model.backbone": "hrnet_w33"}, "paper": {"million parameters": 1}},
    ],
}


ABOUT = {"command": "a test", "date": "2000-01-01", "seeds": [0], "finished": [], "machines": [], "versions": []}


def write(folder, content, name="t"):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def change(content, **keys):
    return {**json.loads(json.dumps(content)), **keys}


def jobs(**changes):
    """The keys of a table of three training runs, which are changed."""
    plain = {name: {"command": "fit", "config": "quickstart", **changes.get(name, {})} for name in "abc"}
    return {"jobs": plain, "rows": [{"name": "x"}]}


def table_runs(spec, seeds, extra, only=()):
    return Planner(spec, seeds, extra, only).plan().runs


def put(store, run, **metrics):
    store.write(run, {"metrics": metrics, "seconds": 60.0})


def test_cells_of_equal_options_share_a_run(tmp_path):
    metrics = [{"name": n, "metric": n} for n in ("val/AP", "val/AR")]
    spec = load_table(write(tmp_path, change(GRID, columns=metrics, rows=[{"name": "a"}, {"name": "b"}])))
    assert len(table_runs(spec, [0], {})) == 1
    grid = load_table(write(tmp_path, GRID))
    assert len(table_runs(grid, [0, 1], {})) == 8
    assert len(table_runs(grid, [0], {}, only=["a"])) == 2
    with pytest.raises(UserError, match="--only c matches no row of t; rows: a, b"):
        table_runs(grid, [0], {}, only=["c"])


def test_a_run_s_key_follows_what_it_runs(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {class_path: HDM}\n")
    content = change(GRID, jobs={"fit": {"command": "fit", "config": str(config)}})
    first = [r.key for r in table_runs(load_table(write(tmp_path, content)), [0], {})]
    assert first == [r.key for r in table_runs(load_table(write(tmp_path, content)), [0], {})]
    assert not set(first) & {r.key for r in table_runs(load_table(write(tmp_path, content)), [0], {"data.seed": 1})}
    config.write_text("# a comment\nmodel:\n  class_path: HDM\n")
    assert first == [r.key for r in table_runs(load_table(write(tmp_path, content)), [0], {})]
    config.write_text("model: {class_path: TIP}\n")
    assert not set(first) & {r.key for r in table_runs(load_table(write(tmp_path, content)), [0], {})}


def test_a_job_after_another_starts_from_its_checkpoint(tmp_path):
    jobs = {
        "first": {"command": "fit", "config": "quickstart", "overrides": {"model.lr": 1}},
        "second": {"command": "fit", "config": "quickstart", "after": "first",
                   "overrides": {"model.init_from": "{checkpoint}"}},
    }  # fmt: skip
    columns = [{"name": "AP", "job": "second", "metric": "val/AP"}]
    rows = [{"name": "a", "overrides": {"second": {"model.lr": 2}}}, {"name": "b", "overrides": {"model.lr": 3}}]
    spec = load_table(write(tmp_path, change(GRID, jobs=jobs, columns=columns, rows=rows)))
    runs = table_runs(spec, [0], {})
    assert [r.job.name for r in runs] == ["first", "second", "second"]  # one beginning serves both rows
    assert [r.overrides["model.lr"] for r in runs] == [1, 2, 3]
    assert runs[1].before == runs[2].before == runs[0]


def judged(**options):
    """A table's file of a training run and a validation of what it leaves."""
    fit = {"command": "fit", "config": "quickstart"}
    judge = {"command": "validate", "config": "quickstart", "after": "fit",
             "overrides": {"ckpt_path": "{checkpoint}", "data.val_size": 9}}  # fmt: skip
    columns = [{"name": name, "job": name, "metric": "val/AP"} for name in ("fit", "judge")]
    rows = [{"name": str(epochs), "overrides": {"trainer.max_epochs": epochs}} for epochs in (1, 4)]
    return change(GRID, jobs={"fit": fit, "judge": {**judge, **options}}, columns=columns, rows=rows)


def test_a_validation_is_of_its_own_row_s_checkpoint(tmp_path):
    runs = table_runs(load_table(write(tmp_path, judged())), [0], {})
    assert [(run.job.name, run.overrides["trainer.max_epochs"]) for run in runs] == [
        ("fit", 1), ("judge", 1), ("fit", 4), ("judge", 4),
    ]  # fmt: skip
    assert [run.before for run in runs[1::2]] == runs[::2]
    assert all("data.val_size" not in run.overrides for run in runs[::2])
    content = judged()
    content["rows"] = [{"name": str(n), "overrides": {"judge": {"data.val_size": n}}} for n in (1, 4)]
    runs = table_runs(load_table(write(tmp_path, content)), [0], {})
    assert [run.job.name for run in runs] == ["fit", "judge", "judge"]
    content = change(judged(), columns=[{"name": "c", "job": "judge", "metric": "x", "overrides": {"model.lr": 1}}])
    runs = table_runs(load_table(write(tmp_path, content)), [0], {})
    assert [run.used_by for run in runs] == ["1 (fit)", "1 / c", "4 (fit)", "4 / c"]
    assert ["model.lr" in run.overrides for run in runs] == [False, True] * 2
    content["columns"][0]["overrides"] = {"fit": {"model.lr": 1}}
    runs = table_runs(load_table(write(tmp_path, content)), [0], {})
    assert ["model.lr" in run.overrides for run in runs] == [True, False] * 2


def test_a_checkpoint_named_in_a_row_is_for_the_job_that_comes_after(tmp_path):
    content = judged(overrides={})
    for entry in content["rows"]:
        entry["overrides"]["ckpt_path"] = "{checkpoint}"
    runs = table_runs(load_table(write(tmp_path, content)), [0], {})
    assert [(run.job.name, "ckpt_path" in run.overrides) for run in runs] == [("fit", False), ("judge", True)] * 2


def test_one_checkpoint_for_all_rows_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = judged(after_overrides=False)
    content["columns"] = content["columns"][1:]
    content["jobs"]["fit"]["overrides"] = {"trainer.check_val_every_n_epoch": 1}
    main(["table", write(tmp_path, content), "--dry-run"])
    assert "fit quickstart: 1 (fit), seed 0 (shared by 2 runs: 1 / judge; 4 / judge)\n" in capsys.readouterr().out


def test_a_row_may_take_another_config_and_differ_on_real_data(tmp_path):
    rows = [{"name": "a", "overrides": {"config": "hdm/starter", "model.lr": 1}, "real": {"model.lr": 2}}]
    content = change(GRID, columns=[{"name": "AP", "metric": "val/AP"}], rows=rows)
    content["jobs"]["fit"]["real"] = {"config": "hdm/coco_w32_256x192", "data_folder": True}
    path = write(tmp_path, content)
    (run,) = table_runs(load_table(path), [0], {})
    assert (run.job.config, run.overrides) == ("hdm/starter", {"trainer.max_epochs": 2, "model.lr": 1})
    (run,) = table_runs(load_table(path, real=True), [0], {"data.root": "x"})
    assert (run.job.config, run.overrides["model.lr"]) == ("hdm/coco_w32_256x192", 2)
    assert run.job.data_folder


def test_a_column_may_differ_on_real_data(tmp_path):
    columns = [
        {"name": "error", "metric": "val/e", "scale": 100, "real": {"job": "judge", "metric": "test/e", "scale": 1}}
    ]
    judge = {"command": "test", "config": "quickstart", "after": "fit", "overrides": {"ckpt_path": "{checkpoint}"}}
    content = change(GRID, columns=columns, rows=[{"name": "a"}])
    content["jobs"]["judge"] = judge
    path = write(tmp_path, content)
    drawn, real = load_table(path), load_table(path, real=True)
    assert [(c.job, c.metric, c.scale) for c in (*drawn.columns, *real.columns)] == [
        ("fit", "val/e", 100), ("judge", "test/e", 1),
    ]  # fmt: skip
    assert [run.job.command for run in table_runs(drawn, [0], {})] == ["fit"]
    assert [run.job.command for run in table_runs(real, [0], {})] == ["fit", "test"]
    columns[0]["real"]["overides"] = {}
    path = write(tmp_path, change(content, columns=columns))
    with pytest.raises(UserError, match="key of real of column error 'overides'"):
        load_table(path, real=True)


def test_real_forms_measure_what_the_papers_do():
    metrics = {name: {c.metric: c.scale for c in load_table(name, real=True).columns} for name in shipped_tables()}
    for name in ("tip/table1", "tip/table2"):
        assert metrics[name] == {"val/PoseTrack/AP": 1}
        assert {c.metric for c in load_table(name).columns} == {"val/AP"}
    for name in ("maed/figure1", "maed/table2", "maed/table3"):
        assert {"test/PA-MPJPE", "test/MPJPE"} <= set(metrics[name])
        for run in table_runs(load_table(name, real=True), [0], {"data.root": "x"}):
            if run.job.command == "test":
                assert run.before.job.command == "fit"
                same = {key: value for key, value in run.overrides.items() if key != "ckpt_path"}
                assert (run.job.config, same) == (run.before.job.config, run.before.overrides)


def test_one_network_of_logocap_is_judged_at_both_sizes():
    runs = table_runs(load_table("logocap/figure1", real=True), [0], {"data.root": "x"})
    judged = {run.used_by: run for run in runs if run.job.command == "validate"}
    small, large, other = (judged[f"LOGO-CAP {name} / AP"] for name in ("W32, 384", "W32, 512", "W48, 640"))
    assert small.before == large.before != other.before
    assert small.overrides["data.image_size"] == small.overrides["model.image_size"] == [384, 384]
    assert "data.image_size" not in {**large.overrides, **other.overrides, **small.before.overrides}
    assert len([run for run in runs if run.job.command == "fit"]) == 2


def test_given_weights_take_no_checkpoints_place(tmp_path):
    second = {"command": "fit", "config": "quickstart", "after": "fit"}
    content = change(GRID, columns=[{"name": "AP", "job": "second", "metric": "val/AP"}], rows=[{"name": "a"}])
    content["jobs"]["second"] = {**second, "overrides": {"model.init_from": "{checkpoint}"}}
    first, then = table_runs(load_table(write(tmp_path, content)), [0], {"model.init_from": "w.pth", "model.lr": 1})
    assert (first.overrides["model.init_from"], then.overrides["model.init_from"]) == ("w.pth", "{checkpoint}")
    assert then.overrides["model.lr"] == 1


def test_weights_are_found_from_a_run_s_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.yaml"
    config.write_text("model: {class_path: HDM, init_args: {init_from: w.pth}}\n")
    content = change(GRID, jobs={"fit": {"command": "fit", "config": str(config)}})
    (run, *_) = table_runs(load_table(write(tmp_path, content)), [0], {})
    assert _weights(run) == {}
    (tmp_path / "w.pth").touch()
    assert _weights(run) == {"model.init_from": str(tmp_path / "w.pth")}


def test_files_of_one_s_own_are_found_from_a_run_s_own_folder(tmp_path, monkeypatch):
    """The worker's folder is another than this one, but what lies in ``data`` is of the data's root."""
    monkeypatch.chdir(tmp_path)
    for name in ("own/c.yaml", "own/boxes.json", "w.pth", "data/labels.json", "hdm", "root/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "own/c.yaml").write_text("model: {class_path: HDM}\n")
    options = {
        "model.init_from": "w.pth", "model.loss": "hdm", "data.labels": "data/labels.json", "data.boxes": "none.json",
        "data.sets": [{"boxes": "own/boxes.json"}], "model.note": "x" * 300,
    }  # fmt: skip
    content = change(GRID, columns=[{"name": "AP", "metric": "val/AP"}], rows=[{"name": "a", "overrides": options}])
    content["jobs"]["fit"] |= {"config": "own/c.yaml", "overrides": {}, "real": {"data_folder": True}}
    (run,) = table_runs(load_table(write(tmp_path, content), real=True), [0], {"data.root": "root"})
    found = []

    class Failed:
        def __init__(self, words, **options):
            found.append(json.loads(Path(words[3]).read_text()))

        def wait(self):
            return 2

    monkeypatch.setattr("posekit.tables.runner.subprocess.Popen", Failed)
    _run_one(Store(tmp_path / "s"), run, keeps_checkpoint=False)
    (job,) = found
    assert job["config"] == str(tmp_path / "own/c.yaml")
    own = {"model.init_from": str(tmp_path / "w.pth"), "data.sets": [{"boxes": str(tmp_path / "own/boxes.json")}]}
    assert job["overrides"] == options | own


def test_order_over_a_grid_names_the_reversed_pairs(tmp_path):
    spec, store = load_table(write(tmp_path, GRID)), Store(tmp_path / "s")
    for run, value in zip(table_runs(spec, [0], {}), (0.1, 0.2, 0.3, 0.4), strict=True):
        put(store, run, **{"val/AP": value})
    results = gather(Planner(spec, [0], {}, read=store.read))
    (order,) = results.orders
    assert order.count == 4
    assert order.correlation == pytest.approx(spearman([1, 2, 3, 4], [1, 4, 2, 3]))
    assert order.reversed_pairs == (("a/1", "b/0"), ("a/1", "b/1"))
    assert "2 of 6 pairs reversed: a/1 and b/0; a/1 and b/1" in order_lines(results)[0]


@pytest.mark.parametrize(
    ("a", "b", "rank"),
    [([1, 2, 3], [10, 20, 30], 1.0), ([1, 2, 3], [3, 2, 1], -1.0), ([1, 1], [1, 2], None), ([1], [1], None),
     ([1, 2, 2, 3], [1, 3, 2, 4], 0.9486832980505138)],
)  # fmt: skip
def test_spearman(a, b, rank):
    assert spearman(a, b) == (None if rank is None else pytest.approx(rank))


def test_ours_and_the_paper_s_numbers_never_mix(tmp_path):
    spec, store = load_table(write(tmp_path, GRID)), Store(tmp_path / "s")
    runs = table_runs(spec, [0, 1], {})
    put(store, runs[0], **{"val/AP": 0.5})
    put(store, runs[4], **{"val/AP": 0.7})
    put(store, runs[1], **{"val/AP": -1.0})
    results = gather(Planner(spec, [0, 1], {}, read=store.read), {runs[2].key})
    assert headings(results) == ["0", "0 (paper)", "1", "1 (paper)"]
    assert body(results) == [
        ["a", "60.0 ± 14.1", "1.0", "-", "4.0"],
        ["b", "failed", "2.0", "-", "3.0"],
        ["other system (paper's number only)", "", "", "", "9.0"],
    ]
    text = markdown(results, ABOUT)
    assert "nobody, table 0" in text
    assert "made by `a test` on 2000-01-01, seeds 0" in text
    cells = json.loads(as_json(results, {}))["rows"]
    assert cells[0]["cells"]["0"] == {
        "ours": {"mean": 60.0, "spread": pytest.approx(14.142, abs=1e-3), "values": [50.0, 70.0], "failed": False},
        "paper": 1.0,
    }
    assert cells[2]["cells"]["1"] == {"paper": 9.0}


def test_estimates_follow_finished_runs(tmp_path):
    spec, store = load_table(write(tmp_path, GRID)), Store(tmp_path / "s")
    plan = Planner(spec, [0], {}).plan()
    assert sum(estimates(store, plan).values()) == 16
    put(store, plan.runs[0], **{"val/AP": 0.5})
    assert sum(estimates(store, plan).values()) == pytest.approx(3)


def test_results_of_another_version_are_refused(tmp_path):
    spec, store = load_table(write(tmp_path, GRID)), Store(tmp_path / "s")
    put(store, table_runs(spec, [0], {})[0], **{"val/AP": 0.5})
    mark = tmp_path / "s" / "store.json"
    mark.write_text(mark.read_text().replace("0.1.0", "0.0.9"))
    with pytest.raises(UserError, match=r"results of posekit 0\.0\.9, this is 0\.1\.0: give another --output"):
        Store(tmp_path / "s")
    assert Store(tmp_path / "s", any_version=True).read(table_runs(spec, [0], {})[0]) is not None
    mark.write_text("{")
    with pytest.raises(UserError, match="is broken: remove it"):
        Store(tmp_path / "s")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is no results folder"):
        Store(tmp_path / "full")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"jobs": {"fit": {"command": "fit"}}}, "job fit lacks 'config'"),
        ({"jobs": {"fit": {"command": "train", "config": "x"}}}, "command of job fit"),
        ({"rows": [{"name": "a", "papers": {}}]}, "key of a row"),
        ({"rows": [{"name": "a", "paper": {"AP": 1}}]}, "column in paper of row a"),
        ({"rows": [{"name": "a"}, {"name": "a"}]}, "two rows have the same name"),
        ({"rows": [{"name": "a", "external": True, "overrides": {"x": 1}}]}, "external, so it has no overrides"),
        ({"columns": [{"name": "AP", "metric": "val/AP", "job": "fitt"}]}, "job of column AP"),
        ({"curve": {"job": "fit", "x": "val/loss"}}, "curve lacks 'y'"),
        ({"seeds": ["one"]}, "seeds must be different numbers from 0 on"),
        ({"rows": [{"name": "a", "external": "no"}]}, "external of row a must be true or false (or null), not 'no'"),
        (
            {"rows": [{"name": "a", "overrides": {"fit": {"model.lr": 1}, "model.lr": 2}}]},
            "overrides of row a mixes jobs (fit) with options (model.lr): give every option a job",
        ),
        ({"columns": [{"name": "AP", "metric": "val/AP", "scale": "ten"}]}, "scale of column AP must be a number"),
        (jobs(b={"after": "a"}, c={"after": "b"}), "after of job c: b is itself after a, but only two jobs may follow"),
        (jobs(a={"after": "a"}), "after of job a: a is itself after a"),
        (jobs(a={"after": "b"}, b={"after": "a"}), "after of job a: b is itself after a"),
        (
            jobs(b={"command": "count"}, c={"after": "b"}),
            "after of job c: b leaves no checkpoint, for it is a count, not",
        ),
        (jobs(b={"command": "count", "after": "a"}), "after of job b: a count starts from no checkpoint"),
        (jobs(b={"overrides": {"ckpt_path": "{checkpoint}"}}), "job b takes {checkpoint}, but says not of which job"),
        (
            {"rows": [{"name": "a", "overrides": {"model.init_from": "{checkpoint}"}}]},
            "row a takes {checkpoint}, but job fit does not say of which job (after)",
        ),
        (
            {"rows": [{"name": "a", "overrides": {"fit": {"model.init_from": "{checkpoint}"}}}]},
            "row a takes {checkpoint}, but job fit does not say",
        ),
        (
            {
                "columns": [{"name": "AP", "metric": "val/AP", "overrides": {"ckpt_path": "{checkpoint}"}}],
                "rows": [{"name": "a"}],
            },
            "column AP takes {checkpoint}, but job fit does not say",
        ),
        (jobs(b={"command": "test", "after": "a"}), 'job b is after a, but lacks ckpt_path: "{checkpoint}" in its'),
        (jobs(b={"after": "a", "after_overrides": "false"}), "after_overrides of job b must be true or false"),
        (
            {"rows": [{"name": "a", "config": "mine.yml"}]},
            "config of row a is mine.yml, but its jobs run quickstart: to run another config, write overrides: "
            "{config: mine.yml}",
        ),
        (
            {"rows": [{"name": "a", "config": "quickstart", "overrides": {"config": "mine.yml"}}]},
            "config of row a is quickstart, but its jobs run mine.yml",
        ),
        ({"rows": [{"name": "a", "config": ["quickstart"]}]}, "config of row a must be text, not ['quickstart']"),
    ],
)
def test_faults_of_a_table_file_are_named(tmp_path, keys, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load_table(write(tmp_path, change(GRID, **keys)))


@pytest.mark.parametrize(
    "row",
    [
        {"config": "quickstart.yaml"},
        {"config": "hdm/coco_w32_256x192"},
        {"config": "mine.yml", "overrides": {"config": "mine.yml"}},
        {"config": "mine.yml", "real": {"fit": {"config": "mine.yml"}}},
        {"config": "theirs.yml", "external": True},
    ],
)
def test_a_row_s_config_is_one_that_its_jobs_run(tmp_path, row):
    content = change(GRID, rows=[{"name": "a", **row}])
    content["jobs"]["fit"]["real"] = {"config": "hdm/coco_w32_256x192"}
    for real in (False, True):
        assert load_table(write(tmp_path, content), real).rows[0].config == row["config"]


def test_numbers_that_yaml_takes_for_text_are_read(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(GRID).replace("minutes: 4", "minutes: 1e2").replace("scale: 100", "scale: 1e-6"))
    spec = load_table(str(path))
    assert (spec.jobs["fit"].minutes, spec.columns[0].scale) == (100, 1e-6)


def test_a_bar_in_a_name_is_no_end_of_a_cell(tmp_path):
    spec = load_table(write(tmp_path, change(GRID, rows=[{"name": "a|b"}])))
    lines = markdown(gather(Planner(spec, [0], {})), ABOUT).splitlines()
    assert [line for line in lines if line.startswith("| ")] == ["|  | 0 | 1 |", r"| a\|b | - | - |"]


def test_every_shipped_table_reads_and_lists_its_runs():
    for name in shipped_tables():
        for real in (False, True):
            spec = load_table(name, real)
            assert spec.source
            assert table_runs(spec, [0], {}) or all(row.external for row in spec.rows)


def test_words_and_times():
    assert words_of({"a": 1, "b": "x", "c": [1, 2], "d": None, "e": {"f": True}}) == [
        "--a=1", "--b=x", "--c=[1, 2]", "--d=null", '--e={"f": true}',
    ]  # fmt: skip
    assert [minutes(t) for t in ("60m", "2h", "900s", "5")] == [60, 120, 15, 5]
    with pytest.raises(UserError, match="--budget must be a time"):
        minutes("soon")


def test_seeds(tmp_path):
    spec = load_table(write(tmp_path, GRID))
    assert [seeds_of(t, spec) for t in (None, "3", "4,7")] == [[0], [0, 1, 2], [4, 7]]
    assert seeds_of("20261122,", spec) == [20261122]
    with pytest.raises(UserError, match="at most 1000; a single seed is given as `20261122,`"):
        seeds_of("20261122", spec)
    for text in ("0", "x", "1,1", "-1,2", "0,4294967296", ","):
        with pytest.raises(UserError, match="--seeds must be"):
            seeds_of(text, spec)


def test_a_folder_whose_first_run_failed_or_was_stopped_is_taken_up_again(tmp_path, monkeypatch):
    class Stopped:
        pid = 2**22 + 1

        def __init__(self, *words, **options):
            self.waits = 0

        def wait(self):
            self.waits += 1
            if self.waits == 1:
                raise KeyboardInterrupt
            return -15

    spec = load_table(write(tmp_path, GRID))
    monkeypatch.setattr("posekit.tables.runner.subprocess.Popen", Stopped)
    monkeypatch.setattr("posekit.tables.runner.os.killpg", lambda pid, number: None)
    with pytest.raises(KeyboardInterrupt):
        run_missing(Store(tmp_path / "s"), Planner(spec, [0], {}))
    assert any((tmp_path / "s/logs").iterdir())
    assert Store(tmp_path / "s").read(table_runs(spec, [0], {})[0]) is None


def test_runs_of_rows_of_one_name_tell_their_groups(tmp_path):
    rows = [{"name": "a", "group": g, "overrides": {"model.weight_decay": i}} for i, g in enumerate("xy")]
    spec = load_table(write(tmp_path, change(GRID, rows=[*rows, {"name": "b", "group": "x"}])))
    assert {run.used_by.partition(" /")[0] for run in table_runs(spec, [0], {})} == {"x: a", "y: a", "b"}


def test_history_joins_the_rows_of_a_step(tmp_path):
    log = tmp_path / "metrics.csv"
    log.write_text("epoch,step,train/loss,val/loss,val/AP\n0,1,2,,\n0,9,,0.5,\n0,9,,,0.1\n1,19,,0.4,0.2\n")
    assert history(log) == [{"val/loss": 0.5, "val/AP": 0.1}, {"val/loss": 0.4, "val/AP": 0.2}]


def test_an_unknown_table_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["table", "hdm/tabel1"])
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert "unknown table 'hdm/tabel1'" in line
    assert "hdm/table1" in line


def test_a_failing_cell_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    """The real thing, with child processes: run, fail, show, and take up again without running anything twice."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, COUNT)
    with pytest.raises(SystemExit) as stop:
        main(["table", path, "--output", "out"])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    assert "failed: broken / million parameters: unknown backbone 'hrnet_w33'" in shown
    assert "1 runs failed" in shown
    table = json.loads((tmp_path / "out/t/table.json").read_text())
    small, broken = (row["cells"]["million parameters"]["ours"] for row in table["rows"])
    assert 0.3 < small["mean"] < 3
    assert broken["failed"]
    (cell,) = (tmp_path / "out/t/cells").iterdir()
    kept = json.loads(cell.read_text())
    assert kept["versions"]["posekit"] == "0.1.0"
    assert kept["metrics"]["gmacs"] > 0
    store = Store(tmp_path / "out/t")
    planner = Planner(load_table(path), [0], {}, ["small"], store.read)
    before = cell.stat().st_mtime_ns
    assert run_missing(store, planner).failed == {}
    assert cell.stat().st_mtime_ns == before
    assert not list((tmp_path / "out/t/work").iterdir())


def test_a_budget_leaves_out_what_would_end_too_late(tmp_path):
    spec, store = load_table(write(tmp_path, GRID)), Store(tmp_path / "s")
    planner = Planner(spec, [0], {}, read=store.read)
    assert run_missing(store, planner, deadline=0.0).skipped == [run.key for run in planner.plan().runs]


def test_dry_run_prints_cells_and_time(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["table", write(tmp_path, GRID), "--dry-run", "--seeds", "2"])
    shown = capsys.readouterr().out
    assert "about 32 minutes" in shown
    assert "b / 1, seed 1" in shown
    assert not (tmp_path / "runs").exists()


TWO_FITS = """
title: two runs on the same people
source: nobody
jobs:
  fit:
    command: fit
    config: quickstart
    minutes: 1
    overrides:
      data.train_size: 4
      data.val_size: 2
      data.batch_size: 2
      data.num_workers: 0
      trainer.max_epochs: 1
      trainer.limit_train_batches: 1
      trainer.check_val_every_n_epoch: 1
      trainer.enable_progress_bar: false
columns: [{name: loss, metric: val/loss, better: lower}]
rows:
  - {name: slow, overrides: {model.lr: 1.0e-4}}
  - {name: fast, overrides: {model.lr: 1.0e-3}}
"""


def test_runs_of_a_table_share_rendered_people(tmp_path, monkeypatch):
    """Each split is rendered by the first run alone, and thrown away at the end."""
    seen = []
    spec, store = load_table(write(tmp_path, yaml.safe_load(TWO_FITS))), Store(tmp_path / "s")
    monkeypatch.delenv(RENDERED_FOLDER, raising=False)
    written = Store.write

    def note(self, run, result):
        seen.append({path.name: path.stat().st_mtime_ns for path in (store.folder / "work/rendered").iterdir()})
        written(self, run, result)

    monkeypatch.setattr(Store, "write", note)
    outcome = run_missing(store, Planner(spec, [0], {}, read=store.read))
    assert outcome.failed == {}
    first, second = seen
    assert first == second
    assert sorted(name.split("-")[0] for name in first) == ["train", "val"]
    assert not (store.folder / "work/rendered").exists()

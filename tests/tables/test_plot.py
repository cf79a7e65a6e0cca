"""Pictures of tables: which rows have dots, what stands beside what."""

import pytest
import yaml

from posekit.tables import load_table
from posekit.tables.plan import Planner
from posekit.tables.results import gather
from posekit.tables.store import Store

pytest.importorskip("matplotlib")

ROWS = [
    {"name": "other", "external": True, "group": "g", "paper": {"AP": 9}},
    *(
        {"name": f"r{i}", "group": group, "overrides": {"model.lr": f"{i}{group}"}, "paper": {"AP": i}}
        for group in "gh"
        for i in (1, 2)
    ),
]
COLUMNS = [{"name": n, "metric": f"val/{n}"} for n in ("AP", "AR")]


@pytest.fixture
def results(tmp_path):
    def make(columns=COLUMNS, values=(1.0, 2.0), **keys):
        content = {
            "title": "long title " * 12, "source": "nobody", "columns": columns, "rows": ROWS,
            "jobs": {"fit": {"command": "fit", "config": "quickstart"}}, **keys,
        }  # fmt: skip
        path = tmp_path / "t.yaml"
        path.write_text(yaml.safe_dump(content))
        store = Store(tmp_path / "s")
        planner = Planner(load_table(str(path)), [0, 1], {}, read=store.read)
        for number, run in enumerate(planner.plan().runs if values else []):
            history = [{"val/loss": 1.0 - e, "val/AP": e} for e in (0.1, 0.2)]
            store.write(run, {"metrics": dict.fromkeys(("val/AP", "val/AR"), float(number)), "history": history})
        return gather(planner)

    return make


@pytest.fixture
def figure(monkeypatch):
    """The figure that ``plot`` makes, kept for a look."""
    import matplotlib.figure

    kept, real = [], matplotlib.figure.Figure
    monkeypatch.setattr("matplotlib.figure.Figure", lambda **options: kept.append(real(**options)) or kept[-1])
    return kept


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_visible()]


def test_rows_are_dots_below_their_groups(results, figure):
    from posekit.tables.plot import plot

    assert plot(results()).startswith(b"\x89PNG")
    assert titles(figure[0]) == ["AP\nours", "AP\nthe paper's", "AR\nours"]
    names = [text.get_text() for text in figure[0].axes[0].get_yticklabels()]
    assert names == ["g", "other", "r1", "r2", "h", "r1", "r2"]
    ours, paper = ([list(b.lines[0].get_ydata()) for b in axes.containers] for axes in figure[0].axes[:2])
    assert ours == [[2], [3], [5], [6]]
    assert paper == [[1], [2], [3], [5], [6]]
    assert all(bar.lines[0].get_linestyle() == "None" for axes in figure[0].axes for bar in axes.containers)
    assert len(figure[0].get_suptitle().splitlines()) > 1


def test_long_names_have_two_lines(results, figure, monkeypatch):
    from posekit.tables.plot import plot

    long = "cross-entropy, then HDM, softmax, cut off at 2 cells"
    monkeypatch.setitem(ROWS[1], "name", long)
    monkeypatch.setitem(ROWS[2], "name", "word " * 30)
    plot(results())
    names = [text.get_text() for text in figure[0].axes[0].get_yticklabels()]
    assert names[2] == "cross-entropy, then HDM, softmax, cut\noff at 2 cells"
    assert names[3].endswith("word…")
    assert [name.count("\n") for name in names] == [0, 0, 1, 1, 0, 0, 0]


def test_a_grid_is_painted_with_its_numbers(results, figure):
    from posekit.tables.plot import plot

    columns = [{"name": n, "metric": "val/AP", "overrides": {"model.weight_decay": n}} for n in ("AP", "1")]
    plot(results(columns))
    assert titles(figure[0]) == ["ours", "the paper's"]
    assert [len(axes.texts) for axes in figure[0].axes] == [8, 5]


def test_one_column_against_another_and_curves(results, figure):
    from posekit.tables.plot import plot

    plot(results(plot={"x": "AP", "y": "AR"}))
    assert titles(figure[0]) == ["ours"]  # the paper has no AR
    assert {text.get_text() for text in figure[0].axes[0].texts} == {"r1", "r2"}
    plot(results(curve={"job": "fit", "x": "val/loss", "y": "val/AP"}))
    assert titles(figure[1]) == ["g: r1", "g: r2", "h: r1", "h: r2"]


def test_there_is_no_picture_of_the_paper_alone(results):
    from posekit.tables.plot import plot

    assert plot(results(values=())) is None

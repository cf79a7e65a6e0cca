"""The site builds without a warning, and its pages say what the code says."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from posekit.cli import COMMANDS, main
from posekit.configs import shipped_configs
from posekit.plugins import DATAMODULES, METHODS, plugins
from posekit.skeletons import SKELETONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md"))


def module(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / "site" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


hooks = module("hooks")
FORMULA = re.compile(r"\$[^$\n]*[\\_^][^$\n]*\$")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    words = ["build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    home = (tmp_path / "site" / "index.html").read_text()
    assert "posekit fit --config examples/quickstart.yaml" in home
    for page in (tmp_path / "site").rglob("index.html"):
        text = page.read_text()
        assert ":class:`" not in text, page
        assert "&lt;!-- include" not in text, page
        assert not FORMULA.search(re.sub(r"<(script|code|pre)\b.*?</\1>", "", text, flags=re.DOTALL)), page
    assert (tmp_path / "site" / "methods" / "hdm" / "index.html").read_text().count('class="arithmatex"') > 10


# -- what the pages say ------------------------------------------------------------------------------------------------


def test_every_command_has_a_section():
    headings = re.findall(r"^## (\S+)$", (DOCS / "command-line.md").read_text(), re.MULTILINE)
    assert set(headings) >= set(COMMANDS)


def test_every_data_module_has_a_section():
    text = (DOCS / "data.md").read_text()
    ours = {name for name, point in plugins(DATAMODULES).items() if point.value.startswith("posekit")}
    assert set(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == ours
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == ours


def test_every_method_has_a_page():
    pages = {p.stem for p in (DOCS / "methods").glob("*.md")}
    ours = {point.value.split(":")[0] for point in plugins(METHODS).values() if point.value.startswith("posekit")}
    assert {f"posekit_{page}" for page in pages} == ours


def test_formulas_are_written_as_github_reads_them_too():
    texts = {page.name: page.read_text() for page in PAGES}
    assert sum(len(FORMULA.findall(text)) for text in texts.values()) > 20
    for name, text in texts.items():
        assert not re.search(r"\\[(\[]", re.sub(r"`[^`]*`", "", text)), name
        assert "\\operatorname" not in text, name  # GitHub refuses it
        for formula in FORMULA.findall(text):  # within $ and $ it takes a backslash off punctuation
            assert not re.search(r"\\[^a-zA-Z]", formula), f"{name}: {formula}"


def test_every_page_is_in_the_navigation():
    menu = (ROOT / "mkdocs.yml").read_text()
    assert all(f": {page.relative_to(DOCS).as_posix()}\n" in menu for page in PAGES)


def test_public_names_are_in_the_reference():
    import posekit.data
    import posekit.metrics

    pages = "\n".join(p.read_text() for p in (DOCS / "api").glob("*.md"))
    named = set(re.findall(r"^::: (\S+)$", pages, re.MULTILINE))
    classes = {f"posekit.data.{n}" for n in posekit.data.__all__ if n in plugins(DATAMODULES)}
    metrics = {f"posekit.metrics.{n}" for n in posekit.metrics.__all__ if n[:2].isupper() or n[0].isupper()}
    assert classes | metrics | {"posekit.PoseModule", "posekit.PoseDataModule"} <= named


def commands():
    """All ``posekit`` lines of the pages, and of the README, by page."""
    for page in [*PAGES, ROOT / "README.md"]:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line.lstrip().startswith("posekit "):
                    yield page.name, line.split(" #")[0].strip()


def test_commands_and_configs_exist():
    lines = list(commands())
    assert len(lines) > 40
    for page, line in lines:
        words = shlex.split(line)
        assert words[1] in COMMANDS or words[1].startswith("--"), f"{page}: {line}"
        for option, value in zip(words, [*words[1:], ""], strict=True):
            if option == "--config" and value.startswith("examples/") and not value.endswith(".yml"):
                assert value.removeprefix("examples/") in shipped_configs(), f"{page}: {line}"


def test_the_python_of_the_data_page_runs():
    space = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "data.md").read_text(), re.DOTALL):
        exec(block, space)
    assert space["data"].parts["studio"].ratio == 2


NOT_ALONE = ("--ckpt_path", "--print_config", "--model.help", "--data.help", "my_changes", "mixture.yaml", "Centroid")
"""Marks of commands that need a file of the user's, or train nothing."""


def fits():
    """Commands that train: their options can be checked without the data."""
    for _, line in commands():
        alone = not any(mark in line for mark in (*NOT_ALONE, "centroid.yml", "config.yaml"))
        if shlex.split(line)[1] == "fit" and alone:
            yield line


@pytest.mark.slow
@pytest.mark.parametrize("line", sorted(set(fits())))
def test_options_of_training_commands_are_known(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main([*shlex.split(line)[1:], "--print_config"])
    assert stopped.value.code in (0, None), capsys.readouterr().err
    assert "class_path" in capsys.readouterr().out


# -- how the pages are made --------------------------------------------------------------------------------------------


def test_a_readme_is_included_with_its_links_turned():
    text = hooks.expand("# T\n\n<!-- include: README.md -->\n", "index.md")
    assert "](methods/hdm.md#numbers)" in text
    assert "](images/quickstart.jpg)" in text
    assert "docs/images" not in text
    assert text.count("\n# ") == 0


def test_links_of_a_package_readme(tmp_path, monkeypatch):
    (tmp_path / "posekit_x").mkdir()
    lines = [
        "# Title", "![a](../docs/images/a.jpg) [root](../README.md) [web](https://a.b/c) [code](losses.py)",
        "```", "[kept](../README.md)", "```", "[tip](../posekit_tip/README.md#n) [`losses.py`](losses.py)",
    ]  # fmt: skip
    (tmp_path / "posekit_x" / "README.md").write_text("\n".join(lines))
    monkeypatch.setattr(hooks, "ROOT", tmp_path)
    text = hooks.expand("<!-- include: posekit_x/README.md -->", "methods/x.md")
    assert text.splitlines() == [
        "![a](../images/a.jpg) [root](../index.md) [web](https://a.b/c) code (`posekit_x/losses.py`)",
        "```", "[kept](../README.md)", "```", "[tip](tip.md#n) `losses.py` (`posekit_x/losses.py`)",
    ]  # fmt: skip


def test_what_is_for_readers_of_the_file_is_not_on_the_site():
    page = "# T\n\nHere: [a](../posekit_hdm/README.md). <!-- not on the site -->\n\n[b](../README.md#c) [d](data.md)\n"
    assert hooks.expand(page, "x.md") == "# T\n\n[b](index.md#c) [d](data.md)\n"


LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(#[^)\s]+)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_whole_as_files(page):
    text = page.read_text()
    assert not re.search(r"^ *=== \"", text, re.MULTILINE)  # tabs, which only some sites know
    holes = re.findall(r"^<!-- (?!home)\w+.*-->$", text, re.MULTILINE)
    assert not holes or "<!-- not on the site -->" in text
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for place, anchor in LINK.findall(prose):
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), place
        if anchor and target.suffix == ".md" and target.parent.name != "api":
            heads = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, anchor


def test_tables_and_help_come_from_the_code():
    table = hooks.expand("<!-- skeletons -->", "conventions.md")
    assert len(table.splitlines()) == 2 + len(SKELETONS)
    assert "| `COCO17` | 17 | no | 0 nose, 1 left_eye" in table
    shown = hooks.expand("<!-- help: body info -->", "command-line.md")
    assert shown.startswith('```text title="posekit body info --help"\nusage: posekit body info')
    assert "amass.is.tue.mpg.de" in hooks.expand("<!-- home: AMASS -->", "data.md")


@pytest.mark.parametrize("mark", ["include: nothing.md", "home: Nothing", "file: nothing.sh"])
def test_a_page_that_asks_for_nothing_known_is_refused(mark):
    with pytest.raises(hooks.BrokenPage, match="there is no"):
        hooks.expand(f"<!-- {mark} -->", "index.md")


def test_docstrings_become_markdown():
    pytest.importorskip("griffe")
    docstrings = module("docstrings")
    assert docstrings.plain_roles("See :class:`~posekit.data.MPII` and :func:`oks`.") == "See `MPII` and `oks`."
    assert docstrings.fenced("A.\n\n>>> 1 + 1\n2\n\nB.") == "A.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nB."

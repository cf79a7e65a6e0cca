"""What the site takes from elsewhere: READMEs, files, notebooks, help texts and tables made from the code.

A page asks for it by a comment on a line of its own:

    <!-- include: posekit_hdm/README.md -->      a README without its title, its links turned to the site's pages
    <!-- file: examples/cluster/slurm.sh -->     a file as a code block
    <!-- notebook: examples/notebooks/x.ipynb -->
    <!-- help: evaluate coco -->                 what `posekit evaluate coco --help` prints
    <!-- skeletons -->                           the table of joint sets
    <!-- home: MPII -->                          where a data module's files come from

A line that ends with `<!-- not on the site -->` is for who reads the page as a file, where such comments show nothing.
Links to READMEs become links to the pages that hold them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import posixpath
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MARK = re.compile(r"^<!-- (include|file|notebook|help|skeletons|home)(?:: (.+?))? -->$", re.MULTILINE)
_ASIDE = re.compile(r"^.*<!-- not on the site -->\n+", re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_LANGUAGES = {".sh": "bash", ".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


class BrokenPage(Exception):
    """A page asks for something that is not there."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replaces a page's marks; called by mkdocs."""
    return expand(markdown, page.file.src_uri)


def expand(markdown: str, page: str) -> str:
    """Replaces the marks of a page.

    Args:
        markdown: The page's text.
        page: Its place in ``docs``, e.g. ``methods/hdm.md``.

    Raises:
        BrokenPage: A mark asks for something that is not there.
    """
    own = "\n".join(_relinked_lines(_ASIDE.sub("", markdown).split("\n"), f"docs/{page}", page))
    return _MARK.sub(lambda mark: _MAKERS[mark[1]](mark[2] or "", page), own)


def _read(name: str) -> str:
    path = ROOT / name
    if not path.is_file():
        raise BrokenPage(f"there is no file {name}")
    return path.read_text(encoding="utf-8")


def _include(name: str, page: str) -> str:
    lines = _read(name).splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    return "\n".join(_relinked_lines(lines, name, page))


def _relinked_lines(lines: list[str], source: str, page: str) -> list[str]:
    """Turns the links of a file's lines, outside of its code blocks, into those of a page."""
    lines, fence = list(lines), False
    for index, line in enumerate(lines):
        fence ^= line.lstrip().startswith("```")
        if not fence:
            lines[index] = _LINK.sub(lambda link: _relinked(link, source, page), line)
    return lines


def _relinked(link: re.Match[str], source: str, page: str) -> str:
    """Turns a link of a README into one of the site; a link to a file that has no page becomes the file's name."""
    image, text, target = link.groups()
    if "://" in target or target.startswith(("#", "mailto:")):
        return link[0]
    place, hash_mark, anchor = target.partition("#")
    file = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
    method = re.fullmatch(r"posekit_(\w+)/README\.md", file)
    if file == "README.md":
        file = "docs/index.md"
    elif method:
        file = f"docs/methods/{method[1]}.md"
    if not file.startswith("docs/") or file.startswith("docs/maintainers/"):
        return text if text.strip("`") == file else f"{text} (`{file}`)"
    relative = posixpath.relpath(file.removeprefix("docs/"), posixpath.dirname(page) or ".")
    return f"{image}[{text}]({relative}{hash_mark}{anchor})"


def _file(name: str, _: str) -> str:
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f'```{language} title="{name}"\n{_read(name).rstrip()}\n```'


def _notebook(name: str, _: str) -> str:
    cells = json.loads(_read(name))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in texts)


@cache
def _help(command: str, _: str) -> str:
    from posekit.cli import main

    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    if not printed.getvalue().startswith("usage"):
        raise BrokenPage(f"posekit {command} --help printed no usage")
    return f'```text title="posekit {command} --help"\n{printed.getvalue().rstrip()}\n```'


def _skeletons(_: str, __: str) -> str:
    from posekit.skeletons import SKELETONS

    rows = ["| name | joints | tree | joints in order |", "|---|---|---|---|"]
    for name, skeleton in SKELETONS.items():
        joints = ", ".join(f"{i} {joint}" for i, joint in enumerate(skeleton.joints))
        rows.append(f"| `{name}` | {len(skeleton)} | {'yes' if skeleton.parents else 'no'} | {joints} |")
    return "\n".join(rows)


def _home(name: str, _: str) -> str:
    points = {p.name: p for p in importlib.metadata.entry_points(group="posekit.datamodules")}
    if name not in points:
        raise BrokenPage(f"there is no data module {name}")
    home = points[name].load().HOME
    address = re.match(r"https?://\S+", home)
    return f"Files: {home.replace(address[0], f'<{address[0]}>', 1) if address else home}."


_MAKERS: dict[str, Callable[[str, str], str]] = {
    "include": _include,
    "file": _file,
    "notebook": _notebook,
    "help": _help,
    "skeletons": _skeletons,
    "home": _home,
}

"""Tables in the terminal's width: text is folded at words, numbers stay whole, and further columns go below."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_NAME = 16  # narrower than this text is hard to read
_FRAME = 3  # of a column


def table_console(least: int) -> Console:
    """Returns the console to print a table to.

    Args:
        least: Width where the output is no terminal, and so has none of its own.
    """
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, least))


@dataclass(frozen=True)
class Field:
    """A column of a printed table.

    Attributes:
        heading: Above it, in one or more lines.
        cells: One per row.
        text: Whether its cells are text, which is folded at words; numbers are folded before a bracket alone.
    """

    heading: str
    cells: Sequence[Text]
    text: bool = False

    @property
    def least(self) -> int:
        """Columns of the terminal below which something would be torn apart."""
        parts = [part for cell in self.cells for part in re.split(r"\s+" if self.text else r"\s+(?=[\[(])", cell.plain)]
        longest = _longest([*parts, *self.heading.split()])
        return max(longest, min(_NAME, self.whole)) if self.text else longest

    @property
    def whole(self) -> int:
        """Columns of the terminal at which no cell is folded."""
        return _longest([*(cell.plain for cell in self.cells), *self.heading.split()])

    @property
    def full(self) -> int:
        """Columns of the terminal at which nothing is folded."""
        return max(self.whole, _longest(self.heading.splitlines()))

    def of(self, rows: Sequence[int]) -> Field:
        """Returns the column of some of the rows."""
        return Field(self.heading, [self.cells[row] for row in rows], self.text)


def print_table(
    console: Console, title: str, keys: Sequence[Field], fields: Sequence[Field], groups: Sequence[object] = ()
) -> None:
    """Prints a table; of fields that do not fit beside the others in further tables, with the rows that have any.

    Args:
        console: Whose width counts.
        title: Above the first table.
        keys: Columns that every table begins with.
        fields: The others.
        groups: One per row: a line is drawn where another begins.
    """
    blocks = list(_blocks(keys, fields, console.width))
    for number, block in enumerate(blocks):
        rows, shown = list(range(len(keys[0].cells))), [*keys, *block]
        if len(blocks) > 1:
            rows = [row for row in rows if any(field.cells[row].plain for field in block)]
            shown = [field.of(rows) for field in shown if any(field.cells[row].plain for row in rows)]
        table = _table(title if number == 0 else None, shown, console.width)
        for place, row in enumerate(rows):
            if place and groups and groups[row] != groups[rows[place - 1]]:
                table.add_section()
            table.add_row(*(field.cells[place] for field in shown))
        console.print(table)


def fits(console: Console, fields: Sequence[Field]) -> bool:
    """Tells whether columns have room beside each other."""
    return _frame(fields) + sum(field.least for field in fields) <= console.width


def _blocks(keys: Sequence[Field], fields: Sequence[Field], width: int) -> Iterator[list[Field]]:
    room = width - _frame(keys) - sum(key.least for key in keys)
    block: list[Field] = []
    left = room
    for field in fields:
        needs = field.least + _FRAME
        if block and needs > left:
            yield block
            block, left = [], room
        block.append(field)
        left -= needs
    yield block


def _table(title: str | None, fields: Sequence[Field], width: int) -> Table:
    table = Table(title=title)
    for field, columns in zip(fields, _widths(fields, width), strict=True):
        table.add_column(Text(field.heading), width=columns, justify="left" if field.text else "right", overflow="fold")
    return table


def _widths(fields: Sequence[Field], width: int) -> list[int]:
    """Gives columns their least width, then numbers a line each where that is possible for all, then text its own."""
    widths = [field.least for field in fields]
    free = width - _frame(fields) - sum(widths)
    in_a_line = [widths[i] if field.text else field.whole for i, field in enumerate(fields)]
    if sum(in_a_line) - sum(widths) <= free:
        free -= sum(in_a_line) - sum(widths)
        widths = in_a_line
    for index in sorted(range(len(fields)), key=lambda i: not fields[i].text):
        more = max(0, min(free, fields[index].full - widths[index]))
        widths[index] += more
        free -= more
    return widths


def _frame(fields: Sequence[Field]) -> int:
    return 1 + _FRAME * len(fields)


def _longest(texts: Sequence[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)

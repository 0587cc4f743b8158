"""Tables as text, in which no cell can be more than text.

Names come from files of strangers: terminal escapes are shown as what they
are, markup is escaped, and what a spreadsheet would execute begins with an
apostrophe.
"""

import html
import re
from typing import Callable, Dict, Sequence

from ..ledger.row import FORMULA
from ..utils import printable

FORMATS = ('table', 'tsv', 'md', 'json', 'html')
_NUMBER = re.compile(r'[+-]?\d+(\.\d+)?')
# an underscore between letters is no markup
_MARKUP = re.compile(r'[\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])')


def one_line(text: str) -> str:
    """Return a message, in each line of which nothing steers a terminal."""
    return '\n'.join(map(printable, text.split('\n')))


def render_table(rows: Sequence[Sequence[str]], columns: Sequence[str], style: str) -> str:
    """Write a table as text.

    Args:
        rows (Sequence[Sequence[str]]): The cells of each row.
        columns (Sequence[str]): The names of the columns.
        style (str): One of :data:`FORMATS` but for ``json``.
    """
    lines = [[_ESCAPE[style](printable(cell)) for cell in line] for line in (columns, *rows)]
    if style == 'tsv':
        return '\n'.join(map('\t'.join, lines))
    if style == 'md':
        lines.insert(1, ['---'] * len(columns))
        return '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    if style == 'html':
        head, *body = (
            ''.join(f'<{tag}>{cell}</{tag}>' for cell in line)
            for tag, line in zip(['th'] + ['td'] * len(rows), lines)
        )
        rest = ''.join(f'<tr>{cells}</tr>\n' for cells in body)
        return f'<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rest}</tbody>\n</table>'
    widths = [max(map(len, column)) for column in zip(*lines)]
    # the last column is the long one
    return '\n'.join(
        '  '.join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip() for line in lines
    )


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell[:1] in (*FORMULA,) and not _NUMBER.fullmatch(cell) else cell


def _no_markup(cell: str) -> str:
    return _MARKUP.sub(r'\\\g<0>', html.escape(cell, quote=False))


_ESCAPE: Dict[str, Callable[[str], str]] = dict(
    table=str, tsv=_no_formula, md=_no_markup, html=html.escape
)

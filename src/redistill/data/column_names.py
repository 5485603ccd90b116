"""Columns that ``params.yaml`` names must be in the data: a misspelt name would else be a column of nothing."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from redistill.data.readers.files import shown_names
from redistill.errors import DataError

_MOST_LISTED = 20


def check_columns(named: Sequence[str], columns: Collection[str], place: str, key: str) -> None:
    """Refuse names that no row has.

    Args:
        columns: the columns that rows have.
        place: what errors call the data.
        key: where in params.yaml the names stand.

    Raises:
        DataError: says which name, and which columns there are.
    """
    missing = next((name for name in named if name not in columns), None)
    if missing is None:
        return
    listed = sorted(map(str, columns))
    close = difflib.get_close_matches(missing, listed, n=1)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else f"the columns are {shown_names(listed[:_MOST_LISTED])}{', …' * (len(listed) > _MOST_LISTED)}"
    )
    raise DataError(f"{key} names the column {missing!r}, but no row of {place} has it; {hint}")

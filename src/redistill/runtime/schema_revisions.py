"""The revision of a database's schema, and whether the installed package made it, made an earlier one, or does not know it.

Both MLflow and Prefect migrate an older database when they open it, in place and without a backup, and fail on a newer one with a traceback. Their
migrations are files of alembic. Only the names in them are read; neither package is imported.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_REVISION = re.compile(r'^(down_revision|revision)\s*=\s*["\']([0-9a-f]+)["\']', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Revisions:
    """What an installed package knows: ``newest`` is what it needs, ``every`` has those that it can migrate."""

    newest: str
    every: frozenset[str]

    def state(self, revision: str) -> Literal["current", "older", "newer"]:
        """How a database is to the installed package. One with a revision that the package does not know was written by a newer one."""
        return "current" if revision == self.newest else "older" if revision in self.every else "newer"


@functools.cache
def revisions(package: str, folder: str) -> Revisions:
    """The migrations in a folder of an installed package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    every, earlier = set[str](), set[str]()
    for file in (Path(next(iter(spec.submodule_search_locations))) / folder).glob("*.py"):
        for name, revision in _REVISION.findall(file.read_text(encoding="utf-8")):
            (every if name == "revision" else earlier).add(revision)
    [newest] = every - earlier
    return Revisions(newest, frozenset(every))


def sqlite_revision(file: Path) -> str | None:
    """The revision of a SQLite database; None if there is no database, or alembic has not made it."""
    if not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as database:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None  # the program that opens it next says what is wrong with it
    return None if row is None else str(row[0])

"""Which schema a database has, and what the installed packages think of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from redistill.runtime.schema_revisions import revisions, sqlite_revision

PLACES = {
    "mlflow": "store/db_migrations/versions",
    "prefect/sqlite": "server/database/_migrations/versions/sqlite",
    "prefect/postgresql": "server/database/_migrations/versions/postgresql",
}


@pytest.mark.parametrize("name", PLACES)
def test_the_newest_is_the_one_that_alembic_calls_head(name: str) -> None:
    from alembic.script import ScriptDirectory

    package = __import__(name.partition("/")[0])
    known = revisions(package.__name__, PLACES[name])
    scripts = Path(package.__file__ or "").parent / PLACES[name]
    directory = ScriptDirectory(str(scripts.parent), version_locations=[str(scripts)])
    assert [known.newest] == directory.get_heads()
    assert {script.revision for script in directory.walk_revisions()} == known.every and len(known.every) > 30
    before = directory.get_revision(known.newest)
    assert before is not None and known.state(str(before.down_revision)) == "older"
    assert (known.state(known.newest), known.state("ffffffffffff")) == ("current", "newer")


def test_files_that_are_no_such_database(tmp_path: Path) -> None:
    assert sqlite_revision(tmp_path / "none.db") is None
    (tmp_path / "text.db").write_text("no database", encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "empty.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    assert [sqlite_revision(tmp_path / name) for name in ("text.db", "empty.db")] == [None, None]
    with closing(sqlite3.connect(tmp_path / "empty.db")) as database, database:
        database.execute("INSERT INTO alembic_version VALUES ('abc123')")
    assert sqlite_revision(tmp_path / "empty.db") == "abc123"

"""`redistill gc` in SQLite files: completions of teachers that nothing uses, and the space that deleted rows leave in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redistill.errors import DataError
from redistill.operations.params import RetentionParams
from redistill.operations.retention import Kept, Sweep
from tasks.operations.kept.bundle_names import Names
from tasks.paths import STATE

STORE = STATE / "store" / "completions.sqlite"
MLFLOW = STATE / "mlflow" / "mlflow.db"
COMPLETIONS = "completions"
_UNKNOWN = "their teacher is unknown"
_WORTH_IT = 0.1
"""A file is compacted if at least this share of its pages is empty."""


def sweep_completions(names: Names, retention: RetentionParams, now_s: float, *, dry_run: bool) -> Sweep:
    """Remove completions of teachers that neither a lock of the workspace nor a kept version names.

    A completion whose teacher is unknown stays: an older version of redistill stored it without its teacher, and the next cycle that uses it records the teacher.
    """
    if not STORE.is_file():
        return Sweep(COMPLETIONS)
    cutoff_s = now_s - 86400 * retention.days
    with _opened(STORE, read_only=dry_run) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'origins'").fetchone():
            count = int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
            return Sweep(COMPLETIONS, kept=(Kept(COMPLETIONS, _UNKNOWN, count),))
        # Temporary tables are in memory or in a file of their own, so they change no file of the project.
        database.execute("CREATE TEMP TABLE used (teacher TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO used VALUES (?)", [(teacher,) for teacher in names.teachers])
        database.execute(
            "CREATE TEMP TABLE to_remove AS SELECT key FROM origins WHERE stored_s < ? AND teacher NOT IN (SELECT teacher FROM used)",
            (cutoff_s,),
        )
        database.commit()
        removed, body_bytes = database.execute(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM answers WHERE key IN (SELECT key FROM to_remove)"
        ).fetchone()
        kept = _kept(database, names, cutoff_s)
        if dry_run or not removed:
            return Sweep(COMPLETIONS, removed, body_bytes, kept)
        before = _size(STORE)
        with database:
            database.execute("DELETE FROM answers WHERE key IN (SELECT key FROM to_remove)")
            database.execute("DELETE FROM origins WHERE key IN (SELECT key FROM to_remove)")
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'prompts'").fetchone():
                database.execute("DELETE FROM prompts WHERE key IN (SELECT key FROM to_remove)")
        note = _compacted(database)
        return Sweep(COMPLETIONS, removed, max(0, before - _size(STORE)), kept, note)


def _kept(database: sqlite3.Connection, names: Names, cutoff_s: float) -> tuple[Kept, ...]:
    counts: dict[str, int] = {}
    rows = database.execute(
        "SELECT origins.teacher, coalesce(origins.stored_s, 0) >= ?, count(*) FROM answers LEFT JOIN origins USING (key) GROUP BY 1, 2",
        (cutoff_s,),
    )
    for teacher, young, count in rows:
        reason = (
            _UNKNOWN
            if teacher is None
            else "a lock or a kept version names their teacher"
            if teacher in names.teachers
            else "younger than the retention"
            if young
            else None
        )
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + count
    return tuple(Kept(COMPLETIONS, reason, count) for reason, count in counts.items())


def compact(file: Path, *, dry_run: bool) -> Sweep:
    """Give the empty pages of a SQLite file back to the disk, if they are a tenth of it or more."""
    kind = f"empty pages of {file.name}"
    if not file.is_file():
        return Sweep(kind)
    with _opened(file, read_only=dry_run) as database:
        empty, pages, page_bytes = (
            int(database.execute(f"PRAGMA {what}").fetchone()[0]) for what in ("freelist_count", "page_count", "page_size")
        )
        if empty < _WORTH_IT * pages:
            return Sweep(kind)
        if dry_run:
            return Sweep(kind, empty, empty * page_bytes)
        before = _size(file)
        note = _compacted(database)
        return Sweep(kind, 0 if note else empty, max(0, before - _size(file)), note=note)


def _compacted(database: sqlite3.Connection) -> str:
    """Empty string, or why the file could not be compacted: its free pages are used again in any case."""
    try:
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        return f"rows were removed, but the file was not compacted ({error}); the next gc tries again"
    return ""


def _size(file: Path) -> int:
    return sum(512 * part.stat().st_blocks for part in (file, file.with_name(f"{file.name}-wal")) if part.is_file())


@contextmanager
def _opened(file: Path, *, read_only: bool) -> Iterator[sqlite3.Connection]:
    """A connection that is closed at the end; ``read_only`` changes and creates no file.

    Raises:
        DataError: SQLite cannot use the file.
    """
    # Without a file of pending writes nobody has the store open, and SQLite need not create one to read it.
    how = "" if not read_only else "?mode=ro" if file.with_name(f"{file.name}-wal").is_file() else "?immutable=1"
    database = None
    try:
        database = sqlite3.connect(f"{file.absolute().as_uri()}{how}", uri=True, timeout=60)
        yield database
    except sqlite3.Error as error:
        raise DataError(f"{file} cannot be used ({error}); free some space or fix its permissions, then run gc again") from error
    finally:
        if database is not None:
            database.close()

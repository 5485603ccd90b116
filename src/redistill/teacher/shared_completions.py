"""The completion store's rows in a shared store, as segments: files that never change, named by the sha256 of their content.

A clone pushes the rows that no segment has, and pulls the segments that it has not seen. Two clones may push at the same time, since they write different
names, or the same name with the same content. A kill leaves whole segments, and the next push or pull goes on from there.

A row of a prompt that has a tombstone is neither pushed nor pulled. A segment that has one all the same is replaced by one without it.

No stage imports this file: it reads and writes the tables of ``CompletionStore`` beside it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.data.forgotten import tombstone_digest
from redistill.errors import DataError
from redistill.io.digests import file_digest
from redistill.io.shared_store import SharedStore
from redistill.teacher.completion_store import CompletionStore

SEGMENTS = "segments"
_ROWS, _BYTES = 10_000, 64 << 20
"""A segment ends at so many rows, or so many bytes of completions."""
_SCHEMA = pa.schema(
    [("key", pa.string()), ("teacher", pa.string()), ("stored_s", pa.float64()), ("prompt", pa.string()), ("body", pa.binary())],
    metadata={"redistill.segment": "1"},
)
_Row = tuple[str, str, float, str, bytes]


@dataclass(frozen=True, slots=True)
class Pulled:
    """``unclean`` are segments in which a forgotten prompt has rows; the rows were left there."""

    segments: int = 0
    rows: int = 0
    unclean: tuple[str, ...] = ()


def push(file: Path, store: SharedStore, forgotten: frozenset[str]) -> int:
    """Write the rows that no segment in the store has; returns how many. Rows whose prompt nobody recorded stay here: nobody could forget them.

    Raises:
        DataError: the completion store or the shared store cannot be used.
    """
    if not file.is_file():
        return 0
    count = 0
    with _opened(file) as database:
        listed = store.names(SEGMENTS)
        for rows in _chunks(_unshared(database, listed), forgotten):
            count += len(rows)
            _put(database, store, file.parent, rows)
    return count


def pull(file: Path, store: SharedStore, forgotten: frozenset[str], say: Callable[[str], None] = lambda _: None) -> Pulled:
    """Take the rows of the segments that this clone has not seen. A row that is here already stays as it is.

    Raises:
        DataError: a segment is damaged, or one of the stores cannot be used.
    """
    names = store.names(SEGMENTS)
    if not names:
        return Pulled()
    segments = rows = 0
    unclean = list[str]()
    with _opened(file) as database:
        seen = {name for (name,) in database.execute("SELECT name FROM segments")}
        for name in (each for each in names if each not in seen):
            taken, left = _taken(_read(store, name, file.parent), forgotten)
            _insert(database, name, taken)
            segments, rows = segments + 1, rows + len(taken)
            unclean += [name] if left else []
    if segments:
        say(f"{rows:,} completions from {segments:,} new segments of the shared store")
    return Pulled(segments, rows, tuple(unclean))


def segments_of(file: Path, prompt_ids: Iterable[str]) -> list[str]:
    """The segments that have rows of these prompts, as far as this clone has pulled them."""
    if not file.is_file():
        return []
    with _opened(file) as database:
        segments = set[str]()
        for prompt in prompt_ids:
            segments |= {
                name
                for (name,) in database.execute(
                    "SELECT DISTINCT segment FROM in_segment JOIN prompts USING (key) WHERE prompt = ?", (prompt,)
                )
            }
        return sorted(segments)


def clean(file: Path, store: SharedStore, names: Sequence[str], forgotten: frozenset[str]) -> int:
    """Replace segments by ones without the rows of forgotten prompts; returns how many rows went. The new one is there before the old one goes."""
    removed = 0
    with _opened(file) as database:
        present = set(store.names(SEGMENTS))
        for name in (each for each in names if each in present):
            rows, left = _taken(_read(store, name, file.parent), forgotten)
            if not left:
                continue
            for chunk in _chunks(rows, forgotten):
                _put(database, store, file.parent, chunk)
            store.remove(f"{SEGMENTS}/{name}")
            removed += left
    return removed


def here_again(file: Path, forgotten: frozenset[str]) -> list[str]:
    """The prompts with rows here that have a tombstone, which another clone may have written."""
    if not forgotten or not file.is_file():
        return []
    with _opened(file) as database:
        return [prompt for (prompt,) in database.execute("SELECT DISTINCT prompt FROM prompts") if tombstone_digest(prompt) in forgotten]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    # It makes the tables, and says what is wrong with a file that is no store.
    CompletionStore(file).close()
    database = sqlite3.connect(file, timeout=60)
    try:
        database.execute("CREATE TABLE IF NOT EXISTS segments (name TEXT PRIMARY KEY)")
        database.execute("CREATE TABLE IF NOT EXISTS in_segment (key TEXT PRIMARY KEY, segment TEXT NOT NULL)")
        yield database
    except sqlite3.Error as error:
        raise DataError(
            f"cannot use the completion store {file} ({error}); stored completions are kept; free some space or fix its permissions, then run again"
        ) from error
    finally:
        database.close()


def _unshared(database: sqlite3.Connection, listed: Sequence[str]) -> Iterator[_Row]:
    """Also rows of a segment that is not there any more."""
    database.execute("CREATE TEMP TABLE IF NOT EXISTS listed (name TEXT PRIMARY KEY)")
    database.execute("DELETE FROM listed")
    database.executemany("INSERT INTO listed VALUES (?)", [(name,) for name in listed])
    # A table of its own, on disk where it is large: what is written while it is read does not change it.
    database.execute("DROP TABLE IF EXISTS temp.unshared")
    database.execute(
        "CREATE TEMP TABLE unshared AS SELECT key, coalesce(teacher, '') AS teacher, coalesce(stored_s, 0.0) AS stored_s, prompt FROM answers "
        "JOIN prompts USING (key) LEFT JOIN origins USING (key) LEFT JOIN in_segment USING (key) "
        "WHERE segment IS NULL OR segment NOT IN (SELECT name FROM listed) ORDER BY 2, 1"
    )
    database.commit()
    yield from database.execute(
        "SELECT u.key, u.teacher, u.stored_s, u.prompt, a.body FROM unshared u JOIN answers a USING (key) ORDER BY u.rowid"
    )


def _chunks(rows: Iterable[_Row], forgotten: frozenset[str]) -> Iterator[list[_Row]]:
    """At most so many rows at a time, of one teacher."""
    chunk, size = list[_Row](), 0
    for row in rows:
        if tombstone_digest(row[3]) in forgotten:
            continue
        if chunk and (len(chunk) >= _ROWS or size >= _BYTES or chunk[0][1] != row[1]):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += len(row[4])
    if chunk:
        yield chunk


def _put(database: sqlite3.Connection, store: SharedStore, scratch: Path, rows: list[_Row]) -> None:
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".segment") as folder:
        file = Path(folder, "segment.parquet")
        columns = [list(column) for column in zip(*rows, strict=True)]
        try:
            pq.write_table(pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA), file)
        except OSError as error:
            raise DataError(f"a segment cannot be written in {scratch} ({error}); free some space, then run again") from error
        name = file_digest(file)
        store.upload(file, f"{SEGMENTS}/{name}")
    with database:
        database.execute("INSERT OR IGNORE INTO segments VALUES (?)", (name,))
        database.executemany("INSERT OR REPLACE INTO in_segment VALUES (?, ?)", [(row[0], name) for row in rows])


def _insert(database: sqlite3.Connection, name: str, rows: list[_Row]) -> None:
    with database:
        database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", [(row[0], row[4]) for row in rows])
        database.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?, ?)", [row[:3] for row in rows if row[1]])
        database.executemany("INSERT OR IGNORE INTO prompts VALUES (?, ?)", [(row[0], row[3]) for row in rows])
        database.executemany("INSERT OR REPLACE INTO in_segment VALUES (?, ?)", [(row[0], name) for row in rows])
        database.execute("INSERT OR IGNORE INTO segments VALUES (?)", (name,))


def _taken(rows: list[_Row], forgotten: frozenset[str]) -> tuple[list[_Row], int]:
    taken = [row for row in rows if tombstone_digest(row[3]) not in forgotten]
    return taken, len(rows) - len(taken)


def _read(store: SharedStore, name: str, scratch: Path) -> list[_Row]:
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".segment") as folder:
        file = Path(folder, "segment.parquet")
        if not store.download(f"{SEGMENTS}/{name}", file):
            # Replaced by another clone since the list was read; its successor comes with the next pull.
            return []
        if (digest := file_digest(file)) != name:
            raise DataError(
                f"the segment {SEGMENTS}/{name} in the shared store {store.address} is damaged (its sha256 is {digest[:16]}…), and nothing of it was used; "
                "restore it from a backup of the store. If you delete it, a clone that has its completions writes them again, and others ask the teacher"
            )
        table = pq.read_table(file)
        if not table.schema.equals(_SCHEMA, check_metadata=False) or (table.schema.metadata or {}).get(b"redistill.segment") != b"1":
            raise DataError(
                f"the segment {SEGMENTS}/{name} in {store.address} has another form than this version of redistill reads; use the version of the other workers"
            )
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

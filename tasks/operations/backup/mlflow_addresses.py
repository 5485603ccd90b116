"""Copies MLflow's SQLite file while it may be in use, and moves the addresses of its artifacts to another folder.

MLflow stores absolute addresses (file:///…) of artifacts with experiments, runs, registered weights and versions. In another folder they would lead to nothing.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from redistill.errors import DataError

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Source: mlflow 3.17.2, ``mlflow.store.tracking.dbmodels.models`` and ``mlflow.store.model_registry.dbmodels.models``."""

_MAGIC = b"SQLite format 3\0"


def is_sqlite(file: Path) -> bool:
    """Whether a file is a SQLite database."""
    with open(file, "rb") as handle:
        return handle.read(len(_MAGIC)) == _MAGIC


def snapshot(file: Path, target: Path) -> None:
    """Copy a SQLite database as of one moment, while other processes may read and write it.

    Raises:
        DataError: it cannot be read, or the copy cannot be written.
    """
    try:
        with (
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
            # One file: the copy of a store in WAL mode would bring a second one.
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise DataError(f"{file} cannot be copied ({error}); free some space or fix its permissions, then try again") from error


def move_artifacts(database: Path, before: str, after: str) -> None:
    """Replace the root of all artifact addresses, in one transaction. Addresses of other places stay.

    Raises:
        DataError: the file is not MLflow's, or is of another version.
    """
    if before == after:
        return
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            for table, column in _ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",  # noqa: S608 - names of this file
                    (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )
    except sqlite3.Error as error:
        raise DataError(
            f"the addresses in MLflow's file cannot be moved ({error}); restore into the folder that the project had, or with the redistill that made the archive"
        ) from error

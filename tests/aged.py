"""Makes a project older than it is: what MLflow, the store and the clock of the disk say about its state."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

DAY_S = 86400


def age(project: Path, days: float) -> None:
    """Everything in the project's own folders, and in its own MLflow store, happened ``days`` earlier."""
    age_mlflow(project / ".redistill/mlflow/mlflow.db", days)
    store = project / ".redistill/store/completions.sqlite"
    if store.is_file():
        with closing(sqlite3.connect(store)) as database, database:
            database.execute("UPDATE origins SET stored_s = stored_s - ?", (days * DAY_S,))
    for folder in (project / ".redistill", project / ".dvc"):
        for file in folder.rglob("*"):
            if file.is_file():
                age_file(file, days)


def age_file(file: Path, days: float) -> None:
    at = file.stat().st_mtime - days * DAY_S
    os.utime(file, (at, at))


def age_mlflow(database: Path, days: float) -> None:
    ms = days * DAY_S * 1000
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("UPDATE runs SET start_time = start_time - ?, end_time = end_time - ?", (ms, ms))
        connection.execute("UPDATE logged_models SET creation_timestamp_ms = creation_timestamp_ms - ?", (ms,))
        connection.execute("UPDATE model_versions SET creation_time = creation_time - ?", (ms,))

"""Makes a project older than it is: what MLflow, the store and the clock of the disk say about its state."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

DAY_S = 86400
MS = (
    "UPDATE runs SET start_time = start_time - {0:.0f}, end_time = end_time - {0:.0f}",
    "UPDATE logged_models SET creation_timestamp_ms = creation_timestamp_ms - {0:.0f}",
    "UPDATE model_versions SET creation_time = creation_time - {0:.0f}",
)
"""What makes MLflow's records older; the number is in milliseconds."""


def age(project: Path, days: float) -> None:
    """Everything in the project's own folders, and in its own MLflow store, happened ``days`` earlier."""
    age_mlflow(project / ".redistill/mlflow/mlflow.db", days)
    age_files(project, days)


def age_files(project: Path, days: float) -> None:
    """The same without the registry."""
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
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for statement in MS:
            connection.execute(statement.format(days * DAY_S * 1000))

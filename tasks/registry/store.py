"""The project's own MLflow store: a SQLite file that is made whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from importlib.metadata import version
from pathlib import Path

from redistill.errors import RegistryError
from redistill.provenance import mlflow_names
from redistill.runtime.schema_revisions import revisions, sqlite_revision


def make_store(state: Path) -> None:
    """Make the store if it does not exist.

    MLflow would make it in place, in a hundred steps. A process that is killed meanwhile leaves a database that no later process can open, and two
    processes that start at once disturb each other. So it is made under a temporary name, by one process at a time, and then renamed.

    Raises:
        RegistryError: it cannot be made, or the installed MLflow has another schema.
    """
    database = mlflow_names.project_database(state)
    if database.is_file():
        _check_schema(database)
        return
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.exc import SQLAlchemyError

    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.with_suffix(".lock"), "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if database.is_file():
            return
        unfinished = database.parent / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        new = unfinished / database.name
        try:
            # The first use of a store makes its tables.
            store = SqlAlchemyStore(f"sqlite:///{new}", mlflow_names.project_artifacts(state))
            store.engine.dispose()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise RegistryError(
                f"MLflow's database {database} cannot be made ({str(error).splitlines()[0][:200]}); check that its folder can be written"
            ) from error
        os.rename(new, database)
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_schema(database: Path) -> None:
    """MLflow would migrate an older file at its first use, while the server of an earlier version may still use it, and without a copy.

    Raises:
        RegistryError: the schema of the file is not that of the installed MLflow.
    """
    revision = sqlite_revision(database)
    state = "current" if revision is None else revisions("mlflow", "store/db_migrations/versions").state(revision)
    if state == "older":
        raise RegistryError(
            f"{database} was written by an older MLflow (schema {revision}); run `redistill down`, copy the file to a safe place, then migrate it: "
            f"`mlflow db upgrade sqlite:///{database}`"
        )
    if state == "newer":
        raise RegistryError(
            f"{database} was written by a newer MLflow (schema {revision}) than the installed {version('mlflow')}; install the newer one again, or "
            "restore the backup from before it"
        )

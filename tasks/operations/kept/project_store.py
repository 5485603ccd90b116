"""Which MLflow store is the project's own, and a client on it that creates nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from redistill.errors import RegistryError
from redistill.io.json import read_json
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.running_services import ADDRESSES
from tasks.operations.addresses import MLFLOW
from tasks.paths import STATE
from tasks.registry.client import RegistryClient


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Errors of MLflow as one line.

    Raises:
        RegistryError: MLflow failed.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"MLflow failed ({str(error).splitlines()[0][:200]}); try again when it can be reached") from error


def use_project_store() -> None:
    """Use the project's SQLite file itself, also while the server of `redistill up` serves it: only the file can be compacted and copied."""
    if not ADDRESSES.is_file() or (named := os.environ.get(MLFLOW)) is None:
        return
    served = read_json(ADDRESSES)
    # `mlflow` is set if `redistill up` uses a server that somebody else started.
    if served.get("mlflow") is None and served.get(MLFLOW) == named:
        del os.environ[MLFLOW]


def is_project_store() -> bool:
    """Whether runs and versions are in the project's own file; otherwise they are on a server of the team."""
    return mlflow_names.artifact_root(STATE) is not None


def existing_registry(params: Params) -> RegistryClient | None:
    """A client on the store; None if nothing was registered yet.

    Raises:
        RegistryError: the store cannot be reached.
    """
    use_project_store()
    if is_project_store() and not mlflow_names.project_database(STATE).is_file():
        return None
    import mlflow

    address = mlflow_names.tracking_uri(STATE)
    mlflow.set_tracking_uri(address)
    client: RegistryClient = mlflow.MlflowClient()
    try:
        return client if client.get_experiment_by_name(mlflow_names.experiment(params.data.name)) is not None else None
    except mlflow.MlflowException as error:
        raise RegistryError(f"MLflow at {address} cannot be used ({str(error).splitlines()[0][:200]}); start it, then try again") from error

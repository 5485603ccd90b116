"""Which MLflow store is the project's own, and a client on it that creates nothing."""

from __future__ import annotations

import os

from redistill.io.json import read_json
from redistill.params import Params
from redistill.provenance import mlflow_names
from redistill.runtime.running_services import ADDRESSES
from tasks.operations.addresses import MLFLOW
from tasks.paths import STATE
from tasks.registry.client import RegistryClient
from tasks.registry.registry_address import cannot_be_used, registry_address


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

    address = registry_address()
    try:
        mlflow.set_tracking_uri(address)
        client: RegistryClient = mlflow.MlflowClient()
        return client if client.get_experiment_by_name(mlflow_names.experiment(params.data.name)) is not None else None
    except mlflow.MlflowException as error:
        raise cannot_be_used(address, error) from error

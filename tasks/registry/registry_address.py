"""The address of the registry, checked before anything is asked there."""

from __future__ import annotations

import re

from redistill.errors import ConfigError, RegistryError, RegistryUnavailable
from redistill.provenance import mlflow_names
from redistill.runtime.service_addresses import move_credentials
from redistill.runtime.service_failures import explain
from tasks.paths import STATE
from tasks.registry.store import make_store

_DATABASE = re.compile(r"(postgresql|mysql|mssql|oracle)(\+\w+)?://")


def registry_address() -> str:
    """Where MLflow keeps runs and versions; never with a password.

    Raises:
        ConfigError: the environment names a database, or no address at all.
    """
    move_credentials()
    address = mlflow_names.tracking_uri(STATE)
    if _DATABASE.match(address):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={address} is a database: the files of versions would stay on this machine, and no other machine would find them; "
            "start `mlflow server` with this address in MLFLOW_BACKEND_STORE_URI and a bucket in MLFLOW_ARTIFACTS_DESTINATION, and name the server"
        )
    if address == mlflow_names.project_store(STATE):
        make_store(STATE)
    return address


def cannot_be_used(address: str, error: Exception) -> RegistryError:
    """The failure of a first request as one line."""
    why = explain(error)
    kind = RegistryUnavailable if why.unavailable else RegistryError
    start = "start it, or unset MLFLOW_TRACKING_URI to use a local file"
    return kind(
        f"MLflow at {address} cannot be used ({why.line[:200]}); {start if 'cannot be reached' in why.advice else why.advice or start}"
    )

"""The protocol of the registry client is what MLflow's client offers."""

from __future__ import annotations

import inspect

import pytest

from tasks.registry.client import RegistryClient

METHODS = [name for name, _ in inspect.getmembers(RegistryClient, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_mlflow_takes(name: str) -> None:
    import mlflow

    ours, theirs = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (RegistryClient, mlflow.MlflowClient))
    assert ours == theirs[: len(ours)]

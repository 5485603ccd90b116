"""Errors of the real clients of MLflow and S3, asked at a port where nobody listens, as one line of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redistill.errors import RegistryError, RegistryUnavailable
from redistill.runtime.service_failures import as_registry_errors, registry_failure
from tests.servers import free_port


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def upload(file: Path, **key: str) -> None:
    boto3: Any = pytest.importorskip("boto3")
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{free_port()}", **key)
    client.upload_file(Filename=str(file), Bucket="b", Key="k")


def raised(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_a_store_that_nobody_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    ours = registry_failure(raised(lambda: upload(tmp_path / "file", aws_access_key_id="a", aws_secret_access_key="secret-word")))
    assert isinstance(ours, RegistryUnavailable) and ours.exit_code == 6
    assert "a server cannot be reached" in str(ours) and "secret-word" not in str(ours) and "\n" not in str(ours)


def test_no_key_for_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    ours = registry_failure(raised(lambda: upload(tmp_path / "file")))
    assert isinstance(ours, RegistryUnavailable) and "set AWS_ACCESS_KEY_ID" in str(ours)


def test_an_mlflow_server_that_nobody_runs() -> None:
    import mlflow

    client = mlflow.MlflowClient(f"http://127.0.0.1:{free_port()}")
    ours = registry_failure(raised(client.search_experiments))
    assert isinstance(ours, RegistryUnavailable) and "a server cannot be reached" in str(ours)


def test_what_mlflow_refuses_is_no_outage() -> None:
    from mlflow.exceptions import MlflowException

    ours = registry_failure(MlflowException("Invalid value for key: it has a newline"))
    assert type(ours) is RegistryError and "it has a newline" in str(ours)


def test_other_errors_are_not_touched() -> None:
    """A bug of ours must show its traceback; a file that cannot be written has a line of its own."""
    import requests

    for error in (ValueError("x"), KeyError("x"), OSError(28, "No space left on device"), requests.ConnectionError("of another library")):
        assert registry_failure(error) is None
        with pytest.raises(type(error)), as_registry_errors():
            raise error
    mine = RegistryError("one line")
    with pytest.raises(RegistryError) as same, as_registry_errors():
        raise mine
    assert same.value is mine

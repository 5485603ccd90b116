"""A password inside an address moves to the variable that is made for it, and is nowhere else after that."""

from __future__ import annotations

import os

import pytest

from redistill.errors import ConfigError
from redistill.runtime.service_addresses import move_credentials

NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back at the end, whatever the test sets
        monkeypatch.delenv(name)


def after(**before: str) -> list[str | None]:
    os.environ.update(before)
    move_credentials()
    move_credentials()  # a second time changes nothing
    return [os.environ.get(name) for name in NAMES]


def test_both_servers() -> None:
    assert after(MLFLOW_TRACKING_URI="https://ann:p%40s%2Fs@host:5000/x", PREFECT_API_URL="http://bob:a%3Ab@[::1]:4200/api") == [
        "https://host:5000/x",
        "ann",
        "p@s/s",
        "http://[::1]:4200/api",
        "bob:a:b",
    ]


def test_a_variable_that_is_set_counts_more() -> None:
    env = {"MLFLOW_TRACKING_PASSWORD": "new", "PREFECT_API_AUTH_STRING": "bob:new"}
    assert after(MLFLOW_TRACKING_URI="http://ann:old@host", PREFECT_API_URL="http://bob:old@host/api", **env) == [
        "http://host",
        "ann",
        "new",
        "http://host/api",
        "bob:new",
    ]


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000", "sqlite:////srv/a@b/mlflow.db", "postgresql://a:b@c/d", "models", ""])
def test_other_addresses_stay(address: str) -> None:
    assert after(MLFLOW_TRACKING_URI=address) == [address, None, None, None, None]


@pytest.mark.parametrize(
    "address", ["http://ann:secret@host:port", "http://ann:secret@/x", "http://", "http://ann:secret@host:99999", "http://[::1"]
)
def test_no_address_is_one_line_without_the_password(address: str) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI=") as error:
        after(MLFLOW_TRACKING_URI=address)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)

"""Where this project's servers are: those that ``redistill up`` started, or those that a team runs and the environment names."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from redistill.errors import ConfigError
from redistill.io.json import write_json
from redistill.runtime.running_services import ADDRESSES

PREFECT_API = "PREFECT_API_URL"
MLFLOW = "MLFLOW_TRACKING_URI"
HOST = "127.0.0.1"
PREFECT_PORT = 4200
MLFLOW_PORT = 5000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers listen. ``prefect_api`` or ``mlflow`` is set if a server that runs already is used; then none is started here."""

    host: str = HOST
    prefect_port: int = PREFECT_PORT
    mlflow_port: int = MLFLOW_PORT
    prefect_api: str | None = None
    mlflow: str | None = None

    @property
    def prefect_url(self) -> str:
        """The address of Prefect's API."""
        return self.prefect_api or f"http://{self._reached_at}:{self.prefect_port}/api"

    @property
    def mlflow_url(self) -> str:
        return self.mlflow or f"http://{self._reached_at}:{self.mlflow_port}"

    @property
    def prefect_page(self) -> str:
        return self.prefect_url.removesuffix("/api")

    @property
    def _reached_at(self) -> str:
        """A server that listens at every address of the machine is reached through loopback."""
        if self.host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            return HOST
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def from_options(host: str | None, prefect_port: int | None, mlflow_port: int | None) -> Addresses:
    """The options of ``redistill up`` (None: the default), and the servers that the environment names.

    Raises:
        ConfigError: both servers at one port, or an MLflow address that is not a server.
    """
    host, prefect_port, mlflow_port = host or HOST, prefect_port or PREFECT_PORT, mlflow_port or MLFLOW_PORT
    api, mlflow = os.environ.get(PREFECT_API) or None, os.environ.get(MLFLOW) or None
    if api is None and mlflow is None and prefect_port == mlflow_port:
        raise ConfigError(f"both servers cannot use port {prefect_port}; choose another one with --prefect-port or --mlflow-port")
    if mlflow is not None and not mlflow.startswith(("http://", "https://")):
        raise ConfigError(
            f"{MLFLOW}={mlflow} is not the address of a server; name one (http://...), or unset the variable, and `redistill up` starts one"
        )
    return Addresses(host, prefect_port, mlflow_port, api, mlflow)


def write_addresses(addresses: Addresses, path: Path = ADDRESSES) -> None:
    """Write them for later commands in this project (``redistill.runtime.running_services``)."""
    write_json(path, {**asdict(addresses), PREFECT_API: addresses.prefect_url, MLFLOW: addresses.mlflow_url})

"""What ``redistill up`` keeps running: Prefect's server, MLflow's server, and the runner of this project's flows."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from redistill.provenance import mlflow_names
from redistill.runtime.environment import child_environment
from redistill.runtime.running_services import LOGS, RUNNER_READY, SERVICES
from tasks.operations.addresses import MLFLOW, PREFECT_API, Addresses
from tasks.paths import STATE

PREFECT_HOME = STATE / "prefect"


TITLES = {"prefect": "Prefect", "mlflow": "MLflow", "runner": "the runner"}
"""In the order in which they need each other."""


def record_of(name: str) -> Path:
    """Where the process of a service is recorded."""
    return SERVICES / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Service:
    """``health`` is the page that answers 200 when the server is ready; None for the runner, which listens nowhere."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str | None = None
    health: str | None = None

    @property
    def record(self) -> Path:
        return record_of(self.name)

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    def ready(self, pid: int) -> bool:
        """Whether it works. ``pid`` is its process."""
        if self.health is None:
            return RUNNER_READY.is_file() and RUNNER_READY.read_text(encoding="utf-8").strip() == str(pid)
        return healthy(self.health)


def answers(host: str, port: int) -> bool:
    """Whether something listens at a port."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def listens(url: str) -> bool:
    """Whether something listens at the address of a page."""
    where = httpx.URL(url)
    return answers(where.host, where.port or (443 if where.scheme == "https" else 80))


def healthy(url: str) -> bool:
    """Whether a server's health page answers 200."""
    try:
        # Asked several times a second while the server starts. Each httpx.get reads the certificates of the machine first, so it is not called before
        # something listens.
        return listens(url) and httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def services(addresses: Addresses) -> list[Service]:
    """The services to start, in the order in which they need each other. A server that a team runs is not among them."""
    started = [] if addresses.prefect_api else [prefect_service(addresses)]
    started += [] if addresses.mlflow else [_mlflow(addresses)]
    return [*started, _runner(addresses)]


def _clean_environment() -> dict[str, str]:
    """Without the address of a server: a server must not take itself for another one's client."""
    return {k: v for k, v in child_environment().items() if k not in (PREFECT_API, MLFLOW)}


def prefect_service(addresses: Addresses) -> Service:
    port = str(addresses.prefect_port)
    environment = _clean_environment() | {
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(PREFECT_HOME.absolute()),
        # The address at which a browser finds the API; by default it would be the one that the server listens on.
        "PREFECT_SERVER_UI_API_URL": addresses.prefect_url,
        # In memory, as by default, a restart of the server loses the leases, and Prefect ends a running flow that cannot renew its lease.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", addresses.host, "--port", port)
    return Service("prefect", command, environment, addresses.prefect_page, f"{addresses.prefect_url}/health")


def _mlflow(addresses: Addresses) -> Service:
    # Its job runner starts seven more processes, for evaluations that redistill does not ask for.
    environment = _clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Artifacts stay files of this project, at the same paths with and without the server: a run by hand after `redistill down` finds them.
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", addresses.host, "--port", str(addresses.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", mlflow_names.project_store(STATE), "--no-serve-artifacts"),
        *("--default-artifact-root", mlflow_names.project_artifacts(STATE)),
    )
    return Service("mlflow", command, environment, addresses.mlflow_url, f"{addresses.mlflow_url}/health")


def _runner(addresses: Addresses) -> Service:
    environment = child_environment() | {
        PREFECT_API: addresses.prefect_url,
        MLFLOW: addresses.mlflow_url,
        # How often it asks for runs that are due, and for runs that a person cancels; by default every 10 s.
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }
    return Service("runner", (sys.executable, "-m", "redistill", "watch"), environment)

"""The runner: registers this project's deployments, tidies up after a crash, then runs what Prefect's server asks for until it is ended."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import PrefectException
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

from redistill.errors import ConfigError
from redistill.operations.params import NotifyParams
from redistill.operations.workspace import Workspace
from tasks.operations.prefect_check import check_prefect
from tasks.operations.services import listens
from tasks.orchestration import automations, reconcile
from tasks.orchestration.deployments import deploy
from tasks.orchestration.turns import start_waiting

_SERVER_WAIT_S = 120.0


def work(workspace: Workspace, deployments: Sequence[RunnerDeployment], notify: NotifyParams, ready: Path) -> None:
    """Run until SIGTERM. ``ready`` gets this process's id as soon as runs are accepted.

    Raises:
        ConfigError: no Prefect server, it cannot be reached, or its deployments of these names belong to another project folder.
    """
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        raise ConfigError(
            "PREFECT_API_URL is not set: run `redistill up`, which starts a Prefect server, or name the address of one that runs"
        )
    try:
        _wait_for(api)
        check_prefect(api)
        deploy(workspace, deployments)
        automations.install(workspace, notify.blocks)
        for line in reconcile.reconcile(workspace):
            print(line, flush=True)
    except (httpx.HTTPError, PrefectException) as error:
        raise ConfigError(f"Prefect's server at {api} cannot be used ({str(error).splitlines()[0][:200]})") from error

    def hear(line: object, *_: object, **__: object) -> None:
        print(line, flush=True)
        if str(line).endswith("started!"):
            ready.parent.mkdir(parents=True, exist_ok=True)
            ready.write_text(f"{os.getpid()}\n", encoding="utf-8")

    # Triggers that arrived before a crash, and a cycle that it interrupted.
    if (waiting := start_waiting(workspace)) is not None:
        print(f"run {waiting!r} starts for what waited", flush=True)

    setup_signal_handlers_worker(os.getpid(), "the runner", print)
    worker = ProcessWorker(work_pool_name=workspace.pool, name=f"{workspace.host}-{workspace.id}", create_pool_if_not_found=False)
    # A container's health check asks the worker; on one machine the supervisor looks at ``ready``.
    asyncio.run(worker.start(printer=hear, with_healthcheck="PREFECT_WORKER_WEBSERVER_PORT" in os.environ))


def _wait_for(api: str) -> None:
    """Wait for a server that starts at the same time, as all do after a reboot. One that is not there in time is an error of the next call."""
    deadline = time.monotonic() + _SERVER_WAIT_S
    while not listens(api) and time.monotonic() < deadline:
        time.sleep(0.5)

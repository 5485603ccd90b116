"""Prefect's artifacts, events and names of runs. A server that does not answer must not fail a cycle, so none of these raises."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.utilities.urls import url_for

from redistill.runtime.running_services import TEMPORARY

_T = TypeVar("_T")
_LOG = logging.getLogger("redistill")
_WAIT_S = 900.0
"""How long the end of a run waits for a server that does not answer: longer than a restart, shorter than a night."""


def markdown(key: str, text: str, description: str) -> None:
    _published(lambda: create_markdown_artifact(markdown=text, key=key, description=description))


def table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    _published(lambda: create_table_artifact(table=rows, key=key, description=description))


def progress(artifact: UUID | None, key: str, percent: float, description: str) -> UUID | None:
    """Make the progress bar, or move it; returns its id."""
    if artifact is None:
        made: Any = _published(lambda: create_progress_artifact(progress=percent, key=key, description=description))
        return made if isinstance(made, UUID) else None
    _published(lambda: update_progress_artifact(artifact, progress=percent, description=description))
    return artifact


def event(name: str, resource: str, payload: dict[str, Any]) -> bool:
    """Emit an event about a resource; False if Prefect did not take it."""
    emitted = _published(lambda: emit_event(name, resource={"prefect.resource.id": resource}, payload=payload))
    return emitted is not None


def rename_run(name: str) -> None:
    """Change what the UI shows as the name of the present flow run."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    if run is None:
        return

    def rename() -> None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, name=name)

    _published(rename)


def flow_run_page(flow_run_id: str) -> str | None:
    """The page of a flow run; None if no server with a UI is in use, as in a command that brings its own."""
    return url_for("flow-run", obj_id=flow_run_id) if flow_run_id and not os.environ.get(TEMPORARY) else None


def form_of(deployment: str) -> str | None:
    """The page on which a person starts a deployment with parameters; None if it is not installed on the server in use."""
    if os.environ.get(TEMPORARY):
        return None
    try:
        with get_client(sync_client=True) as client:
            page = url_for("deployment", obj_id=client.read_deployment_by_name(deployment).id)
    except (httpx.HTTPError, PrefectException, OSError, RuntimeError):
        return None
    return None if page is None else f"{page}/run"


def wait_for_server(say: Callable[[str], None], wait_s: float = _WAIT_S) -> None:
    """Wait until Prefect's server answers: the last state of a run must reach it. After ``wait_s`` the run ends without."""
    deadline, announced = time.monotonic() + wait_s, False
    while time.monotonic() < deadline:
        try:
            with get_client(sync_client=True) as client:
                if client.api_healthcheck() is None:
                    return
        except (httpx.HTTPError, PrefectException, OSError):
            pass
        if not announced:
            say("Prefect's server does not answer; the work is done, and the run waits to report it")
            announced = True
        time.sleep(1.0)


def _published(action: Callable[[], _T]) -> _T | None:
    try:
        return action()
    except (httpx.HTTPError, PrefectException, OSError, RuntimeError) as error:
        _LOG.warning("Prefect's server did not take what should be shown there (%s); the work goes on", str(error).splitlines()[:1])
        return None

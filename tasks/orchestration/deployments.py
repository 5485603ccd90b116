"""Registers a project's deployments, without disturbing what a person or the scheduler has set on the server."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from redistill.errors import ConfigError
from redistill.operations.workspace import Workspace, workspace_of


def deploy(workspace: Workspace, deployments: Sequence[RunnerDeployment]) -> dict[str, UUID]:
    """Create or change the deployments of this project; returns their ids by ``flow/name``.

    A deployment that says the same already is not touched: each change deletes its scheduled runs, also those that are late. A schedule that a
    person paused stays paused.

    Raises:
        ConfigError: a deployment of that name belongs to another project folder.
    """
    ids = {}
    with get_client(sync_client=True) as client:
        # An existing pool is not changed: a person may have paused it.
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(
                WorkPoolCreate(name=workspace.pool, type="process", description=f"redistill, project {workspace.place}")
            )
        for deployment in deployments:
            name = f"{deployment.flow_name}/{deployment.name}"
            existing = _existing(client, name)
            if existing is not None and workspace_of(list(existing.tags)) not in (workspace.id, None):
                raise ConfigError(
                    f"deployment {name} on this Prefect server belongs to another project folder; give this project another data.name, "
                    f"or, if that folder is not used any more, run `prefect deployment delete {name}`"
                )
            ids[name] = _apply(workspace, deployment, existing)
    return ids


def _existing(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _apply(workspace: Workspace, deployment: RunnerDeployment, existing: DeploymentResponse | None) -> UUID:
    deployment.version = _digest(workspace, deployment)
    if existing is not None and existing.version == deployment.version:
        return UUID(str(existing.id))
    if existing is not None:
        deployment.paused = existing.paused
        active = {schedule.active for schedule in existing.schedules}
        for schedule in deployment.schedules or []:
            schedule.active = active != {False}
    return UUID(str(deployment.apply(work_pool_name=workspace.pool)))


def _digest(workspace: Workspace, deployment: RunnerDeployment) -> str:
    """What a deployment says, in twelve hex digits; the server keeps it as the deployment's version."""
    schedules: list[Any] = [schedule.schedule.model_dump(mode="json", exclude={"anchor_date"}) for schedule in deployment.schedules or []]
    parts = [
        *(workspace.id, deployment.entrypoint, schedules, deployment.parameters, deployment.tags, deployment.description),
        *(deployment.job_variables, deployment._parameter_openapi_schema.model_dump(exclude_unset=True)),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]

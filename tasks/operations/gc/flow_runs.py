"""`redistill gc` in Prefect: old flow runs of this project, with their task runs and logs, over the HTTP API of the server.

A flow run belongs to the project if it has the tags of this folder, or if a run in MLflow names it as its cycle. A server that several projects share has
flow runs of all of them under the same flow names.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from redistill.operations.params import RetentionParams
from redistill.operations.retention import Item, Sweep, divided
from redistill.operations.workspace import Workspace
from tasks.operations.prefect_check import authorization

FLOW_RUNS = "Prefect flow runs"
_PAGE = 200
_AT_ONCE = 50
"""The largest number that the server deletes in one request. Source: prefect 3.7.7, ``BULK_OPERATION_LIMIT``."""
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_FINAL = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]


def sweep_flow_runs(
    workspace: Workspace,
    cycles: Mapping[str, str | None],
    retention: RetentionParams,
    now_s: float,
    *,
    dry_run: bool,
    page: int = _PAGE,
    at_once: int = _AT_ONCE,
) -> Sweep:
    """Delete the old flow runs of this project's folder; ``cycles`` are those that its runs in MLflow name, each with what needs it.

    ``page`` runs are read in one request, and ``at_once`` are deleted in one.

    Without ``PREFECT_API_URL``, or if its server does not answer, nothing is removed and the result says so.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Sweep(FLOW_RUNS, note="PREFECT_API_URL is not set, so no server was asked for old flow runs")
    try:
        with _client(url) as client:
            runs = _runs(client, {"tags": {"all_": workspace.tags}}, page)
            for ids in _chunks(sorted(cycles), page):
                runs |= _runs(client, {"id": {"any_": ids}}, page)
            items = [Item(run_id, ended_s, cycles.get(run_id) if final else "not ended") for run_id, (ended_s, final) in runs.items()]
            to_remove, kept = divided(FLOW_RUNS, items, retention, now_s)
            if dry_run:
                return Sweep(FLOW_RUNS, len(to_remove), kept=kept)
            deleted = 0
            for ids in _chunks([item.name for item in to_remove], at_once):
                body = {"flow_runs": {"id": {"any_": ids}}, "limit": at_once}
                deleted += len(_post(client, "flow_runs/bulk_delete", body)["deleted"])
            return Sweep(FLOW_RUNS, deleted, kept=kept)
    except httpx.HTTPError as error:
        return Sweep(
            FLOW_RUNS,
            note=f"Prefect's server at {url} cannot be used ({str(error).splitlines()[0][:200] or type(error).__name__}); its flow runs stay",
        )


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url.rstrip("/") + "/", headers=authorization(), timeout=60)


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    """The answer as JSON. A server on SQLite answers 503 while its file is locked, so that is tried again."""
    for wait_s in (*_WAITS_S, None):
        answer = client.post(path, json=body)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or wait_s is None:
            break
        time.sleep(wait_s)
    return answer.raise_for_status().json()


def _runs(client: httpx.Client, flow_runs: dict[str, Any], size: int) -> dict[str, tuple[float, bool]]:
    """Id → Unix time of the end (or of the last known moment), and whether it has ended."""
    runs: dict[str, tuple[float, bool]] = {}
    while True:
        body = {"flow_runs": flow_runs, "limit": size, "offset": len(runs), "sort": "ID_DESC"}
        page = _post(client, "flow_runs/filter", body)
        for run in page:
            at = run["end_time"] or run["start_time"] or run["expected_start_time"] or run["created"]
            runs[run["id"]] = (dt.datetime.fromisoformat(at).timestamp(), run["state_type"] in _FINAL)
        if len(page) < size:
            return runs


def _chunks(ids: list[str], size: int) -> Iterable[list[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))

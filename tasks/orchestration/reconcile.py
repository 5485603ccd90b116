"""Sets what a crash left in state Running to what it is: flow runs to Crashed, MLflow runs to KILLED.

Prefect learns nothing from a process that was killed. A run that stays in state Running is counted as one that works, and nobody is told.
``python -m tasks.orchestration.reconcile`` does it once, in the project's folder.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from redistill.errors import RedistillError
from redistill.operations.workspace import Workspace
from redistill.params import load_params
from tasks.orchestration import alerting, pending, run_record
from tasks.registry.lost_runs import end_lost_runs
from tasks.running.cycle_lock import if_no_cycle
from tasks.running.stale_dvc_locks import remove_stale_locks

_OPEN = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_CONTINUES = "continues the interrupted cycle"
_UNRECORDED_MINUTES = 10
"""A run is recorded when its flow starts, seconds after its process. A run that has no record for this long has no process."""


def reconcile(workspace: Workspace) -> list[str]:
    """Do it for this project's runs on this machine; returns a sentence for each run.

    A cycle that was interrupted is asked for again, once: if it is interrupted a second time, the reason may be the cycle itself.
    """
    lines = []
    for run in _crash_lost_flow_runs(workspace):
        alerting.alert(
            workspace, "crashed", str(run.id), f"run {run.name!r} was killed, or the machine stopped; the next cycle continues its work"
        )
        lines.append(f"flow run {run.name!r} was left by a process that is gone; it is Crashed now")
        reason = str(run.parameters.get("reason", ""))
        if run.parameters.keys() == {"reason"} and not reason.startswith(_CONTINUES):
            pending.add(f"{_CONTINUES} {reason!r}")
    with if_no_cycle() as free:
        if free:
            lines += [f"DVC's locks of process {pid}, which is gone, were removed" for pid in remove_stale_locks()]
            # Of clones that share a store, one that works may have an open run; the next cycle ends what is left.
            lines += [
                f"MLflow run {name!r} was left by a process that is gone; it is KILLED now"
                for name in ([] if workspace.shared else end_lost_runs(load_params(), workspace))
            ]
    return lines


def _crash_lost_flow_runs(workspace: Workspace) -> Iterator[FlowRun]:
    with get_client(sync_client=True) as client:
        for run in _open_runs(client, workspace):
            if not _lost(run, workspace):
                continue
            # The state is read again: what ended meanwhile stays as it is.
            state = client.read_flow_run(run.id).state
            if state is not None and not state.is_final():
                client.set_flow_run_state(run.id, Crashed(message="its process is gone: killed, or the machine stopped"), force=True)
                yield run
            run_record.forget(str(run.id))
    for flow_run_id in run_record.records():
        if run_record.is_alive(flow_run_id) is False:
            run_record.forget(flow_run_id)


def _open_runs(client: SyncPrefectClient, workspace: Workspace) -> list[FlowRun]:
    filters = FlowRunFilter.model_validate({"state": {"type": {"any_": _OPEN}}, "tags": {"all_": workspace.tags}})
    return list(client.read_flow_runs(flow_run_filter=filters, limit=200))


def _lost(run: FlowRun, workspace: Workspace) -> bool:
    alive = run_record.is_alive(str(run.id))
    if alive is not None:
        return not alive
    if workspace.shared:
        # Another clone may execute it. Prefect's automation finds runs without a heartbeat.
        return False
    since = run.state.timestamp if run.state is not None else run.created
    return since is not None and dt.datetime.now(dt.UTC) - since > dt.timedelta(minutes=_UNRECORDED_MINUTES)


def main() -> int:
    try:
        for line in reconcile(Workspace.here(load_params().data.name)):
            print(line)
    except (RedistillError, httpx.HTTPError, PrefectException) as error:
        print(f"error: {str(error).splitlines()[0][:300]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

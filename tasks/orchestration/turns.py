"""Whether a run may start a cycle now, and with which reasons.

A run that Prefect started never waits for another cycle: its reason is kept, and one more cycle starts after the present one. A person who
starts a run by hand waits, and gets the outcome.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, PrefectException, TerminationSignal
from prefect.states import Scheduled

from redistill.errors import ConfigError, RedistillError
from redistill.operations.cycle_summary import CycleStatus
from redistill.operations.workspace import Workspace, data_name_of
from redistill.params import Params, load_params
from redistill.serving.route_flag import refresh_route
from tasks.orchestration import nights, pending, run_record
from tasks.orchestration.cancelling import ends_when_cancelled
from tasks.registry.lost_runs import end_lost_runs
from tasks.registry.transitions import FLAGS
from tasks.running.cycle_lock import holder, if_no_cycle, one_cycle
from tasks.running.stale_dvc_locks import remove_stale_locks
from tasks.sharing import turn as clones

CYCLE = "distill-student"
NIGHTLY = "nightly"
_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Turn:
    """``declined`` is the sentence that says why no cycle starts, with ``state`` as its short name in the UI."""

    reason: str
    declined: str | None = None
    state: str = "Completed"


@contextlib.contextmanager
def turn(params: Params, workspace: Workspace, reason: str, say: Callable[[str], None]) -> Iterator[Turn]:
    """Hold the cycle lock, and the lease of all clones where there is a shared store, unless the turn is declined.

    Raises:
        ConfigError: the run belongs to another project folder.
        StageError: a run by hand waited too long for another cycle.
    """
    run = present_run()
    if run is not None and not workspace.owns(list(run.tags)):
        raise ConfigError(
            f"this run belongs to another project folder (its tags are {', '.join(run.tags)}); it must not run in {workspace.folder}"
        )
    scheduled = run.expected_start_time if run is not None and run.auto_scheduled else None
    with run_record.recorded(str(run.id)) if run is not None else contextlib.nullcontext():
        nights.learn(params.data.name)
        if scheduled is not None and run is not None:
            late = nights.not_tonight(params.schedule, scheduled, str(run.id), dt.datetime.now(dt.UTC))
            if late is not None:
                yield Turn(reason, late, "Skipped")
                return
        by_prefect = run is not None and run.deployment_id is not None
        with if_no_cycle() if by_prefect else _waited(say) as free:
            if not free:
                pending.add(reason)
                yield Turn(reason, f"a cycle runs already (process {holder() or 'unknown'}); one more starts after it", "Queued")
                return
            # A cycle that starts for another reason, after a night that was missed, is that night's.
            due = scheduled or nights.missed_night(params.schedule, dt.datetime.now(dt.UTC))
            night = clones.Night(due, str(run.id)) if due is not None and run is not None else None
            with clones.leased(params.data.name, say, night, patient=not by_prefect) as busy:
                if busy is not None:
                    if not busy.tonight:
                        pending.add(reason)
                    yield Turn(reason, busy.sentence, "Skipped" if busy.tonight else "Queued")
                    return
                if night is not None:
                    nights.begin_night(night.scheduled, night.run)
                refresh_route(FLAGS)
                _tidy(params, workspace, say)
                with ends_when_cancelled(run.id) if run is not None else contextlib.nullcontext():
                    # A run that was started for what waited has these reasons joined already.
                    yield Turn("; ".join(dict.fromkeys([*reason.split("; "), *pending.take()]))[:_REASON_CHARS])


def _tidy(params: Params, workspace: Workspace, say: Callable[[str], None]) -> None:
    """Remove what processes left that are gone."""
    for pid in remove_stale_locks():
        say(f"DVC's locks of process {pid}, which is gone, were removed")
    for name in end_lost_runs(params, workspace):
        say(f"MLflow run {name} was left by a process that is gone; it is KILLED now")


@contextlib.contextmanager
def _waited(say: Callable[[str], None]) -> Iterator[bool]:
    with one_cycle(say):
        yield True


def status_after(error: BaseException) -> CycleStatus:
    """What a cycle that ended with an error is called in MLflow: a person or the system ended it, or it failed."""
    ended = (TerminationSignal, KeyboardInterrupt, SystemExit, CancelledRun)
    return "cancelled" if isinstance(error, ended) else "failed"


def present_run() -> FlowRun | None:
    """The flow run that this code runs in."""
    context = FlowRunContext.get()
    return context.flow_run if context is not None else None


def workspace_of_run() -> Workspace | None:
    """The project of this run: by params.yaml, or, if that has a mistake, by the tags of the run's deployment."""
    try:
        return Workspace.here(load_params().data.name)
    except RedistillError:
        run = present_run()
        name = data_name_of(list(run.tags)) if run is not None else None
        return None if name is None else Workspace.here(name)


def present_run_id() -> str:
    """The id of the flow run that this code runs in; empty outside of a flow."""
    run = present_run()
    return str(run.id) if run is not None else ""


def nights_are_on(workspace: Workspace) -> bool:
    """Whether the schedule of the nightly cycle is active: a person who pauses it wants no nights, missed or not."""
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{CYCLE}/{workspace.deployment(NIGHTLY)}")
    except (httpx.HTTPError, PrefectException, OSError):
        return False
    return not deployment.paused and any(schedule.active for schedule in deployment.schedules)


def start_waiting(workspace: Workspace) -> str | None:
    """Start one run for the triggers that wait, if there are any and the project has a deployment; returns the run's name.

    The reasons stay until a cycle takes them, so that a crash loses none. The same reasons start one run, even if this is called twice.
    """
    reasons = pending.waiting()
    if not reasons:
        return None
    key = hashlib.sha256("\n".join([workspace.id, *reasons, str(pending.written_at())]).encode()).hexdigest()
    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name(f"{CYCLE}/{workspace.deployment(NIGHTLY)}")
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters={"reason": "; ".join(reasons)[:_REASON_CHARS]}, state=Scheduled(), idempotency_key=key
            )
            return str(run.name)
    except (httpx.HTTPError, PrefectException, OSError) as error:
        logging.getLogger("redistill").warning("no run was started for %s (%s); the next cycle includes it", "; ".join(reasons), error)
        return None

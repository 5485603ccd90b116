"""What runs when: the nightly cycle, the watcher, the drill, the monitor of live traffic, and a person's form."""

from __future__ import annotations

from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.schedules import Cron

from flows.distill_student import distill_student
from flows.drill_fallback import drill_fallback
from flows.monitor_traffic import monitor_traffic
from flows.promote_student import promote_student
from flows.watch_teacher import watch_teacher
from redistill.operations.workspace import Workspace
from redistill.params import Params, load_params
from redistill.runtime.running_services import RUNNER_READY
from tasks.orchestration import runner
from tasks.orchestration.turns import NIGHTLY


def deployments(params: Params) -> list[RunnerDeployment]:
    """The deployments of a project. Their names carry the name of its data set, because a server may have several projects."""
    workspace, schedule = Workspace.here(params.data.name), params.schedule
    name, about = params.data.name, f"Project {params.data.name} in {workspace.place}."

    def deployment(flow: object, kind: str, text: str, cron: str | None = None, **parameters: object) -> RunnerDeployment:
        return flow.to_deployment(  # type: ignore[attr-defined]
            workspace.deployment(kind),
            schedule=Cron(cron, timezone=schedule.timezone) if cron else None,
            parameters=parameters,
            tags=workspace.tags,
            description=f"{text}\n\n{about}",
            # A module, not a file: flows come with the installed package, or from the project if it has its own.
            entrypoint_type=EntrypointType.MODULE_PATH,
            # Of clones that share a store, each runs it in its own folder, where its worker was started.
            job_variables={"working_dir": "." if workspace.shared else str(workspace.folder)},
        )

    return [
        deployment(
            distill_student, NIGHTLY, f"A cycle for {name}: distil, judge, and promote or hold.", schedule.nightly_cron, reason="nightly"
        ),
        deployment(
            watch_teacher, "", f"Starts a cycle when the teacher of {name} changes, or when a night was missed.", schedule.watch_cron
        ),
        deployment(
            drill_fallback, "", f"Checks that every reader of the flag of {name} gets the teacher when it should.", schedule.drill_cron
        ),
        deployment(
            monitor_traffic, "", f"Compares the live traffic of {name} with the rows that models are judged on.", schedule.traffic_cron
        ),
        deployment(promote_student, "", f"Approve or reject a student of {name}, or go back to an earlier one."),
    ]


def serve() -> None:
    """Register the deployments and run what Prefect's server asks for, until ended."""
    params = load_params()
    runner.work(Workspace.here(params.data.name), deployments(params), params.notify, RUNNER_READY)

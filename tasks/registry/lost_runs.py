"""Ends MLflow runs whose process was killed. MLflow would show them as running for ever."""

from __future__ import annotations

from redistill.operations.workspace import Workspace
from redistill.params import Params
from redistill.provenance import mlflow_names
from tasks.registry.runs_and_versions import connect, searched_runs


def end_lost_runs(params: Params, workspace: Workspace, current: str | None = None) -> list[str]:
    """Set runs of cycles of this folder that are still in state RUNNING to KILLED; returns their names.

    Call it only under the cycle lock: then no cycle of this folder works, except the one whose MLflow run is ``current``.
    """
    client = connect(params)
    experiment = client.get_experiment_by_name(mlflow_names.experiment(params.data.name))
    filter_string = f"attributes.status = 'RUNNING' AND tags.`{mlflow_names.TAG_KIND}` = 'cycle' AND tags.`{mlflow_names.TAG_WORKSPACE}` = '{workspace.id}'"
    ended = []
    for run in searched_runs(client, experiment.experiment_id, filter_string):
        if run.info.run_id != current:
            client.set_tag(run.info.run_id, mlflow_names.TAG_STATUS, "killed")
            client.set_terminated(run.info.run_id, "KILLED")
            ended.append(str(run.info.run_name))
    return ended
